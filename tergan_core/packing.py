"""Model archives: a model folder, a handler and its settings as one `.mar` file for TorchServe."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from . import weights
from .errors import ConfigError, MissingExtraError, close_names

TASKS = ("transfer", "edit", "recognize")

_PACKAGED = Path(__file__).parent / "archive"
_CLONE = Path(__file__).parents[1]
# A wheel carries handlers and settings as package data; a clone has them in folders of their own.
_HANDLERS, _SETTINGS = (
    (_PACKAGED / "handlers", _PACKAGED) if _PACKAGED.is_dir() else (_CLONE / "handlers", _CLONE / "model_archives")
)


def pack(task: str, source: str | Path = weights.SHIPPED, out: str | Path = ".", *, force: bool = False) -> Path:
    """Builds `<task>.mar` in the folder `out` and returns its path.

    The same input gives the same bytes. The archive's version is the model's; its name in the server is the task.

    Args:
        task: `transfer`, `edit` or `recognize`.
        source: the model, as `weights.load` takes it; one that `engine.export` made brings its engine.
            It is loaded once, so that no broken model is packed.
        out: the folder for the archive; made if absent.
        force: replace an archive of other content that is there already.

    Raises:
        ConfigError: there is no such task, or another archive of this name is there.
        MissingExtraError: torch-model-archiver is not installed.
        WeightsNotFoundError, WeightsCorruptError: as `weights.load`.
    """
    if task not in TASKS:
        raise ConfigError(f"there is no task {task!r}. {close_names(task, TASKS)}")
    if importlib.util.find_spec("model_archiver") is None:
        raise MissingExtraError("torch-model-archiver", "serve", "packing an archive")
    weights.load(source)
    archive = Path(out) / f"{task}.mar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tergan-pack-") as work:
        folder = _archive_folder(task, weights.locate(source), weights.describe(source)["version"], Path(work))
        packed = _zip(folder, Path(work) / archive.name)
        if not archive.exists() or archive.read_bytes() != packed.read_bytes():
            if archive.exists() and not force:
                raise ConfigError(
                    f"{str(archive)!r} holds another archive. Replace it with force, or pass another folder."
                )
            # Complete under a temporary name first: a server may be reading the old one.
            partial = archive.with_name(f".{archive.name}.{os.getpid()}")
            shutil.copyfile(packed, partial)
            partial.replace(archive)
    return archive


def _archive_folder(task: str, model: Path, version: str, work: Path) -> Path:
    """The content of the archive as torch-model-archiver lays it out."""
    stage = work / "stage"
    stage.mkdir()
    handler, settings = _HANDLERS / f"{task}_handler.py", _SETTINGS / f"{task}.yaml"
    paths = weights.files(model)
    names = [path.name for path in paths if path.name != "model.safetensors"]
    for path in (handler, settings, *paths):
        shutil.copyfile(path, stage / path.name)
    options = {
        "--model-name": task,
        "--version": version,
        "--handler": handler.name,
        "--config-file": settings.name,
        "--serialized-file": "model.safetensors",
        "--extra-files": ",".join(names),
        "--archive-format": "no-archive",
        "--export-path": str(work),
    }
    # The archiver deletes <temporary folder>/<model name> before it starts, so it gets a temporary folder of its own.
    temporary = work / "tmp"
    temporary.mkdir()
    command = [
        sys.executable,
        "-m",
        "model_archiver.model_packaging",
        *(part for pair in options.items() for part in pair),
    ]
    done = subprocess.run(
        command, cwd=stage, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True
    )
    if done.returncode:
        raise ConfigError(f"torch-model-archiver refused the model: {done.stderr.strip()}")
    return work / task


def _zip(folder: Path, archive: Path) -> Path:
    """The folder as a zip file without a trace of when or where it was made."""
    manifest = folder / "MAR-INF" / "MANIFEST.json"
    content = json.loads(manifest.read_text())
    content["createdOn"] = "01/01/1980 00:00:00"
    manifest.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            entry.external_attr = 0o644 << 16
            # Weights do not shrink, so nothing is compressed.
            file.writestr(entry, path.read_bytes())
    return archive

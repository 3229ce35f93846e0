"""Model archives: a model folder, a handler and its settings as one `.mar` file for TorchServe, or as a folder of a
Triton model repository."""

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
from .open_inference import MAX_ITEMS
from .serving import FIELDS, OUTPUTS

TASKS = tuple(FIELDS)

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


def triton_repository(source: str | Path, out: str | Path) -> list[Path]:
    """Writes a model repository for Triton's python backend, with one model per task, and returns their folders.

    Triton's interpreter needs tergan-core as well. Models are of version 1, as Triton counts; the model folder inside
    has its own. Generated faces come as `image` alone.

    Args:
        source: the model, as `weights.load` takes it; one that `engine.export` made brings its engine.
        out: the repository; made if absent. Models of ours that are there are replaced.

    Raises:
        ConfigError: a folder of a task's name is there, and no model of ours.
        WeightsNotFoundError, WeightsCorruptError: as `weights.load`.
    """
    weights.load(source)
    folders = []
    for folder in (Path(out) / task for task in TASKS):
        if folder.exists() and not (folder / "1" / "model" / weights.DESCRIPTION).exists():
            raise ConfigError(f"{str(folder)!r} is no model of ours; choose another folder.")
    for task in TASKS:
        folder = Path(out) / task
        partial = folder.with_name(f".{task}.{os.getpid()}")
        (partial / "1" / "model").mkdir(parents=True)
        shutil.copyfile(_HANDLERS / "triton_model.py", partial / "1" / "model.py")
        for path in weights.files(weights.locate(source)):
            shutil.copyfile(path, partial / "1" / "model" / path.name)
        (partial / "config.pbtxt").write_text(_triton_config(task), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        folders.append(folder)
    return folders


def _triton_config(task: str) -> str:
    """Triton's description of a task. All inputs are optional for Triton; `serving` says which are missing."""
    inputs = {name: ("FP32" if kind == "number" else "BYTES", "1") for name, kind in FIELDS[task].items()}
    inputs |= {f"{name}_pixels": ("UINT8", "-1, -1, 3") for name, kind in FIELDS[task].items() if kind == "picture"}
    inputs["accept"] = ("BYTES", "1")
    outputs = {name: ("FP32" if name in ("probabilities", "units") else "BYTES", "-1") for name in OUTPUTS[task]}
    outputs.pop("image_pixels", None)  # Triton asks for every output when a client names none

    def entries(tensors: dict[str, tuple[str, str]], more: str = "") -> str:
        kind = {"BYTES": "TYPE_STRING"}
        return ",\n".join(
            f'  {{ name: "{name}" data_type: {kind.get(datatype, f"TYPE_{datatype}")} dims: [ {dims} ]{more} }}'
            for name, (datatype, dims) in tensors.items()
        )

    return (
        f'name: "{task}"\nbackend: "python"\nmax_batch_size: {MAX_ITEMS}\n'
        f"input [\n{entries(inputs, ' optional: true')}\n]\noutput [\n{entries(outputs)}\n]\n"
        "dynamic_batching { preferred_batch_size: [ 8 ] max_queue_delay_microseconds: 1000 }\n"
        "instance_group [ { kind: KIND_AUTO count: 1 } ]\n"
    )


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

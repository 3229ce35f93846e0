"""Cuts the aligned faces out of a whole data set: `python -m training.data.prepare IN OUT --size 128`.

OUT has the folders and file names of IN, with a face in place of each photo, so that the same layout reads it; label
files and whatever else is no picture are copied. `report.jsonl` has a row for each picture: the face that was taken and
where it was, or why there is none. Killed at any moment, the same command goes on.
"""

import dataclasses
import json
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from PIL import Image
from tqdm import tqdm

from tergan_core.align import Alignment
from tergan_core.detect import MediaPipeDetector
from tergan_core.errors import ImageTooLargeError, InvalidImageError, NoFaceError, TerganError
from tergan_core.images import to_array, to_pixels
from tergan_core.photo import choose_faces
from training.data.reader import PICTURES
from training.faces.resumable import PLAN, claim, run_tasks

REPORT = "report.jsonl"
_LOSSLESS = {".png": {}, ".bmp": {}, ".tif": {"compression": "tiff_lzw"}, ".tiff": {"compression": "tiff_lzw"},
             ".webp": {"lossless": True}}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """What is prepared, and how."""

    source: Annotated[Path, tyro.conf.Positional]
    """Folder of the photos, with folders in it."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder of the faces; new, or begun by the same command."""

    size_px: Annotated[int, tyro.conf.arg(aliases=("--size",))] = 128
    """Edge of the faces."""

    faces: str = "largest"
    """Which face of a photo: `largest`, or a number counted from 0 from left to right."""

    min_confidence: float = 0.5
    """Of the detector, 0 to 1; lower finds more faces, and more that are none."""

    workers: int = 2
    """Processes."""


def prepare(config: PrepareConfig, *, progress: bool = True) -> dict[str, int]:
    """Prepares what is not yet prepared, and returns the number of pictures by status; they add up to all pictures.

    The statuses: `face`, `no_face`, and `unreadable`.

    Raises:
        ValueError: there is no picture, a setting is out of range, or OUT holds something else.
        MissingExtraError: the extra `photos` is not installed.
    """
    source, out = config.source.resolve(), config.out.resolve()
    if config.size_px < 8 or not (config.faces == "largest" or config.faces.isdecimal()):
        raise ValueError(
            f"size_px is {config.size_px} and faces {config.faces!r}; accepted: at least 8; 'largest' or a number"
        )
    if out == source or source in out.parents or out in source.parents:
        raise ValueError(f"{str(config.source)!r} and {str(config.out)!r} lie in each other; choose another folder")
    MediaPipeDetector(min_confidence=config.min_confidence)
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    if not pictures:
        raise ValueError(f"{str(config.source)!r} has no pictures; accepted: {', '.join(sorted(PICTURES))}")
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("out", "workers")}
    claim(out, settings | {"source": str(source)}, "prepared data set")
    for path in set(files) - set(pictures) - {Path(REPORT), Path(PLAN)}:
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / path, out / path)
    done = _rows(out)
    todo = [path for path in pictures if path.as_posix() not in done]
    work = partial(_prepare_one, source, out, config)
    with (
        (out / REPORT).open("a", encoding="utf-8") as report,
        tqdm(total=len(pictures), initial=len(done), unit="picture", desc="prepare", disable=not progress) as bar,
    ):
        for row in run_tasks(work, todo, config.workers):
            report.write(json.dumps(row) + "\n")
            report.flush()
            done[row["file"]] = row
            bar.update()
    counts = Counter(done[path.as_posix()]["status"] for path in pictures)
    assert counts.total() == len(pictures)
    return dict(counts)


def _rows(out: Path) -> dict[str, dict[str, Any]]:
    """The rows of the report by file. What a killed process wrote half is taken out."""
    file = out / REPORT
    if not file.exists():
        return {}
    whole = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
    fresh = file.with_suffix(".part")
    fresh.write_text("".join(whole), encoding="utf-8")
    fresh.replace(file)
    return {row["file"]: row for row in map(json.loads, whole)}


def _prepare_one(source: Path, out: Path, config: PrepareConfig, path: Path) -> dict[str, Any]:
    """Writes the face of one photo and returns its row."""
    torch.set_num_threads(1)
    row: dict[str, Any] = {"file": path.as_posix()}
    try:
        photo = to_pixels(source / path, name="photo")
        found = MediaPipeDetector(min_confidence=config.min_confidence).detect(photo)
        chosen = int(config.faces) if config.faces.isdecimal() else config.faces
        (face,) = choose_faces(found, chosen, photo, str(path))
        crop = Alignment.of(face.landmarks).crop(photo, config.size_px)
    except NoFaceError as error:
        return row | {"status": "no_face", "reason": str(error)}
    except (InvalidImageError, ImageTooLargeError) as error:
        return row | {"status": "unreadable", "reason": str(error)}
    _save(to_array(crop), out / path)
    places = {"box": [round(v, 1) for v in face.box], "landmarks": face.landmarks.round(1).tolist()}
    return row | {"status": "face", "faces": len(found)} | places


def _save(pixels: Any, path: Path) -> None:
    """Writes a picture that is there whole or not at all, without loss where its kind allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = _LOSSLESS.get(path.suffix.lower(), {"quality": 95, "subsampling": 0} if kind == "JPEG" else {})
    Image.fromarray(pixels).save(temporary, kind, **options)
    temporary.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 every picture gave a face, 1 some did not, 2 nothing was done."""
    config = tyro.cli(PrepareConfig, args=arguments, description=__doc__)
    try:
        counts = prepare(config)
    except (TerganError, ValueError) as error:
        print(f"error [{getattr(error, 'code', 'invalid_request')}]: {error}", file=sys.stderr)
        return 2
    print(json.dumps(counts))
    return int(counts.get("face", 0) < sum(counts.values()))


if __name__ == "__main__":
    sys.exit(main())

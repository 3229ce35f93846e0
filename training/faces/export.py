"""Ground truth as data: `python -m training.faces.export OUT --layout oulu-casia --people 80 --frames 20 --workers 2`.

Writes image sequences neutral -> peak of rendered people, and `manifest.jsonl` with all that is known of each picture.
The same command again goes on where it stopped; the result depends on neither interruptions nor workers.
"""

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from training.faces.expression import EXPRESSIONS, UNITS, Expression, check_label, sample_expression
from training.faces.face_set import SPLITS
from training.faces.head import load_head
from training.faces.identity import sample_identity
from training.faces.renderer import LANDMARKS, RENDERER_VERSION, Render, render
from training.faces.resumable import claim, run_tasks, write_text
from training.faces.scene import Scene, sample_scene
from training.faces.variety import FULL, ILLUMINATIONS, Variety

FORMAT_VERSION = 1
CAMERAS = ("vl", "ni")
"""Visible light and near infrared, side by side, as in Oulu-CASIA: they see the same performance in the same pose."""
ROOM_LIGHTS = ("strong", "weak", "dark")


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is written; but for `workers`, all of it decides the result."""

    out: Annotated[Path, tyro.conf.Positional]
    """The folder. It must be new, or hold the same export."""

    layout: Literal["oulu-casia", "folder", "webdataset"] = "oulu-casia"
    """`oulu-casia`: B_OriginalImg/VL/Strong/P001/Anger/000.jpeg; `folder`: faces/P001/anger/vl-strong/000.png;
    `webdataset`: one tar per person, camera and illumination."""

    people: int = 80
    """How many people."""

    frames: int = 20
    """Pictures of a sequence; the first is neutral, the last is the peak."""

    size_px: int = 128
    """Edge of the pictures."""

    expressions: tuple[str, ...] = EXPRESSIONS[1:]
    """A sequence of each; `neutral` gives a sequence of small movements."""

    cameras: tuple[str, ...] = ("vl",)
    """Of `vl` and `ni`."""

    illuminations: tuple[str, ...] = ("strong",)
    """Of `strong`, `weak` and `dark`: the light of the room, as `training.faces.variety` has it."""

    pose: float = 0.3
    """Factor on how much heads are turned; people in Oulu-CASIA face the camera."""

    split: str = "train"
    """Whose people: those of `train`, `validation` or `test`."""

    seed: int = 0
    """Chooses scenes and performances; people do not depend on it."""

    variety: Variety = FULL
    """How much everything beside person and expression varies; its illuminations are those asked for above."""

    workers: int = 2
    """Processes that render."""

    def __post_init__(self):
        if self.split not in SPLITS:
            raise ValueError(f"--split is {self.split!r}; accepted: {', '.join(SPLITS)}")
        if not 1 <= self.people <= len(SPLITS[self.split]):
            raise ValueError(f"--people is {self.people}; {self.split!r} has 1 to {len(SPLITS[self.split])}")
        if self.frames < 2 or self.size_px < 8:
            raise ValueError(f"--frames is {self.frames}, --size-px {self.size_px}; accepted: at least 2 and 8")
        for name, known in (("cameras", CAMERAS), ("illuminations", ROOM_LIGHTS)):
            wrong = [value for value in getattr(self, name) if value not in known]
            if wrong or not getattr(self, name):
                raise ValueError(f"--{name} has {wrong or 'nothing'}; accepted: {', '.join(known)}")
        for label in self.expressions:
            check_label(label)

    @property
    def plan(self) -> dict[str, Any]:
        """All that the result depends on."""
        versions = {"format_version": FORMAT_VERSION, "renderer_version": RENDERER_VERSION}
        values = {name: value for name, value in asdict(self).items() if name not in ("out", "workers")}
        return json.loads(json.dumps(versions | values | {"units": UNITS, "landmarks": LANDMARKS}))


@dataclass(frozen=True)
class Recording:
    """One person before one camera in one light: the part of an export that is written as a whole."""

    export: Export
    person: int
    camera: str
    illumination: str

    @property
    def identity(self) -> str:
        """The person's name in the export, as Oulu-CASIA counts."""
        return f"P{self.person + 1:03d}"

    @property
    def name(self) -> str:
        """Unique in the export."""
        return f"{self.identity}-{self.camera}-{self.illumination}"

    @property
    def finished(self) -> Path:
        """The file that is there when the recording is whole: its rows of the manifest."""
        return self.export.out / "parts" / f"{self.name}.jsonl"

    def scene(self) -> Scene:
        """One scene for all sequences, so that the true answer of a transfer is among them."""
        export = self.export
        light = "nir" if self.camera == "ni" else self.illumination
        shares = tuple(float(name == light) for name in ILLUMINATIONS)
        rng = np.random.default_rng([export.seed, self.person, ROOM_LIGHTS.index(self.illumination), 79])
        return sample_scene(rng, export.pose, replace(export.variety, illuminations=shares))

    def sequence(self, label: str) -> list[Expression]:
        """One performance; both cameras see the same."""
        light, number = ROOM_LIGHTS.index(self.illumination), EXPRESSIONS.index(label)
        rng = np.random.default_rng([self.export.seed, self.person, light, number, 80])
        return expression_sequence(rng, label, self.export.frames)


def write(export: Export, *, progress: bool = True) -> Path:
    """Renders an export and returns its manifest.

    Raises:
        ValueError: the folder holds something else.
    """
    claim(export.out, export.plan, "export of faces")
    manifest = export.out / "manifest.jsonl"
    if manifest.exists():
        return manifest
    (export.out / "parts").mkdir(exist_ok=True)
    recordings = [
        Recording(export, person, camera, illumination)
        for person in range(export.people)
        for camera in export.cameras
        for illumination in export.illuminations
    ]
    missing = [recording for recording in recordings if not recording.finished.exists()]
    size = len(export.expressions) * export.frames
    done = (len(recordings) - len(missing)) * size
    with tqdm(total=len(recordings) * size, initial=done, unit="image", disable=not progress) as bar:
        for count in run_tasks(_write_recording, missing, export.workers):
            bar.update(count)
    write_text(manifest, "".join(recording.finished.read_text(encoding="utf-8") for recording in recordings))
    shutil.rmtree(export.out / "parts")
    return manifest


def _write_recording(recording: Recording) -> int:
    """Writes the pictures of a recording, then its rows; returns how many pictures."""
    export = recording.export
    rows = []
    shard = _Shard(export.out / f"{recording.name}.tar") if export.layout == "webdataset" else None
    for row, made in _render(recording):
        image, mask = Image.fromarray(made.image), Image.fromarray(made.mask * 255)
        if shard is not None:
            key = row["key"]
            row["file"], row["mask"] = f"{shard.path.name}:{key}.png", f"{shard.path.name}:{key}.mask.png"
            shard.add(f"{key}.png", _encoded(image, "PNG"))
            shard.add(f"{key}.mask.png", _encoded(mask, "PNG"))
            shard.add(f"{key}.json", json.dumps(row).encode())
        else:
            row["file"], row["mask"] = _places(export.layout, row)
            _save(export.out / row["file"], _encoded(image, "JPEG" if row["file"].endswith(".jpeg") else "PNG"))
            _save(export.out / row["mask"], _encoded(mask, "PNG"))
        rows.append(row)
    if shard is not None:
        shard.close()
    write_text(recording.finished, "".join(json.dumps(row) + "\n" for row in rows))
    return len(rows)


def _render(recording: Recording) -> Iterator[tuple[dict[str, Any], Render]]:
    export = recording.export
    head, seed, scene = load_head(), SPLITS[export.split][recording.person], recording.scene()
    identity = sample_identity(head, seed, variety=export.variety)
    pose = {f"{name}_degrees": round(float(np.rad2deg(getattr(scene, name))), 2) for name in ("yaw", "pitch", "roll")}
    for label in export.expressions:
        for frame, expression in enumerate(recording.sequence(label)):
            # Every frame has sensor noise of its own.
            camera = replace(scene.camera, seed=scene.camera.seed ^ (EXPRESSIONS.index(label) << 16 | frame))
            made = render(head, identity, expression.units, replace(scene, camera=camera), export.size_px)
            intensity = float(expression.intensity)
            yield (
                {
                    "key": f"{recording.name}-{label}-{frame:03d}",
                    "identity": recording.identity,
                    "identity_seed": seed,
                    "expression": label if intensity > 0 else "neutral",
                    "intensity": round(intensity, 4),
                    "sequence": f"{recording.name}-{label}",
                    "sequence_expression": label,
                    "frame": frame,
                    "camera": recording.camera,
                    "illumination": recording.illumination,
                    **pose,
                    "landmarks": np.round(made.landmarks.astype(float), 2).tolist(),
                    "units": np.round(made.units.astype(float), 4).tolist(),
                },
                made,
            )


def _places(layout: str, row: dict[str, Any]) -> tuple[str, str]:
    """Where a picture and its mask go, below the folder of the export."""
    label, frame, light = row["sequence_expression"], f"{row['frame']:03d}", row["illumination"]
    mask = f"masks/{row['identity']}/{row['camera']}-{light}-{label}-{frame}.png"
    if layout == "folder":
        return f"faces/{row['identity']}/{label}/{row['camera']}-{light}/{frame}.png", mask
    folders = (row["camera"].upper(), light.capitalize(), row["identity"], label.capitalize())
    return f"B_OriginalImg/{'/'.join(folders)}/{frame}.jpeg", mask


def expression_sequence(rng: np.random.Generator, label: str, frames: int) -> list[Expression]:
    """One person's way from neutral to the peak: all units rise smoothly together, sooner or later (our own choice).

    The last three of many frames are at the peak.
    """
    neutral, peak = sample_expression(rng, "neutral"), sample_expression(rng, label, 1.0)
    begin, end = rng.uniform(0, 0.15), rng.uniform(0.75, 0.9)
    time = np.clip((np.linspace(0, 1, frames) - begin) / (end - begin), 0, 1)
    rise = time * time * (3 - 2 * time)
    return [Expression(label, float(r), (1 - r) * neutral.units + r * peak.units) for r in rise]


class _Shard:
    """A tar file that is there whole or not at all, and has the same bytes each time."""

    def __init__(self, path: Path):
        self.path = path
        self._temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        self._tar = tarfile.open(self._temporary, "w", format=tarfile.USTAR_FORMAT)

    def add(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._tar.addfile(entry, io.BytesIO(content))

    def close(self) -> None:
        self._tar.close()
        os.replace(self._temporary, self.path)


def _encoded(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **({"quality": 95} if format == "JPEG" else {"compress_level": 1}))
    return file.getvalue()


def _save(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 done, 2 usage."""
    try:
        print(write(tyro.cli(Export, args=arguments, description=__doc__)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

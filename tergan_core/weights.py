"""Model folders: save, load, find. A folder holds `config.json`, `model.safetensors` and a card, `README.md`."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .config import ModelConfig
from .errors import ConfigError, WeightsCorruptError, WeightsNotFoundError
from .model import TERGAN, ExpressionCodes

FORMAT_VERSION = 1
SHIPPED = "tergan-m"
"""The model that comes with the package and that everything uses when no other is named."""

_CATALOGUE_FOLDER = Path(__file__).parent / "shipped"
_Part = TypeVar("_Part", bound=ExpressionCodes)
DESCRIPTION = "config.json"
"""The file that says what a model folder holds."""

_WEIGHTS, _CARD, _METRICS = "model.safetensors", "README.md", "metrics.json"


def catalogue() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(folder.parent.name for folder in _CATALOGUE_FOLDER.glob(f"*/{DESCRIPTION}"))


def save(
    model: TERGAN,
    folder: str | Path,
    *,
    name: str | None = None,
    version: str = "0.1.0",
    card: str = "",
    metrics: dict[str, Any] | None = None,
) -> Path:
    """Writes a model folder and returns its path.

    Args:
        name: the model's name; by default the folder's.
        version: version of the weights, which becomes that of the archives made from them.
        card: text of the model card.
        metrics: measured figures, kept beside the weights.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, folder / _WEIGHTS, metadata={"format": "pt"})
    description = {
        "format_version": FORMAT_VERSION,
        "name": name or folder.name,
        "version": version,
        "sha256": sha256(folder / _WEIGHTS),
        "model": model.config.to_dict(),
    }
    write_description(folder, description)
    (folder / _CARD).write_text(card or f"# {description['name']}\n", encoding="utf-8")
    if metrics is not None:
        (folder / _METRICS).write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return folder


def locate(source: str | Path = SHIPPED) -> Path:
    """The folder of a model.

    Args:
        source: a name of the catalogue, the path of a model folder, or `hf:owner/name` for a model on the Hugging Face
            Hub, which is downloaded once.

    Raises:
        WeightsNotFoundError: there is no such model, or it may not be read.
    """
    text = str(source)
    if text.startswith("hf:"):
        return _download(text.removeprefix("hf:"))
    if isinstance(source, str) and source in catalogue():
        return _CATALOGUE_FOLDER / source
    folder = Path(source)
    for path in (folder, folder / DESCRIPTION, folder / _WEIGHTS):
        if not path.exists():
            shipped = ", ".join(catalogue()) or "none shipped"
            raise WeightsNotFoundError(
                f"no model at {text!r}: {path.name!r} is missing. Pass a folder with {DESCRIPTION} and {_WEIGHTS}, "
                f"'hf:owner/name', or one of: {shipped}."
            )
        if not os.access(path, os.R_OK):
            raise WeightsNotFoundError(f"no permission to read {str(path)!r}. Change its mode, or run as its owner.")
    return folder


def describe(source: str | Path = SHIPPED) -> dict[str, Any]:
    """What `config.json` says: `format_version`, `name`, `version`, `sha256` and `model`.

    Raises:
        WeightsNotFoundError: there is no such model.
        WeightsCorruptError: its description cannot be read, is of a newer format, or names files of other folders.
    """
    path = locate(source) / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise WeightsNotFoundError(
            f"no permission to read {str(path)!r}. Change its mode, or run as its owner."
        ) from error
    except (OSError, ValueError) as error:
        raise WeightsCorruptError(f"{str(path)!r} is not readable JSON ({error}). Fetch the model again.") from error
    missing = {"format_version", "name", "version", "sha256", "model"} - set(
        description if isinstance(description, dict) else ()
    )
    if missing:
        raise WeightsCorruptError(f"{str(path)!r} lacks {', '.join(sorted(missing))}. Fetch the model again.")
    if description["format_version"] != FORMAT_VERSION:
        raise WeightsCorruptError(
            f"{str(path)!r} has format {description['format_version']}; this tergan-core reads {FORMAT_VERSION}. "
            "Upgrade with: pip install -U tergan-core"
        )
    engine = description.get("engine", {"name": "eager", "sha256": {}, "built_for": {}})
    if not isinstance(engine, dict) or not (
        isinstance(engine.get("name"), str)
        and all(isinstance(engine.get(key), dict) for key in ("sha256", "built_for"))
    ):
        raise WeightsCorruptError(f"'engine' in {str(path)!r} lacks name, sha256 or built_for. Export the model again.")
    engine_files = engine["sha256"]
    outside = [name for name in engine_files if Path(name).name != name or name == ".."]
    if outside:
        raise WeightsCorruptError(f"{str(path)!r} names {outside[0]!r}, which is not a file of this folder.")
    return description


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Writes what `describe` reads."""
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def files(folder: Path) -> list[Path]:
    """The files that belong to the model of a folder, those of its engine included.

    Raises:
        WeightsCorruptError: a file of its engine is missing or changed.
    """
    compiled = describe(folder).get("engine", {}).get("sha256", {})
    for name, digest in compiled.items():
        if not (folder / name).exists() or sha256(folder / name) != digest:
            raise WeightsCorruptError(f"{str(folder / name)!r} is missing or changed. Export the model again.")
    names = (DESCRIPTION, _WEIGHTS, _CARD, _METRICS, *compiled)
    return [folder / name for name in names if (folder / name).exists()]


def load(source: str | Path = SHIPPED, *, device: str | torch.device = "cpu") -> TERGAN:
    """The network of a model folder, in evaluation mode. Nothing is unpickled; every tensor has to fit.

    Args:
        source: see `locate`.
        device: where to put it.

    Raises:
        WeightsNotFoundError: there is no such model, or it may not be read.
        WeightsCorruptError: the weights are damaged or do not fit the configuration.
    """
    return _load(TERGAN, source).to(device)


def load_codes(source: str | Path = SHIPPED, *, device: str | torch.device = "cpu") -> ExpressionCodes:
    """The part of a model folder's network that needs no backbone, in evaluation mode. As `load` in all else."""
    return _load(ExpressionCodes, source).to(device)


def _load(part: type[_Part], source: str | Path) -> _Part:
    folder = locate(source)
    description = describe(folder)
    path = folder / _WEIGHTS
    try:
        if sha256(path) != description["sha256"]:
            raise WeightsCorruptError(
                f"{str(path)!r} does not have the sha256 that {DESCRIPTION} names. Fetch the model again."
            )
        model = part(ModelConfig.from_dict(description["model"]))
        tensors = load_file(path)
        if part is ExpressionCodes:
            tensors = {name: tensor for name, tensor in tensors.items() if name in model.state_dict()}
        model.load_state_dict(tensors, strict=True)
    except ConfigError as error:
        raise WeightsCorruptError(f"{str(folder / DESCRIPTION)!r} does not describe a model: {error}") from error
    except PermissionError as error:
        raise WeightsNotFoundError(
            f"no permission to read {str(path)!r}. Change its mode, or run as its owner."
        ) from error
    except (SafetensorError, RuntimeError, OSError) as error:
        raise WeightsCorruptError(
            f"{str(path)!r} does not hold this model's weights: {error}. Fetch it again."
        ) from error
    return model.eval()


def sha256(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        # Compiled functions as well, but no native code (.pt2): that is built where it runs.
        patterns = [DESCRIPTION, _WEIGHTS, _CARD, _METRICS, "*.onnx"]
        return Path(snapshot_download(repository, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise WeightsNotFoundError(f"cannot get 'hf:{repository}' from the Hugging Face Hub: {error}") from error

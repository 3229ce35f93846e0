"""Checkpoints: a folder with `state.pt` (all that resuming needs) and `model` (a ready model folder)."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from tergan_core import weights
from tergan_core.errors import WeightsCorruptError
from tergan_core.model import TERGAN

FOLDER = "checkpoint"


def save(run: Path, state: dict[str, Any], model: TERGAN, **description: Any) -> Path:
    """Writes the checkpoint of a run under a temporary name, then puts it in the place of the last one.

    Args:
        state: tensors and plain values only; it is read back with `weights_only=True`.
        model: the network to evaluate and ship.
        description: see `weights.save`.

    Raises:
        OSError: the disk is full, or not to be written to. The last checkpoint is untouched.
    """
    final, fresh, old = run / FOLDER, run / f"{FOLDER}.new", run / f"{FOLDER}.old"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir(parents=True)
        torch.save(state, fresh / "state.pt")
        weights.save(model, fresh / "model", **description)
        for path in fresh.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap what the disk says
        shutil.rmtree(fresh, ignore_errors=True)
        raise OSError(f"no checkpoint can be written to {str(run)!r} ({error})") from error
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    fresh.rename(final)
    shutil.rmtree(old, ignore_errors=True)
    return final


def load(run: Path, device: torch.device) -> dict[str, Any] | None:
    """The state of the last complete checkpoint, or None if there is none.

    Raises:
        WeightsCorruptError: the checkpoint is damaged.
    """
    for folder in (run / FOLDER, run / f"{FOLDER}.old"):  # .old is left alone if the process died between two renames
        if (folder / "state.pt").exists():
            try:
                return torch.load(folder / "state.pt", map_location=device, weights_only=True)
            except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
                raise WeightsCorruptError(
                    f"checkpoint {str(folder)!r} is damaged ({error}). Delete the folder to start again, "
                    f"or put a copy of a good one there."
                ) from error
    return None

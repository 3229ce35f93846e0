"""Edits by name: are they read as asked, is intensity 0 the input, and does intensity do what it says."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from tergan_core.model import TERGAN
from training import judge
from training.data import Pairs
from training.evaluation.measures import linearity
from training.evaluation.readers import Readers
from training.validate import psnr

INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure(model: TERGAN, pairs: Pairs, readers: Readers | None, faces: int, read_faces: int) -> dict[str, Any]:
    """Accuracy at the peak, beside the same judge's on true images at their peak; intensity 0; the way in between.

    Every face is edited to every expression but its own. How far an edit is along its way is read twice: from the
    model's own expression code (`own`), and from the landmarker's blendshapes (`landmarker`, the first `read_faces`
    faces alone); both are projected onto the line from the reading at intensity 0 to the reference at full intensity:
    the wanted code, or the reading at intensity 1. `monotone` is the share whose readings rise at each step,
    `linearity` the mean R² of a straight line, `curve` the mean way at each intensity.
    """
    reader = judge.load()
    batch = pairs.draw(np.random.default_rng(0), faces)
    names = model.config.expressions
    accuracy, ceiling, own, landmarker = {}, {}, [], []
    for index, name in enumerate(tqdm(names, desc="edit", unit="expression")):
        to = torch.full((faces,), index)
        read = reader(model.edit(batch.identity, to))[0].argmax(1)
        accuracy[name] = round(float((read == index).float().mean()), 4)
        true = pairs.strongest(index, faces)
        if true is not None:
            ceiling[name] = round(float((reader(true)[0].argmax(1) == index).float().mean()), 4)
        person = model.encode_identity(batch.identity)
        direction = model.prototypes[index] - person.expression
        series = torch.stack([model.decode(person, person.expression + t * direction) for t in INTENSITIES], dim=1)
        far = batch.identity_label != index
        code = model.encode_expression(rearrange(series, "n t c h w -> (n t) c h w"))
        way = rearrange(code, "(n t) d -> n t d", n=faces) - person.expression[:, None]
        own.append(((way * direction[:, None]).sum(2) / (direction**2).sum(1, keepdim=True))[far].numpy())
        if readers is not None and readers.can_see:
            landmarker.append(_way_of_blendshapes(readers, series[far][:read_faces]))
    unchanged = model.edit(batch.identity, torch.zeros(faces, dtype=torch.long), 0.0)
    return {
        "expression_accuracy": accuracy,
        "mean_expression_accuracy": round(sum(accuracy.values()) / len(accuracy), 4),
        "ceiling": ceiling,
        "mean_ceiling": round(sum(ceiling.values()) / len(ceiling), 4),
        "psnr_db_at_intensity_0": round(float(psnr(unchanged, batch.identity).mean()), 2),
        "intensities": list(INTENSITIES),
        "own": _along(np.concatenate(own)),
        "landmarker": _along(np.concatenate(landmarker)) if sum(map(len, landmarker)) else None,
    }


def _way_of_blendshapes(readers: Readers, series: Tensor) -> np.ndarray:
    """[n, t]; faces of which a picture was not found are left out."""
    n, steps = series.shape[:2]
    read = readers.read(rearrange(series, "n t c h w -> (n t) c h w"), units_only=True).blendshapes
    read = read.reshape(n, steps, -1)
    read = read[np.isfinite(read).any(2).all(1)]
    way = np.nan_to_num(read - read[:, :1])
    return (way * way[:, -1:]).sum(2) / ((way[:, -1:] ** 2).sum(2) + 1e-9)


def _along(ways: np.ndarray) -> dict[str, Any]:
    return {
        "monotone": round(float((np.diff(ways, axis=1) > 0).all(1).mean()), 4),
        "linearity": round(float(linearity(ways, np.array(INTENSITIES)).mean()), 4),
        "curve": [round(float(value), 4) for value in ways.mean(0)],
        "edits": len(ways),
    }

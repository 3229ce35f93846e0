"""Edits by name: are they read as asked, is intensity 0 the input, and does intensity do what it says."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from tqdm import tqdm

from tergan_core.model import TERGAN
from training import judge
from training.data import Choice, Pairs
from training.evaluation.measures import linearity
from training.evaluation.readers import Readers
from training.faces import FaceSet, peak_expression
from training.validate import psnr

INTENSITIES = (0.0, 0.25, 0.5, 0.75, 1.0)


def measure(
    model: TERGAN, pairs: Pairs, count: int, readers: Readers | None = None, faces: FaceSet | None = None
) -> dict[str, Any]:
    """Accuracy at the peak, beside the same judge's on true images at their peak; intensity 0; the way in between.

    Every face is edited to every expression but its own. How far an edit is along its way is read from the model's own
    expression code (`own`), and from the landmarker's blendshapes: of the edits (`landmarker`), and of the true images
    of the same people showing the same face units (`landmarker_on_truth`: what a perfect edit would be read as).
    Readings are projected onto the line from the reading at intensity 0 to the reference at full intensity: the wanted
    code, or the reading at intensity 1. `monotone` is the share whose readings rise at each step, `linearity` the mean
    R² of a straight line, `curve` the mean way at each intensity.

    Args:
        count: how many faces are edited.
        readers: who reads blendshapes.
        faces: the set that the pairs were rendered of, with scenes by their number; without it, and without readers,
            `own` alone is read.
    """
    reader = judge.load()
    choice = pairs.choose(np.random.default_rng(0), count)
    batch = pairs.take(choice)
    accuracy, ceiling = {}, {}
    ways: dict[str, list[np.ndarray]] = {"own": [], "landmarker": [], "landmarker_on_truth": []}
    for index, name in enumerate(tqdm(model.config.expressions, desc="edit", unit="expression")):
        far = np.flatnonzero(batch.identity_label != index)
        if not len(far):
            continue
        seen = reader(model.edit(batch.identity[far], torch.full((len(far),), index)))[0].argmax(1)
        accuracy[name] = round(float((seen == index).float().mean()), 4)
        true = pairs.strongest(index, count)
        if true is not None:
            ceiling[name] = round(float((reader(true)[0].argmax(1) == index).float().mean()), 4)
        person = model.encode_identity(batch.identity)
        direction = model.prototypes[index] - person.expression
        series = torch.stack([model.decode(person, person.expression + t * direction) for t in INTENSITIES], dim=1)
        code = model.encode_expression(rearrange(series, "n t c h w -> (n t) c h w"))
        way = rearrange(code, "(n t) d -> n t d", n=count) - person.expression[:, None]
        way = (way * direction[:, None]).sum(2) / (direction**2).sum(1, keepdim=True)
        ways["own"].append(way[far].numpy())
        if readers is not None and readers.can_see and faces is not None:
            ways["landmarker"].append(_way_of_blendshapes(readers, series[far]))
            truth = _true_edits(faces, pairs, choice, far, peak_expression(name).units)
            ways["landmarker_on_truth"].append(_way_of_blendshapes(readers, truth))
    unchanged = model.edit(batch.identity, torch.zeros(count, dtype=torch.long), 0.0)
    return {
        "expression_accuracy": accuracy,
        "mean_expression_accuracy": round(sum(accuracy.values()) / len(accuracy), 4),
        "ceiling": ceiling,
        "mean_ceiling": round(sum(ceiling.values()) / len(ceiling), 4),
        "psnr_db_at_intensity_0": round(float(psnr(unchanged, batch.identity).mean()), 2),
        "intensities": list(INTENSITIES),
        **{name: _along(np.concatenate(parts)) if sum(map(len, parts)) else None for name, parts in ways.items()},
    }


def _true_edits(faces: FaceSet, pairs: Pairs, choice: Choice, rows: np.ndarray, peak: np.ndarray) -> Tensor:
    """[n, t, 3, h, w]: the same people in the same scenes, on the straight way from the units shown to the peak's."""
    scenes = len(pairs) // len(faces)
    series = []
    for pair, side in zip(choice.pair[rows], choice.side[rows], strict=True):
        shown = pairs.units[pair, side]
        series.append([faces.show(pair // scenes, pair % scenes, shown + t * (peak - shown)) for t in INTENSITIES])
    return rearrange(torch.from_numpy(np.array(series)), "n t h w c -> n t c h w").float() / 255


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

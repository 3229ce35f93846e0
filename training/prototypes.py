"""The code of each expression at its peak, which `edit` blends towards."""

import numpy as np
import torch

from tergan_core.model import TERGAN
from training.data import Pairs
from training.faces import UNITS, peak_expression


@torch.no_grad()
def set_prototypes(model: TERGAN, pairs: Pairs, images: int = 512) -> None:
    """Fills `model.prototypes`: the canonical units where the code has units, else the mean code of strong images.

    Args:
        pairs: images to take the mean over, for a model without units.
        images: how many.
    """
    if model.config.units:
        for prototype, name in zip(model.prototypes, model.config.expressions, strict=True):
            prototype[: len(UNITS)] = torch.from_numpy(peak_expression(name).units)
        return
    strong = np.flatnonzero(
        (pairs.intensities[pairs.expressions] > 0.8) | (pairs.labels[pairs.expressions] == 0).numpy()
    )
    chosen = np.random.default_rng(0).permutation(strong)[:images]
    device = model.prototypes.device
    was_training = model.training
    model.eval()
    codes = torch.cat(
        [
            model.encode_expression(pairs.images_at(part // 2, part % 2).to(device))
            for part in np.array_split(chosen, max(1, len(chosen) // 64))
        ]
    )
    model.train(was_training)
    labels = pairs.labels[pairs.expressions[chosen // 2, chosen % 2]].to(device)
    for label, prototype in enumerate(model.prototypes):
        if (labels == label).any():
            prototype.copy_(codes[labels == label].mean(0))

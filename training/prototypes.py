"""The code of each expression at its peak, which `edit` blends towards."""

import numpy as np
import torch

from tergan_core.model import TERGAN
from training.data import Pairs
from training.faces import UNITS, peak_expression


@torch.no_grad()
def set_prototypes(model: TERGAN, pairs: Pairs, images: int = 64) -> None:
    """Fills `model.prototypes`: the canonical units where the code has units, else mean codes of the strongest images.

    Args:
        pairs: images to take the mean over, for a model without units.
        images: how many of each expression; at most a quarter of those that show it. What none shows keeps its code.
    """
    if model.config.units:
        for prototype, name in zip(model.prototypes, model.config.expressions, strict=True):
            prototype[: len(UNITS)] = torch.from_numpy(peak_expression(name).units)
        return
    was_training = model.training
    model.eval()
    shown = pairs.expressions.ravel()
    labels, intensities = pairs.labels.numpy()[shown], pairs.intensities[shown]
    for label, prototype in enumerate(model.prototypes):
        sides = np.flatnonzero(labels == label)
        if not len(sides):
            continue
        strongest = sides[np.argsort(-intensities[sides], kind="stable")][: max(1, min(images, len(sides) // 4))]
        faces = pairs.images_at(strongest // 2, strongest % 2).to(prototype.device)
        prototype.copy_(model.encode_expression(faces).mean(0))
    model.train(was_training)

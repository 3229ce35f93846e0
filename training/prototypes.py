"""The code of each expression at its peak, which `edit` blends towards."""

import torch

from tergan_core.model import TERGAN
from training.data import Pairs, RecordedPairs
from training.faces import UNITS, peak_expression


@torch.no_grad()
def set_prototypes(model: TERGAN, pairs: Pairs | RecordedPairs, images: int = 64) -> None:
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
    for label, prototype in enumerate(model.prototypes):
        faces = pairs.strongest(label, images)
        if faces is not None:
            prototype.copy_(model.encode_expression(faces.to(prototype.device)).mean(0))
    model.train(was_training)

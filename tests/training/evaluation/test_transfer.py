import dataclasses

import torch

from training.data import Pairs
from training.evaluation import transfer
from training.train import _cache, build, render


def test_extremes_stand_in_turn_from_the_best_over_the_middle_to_the_worst(smoke):
    more = dataclasses.replace(smoke, faces=dataclasses.replace(smoke.faces, scenes=6))
    render(more)
    pairs = Pairs(_cache(more, "train"))
    model = build(smoke, len(pairs.people), torch.device("cpu")).networks.model.eval()
    with torch.inference_mode():
        batch = transfer.extremes(model, pairs, transfers=200, seed=0, rows=2)
        output = model.transfer(identity=batch.identity, expression=batch.expression)
    error, copied = (
        [
            ((image - truth).abs().mean(0) * ((truth - identity).abs().mean(0) > 0.04)).sum()
            for image, truth, identity in zip(images, batch.truth, batch.identity, strict=True)
        ]
        for images in (output, batch.identity)
    )
    left = (torch.stack(error) / torch.stack(copied)).reshape(2, 3)
    assert (left[:, 0].max() < left[:, 1].min()) and (left[:, 1].max() < left[:, 2].min())

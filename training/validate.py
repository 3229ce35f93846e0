"""A quick look during training at people who are not trained on. The full measurement is `training.evaluate`."""

import numpy as np
import torch
from einops import reduce

from tergan_core.model import TERGAN
from training.data import Pairs, RecordedPairs


@torch.inference_mode()
def validate(model: TERGAN, pairs: Pairs | RecordedPairs, device: torch.device, images: int = 192) -> dict[str, float]:
    """Figures by name; those of `copy` are what handing back the identity image scores.

    `own_reading` is the share of outputs in which the model's own encoder sees the wanted expression: it flatters.
    """
    model.eval()
    rng = np.random.default_rng(7)
    rows = []
    for _ in range(0, images, 32):
        batch = pairs.draw(rng, 32).to(device)
        person = model.encode_identity(batch.identity)
        code = model.encode_expression(batch.expression)
        output = model.decode(person, code)
        read = model.classify(model.encode_expression(output)).argmax(1)
        changed = changed_pixels(batch.truth, batch.identity)
        n = len(model.config.units)
        row = {
            "recognition": (model.classify(code).argmax(1) == batch.label).float(),
            "own_reading": (read == batch.label).float(),
            "psnr_reconstruction": psnr(model.decode(person, person.expression), batch.identity),
        }
        if pairs.true_transfers:
            row |= {
                "psnr": psnr(output, batch.truth),
                "psnr_copy": psnr(batch.identity, batch.truth),
                "l1_changed": masked_l1(output, batch.truth, changed),
                "l1_changed_copy": masked_l1(batch.identity, batch.truth, changed),
            }
        if n:
            row["unit_error"] = (code[:, :n] - batch.expression_units).abs().mean(1)
        rows.append(row)
    return {f"validation/{name}": float(torch.cat([row[name] for row in rows]).mean()) for name in rows[0]}


def psnr(image: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio of each image in dB."""
    return -10 * torch.log10(reduce((image - truth) ** 2, "b c h w -> b", "mean") + 1e-8)


def changed_pixels(truth: torch.Tensor, identity: torch.Tensor, threshold: float = 0.04) -> torch.Tensor:
    """1 where truth and identity image [b, 3, h, w] differ by more than a threshold in the mean of colours, else 0."""
    return (reduce((truth - identity).abs(), "b c h w -> b 1 h w", "mean") > threshold).float()


def masked_l1(image: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of each image [b, 3, h, w] where a mask [b, 1, h, w] is 1."""
    difference = reduce((image - truth).abs() * mask, "b c h w -> b", "sum")
    return difference / (3 * reduce(mask, "b 1 h w -> b", "sum") + 1)

"""The terms of the objective: pure functions, one scalar each. Weights live in `training.config`, nowhere else."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, Int
from torch import Tensor

Adversarial = Literal["logistic", "hinge", "least squares", "relativistic"]
"""Kinds of adversarial loss: non-saturating logistic (Goodfellow et al. 2014, 1406.2661), hinge (Lim and Ye 2017,
1705.02894), least squares (Mao et al. 2016, 1611.04076), relativistic pairs (Jolicoeur-Martineau 2018, 1807.00734)."""

TYPICAL_CHANGE = 0.11
"""What copying the identity image scores in `paired_swap`: the median over 400 pairs of the face set, at 128 px."""


def adversarial_discriminator(
    real: Float[Tensor, " b"], fake: Float[Tensor, " b"], kind: Adversarial = "logistic"
) -> Float[Tensor, ""]:
    """Critic's side of a GAN loss.

    Args:
        real, fake: realness logits; `relativistic` compares those in the same place.
    """
    match kind:
        case "logistic":
            return F.softplus(-real).mean() + F.softplus(fake).mean()
        case "hinge":
            return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
        case "least squares":
            return 0.5 * ((real - 1) ** 2).mean() + 0.5 * (fake**2).mean()
        case "relativistic":
            return F.softplus(fake - real).mean()


def adversarial_generator(
    fake: Float[Tensor, " b"], real: Float[Tensor, " b"], kind: Adversarial = "logistic"
) -> Float[Tensor, ""]:
    """Generator's side of a GAN loss; `real` matters for `relativistic` alone."""
    match kind:
        case "logistic":
            return F.softplus(-fake).mean()
        case "hinge":
            return -fake.mean()
        case "least squares":
            return 0.5 * ((fake - 1) ** 2).mean()
        case "relativistic":
            return F.softplus(real - fake).mean()


def feature_matching(
    output: Sequence[Float[Tensor, "b _c _h _w"]], truth: Sequence[Float[Tensor, "b _c _h _w"]]
) -> Float[Tensor, ""]:
    """Mean absolute difference of the critic's maps of the output and of the true image, over all scales alike.

    Wang et al. 2018 (pix2pixHD, 1711.11585, eq. 4). What the critic looks at is compared where it belongs, so that
    teeth and lids are drawn and not averaged. The truth is a fixed target.
    """
    return torch.stack([F.l1_loss(a, b.detach()) for a, b in zip(output, truth, strict=True)]).mean()


def r1_penalty(real: Float[Tensor, " b"], image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Half the mean squared gradient norm of the critic on real images (Mescheder et al. 2018, 1801.04406, eq. 9).

    Args:
        real: realness logits of `image`, which requires a gradient.
    """
    (gradient,) = torch.autograd.grad(real.sum(), image, create_graph=True)
    return 0.5 * reduce(gradient**2, "b c h w -> b", "sum").mean()


def expression_classification(logits: Float[Tensor, "b k"], label: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross-entropy over expressions."""
    return F.cross_entropy(logits, label)


def identity_classification(logits: Float[Tensor, "b n"], label: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Cross-entropy over the people trained on."""
    return F.cross_entropy(logits, label)


def expression_consistency(generated: Float[Tensor, "b d"], wanted: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
    """Mean absolute difference between the code of the generated image and the code that it was asked for.

    The wanted code is a fixed target: only the generated image has to move. That the loss takes its supervision from
    the generated image is TER-GAN's; the distance is our choice.
    """
    return F.l1_loss(generated, wanted.detach())


def identity_consistency(generated: Float[Tensor, "b n"], identity: Float[Tensor, "b n"]) -> Float[Tensor, ""]:
    """One minus the cosine similarity of the generated image's identity embedding and the identity image's.

    The second is a fixed target. The source is TER-GAN's, the distance our choice.
    """
    return 1 - F.cosine_similarity(generated, identity.detach()).mean()


def reconstruction(output: Float[Tensor, "b c h w"], image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference; the output was asked for the expression that the image shows already."""
    return F.l1_loss(output, image)


def paired_swap(
    output: Float[Tensor, "b c h w"],
    truth: Float[Tensor, "b c h w"],
    identity: Float[Tensor, "b c h w"],
    *,
    changed_weight: float = 9.0,
    threshold: float = 0.04,
    relative: bool = False,
) -> Float[Tensor, ""]:
    """Mean absolute difference to the true image of the transfer, with the pixels that have to change weighing more.

    Without the weight, copying the identity image is nearly right: most of a face does not move. Our choice.

    Args:
        truth: the same person in the same scene with the wanted expression.
        identity: the identity image.
        changed_weight: weight of a pixel in which truth and identity image differ; others weigh 1.
        threshold: mean absolute difference over colours, of [0, 1], above which a pixel counts as changed.
        relative: divide each image's difference by what copying the identity image would score, so that a weak
            expression counts as much as a strong one. A change of typical size keeps about its weight, the weakest
            weigh four times as much.
    """
    changed = reduce((truth - identity).abs(), "b c h w -> b 1 h w", "mean") > threshold
    weight = 1 + (changed_weight - 1) * changed.to(output.dtype)
    missed = reduce(weight * (output - truth).abs(), "b c h w -> b", "mean")
    if relative:
        copied = reduce(weight * (identity - truth).abs(), "b c h w -> b", "mean")
        missed = missed / (copied / TYPICAL_CHANGE + 0.25)
    return missed.mean()


def cross_cycle(cycle: Float[Tensor, "b c h w"], image: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean absolute difference between an image and what a transfer away and back made of it."""
    return F.l1_loss(cycle, image)


def unit_regression(
    code: Float[Tensor, "b u"], units: Float[Tensor, "b u"], share: float | Float[Tensor, " u"] = 1.0
) -> Float[Tensor, ""]:
    """Smooth L1 distance (knee at 0.1) between predicted and true face-unit weights. Our choice.

    Args:
        share: how much each unit counts.
    """
    return (share * F.smooth_l1_loss(code, units, beta=0.1, reduction="none")).mean()

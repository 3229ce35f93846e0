"""The critic: is this face real, which expression does it show, whose face is it (DE-GAN's three heads)."""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

GROUP = 4
"""Faces whose spread the critic sees together; a batch that is no multiple of it is one group."""


class Verdict(NamedTuple):
    """Logits of the three heads, and the maps that they were made from, finest first."""

    realness: Float[Tensor, " b"]
    expression: Float[Tensor, "b k"]
    identity: Float[Tensor, "b n"]
    maps: list[Float[Tensor, "b _c _h _w"]]


class Discriminator(nn.Module):
    """Strided residual-free convolutions without norm layers, so that a gradient penalty is well defined per face.

    Args:
        expressions: number k of expressions.
        identities: number n of people trained on.
        widths: channels at stride 2, 4, 8, ...
    """

    def __init__(self, *, expressions: int, identities: int, widths: tuple[int, ...] = (32, 64, 96, 128)):
        super().__init__()
        strided = [nn.Conv2d(width_in, width, 4, stride=2, padding=1) for width_in, width in pairwise(widths)]
        self.trunk = nn.ModuleList([nn.Conv2d(12, widths[0], 3, padding=1), *strided])
        self.last = nn.Conv2d(widths[-1] + 1, widths[-1], 3, padding=1)
        self.realness = nn.Linear(widths[-1], 1)
        self.expression = nn.Linear(widths[-1], expressions)
        self.identity = nn.Linear(widths[-1], identities)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015: without norm layers, PyTorch's default lets signals fade
                nn.init.kaiming_normal_(layer.weight, a=0.2)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Verdict:
        """Logits; height and width are multiples of 16.

        The standard deviation over `GROUP` faces of the batch (ProGAN; in groups: StyleGAN2) is one input map.
        """
        x = rearrange(image * 2 - 1, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)
        maps = []
        for layer in self.trunk:
            x = F.leaky_relu(layer(x), 0.2)
            maps.append(x)
        b, _, h, w = x.shape
        size = GROUP if b % GROUP == 0 else b
        grouped = rearrange(x, "(s g) c h w -> s g c h w", s=size)
        spread = reduce((grouped.var(dim=0, unbiased=False) + 1e-8).sqrt(), "g c h w -> g", "mean")
        x = self.last(torch.cat([x, repeat(spread, "g -> (s g) 1 h w", s=size, h=h, w=w)], dim=1))
        x = reduce(F.leaky_relu(x, 0.2), "b c h w -> b c", "mean")
        return Verdict(rearrange(self.realness(x), "b 1 -> b"), self.expression(x), self.identity(x), maps)

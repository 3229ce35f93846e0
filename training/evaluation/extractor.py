"""EfficientNet-Lite0 with ImageNet weights as an eye that took no part in training.

It stands in for the networks of LPIPS and FID, whose weights cannot be had offline: its figures compare with each other
alone, not with published ones.
"""

from functools import cache

import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from tergan_core.backbone import Backbone
from training import imagenet

_SIZE_PX = 160


@cache
def _network() -> Backbone:
    backbone = Backbone(imagenet.BACKBONE, image_size=_SIZE_PX)
    backbone.features.model.load_state_dict(
        {name: value for name, value in imagenet.state_dict().items() if name in backbone.features.model.state_dict()}
    )
    return backbone.eval()


def maps(image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
    """Feature maps at strides 2 to 32 of images in [0, 1], resized to 160 px.

    Raises:
        MissingLibraryError: the ImageNet weights are not installed.
    """
    return _network()(F.interpolate(image, (_SIZE_PX, _SIZE_PX), mode="bilinear", antialias=True, align_corners=False))


def pooled(features: list[Tensor]) -> Float[Tensor, "b 320"]:
    """Means of the coarsest map: the features of the KID."""
    return reduce(features[-1], "b c h w -> b c", "mean")


def perceptual_distance(first: list[Tensor], second: list[Tensor]) -> Float[Tensor, " b"]:
    """Mean over the maps of the squared distance of unit-length feature vectors (Zhang et al. 2018, eq. 1, w = 1)."""
    distances = [
        reduce((F.normalize(a) - F.normalize(b)) ** 2, "b c h w -> b h w", "sum").mean((1, 2))
        for a, b in zip(first, second, strict=True)
    ]
    return torch.stack(distances).mean(0)

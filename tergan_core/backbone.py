"""A timm encoder with one contract: RGB faces in [0, 1] in, NCHW feature maps of falling resolution out."""

import warnings
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from .errors import UnknownBackboneError, close_names

# timm is imported where it is used: that takes longer than all else in the start of a worker with a compiled engine,
# which has no backbone.


class Backbone(nn.Module):
    """Any timm model that can give feature maps, by its timm name.

    A model whose maps repeat a stride (a ViT) gives the last map of each stride. The decoder reads `channels` and
    `strides` from here and assumes nothing else.

    Args:
        name: a name from `timm.list_models()`.
        image_size: height and width of the faces, in pixels; models of fixed input size are built for it.
        standardize: give every face zero mean and unit variance, which takes out most of the light; else use the mean
            and standard deviation that the timm model was made for.
        pretrained: start from timm's published weights, which are downloaded.
        options: further keyword arguments of `timm.create_model`.

    Raises:
        UnknownBackboneError: timm has no such model, refuses the options, or its maps have strides that are not powers
            of two.
    """

    features: Any  # a timm module with feature_info
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        *,
        image_size: int,
        standardize: bool = False,
        pretrained: bool = False,
        options: dict[str, Any] | None = None,
    ):
        import timm

        super().__init__()
        if not timm.is_model(name):
            raise UnknownBackboneError(f"timm has no backbone named {name!r}. {close_names(name, timm.list_models())}")
        options = dict(options or {})
        pretrained_cfg = timm.get_pretrained_cfg(name)
        if pretrained_cfg is not None and pretrained_cfg.fixed_input_size:
            options.setdefault("img_size", image_size)
        try:
            self.features = _feature_extractor(name, pretrained, options)
        except (RuntimeError, TypeError, AttributeError, AssertionError, ValueError) as error:
            raise UnknownBackboneError(
                f"timm cannot make feature maps from {name!r} with {options}: {error}"
            ) from error
        self.channels: list[int] = self.features.feature_info.channels()
        self.strides: list[int] = self.features.feature_info.reduction()
        if any(stride < 2 or stride & (stride - 1) for stride in self.strides):
            raise UnknownBackboneError(
                f"backbone {name!r} has maps of strides {self.strides}; the decoder needs powers of two from 2 up"
            )
        self.standardize = standardize
        cfg = self.features.pretrained_cfg
        self.register_buffer("mean", rearrange(torch.tensor(cfg["mean"]), "c -> c 1 1"), persistent=False)
        self.register_buffer("std", rearrange(torch.tensor(cfg["std"]), "c -> c 1 1"), persistent=False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _c _h _w"]]:
        """Feature maps, finest first; map i has `channels[i]` channels and is `strides[i]` times smaller."""
        if self.standardize:
            mean = reduce(image, "b c h w -> b 1 1 1", "mean")
            centred = image - mean
            variance = reduce(centred * centred, "b c h w -> b 1 1 1", "mean")
            return self.features(centred * (1 / (variance.sqrt() + 0.05)))  # no power, one division
        return self.features((image - self.mean) / self.std)


def _feature_extractor(name: str, pretrained: bool, options: dict[str, Any]) -> Any:
    """The timm extractor with one map per stride; `getter` is the one wrapper that gives NCHW for every model."""
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's own deprecation notes are not the user's business
        create = {"features_only": True, "feature_cls": "getter", "pretrained": pretrained, **options}
        extractor: Any = timm.create_model(name, **create)
        strides, indices = extractor.feature_info.reduction(), extractor.feature_info.out_indices
        last = [i for i, stride in enumerate(strides) if stride not in strides[i + 1 :]]
        if len(last) < len(strides):
            extractor = timm.create_model(name, out_indices=[indices[i] for i in last], **create)
    return extractor

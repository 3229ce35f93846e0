"""TERGAN: one network for expression transfer, editing and recognition. Tensors in, tensors out.

Letters in shapes: `b` batch, `c` channels, `h w` pixels, `d` width of the expression code, `n` width of the identity
embedding, `k` expressions. A name with a leading underscore is any size.
"""

import math

import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from .backbone import Backbone
from .config import ModelConfig
from .decoder import DECODERS, Drawing, IdentityCode, SkipDecoder, VectorDecoder


class ExpressionCodes(nn.Module):
    """What can be done with expression codes alone: the classifier, each expression's prototype, the way between two.

    Args:
        config: the architecture.
    """

    prototypes: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.classifier = nn.Sequential(
            nn.Linear(config.expression_width, 64), nn.SiLU(), nn.Linear(64, len(config.expressions))
        )
        self.register_buffer("prototypes", torch.zeros(len(config.expressions), config.expression_width))

    def classify(self, expression: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits over `config.expressions` for expression codes."""
        return self.classifier(expression)

    @staticmethod
    def blend(
        shown: Float[Tensor, "b d"], wanted: Float[Tensor, "b d"], intensity: float | Float[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """The code on the way from the expression shown (intensity 0) to the one wanted (1), or beyond it (above 1)."""
        if isinstance(intensity, Tensor) and intensity.ndim:
            intensity = rearrange(intensity, "b -> b 1")
        return shown + intensity * (wanted - shown)


class TERGAN(ExpressionCodes):
    """Two encoders, one decoder, one classifier on the expression code (arXiv 1911.07050, abstract).

    The expression code is a plain value: codes can be mixed, scaled and interpolated. Its first `len(config.units)`
    entries are the weights of named face units. The decoder, the classifier and the units are our own choice.

    Args:
        config: the architecture.
        pretrained: start both encoders from timm's published weights, which are downloaded.

    >>> model = TERGAN(ModelConfig(image_size=32, identity_backbone="test_resnet", expression_backbone="test_resnet"))
    >>> face = torch.rand(2, 3, 32, 32)
    >>> model.transfer(identity=face, expression=face.flip(0)).shape
    torch.Size([2, 3, 32, 32])
    """

    def __init__(self, config: ModelConfig, *, pretrained: bool = False):
        super().__init__(config)
        self.identity_encoder = Backbone(
            config.identity_backbone,
            image_size=config.image_size,
            pretrained=pretrained,
            options=config.identity_backbone_options,
        )
        self.expression_encoder = Backbone(
            config.expression_backbone,
            image_size=config.image_size,
            standardize=True,
            pretrained=pretrained,
            options=config.expression_backbone_options,
        )
        self.identity_head = nn.Linear(self.identity_encoder.channels[-1], config.identity_width)
        side = math.ceil(config.image_size / self.expression_encoder.strides[-1])
        self.expression_places = side**2 if config.expression_pooling == "flatten" else 1
        features = self.expression_encoder.channels[-1] * self.expression_places
        self.expression_head = nn.Linear(features, config.expression_width)
        self.decoder: SkipDecoder | VectorDecoder = DECODERS[config.decoder](
            config, self.identity_encoder.channels, self.identity_encoder.strides
        )

    def encode_expression(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """The expression code of faces in [0, 1]."""
        last_map = self.expression_encoder(image)[-1]
        if self.config.expression_pooling == "flatten":
            return self.expression_head(rearrange(last_map, "b c h w -> b (c h w)"))
        return self.expression_head(_pool(last_map))

    def encode_identity(self, image: Float[Tensor, "b 3 h w"]) -> IdentityCode:
        """The identity code of faces in [0, 1], with the expression that they show now."""
        maps = self.identity_encoder(image)
        return IdentityCode(image, maps, self.identity_head(_pool(maps[-1])), self.encode_expression(image))

    def decode(self, identity: IdentityCode, expression: Float[Tensor, "b d"]) -> Float[Tensor, "b 3 h w"]:
        """The person of `identity` with the expression of a code; a face in [0, 1]."""
        return self.draw(identity, expression).image

    def draw(self, identity: IdentityCode, expression: Float[Tensor, "b d"]) -> Drawing:
        """As `decode`, with the parts that the face is made of, where the decoder has any."""
        return self.decoder.draw(identity, expression)

    def transfer(
        self,
        *,
        identity: Float[Tensor, "b 3 h w"],
        expression: Float[Tensor, "b 3 h w"],
        intensity: float | Float[Tensor, " b"] = 1.0,
    ) -> Float[Tensor, "b 3 h w"]:
        """The people of `identity` with the expressions of `expression` (FET)."""
        person = self.encode_identity(identity)
        return self.decode(person, self.blend(person.expression, self.encode_expression(expression), intensity))

    def edit(
        self,
        image: Float[Tensor, "b 3 h w"],
        to: Int[Tensor, " b"],
        intensity: float | Float[Tensor, " b"] = 1.0,
    ) -> Float[Tensor, "b 3 h w"]:
        """The same people with the expression of index `to` in `config.expressions` (FEE)."""
        person = self.encode_identity(image)
        return self.decode(person, self.blend(person.expression, self.prototypes[to], intensity))

    def recognize(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        """Probabilities over `config.expressions` (FER)."""
        return self.classify(self.encode_expression(image)).softmax(dim=-1)


def _pool(feature_map: Float[Tensor, "b c _h _w"]) -> Float[Tensor, "b c"]:
    return reduce(feature_map, "b c h w -> b c", "mean")

"""ModelConfig: exactly what weights need to be rebuilt as a network. Frozen, validated, stored as `config.json`."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import ConfigError, close_names

EXPRESSIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
"""The expression names that exist; a model lists those it has, in its own order."""

_NO_OPTIONS = {"checkpoint_path", "cache_dir", "features_only", "feature_cls", "out_indices"}
"""Arguments of `timm.create_model` that would fetch or read files, or change what a backbone returns; besides all that
begin with `pretrained`. A model folder may come from anyone."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture of one TERGAN network."""

    image_size: int = 128
    """Height and width of the faces in and out, in pixels; a multiple of 32."""

    expressions: tuple[str, ...] = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")
    """Names of the k expressions, in the order of the logits; the first is `neutral`."""

    units: tuple[str, ...] = ()
    """Names of the face units that the first entries of the expression code are (0 = rest, 1 = full); may be empty."""

    identity_backbone: str = "mobilenetv4_conv_small"
    """timm name of the identity encoder."""

    identity_backbone_options: dict[str, Any] = field(default_factory=dict)
    """Further keyword arguments of `timm.create_model` for the identity encoder; none that names files or weights."""

    identity_width: int = 128
    """Width of the identity embedding."""

    expression_backbone: str = "resnet10t"
    """timm name of the expression encoder."""

    expression_backbone_options: dict[str, Any] = field(default_factory=dict)
    """The same for the expression encoder."""

    expression_pooling: Literal["average", "flatten"] = "average"
    """How the expression code is read from the encoder's last map: from its mean over all places, or from every place
    by itself, which can tell left from right and eyes from mouth (as ArcFace, 1801.07698, does for identity)."""

    expression_width: int = 52
    """Width d of the expression code; at least the number of units."""

    decoder: Literal["warp", "skip", "vector"] = "warp"
    """`warp` moves the identity image's own pixels and draws what is missing; `skip` draws all, seeing the identity
    image at every resolution; `vector` draws all from the two codes."""

    decoder_widths: tuple[int, ...] = (24, 40, 64, 96)
    """Channels of the decoder at stride 2, 4, 8, ...; the last one holds for all coarser strides."""

    max_intensity: float = 1.5
    """Largest intensity that `edit` and `transfer` accept; 1 is the peak of the expression."""

    def __post_init__(self):
        _check(self.image_size >= 32 and self.image_size % 32 == 0, "image_size", self.image_size, "a multiple of 32")
        unknown = [name for name in self.expressions if name not in EXPRESSIONS]
        if unknown:
            raise ConfigError(
                f"expressions has the unknown name {unknown[0]!r}. {close_names(unknown[0], EXPRESSIONS)}"
            )
        _check(len(self.expressions) >= 2, "expressions", self.expressions, "at least two names")
        _check(self.expressions[:1] == ("neutral",), "expressions", self.expressions, "names that begin with 'neutral'")
        _check(len(set(self.expressions)) == len(self.expressions), "expressions", self.expressions, "distinct names")
        _check(len(set(self.units)) == len(self.units), "units", self.units, "distinct names")
        _check(self.identity_width > 0, "identity_width", self.identity_width, "a positive number")
        _check(
            self.expression_width >= max(1, len(self.units)),
            "expression_width",
            self.expression_width,
            f"at least the number of units ({len(self.units)})",
        )
        _check(
            self.expression_pooling in ("average", "flatten"),
            "expression_pooling",
            self.expression_pooling,
            "'average' or 'flatten'",
        )
        _check(self.decoder in ("warp", "skip", "vector"), "decoder", self.decoder, "'warp', 'skip' or 'vector'")
        _check(
            len(self.decoder_widths) > 0 and all(width > 0 and width % 8 == 0 for width in self.decoder_widths),
            "decoder_widths",
            self.decoder_widths,
            "positive multiples of 8",
        )
        for name in ("identity_backbone_options", "expression_backbone_options"):
            for option in getattr(self, name):
                allowed = option not in _NO_OPTIONS and not option.startswith("pretrained")
                _check(allowed, name, option, "what shapes the backbone, such as 'channels'")
        _check(self.max_intensity >= 1, "max_intensity", self.max_intensity, "at least 1")

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """The configuration that `to_dict` gave.

        Raises:
            ConfigError: a key is unknown, or a value is out of range.
        """
        known = [entry.name for entry in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ConfigError(f"model configuration has the unknown key {key!r}. {close_names(key, known)}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"model configuration has a value of a wrong kind: {error}") from error


def _check(holds: bool, name: str, value: object, accepted: str) -> None:
    if not holds:
        raise ConfigError(f"{name} is {value!r}; accepted: {accepted}")

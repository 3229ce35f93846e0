"""Every error that users can act on. Each has a stable `code`; `serving` alone maps codes to HTTP status."""

import difflib
from collections.abc import Iterable


class TerganError(Exception):
    """Base of all errors that tergan-core raises on purpose.

    The message says what we got, what is accepted and what to do.
    """

    code = "tergan_error"


class InvalidImageError(TerganError, ValueError):
    """The picture cannot be read: not an image, truncated, empty, of a wrong shape or range, or not finite."""

    code = "invalid_image"


class ImageTooLargeError(TerganError, ValueError):
    """The picture has more pixels, or the file more bytes, than the limit; nothing was decoded."""

    code = "image_too_large"


class NoFaceError(TerganError, ValueError):
    """No face was found in a photograph."""

    code = "no_face"


class UnknownExpressionError(TerganError, ValueError):
    """The model has no expression of this name."""

    code = "unknown_expression"


class UnknownUnitError(TerganError, ValueError):
    """The model has no face unit of this name, or none at all."""

    code = "unknown_unit"


class IntensityError(TerganError, ValueError):
    """The intensity is not a number within the model's bounds."""

    code = "invalid_intensity"


class InvalidCodeError(TerganError, ValueError):
    """An identity or expression code does not fit the model."""

    code = "invalid_code"


class MissingFieldError(TerganError, ValueError):
    """A request lacks a field that its task needs."""

    code = "missing_field"


class InvalidRequestError(TerganError, ValueError):
    """A request cannot be understood: broken JSON or base64, an unknown or ill-typed field."""

    code = "invalid_request"


class UnsupportedMediaTypeError(TerganError, ValueError):
    """The request's content type, or the type asked for by `Accept`, is not one of ours."""

    code = "unsupported_media_type"


class ConfigError(TerganError, ValueError):
    """A configuration value is out of range or of a wrong kind, or a key is unknown."""

    code = "invalid_config"


class UnknownBackboneError(ConfigError):
    """timm has no backbone of this name, or it cannot give feature maps."""

    code = "unknown_backbone"


class WeightsNotFoundError(TerganError, FileNotFoundError):
    """There is no model at this path or of this name, or it may not be read."""

    code = "weights_not_found"


class WeightsCorruptError(TerganError, ValueError):
    """The model folder is there but its content is damaged or does not fit its configuration."""

    code = "weights_corrupt"


class EngineError(TerganError, RuntimeError):
    """An engine cannot compile the network, or cannot run here."""

    code = "engine_error"


class ServerError(TerganError, ConnectionError):
    """A server cannot be reached, is busy, is too slow, or fails by itself."""

    code = "server_error"


class MissingExtraError(TerganError, ImportError):
    """An optional dependency is not installed; the message holds the exact pip line."""

    code = "missing_extra"

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(
            f"{purpose} needs the package {package!r}. Install it with: pip install 'tergan-core[{extra}]'"
        )


class MissingLibraryError(TerganError, OSError):
    """A library of the operating system is not installed; the message says which, and what to do."""

    code = "missing_library"


def close_names(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the names nearest to `name`, or all of them if none is near and they are few."""
    known = list(known)
    near = difflib.get_close_matches(str(name)[:100].lower(), known, n=3, cutoff=0.5)
    if near:
        return f"Close names: {', '.join(near)}."
    return f"Known names: {', '.join(known)}." if len(known) <= 12 else ""

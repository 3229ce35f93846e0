"""TER-GAN: facial expression transfer, editing and recognition with one network.

>>> from tergan_core import FaceEditor
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import ModelConfig as ModelConfig
    from .errors import ImageTooLargeError as ImageTooLargeError
    from .errors import IntensityError as IntensityError
    from .errors import InvalidImageError as InvalidImageError
    from .errors import NoFaceError as NoFaceError
    from .errors import TerganError as TerganError
    from .errors import UnknownExpressionError as UnknownExpressionError
    from .errors import WeightsCorruptError as WeightsCorruptError
    from .errors import WeightsNotFoundError as WeightsNotFoundError
    from .model import TERGAN as TERGAN
    from .model import IdentityCode as IdentityCode
    from .photo import PhotoEditor as PhotoEditor
    from .pipeline import FaceEditor as FaceEditor
    from .results import GeneratedFace as GeneratedFace
    from .results import Recognition as Recognition

__version__ = "0.1.0"

_MODULE_OF = {
    "FaceEditor": "pipeline",
    "GeneratedFace": "results",
    "IdentityCode": "model",
    "ImageTooLargeError": "errors",
    "IntensityError": "errors",
    "InvalidImageError": "errors",
    "ModelConfig": "config",
    "NoFaceError": "errors",
    "PhotoEditor": "photo",
    "Recognition": "results",
    "TERGAN": "model",
    "TerganError": "errors",
    "UnknownExpressionError": "errors",
    "WeightsCorruptError": "errors",
    "WeightsNotFoundError": "errors",
}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> object:
    """The public name, imported when it is first used: torch and timm take seconds."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]

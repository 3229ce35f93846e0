"""What `FaceEditor` returns: frozen values that know how to be shown, saved and sent."""

import base64
import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL.Image
from jaxtyping import Float, UInt8

from .errors import UnsupportedMediaTypeError
from .images import encode
from .provenance import Notice

_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of a photo."""


def weights_in_words(weights: dict[str, float]) -> str:
    """A mixture, or weights of face units, as `GeneratedFace.to` names them.

    >>> weights_in_words({"happiness": 0.5, "surprise": 0.3})
    '0.5 happiness + 0.3 surprise'
    """
    return " + ".join(f"{weight:g} {name}" for name, weight in weights.items())


@dataclass(frozen=True)
class Recognition:
    """Which expression a face shows.

    >>> Recognition("happiness", {"neutral": 0.2, "happiness": 0.8}, {}).to_dict()["label"]
    'happiness'
    """

    label: str
    """The most probable expression."""

    probabilities: dict[str, float]
    """Probability of each expression of the model; they sum to 1."""

    units: dict[str, float]
    """Activation of each face unit, 0 = rest, 1 = full; empty if the model has none."""

    box: Box | None = None
    """Where the face is in the photo; None if a face was given and no photo."""

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON; without `box` if there is none."""
        values = dataclasses.asdict(self)
        return values if self.box else {name: value for name, value in values.items() if name != "box"}


class _Picture:
    """What all results with an image can do."""

    image: UInt8[np.ndarray, "h w 3"]

    def pil(self) -> PIL.Image.Image:
        """The image as a PIL image."""
        return PIL.Image.fromarray(self.image)

    @property
    def notice(self) -> Notice:
        """What the files of this picture say of its origin."""
        raise NotImplementedError

    def encode(self, format: str = "png", *, notice: bool = True) -> bytes:
        """The bytes of a file, as `images.encode`; `notice=False` leaves out that the picture is generated."""
        return encode(self.image, format, notice=self.notice if notice else None)

    def save(self, path: str | os.PathLike[str], *, notice: bool = True) -> Path:
        """Writes the image as PNG, JPEG or WebP, by the suffix, and returns the path.

        Args:
            notice: whether the file says, in XMP, that the picture is generated.

        Raises:
            UnsupportedMediaTypeError: the suffix is none of .png, .jpg, .jpeg, .webp.
            OSError: the file cannot be written.
        """
        path = Path(path)
        format = _FORMATS.get(path.suffix.lower())
        if format is None:
            raise UnsupportedMediaTypeError(
                f"cannot save {os.fspath(path)!r}: its suffix is {path.suffix!r}; accepted: {', '.join(_FORMATS)}."
            )
        path.write_bytes(self.encode(format, notice=notice))
        return path

    def _repr_png_(self) -> bytes:
        """What notebooks show."""
        return self.encode()

    def _png_base64(self) -> str:
        return base64.b64encode(self._repr_png_()).decode()


@dataclass(frozen=True, eq=False)
class GeneratedFace(_Picture):
    """A face that the network drew.

    >>> GeneratedFace(np.zeros((4, 4, 3), np.uint8), "edit", "happiness", 0.8).pil().size
    (4, 4)
    """

    image: UInt8[np.ndarray, "h w 3"] = field(repr=False)
    """RGB pixels."""

    task: Literal["transfer", "edit"]
    """How it was made."""

    to: str | None
    """The expression asked for, `edit` only."""

    intensity: float
    """0 = unchanged, 1 = the peak of the expression."""

    flow: Float[np.ndarray, "2 h w"] | None = field(default=None, repr=False)
    """How the pixels of the identity image moved (see `decoder.warp`); None if the decoder does not move any."""

    model: str = field(default="", repr=False)
    """Name, version and sha256 of the model, if known."""

    @property
    def notice(self) -> Notice:
        """What the files of this picture say of its origin."""
        return Notice(self.task, self.model)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON; `image` is a PNG in base64."""
        return {"task": self.task, "to": self.to, "intensity": self.intensity, "image": self._png_base64()}


@dataclass(frozen=True, eq=False)
class EditedPhoto(_Picture):
    """A photo with other expressions on its faces.

    >>> EditedPhoto(np.zeros((4, 4, 3), np.uint8), (), ()).pil().size
    (4, 4)
    """

    image: UInt8[np.ndarray, "h w 3"] = field(repr=False)
    """RGB pixels, as many as the photo had; with `align=False` the face in the model's size."""

    faces: tuple[GeneratedFace, ...]
    """What was pasted in, as the network drew it."""

    boxes: tuple[Box, ...]
    """Where each of `faces` is in the photo."""

    @property
    def notice(self) -> Notice:
        """What the files of this picture say of its origin."""
        face = self.faces[0] if self.faces else GeneratedFace(self.image, "edit", None, 0.0)
        pasted = all(made.image is not self.image for made in self.faces)
        return Notice(face.task, face.model, composite=pasted)

    def to_dict(self) -> dict[str, Any]:
        """The result as plain values, ready for JSON; `image` is a PNG in base64."""
        faces = [
            {"task": face.task, "to": face.to, "intensity": face.intensity, "box": list(box)}
            for face, box in zip(self.faces, self.boxes, strict=True)
        ]
        return {"faces": faces, "image": self._png_base64()}

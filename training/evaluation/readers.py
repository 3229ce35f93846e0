"""The off-the-shelf models of `training.judges` on aligned faces: what is independent of all that we trained."""

from dataclasses import dataclass

import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from training import judges

_MARGIN, _SIZE_PX = 0.25, 256
"""An aligned face fills its picture; detectors want some room around it. With this margin, repeated from the border,
and this size 60 of 60 rendered faces were found, at 96 px and at 128."""


@dataclass(frozen=True)
class Readings:
    """What was read of n pictures; rows of pictures without a face are NaN, or -1 for labels."""

    blendshapes: Float[np.ndarray, "n 52"]
    labels: dict[str, Int[np.ndarray, " n"]]
    embeddings: dict[str, Float[np.ndarray, "n _d"]]

    @property
    def found(self) -> Bool[np.ndarray, " n"]:
        """Whether a face was found."""
        return np.isfinite(self.blendshapes).any(1)


class Readers:
    """All models to measure with that are installed; the others are in `missing`, with the reason."""

    def __init__(self):
        names = ("landmarker", *judges.EXPRESSION_READERS, *judges.PERSON_READERS)
        self.missing = {name: reason for name in names if (reason := judges.missing(name))}
        blind = "landmarker" in self.missing
        self.expression = [] if blind else [name for name in judges.EXPRESSION_READERS if name not in self.missing]
        self.person = [] if blind else [name for name in judges.PERSON_READERS if name not in self.missing]

    @property
    def can_see(self) -> bool:
        """Whether the landmarker, without which nothing is read, is installed."""
        return "landmarker" not in self.missing

    def read(self, images: Float[Tensor, "n 3 h w"], *, units_only: bool = False) -> Readings:
        """Reads aligned faces in [0, 1].

        Args:
            units_only: leave out expressions and persons, which cost most of the time.
        """
        expression, person = ([], []) if units_only else (self.expression, self.person)
        blendshapes = np.full((len(images), len(judges.UNITS)), np.nan, np.float32)
        labels = {name: np.full(len(images), -1) for name in expression}
        embeddings = {name: np.full((len(images), judges.PERSON_READERS[name]), np.nan, np.float32) for name in person}
        for i, image in enumerate(images):
            picture = padded(image)
            face = judges.find_face(picture)
            if face is not None:
                blendshapes[i] = face.blendshapes
                for name in expression:
                    labels[name][i] = judges.expression_probabilities(name, picture, face).argmax()
                for name in person:
                    embeddings[name][i] = judges.person_embedding(name, picture, face)
        return Readings(blendshapes, labels, embeddings)


def padded(image: Float[Tensor, "3 h w"]) -> np.ndarray:
    """The face with room around it, as [256, 256, 3] uint8."""
    pixels = (rearrange(image, "c h w -> h w c").clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)
    margin = round(_MARGIN * len(pixels))
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    return np.asarray(Image.fromarray(wide).resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BICUBIC))


def unit_error(first: Float[np.ndarray, "n 52"], second: Float[np.ndarray, "n 52"]) -> Float[np.ndarray, " n"]:
    """AED: mean absolute difference of the blendshapes that the landmarker has (NaN where no face was found)."""
    has = np.isfinite(first).any(0) & np.isfinite(second).any(0)
    return np.abs(first - second)[:, has].mean(1) if has.any() else np.full(len(first), np.nan)


def mean(values: np.ndarray) -> float | None:
    """Mean of what could be read, to 4 digits; None if nothing could."""
    read = values[np.isfinite(values)]
    return round(float(read.mean()), 4) if len(read) else None

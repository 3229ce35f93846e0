"""PhotoEditor: whole photographs in and out. Faces are found, aligned, given to the network, and pasted back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Float, UInt8
from torch import Tensor

from .align import Alignment
from .decoder import warp
from .detect import DetectedFace, FaceDetector, MediaPipeDetector
from .engine import EngineName
from .errors import InvalidRequestError, NoFaceError, TerganError
from .images import ImageInput, face_tensor, to_pixels, to_tensor
from .pipeline import FaceEditor
from .results import EditedPhoto, GeneratedFace, Recognition
from .weights import SHIPPED

LARGEST_FACE_PX = 2048
"""Faces that are larger than this in a photo are drawn at this size, to bound time and memory."""


class PhotoEditor:
    """`FaceEditor` for photographs: any number of faces, anywhere, upright or turned.

    A photo is whatever `images.to_tensor` reads. A list of photos gives a list of results, and with `errors="return"` a
    photo that fails leaves the others alone. Faces are pasted back at the photo's own resolution: the network says how
    the pixels move and what is new, the photo's own pixels are moved.

    `faces` chooses among the faces of a photo: "largest", "all", or a number counted from 0 from left to right. With
    `align=False` each photo is taken for a face that is aligned already, as `FaceEditor` wants them.

    Args:
        editor: the network.
        detector: finds the faces; `MediaPipeDetector` by default, which needs the extra `photos`.
    """

    def __init__(self, editor: FaceEditor, detector: FaceDetector | None = None):
        self.editor = editor
        self._detector = detector

    @classmethod
    def load(
        cls,
        weights: str | Path = SHIPPED,
        *,
        device: str | torch.device | None = None,
        engine: EngineName | None = None,
        detector: FaceDetector | None = None,
    ) -> "PhotoEditor":
        """The editor of a model; arguments and errors as `FaceEditor.load`."""
        return cls(FaceEditor.load(weights, device=device, engine=engine), detector)

    @property
    def detector(self) -> FaceDetector:
        """What finds the faces.

        Raises:
            MissingExtraError: none was given and the extra `photos` is not installed.
        """
        if self._detector is None:
            self._detector = MediaPipeDetector()
        return self._detector

    def find(self, photo: ImageInput, faces: str | int = "all", *, name: str = "photo") -> list[DetectedFace]:
        """The faces of a photo from left to right.

        Raises:
            NoFaceError: there is none, or none of that number.
            InvalidRequestError: `faces` is none of "largest", "all" and a number.
            InvalidImageError, ImageTooLargeError: the photo cannot be read.
        """
        pixels = to_pixels(photo, name=name)
        return choose_faces(self.detector.detect(pixels), faces, pixels, name)

    def edit(
        self,
        photo: Any,
        to: Any = None,
        intensity: float = 1.0,
        *,
        units: dict[str, float] | None = None,
        faces: str | int = "largest",
        align: bool = True,
        errors: str = "raise",
    ) -> Any:
        """The photo with another expression on its faces: an `EditedPhoto`, or a list of them.

        Args:
            photo: a photo, or a list of them.
            to, intensity, units: as `FaceEditor.edit`, for all photos.
            faces, align: see the class.
            errors: `raise` or `return`.

        Raises:
            NoFaceError: no face is found.
            TerganError: as `find` and `FaceEditor.edit`.
        """

        def draw(crops: list[Tensor]) -> list[Any]:
            return self.editor.edit(crops, to, intensity, units=units, errors="return")

        return self._each(photo, errors, lambda one, name: self._redraw(one, name, faces, align, draw))

    def transfer(
        self,
        *,
        identity: Any,
        expression: ImageInput,
        intensity: float = 1.0,
        faces: str | int = "largest",
        align: bool = True,
        errors: str = "raise",
    ) -> Any:
        """The photo `identity` with the expression of the largest face of the photo `expression`.

        Args:
            identity: a photo, or a list of them.
            expression: one photo.
            intensity: as `FaceEditor.transfer`.
            faces, align: see the class; `faces` chooses in `identity`.
            errors: `raise` or `return`.

        Raises:
            NoFaceError: no face is found.
            TerganError: as `find` and `FaceEditor.transfer`.
        """
        (driver,) = self._crops(expression, "expression", "largest", align)[2]
        code = self.editor.encode_expression(driver)

        def draw(crops: list[Tensor]) -> list[Any]:
            return self.editor.transfer(identity=crops, expression=code, intensity=intensity, errors="return")

        return self._each(
            identity, errors, lambda one, name: self._redraw(one, name, faces, align, draw), name="identity"
        )

    def recognize(self, photo: Any, *, faces: str | int = "all", align: bool = True, errors: str = "raise") -> Any:
        """The expressions of a photo: a list with a `Recognition` for each face from left to right, or a list of lists.

        Args:
            photo: a photo, or a list of them.
            faces, align: see the class.
            errors: `raise` or `return`.

        Raises:
            NoFaceError: no face is found.
            TerganError: as `find`.
        """

        def recognize(one: ImageInput, name: str) -> list[Recognition]:
            _, found, crops = self._crops(one, name, faces, align)
            results = self.editor.recognize(crops)
            return [replace(r, box=face.box) if face else r for r, face in zip(results, found, strict=True)]

        return self._each(photo, errors, recognize)

    def _each(self, photo: Any, errors: str, work: Callable[[ImageInput, str], Any], name: str = "photo") -> Any:
        """What `work` makes of one photo or of each of a list, given it and its name."""
        if errors not in ("raise", "return"):
            raise InvalidRequestError(f"errors is {errors!r}; accepted: 'raise', 'return'.")
        single = not isinstance(photo, list | tuple)
        results: list[Any] = []
        for number, one in enumerate([photo] if single else photo):
            try:
                results.append(work(one, name if single else f"{name}[{number}]"))
            except TerganError as error:
                if errors == "raise":
                    raise
                results.append(error)
        return results[0] if single else results

    def _crops(
        self, photo: ImageInput, name: str, faces: str | int, align: bool
    ) -> tuple[UInt8[np.ndarray, "h w 3"] | None, Sequence[DetectedFace | None], list[Tensor]]:
        """The photo's pixels, its chosen faces, and the aligned face of each; of an aligned photo, itself alone."""
        if not align:
            return None, [None], [face_tensor(photo, self.editor.config.image_size, name=name)]
        pixels = to_pixels(photo, name=name)
        found = choose_faces(self.detector.detect(pixels), faces, pixels, name)
        size_px = self.editor.config.image_size
        return pixels, found, [Alignment.of(face.landmarks, name).crop(pixels, size_px) for face in found]

    def _redraw(
        self, photo: ImageInput, name: str, faces: str | int, align: bool, draw: Callable[[list[Tensor]], list[Any]]
    ) -> EditedPhoto:
        pixels, found, crops = self._crops(photo, name, faces, align)
        made = draw(crops)
        if failure := next((result for result in made if isinstance(result, TerganError)), None):
            raise failure
        if pixels is None:
            size_px = float(self.editor.config.image_size)
            return EditedPhoto(made[0].image, (made[0],), ((0.0, 0.0, size_px, size_px),))
        for face, crop, result in zip(found, crops, made, strict=True):
            assert face is not None
            alignment = Alignment.of(face.landmarks, name)
            edge_px = int(min(max(round(alignment.side_px), crop.shape[-1]), LARGEST_FACE_PX))
            large = alignment.crop(pixels, edge_px)
            pixels = alignment.paste(pixels, enlarge(large, crop, result) - large)
        return EditedPhoto(pixels, tuple(made), tuple(face.box for face in found if face))


def choose_faces(
    found: list[DetectedFace], faces: str | int, photo: UInt8[np.ndarray, "h w 3"], name: str = "photo"
) -> list[DetectedFace]:
    """Those of the faces found that are asked for, from left to right.

    Args:
        found: what a detector found in the photo.
        faces: "largest", "all", or a number counted from 0 from left to right.
        name: what errors call the photo.

    Raises:
        NoFaceError: there is none, or none of that number.
        InvalidRequestError: `faces` is something else.
    """
    numbered = isinstance(faces, int) and not isinstance(faces, bool) and faces >= 0
    if not numbered and faces not in ("largest", "all"):
        raise InvalidRequestError(f"faces is {faces!r}; accepted: 'largest', 'all', or a number from 0.")
    if not found:
        raise NoFaceError(
            f"no face found in {name} ({photo.shape[1]}x{photo.shape[0]}). Pass a photo that shows one, wider than a "
            "twentieth of the photo and not far from frontal; or, if it is an aligned face already, align=False "
            "(--no-align)."
        )
    if faces == "largest":
        return [max(found, key=lambda face: face.area)]
    found = sorted(found, key=lambda face: face.box[0])
    if isinstance(faces, int):
        if faces >= len(found):
            raise NoFaceError(f"{name} has {len(found)} faces, counted from 0; there is no number {faces}.")
        return [found[faces]]
    return found


def enlarge(
    large: Float[Tensor, "3 hh ww"], face: Float[Tensor, "3 h w"], result: GeneratedFace
) -> Float[Tensor, "3 hh ww"]:
    """What the network did to a face, done to a larger picture of the same face.

    The larger picture is moved by the network's flow; then comes what the network's result has beside its own moved
    pixels, enlarged. Fine detail of the moved picture is kept where the network kept the moved pixels, and left out
    where it drew new ones: there it would be a ghost of what was there before. Where nothing changes, so does nothing.

    Args:
        large: the face at the photo's resolution.
        face: what the network was given.
        result: what it made of it.
    """
    size = list(large.shape[1:])
    drawn = to_tensor(result.image)

    def grow(image: Tensor) -> Tensor:
        return F.interpolate(image[None], size, mode="bicubic", align_corners=False)[0]

    flow = torch.zeros(1, 2, *face.shape[1:]) if result.flow is None else torch.from_numpy(result.flow)[None]
    moved = warp(face[None], flow)[0]
    moved_large = warp(large[None], F.interpolate(flow, size, mode="bilinear", align_corners=False))[0]
    new = drawn - moved
    amount = reduce(new.abs(), "c h w -> 1 1 h w", "mean")
    amount = F.avg_pool2d(amount, 5, stride=1, padding=2, count_include_pad=False)[0]
    kept = 1 - ((grow(amount) - 0.01) / 0.05).clamp(0, 1)
    detail = moved_large - grow(moved)
    return (grow(moved + new) + kept * detail).clamp(0, 1)

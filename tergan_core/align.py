"""From a photo to a face and back: five points of the face are moved to where the network expects them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from .errors import InvalidRequestError
from .images import ImageInput, to_pixels

TEMPLATE = ((0.332, 0.326), (0.668, 0.326), (0.500, 0.568), (0.359, 0.738), (0.641, 0.738))
"""Where the five points lie in a face, (x, y) in fractions of the picture from its top left corner.

Left eye, right eye, nose tip, left and right corner of the mouth; left and right as the viewer sees them. The mean over
200 procedural people of all expressions and poses, made symmetric: the framing that the shipped network was trained on.
"""

FEATHER = 0.14
"""Width of the soft edge with which a face is pasted back, as a fraction of the face's picture."""


@dataclass(frozen=True)
class Alignment:
    """Where a face lies in a photo: `turn * (x + iy) + shift` is its place in the face, in fractions of the face.

    Multiplying by the complex `turn` scales by its size and rotates by its angle, so shapes are kept.
    """

    turn: complex
    shift: complex

    @classmethod
    def of(
        cls, landmarks: Sequence[Sequence[float]] | Float[np.ndarray, "5 2"] | Float[Tensor, "5 2"], name: str = "photo"
    ) -> "Alignment":
        """The alignment that brings landmarks nearest to `TEMPLATE`.

        Args:
            landmarks: the points of `TEMPLATE` in pixels of the photo, (x, y); the top left pixel covers 0 to 1.
            name: what the error calls the photo.

        Raises:
            InvalidRequestError: the landmarks are not five distinct finite points.
        """
        points = np.asarray(landmarks, np.float64)
        if points.shape != (len(TEMPLATE), 2) or not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
            raise InvalidRequestError(
                f"landmarks of {name} have shape {list(points.shape)}; "
                f"accepted: {len(TEMPLATE)} distinct finite points (x, y) in pixels."
            )
        return cls(*similarity(points, np.array(TEMPLATE)))

    @property
    def side_px(self) -> float:
        """Edge of the face in pixels of the photo."""
        return 1 / abs(self.turn)

    def crop(self, photo: UInt8[np.ndarray, "h w 3"], size_px: int) -> Float[Tensor, "3 s s"]:
        """The face, upright, in [0, 1]; what lies outside the photo repeats its border."""
        # Only the pixels around the face become floats: a photo may be large.
        (left, top), (right, bottom) = self._bounds(photo, margin_px=4 * max(1.0, self.side_px / size_px))
        part = rearrange(torch.from_numpy(photo[top:bottom, left:right].copy()), "h w c -> 1 c h w").float() / 255
        turn, shift = self.turn * size_px, (self.shift + self.turn * complex(left, top)) * size_px
        if abs(turn) < 1:
            # Shrinks with antialiasing first; sampling below looks at neighbouring pixels only.
            height, width = part.shape[2:]
            smaller = [max(1, round(height * abs(turn))), max(1, round(width * abs(turn)))]
            part = F.interpolate(part, smaller, mode="bicubic", antialias=True).clamp(0, 1)
            stretch = (width / smaller[1], height / smaller[0])
        else:
            stretch = (1.0, 1.0)
        where = (_centres(0, size_px, 0, size_px) - shift) / turn
        grid = _grid(where.real / stretch[0], where.imag / stretch[1], *part.shape[2:])
        face = F.grid_sample(part, grid, mode="bicubic", padding_mode="border", align_corners=False)
        return face[0].clamp(0, 1)

    def paste(self, photo: UInt8[np.ndarray, "h w 3"], change: Float[Tensor, "3 s s"]) -> UInt8[np.ndarray, "h w 3"]:
        """The photo with a change added to its face.

        The change fades out towards the border of the face, and its mean on that border is taken off everywhere: what
        the network does to the colour of the whole face would show as a patch. Pixels that do not change keep their
        bits, and nothing else of the photo is touched.

        Args:
            photo: the whole picture.
            change: what to add to the aligned face, in [-1, 1], of any size.
        """
        size_px = change.shape[-1]
        feather = feather_mask(size_px)
        border = (feather > 0) & (feather < 0.5)
        change = (change - change[:, border].mean(dim=1)[:, None, None]) * feather
        (left, top), (right, bottom) = self._bounds(photo)
        where = (self.turn * _centres(left, right, top, bottom) + self.shift) * size_px
        grid = _grid(where.real, where.imag, size_px, size_px)
        added = F.grid_sample(change[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
        result = photo.copy()
        part = result[top:bottom, left:right]
        part[:] = (part + 255 * rearrange(added, "c h w -> h w c").numpy()).round().clip(0, 255).astype(np.uint8)
        return result

    def _bounds(
        self, photo: UInt8[np.ndarray, "h w 3"], margin_px: float = 0.0
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Top left and bottom right of the pixels that the face touches, within the photo and never empty."""
        corners = (np.array([0, 1, 1j, 1 + 1j]) - self.shift) / self.turn
        limits = []
        for places, size in ((corners.real, photo.shape[1]), (corners.imag, photo.shape[0])):
            low = int(np.clip(np.floor(places.min() - margin_px), 0, size - 1))
            limits.append((low, int(np.clip(np.ceil(places.max() + margin_px), low + 1, size))))
        (left, right), (top, bottom) = limits
        return (left, top), (right, bottom)


def align_face(
    photo: ImageInput,
    landmarks: Sequence[Sequence[float]] | Float[np.ndarray, "5 2"] | Float[Tensor, "5 2"],
    size_px: int,
    *,
    name: str = "photo",
) -> Float[Tensor, "3 s s"]:
    """The face cut out of a photo, turned upright and scaled so that its points come nearest to `TEMPLATE`.

    Shape is kept: the photo is moved, turned and scaled only. What lies outside the photo repeats its border.

    Args:
        photo: whatever `images.to_pixels` reads.
        landmarks: the points of `TEMPLATE` in pixels of the photo, (x, y); the top left pixel covers 0 to 1.
        size_px: height and width of the face.
        name: what error messages call the photo.

    Raises:
        InvalidRequestError: the landmarks are not five distinct finite points.
        InvalidImageError, ImageTooLargeError: as `to_pixels`.

    >>> align_face(torch.rand(3, 200, 300), 200 * np.array(TEMPLATE), 64).shape
    torch.Size([3, 64, 64])
    """
    return Alignment.of(landmarks, name).crop(to_pixels(photo, name=name), size_px)


def similarity(points: Float[np.ndarray, "n 2"], targets: Float[np.ndarray, "n 2"]) -> tuple[complex, complex]:
    """The `turn` and `shift` with which `turn * point + shift` comes nearest to the targets, in least squares.

    A point (x, y) is the number x + iy; multiplying by `turn` scales by its size and rotates by its angle. This is
    Umeyama's problem (1991) in the plane, where it is linear, without reflections.

    >>> similarity(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [1.0, 3.0]]))
    (2j, (1+1j))
    """
    source, target = points @ [1, 1j], targets @ [1, 1j]
    centred = source - source.mean()
    turn = np.vdot(centred, target - target.mean()) / np.vdot(centred, centred)
    return complex(turn), complex(target.mean() - turn * source.mean())


def feather_mask(size_px: int) -> Float[Tensor, "s s"]:
    """1 in the middle of a face, 0 at its border; the soft edge is `FEATHER` wide and has round corners."""
    centres = (torch.arange(size_px) + 0.5) / size_px
    inside = torch.minimum(centres, 1 - centres)
    missing = (1 - inside / FEATHER).clamp(0, 1)
    distance = torch.hypot(missing[:, None], missing[None, :]).clamp(0, 1)
    return 1 - distance**2 * (3 - 2 * distance)


def _centres(left: int, right: int, top: int, bottom: int) -> np.ndarray:
    """The centres of pixels as complex numbers [h, w]."""
    return (np.arange(left, right) + 0.5)[None, :] + 1j * (np.arange(top, bottom) + 0.5)[:, None]


def _grid(x: np.ndarray, y: np.ndarray, height: int, width: int) -> Tensor:
    """Places in pixels as `grid_sample` wants them: it counts from -1 to 1 between the outer edges."""
    return torch.from_numpy(np.stack([2 * x / width - 1, 2 * y / height - 1], axis=-1)).float()[None]

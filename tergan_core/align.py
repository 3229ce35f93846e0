"""From a photo to a face: five points of the face are moved to where the network expects them."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .errors import InvalidRequestError
from .images import ImageInput, to_tensor

TEMPLATE = ((0.332, 0.326), (0.668, 0.326), (0.500, 0.568), (0.359, 0.738), (0.641, 0.738))
"""Where the five points lie in a face, (x, y) in fractions of the picture from its top left corner.

Left eye, right eye, nose tip, left and right corner of the mouth; left and right as the viewer sees them. The mean over
200 procedural people of all expressions and poses, made symmetric: the framing that the shipped network was trained on.
"""


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
        photo: whatever `images.to_tensor` reads.
        landmarks: the points of `TEMPLATE` in pixels of the photo, (x, y); the top left pixel covers 0 to 1.
        size_px: height and width of the face.
        name: what error messages call the photo.

    Raises:
        InvalidRequestError: the landmarks are not five distinct finite points.
        InvalidImageError, ImageTooLargeError: as `to_tensor`.

    >>> align_face(torch.rand(3, 200, 300), 200 * np.array(TEMPLATE), 64).shape
    torch.Size([3, 64, 64])
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (len(TEMPLATE), 2) or not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
        raise InvalidRequestError(
            f"landmarks of {name} have shape {list(points.shape)}; "
            f"accepted: {len(TEMPLATE)} distinct finite points (x, y) in pixels."
        )
    picture = to_tensor(photo, name=name)[None]
    target = size_px * np.array(TEMPLATE)
    turn, _ = similarity(points, target)
    if abs(turn) < 1:
        # Shrinks with antialiasing first; sampling below looks at neighbouring pixels only.
        height, width = picture.shape[2:]
        smaller = [max(1, round(height * abs(turn))), max(1, round(width * abs(turn)))]
        picture = torch.nn.functional.interpolate(picture, smaller, mode="bicubic", antialias=True).clamp(0, 1)
        points = points * [smaller[1] / width, smaller[0] / height]
    turn, shift = similarity(points, target)
    centres = np.arange(size_px) + 0.5
    where = (centres[None, :] + 1j * centres[:, None] - shift) / turn
    height, width = picture.shape[2:]
    # grid_sample counts from -1 to 1 between the outer edges.
    grid = torch.from_numpy(np.stack([2 * where.real / width - 1, 2 * where.imag / height - 1], axis=-1)).float()
    face = torch.nn.functional.grid_sample(
        picture, grid[None], mode="bicubic", padding_mode="border", align_corners=False
    )
    return face[0].clamp(0, 1)


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

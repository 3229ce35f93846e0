"""Five points of a face land where the network expects them."""

import numpy as np
import pytest
import torch

from tergan_core.align import TEMPLATE, align_face, similarity
from tergan_core.errors import InvalidRequestError

SIZE = 96


def photo_with_dots(points, height=300, width=400):
    """A photo whose only features are five soft dots; an oracle that knows nothing of similarity transforms."""
    y, x = np.mgrid[:height, :width] + 0.5
    dots = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 4.0**2)) for px, py in points)
    return torch.from_numpy(dots).float().clamp(0, 1).expand(3, height, width)


def dot_near(face, x, y, radius=9):
    """Centre of brightness around a place."""
    rows, columns = np.mgrid[: face.shape[1], : face.shape[2]] + 0.5
    weight = face[0].numpy() * (np.hypot(columns - x, rows - y) < radius)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("angle", [0, 25, -60, 180])
@pytest.mark.parametrize("scale", [100, 140])
def test_marked_points_land_on_the_template_whatever_the_pose(angle, scale):
    turn = np.exp(1j * np.deg2rad(angle)) * scale
    spots = (np.array(TEMPLATE) - 0.5) @ [1, 1j] * turn + (200 + 150j)
    points = np.stack([spots.real, spots.imag], axis=1)
    face = align_face(photo_with_dots(points), points, SIZE)
    for x, y in SIZE * np.array(TEMPLATE):
        assert np.abs(dot_near(face, x, y) - (x, y)).max() < 0.35


def test_a_face_already_in_place_comes_back_as_it_is():
    face = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    aligned = align_face(face, SIZE * np.array(TEMPLATE), SIZE)
    assert torch.allclose(aligned, torch.from_numpy(face).permute(2, 0, 1) / 255, atol=1e-4)


def test_a_large_photo_is_shrunk_without_aliasing():
    stripes = torch.arange(800).remainder(2).float().expand(3, 800, 800)
    face = align_face(stripes, 800 * np.array(TEMPLATE), SIZE)
    assert (face - 0.5).abs().max() < 0.05


def test_similarity_is_the_least_squares_solution():
    rng = np.random.default_rng(0)
    points, targets = rng.normal(size=(2, 5, 2))
    turn, shift = similarity(points, targets)
    # The same problem as a linear system in (a, b, tx, ty).
    system = np.concatenate([[[x, -y, 1, 0], [y, x, 0, 1]] for x, y in points])
    a, b, tx, ty = np.linalg.lstsq(system, targets.ravel(), rcond=None)[0]
    assert np.allclose([turn.real, turn.imag, shift.real, shift.imag], [a, b, tx, ty])


@pytest.mark.parametrize("landmarks", [np.zeros((5, 2)), np.zeros((4, 2)), np.full((5, 2), np.nan)])
def test_bad_landmarks_are_refused(landmarks):
    with pytest.raises(InvalidRequestError, match="5 distinct finite points"):
        align_face(torch.rand(3, 50, 50), landmarks, SIZE)

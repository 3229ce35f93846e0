from dataclasses import replace

import numpy as np
import pytest

from tergan_core.align import TEMPLATE
from training.faces import (
    PLAIN,
    UNITS,
    backward_flow,
    load_head,
    peak_expression,
    render,
    sample_identity,
    sample_scene,
)

SIZE = 64


def scene(seed, pose=0.8):
    return sample_scene(np.random.default_rng(seed), pose, PLAIN)


def draw(seed=3, label="neutral", recording=0, size_px=SIZE, view=1, supersampling=2):
    head = load_head()
    identity = sample_identity(head, seed, recording, PLAIN)
    return render(head, identity, peak_expression(label).units, scene(view), size_px, supersampling)


def warp(image, flow):
    """Looks each pixel up where the flow says, between the four nearest pixels."""
    size = len(image)
    rows, columns = np.mgrid[:size, :size]
    x, y = np.clip(columns + flow[..., 0], 0, size - 1.001), np.clip(rows + flow[..., 1], 0, size - 1.001)
    left, top = x.astype(int), y.astype(int)
    s, t = (x - left)[..., None], (y - top)[..., None]
    upper = image[top, left] * (1 - s) + image[top, left + 1] * s
    return upper * (1 - t) + (image[top + 1, left] * (1 - s) + image[top + 1, left + 1] * s) * t


def test_the_same_arguments_give_the_same_bits():
    one, other = draw(), draw()
    assert one.image.dtype == np.uint8 and one.image.shape == (SIZE, SIZE, 3)
    for name in ("image", "mask", "landmarks", "points", "triangle_ids", "barycentrics", "depth"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_another_recording_changes_hair_and_clothes_but_not_the_person():
    head = load_head()
    one, other = sample_identity(head, 8, 0), sample_identity(head, 8, 5)
    assert one.vertices is other.vertices and one.look is other.look and one.surface is other.surface
    assert not np.array_equal(one.clothes, other.clothes)
    assert len({sample_identity(head, 8, recording).hair.style for recording in range(12)}) > 1


def test_two_people_differ_more_than_two_recordings_of_one():
    mask = draw(4).mask > 0
    person = draw(4).image[mask].astype(float)
    assert np.abs(person - draw(4, recording=1).image[mask]).mean() < np.abs(person - draw(5).image[mask]).mean()


def test_every_unit_moves_the_face():
    head = load_head()
    identity = sample_identity(head, 1)
    still = render(head, identity, np.zeros(len(UNITS)), scene(0), SIZE)
    for number, name in enumerate(UNITS):
        units = np.zeros(len(UNITS))
        units[number] = 1
        assert not np.array_equal(render(head, identity, units, scene(0), SIZE).points, still.points), name


def test_landmarks_lie_in_the_picture_in_order_and_near_the_template():
    found = []
    for seed in range(12):
        made = draw(seed, view=seed)
        left_eye, right_eye, nose, left_corner, right_corner = made.landmarks
        assert (made.landmarks > 0).all() and (made.landmarks < SIZE).all()
        assert left_eye[0] < nose[0] < right_eye[0] and left_corner[0] < right_corner[0]
        assert left_eye[1] < nose[1] < left_corner[1]
        found.append(made.landmarks / SIZE)
    assert np.abs(np.mean(found, 0) - TEMPLATE).max() < 0.05


def test_eyes_are_where_the_eye_landmarks_say():
    head = load_head()
    made = render(head, sample_identity(head, 2), np.zeros(52), scene(0, pose=0), 128)
    ids = made.triangle_ids
    for (x, y), side in zip(made.landmarks[:2], (-1, 1), strict=True):
        triangle = ids[int(y), int(x)]
        assert head.solid_parts[triangle] == 1
        assert np.sign(head.mean[head.solid_triangles[triangle], 0].mean()) == side


def test_yaw_turns_the_nose_to_the_viewers_right_and_pitch_down():
    head = load_head()
    identity = sample_identity(head, 2)
    still = scene(0, pose=0)
    frontal, turned, nodding = (
        render(head, identity, np.zeros(52), replace(still, **pose), SIZE).landmarks[2]
        for pose in ({}, {"yaw": 0.3}, {"pitch": 0.3})
    )
    assert turned[0] > frontal[0] + 3
    assert nodding[1] > frontal[1] + 3


def test_the_mask_covers_the_face_and_leaves_the_corners():
    for seed in range(8):
        mask = draw(seed, view=seed).mask
        assert set(np.unique(mask)) == {0, 1}
        assert 0.2 < mask.mean() < 0.8
        assert mask[SIZE // 2, SIZE // 2] == 1
        assert not mask[[0, 0, -1, -1], [0, -1, 0, -1]].any()


def test_warping_with_the_flow_brings_the_first_image_closer_to_the_second():
    for seed in range(4):
        first, second = draw(seed, "neutral", size_px=96), draw(seed, "surprise", size_px=96)
        flow, visible = backward_flow(first, second)
        where = (visible > 0) & (second.mask > 0)
        target = second.image[where].astype(float)
        still = np.abs(first.image[where] - target).mean()
        warped = np.abs(warp(first.image, flow)[where] - target).mean()
        assert warped < 0.75 * still


def test_flow_between_equal_renders_is_zero_and_all_is_visible():
    one = draw(6, "anger")
    flow, visible = backward_flow(one, draw(6, "anger"))
    assert np.abs(flow).max() < 1e-3
    assert visible[one.mask > 0].mean() > 0.99


def test_the_inside_of_an_open_mouth_is_not_visible_in_a_closed_one():
    head = load_head()
    closed, opened = draw(7, "neutral"), draw(7, "surprise")
    _, visible = backward_flow(closed, opened)
    covered = opened.triangle_ids >= 0
    inside = covered & np.isin(head.solid_parts[opened.triangle_ids], (2, 3))
    assert inside.sum() > 3
    assert visible[inside].mean() < 0.2


def test_bad_arguments_give_clear_errors():
    head = load_head()
    identity = sample_identity(head, 0)
    with pytest.raises(ValueError, match=r"shape \(51,\).*52"):
        render(head, identity, np.zeros(51), scene(0))
    with pytest.raises(ValueError, match="finite"):
        render(head, identity, np.full(52, np.nan), scene(0))
    with pytest.raises(ValueError, match="size_px is 0"):
        render(head, identity, np.zeros(52), scene(0), size_px=0)
    with pytest.raises(ValueError, match="seed is -1"):
        sample_identity(head, -1)
    with pytest.raises(ValueError, match="must be equal"):
        backward_flow(draw(), draw(size_px=32))

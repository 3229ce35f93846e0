"""Photographs with one, two or no faces; the astronaut is the one photograph that the tests rely on."""

import numpy as np
import PIL.Image
import pytest
import torch
from skimage.data import astronaut

from tergan_core import FaceEditor, NoFaceError, PhotoEditor
from tergan_core.align import TEMPLATE, Alignment, feather_mask
from tergan_core.detect import DetectedFace, landmarker
from tergan_core.errors import InvalidImageError, InvalidRequestError, UnknownExpressionError

pytestmark = pytest.mark.photos


@pytest.fixture(scope="module")
def editor():
    return PhotoEditor.load()


@pytest.fixture(scope="module")
def two_people() -> np.ndarray:
    """The astronaut twice, upright on the left, mirrored and turned by 20 degrees on the right."""
    one = PIL.Image.fromarray(astronaut()).resize((700, 700), PIL.Image.Resampling.LANCZOS)
    other = one.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT).rotate(20, fillcolor=(200, 200, 200))
    photo = PIL.Image.new("RGB", (2000, 1000), (200, 200, 200))
    photo.paste(one, (150, 150))
    photo.paste(other, (1150, 150))
    return np.asarray(photo)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Where pixels differ [h, w]."""
    return (before != after).any(axis=2)


def test_the_largest_face_changes_and_nothing_outside_it_does(editor):
    result = editor.edit(astronaut(), "surprise")
    assert result.image.shape == astronaut().shape
    rows, columns = np.nonzero(changed(astronaut(), result.image))
    left, top, right, bottom = result.boxes[0]
    assert left - 30 < columns.min() and columns.max() < right + 30
    assert top - 30 < rows.min() and rows.max() < bottom + 30
    assert len(rows) > 0.2 * (right - left) * (bottom - top)


def test_all_faces_or_one_by_number_from_left_to_right(editor, two_people):
    halves = [np.s_[:, :1000], np.s_[:, 1000:]]
    for faces, expected in (("all", [True, True]), (0, [True, False]), (1, [False, True])):
        result = editor.edit(two_people, "anger", faces=faces)
        assert [bool(changed(two_people[half], result.image[half]).any()) for half in halves] == expected
        assert len(result.faces) == len(result.boxes) == sum(expected)


def test_intensity_0_gives_the_photo_back(editor, two_people):
    image = editor.edit(two_people, "happiness", 0.0, faces="all").image
    assert np.abs(image.astype(int) - two_people).max() <= 4
    assert changed(two_people, image).mean() < 0.01


def test_the_photo_keeps_its_resolution_where_it_moves(editor):
    large = np.asarray(PIL.Image.fromarray(astronaut()).resize((1500, 1500), PIL.Image.Resampling.LANCZOS))
    image = editor.edit(large, "anger", 0.7).image
    left, top, right, bottom = (int(v) for v in editor.find(large)[0].box)
    forehead = np.s_[top : top + (bottom - top) // 4, left + 80 : right - 80]

    def sharpness(picture):
        return np.abs(np.diff(picture[forehead].astype(float), axis=0)).mean()

    assert sharpness(image) > 0.7 * sharpness(large)


def test_transfer_takes_the_expression_of_the_other_photo(editor):
    """Read by the landmarker's blendshapes, which know nothing of our network: at least 0.7 of the smile's way is gone,
    and the brows rise. (With tergan-m 0.2.0 by less than half of what the driver shows, which is itself an edit.)"""
    identity, driver = astronaut()[:, ::-1].copy(), editor.edit(astronaut(), "sadness").image
    result = editor.transfer(identity=identity, expression=driver)
    before, wanted, after = (
        landmarker(1, blendshapes=True).read(image)[0][1] for image in (identity, driver, result.image)
    )
    assert wanted["mouthSmileLeft"] < before["mouthSmileLeft"] - 0.5
    assert wanted["browInnerUp"] > before["browInnerUp"] + 0.05
    for name in ("mouthSmileLeft", "mouthSmileRight"):
        assert 0.7 < (after[name] - before[name]) / (wanted[name] - before[name]) < 1.3, name
    assert before["browInnerUp"] + 0.05 < after["browInnerUp"] < wanted["browInnerUp"] + 0.1


def test_recognition_says_where_each_face_is(editor, two_people):
    results = editor.recognize(two_people)
    assert [result.label for result in results] == ["happiness", "happiness"]
    assert results[0].box[2] < 1000 < results[1].box[0]
    assert results[0].to_dict()["box"] == results[0].box


def test_no_face_says_what_to_do_and_leaves_the_other_photos_alone(editor):
    nothing = np.full((200, 300, 3), 128, np.uint8)
    with pytest.raises(NoFaceError, match=r"no face found in photo \(300x200\).*align=False \(--no-align\)"):
        editor.edit(nothing, "fear")
    good, faceless, broken = editor.edit([astronaut(), nothing, b"text"], "fear", errors="return")
    assert np.array_equal(good.image, editor.edit(astronaut(), "fear").image)
    assert isinstance(faceless, NoFaceError) and "photo[1]" in str(faceless)
    assert isinstance(broken, InvalidImageError)
    with pytest.raises(NoFaceError, match="has 1 faces, counted from 0; there is no number 3"):
        editor.edit(astronaut(), "fear", faces=3)


def test_an_aligned_face_goes_through_as_it_is(editor, face_images):
    expected = editor.editor.edit(face_images[0], "fear").image
    assert np.array_equal(editor.edit(face_images[0], "fear", align=False).image, expected)


@pytest.mark.parametrize("faces", ["smallest", -1, 1.5, True])
def test_an_unknown_choice_of_faces_is_refused(editor, faces):
    with pytest.raises(InvalidRequestError, match="accepted: 'largest', 'all', or a number from 0"):
        editor.edit(astronaut(), "fear", faces=faces)


def test_errors_of_the_network_are_the_users(editor):
    with pytest.raises(UnknownExpressionError, match="joy"):
        editor.edit(astronaut(), "joy")


def test_any_object_that_finds_faces_will_do(tiny_model):
    class Fixed:
        def detect(self, photo):
            return [DetectedFace(60 + 200 * np.array(TEMPLATE), (60, 60, 260, 260))]

    photo = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    result = PhotoEditor(FaceEditor(tiny_model), Fixed()).edit(photo, "happiness")
    assert changed(photo, result.image)[60:260, 60:260].any()
    outside = changed(photo, result.image)
    outside[60:260, 60:260] = False
    assert not outside.any()


@pytest.mark.parametrize("angle", [0, 30, -100])
def test_what_is_pasted_lands_where_it_was_cut_out(angle):
    turn = 180 * np.exp(1j * np.deg2rad(angle))
    spots = (np.array(TEMPLATE) - 0.5) @ [1, 1j] * turn + (200 + 150j)
    alignment = Alignment.of(np.stack([spots.real, spots.imag], axis=1))
    assert alignment.side_px == pytest.approx(180)
    photo = np.full((300, 400, 3), 100, np.uint8)
    dot = torch.zeros(3, 90, 90)
    dot[:, 30:34, 60:64] = 0.5
    rows, columns = np.nonzero(changed(photo, alignment.paste(photo, dot)))
    place = np.array([62 / 90 - 0.5, 32 / 90 - 0.5]) @ [1, 1j] * turn + (200 + 150j)
    assert np.mean(columns) + 0.5 == pytest.approx(place.real, abs=0.7)
    assert np.mean(rows) + 0.5 == pytest.approx(place.imag, abs=0.7)


def test_a_change_of_the_whole_faces_colour_is_taken_off():
    alignment = Alignment.of(200 * np.array(TEMPLATE) + 20)
    photo = np.full((240, 240, 3), 100, np.uint8)
    assert np.array_equal(alignment.paste(photo, torch.full((3, 200, 200), 0.2)), photo)


def test_the_feather_is_soft_and_ends_at_nothing():
    mask = feather_mask(100)
    assert mask[50, 50] == 1 and mask[0].max() < 0.02 and mask[:, -1].max() < 0.02
    assert mask.diff(dim=0).abs().max() < 0.12

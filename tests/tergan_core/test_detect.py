"""Faces are found where they are; the five points agree with what a person reads off the picture."""

import os

import numpy as np
import PIL.Image
import pytest
from skimage.data import astronaut

from tergan_core import detect
from tergan_core.detect import MediaPipeDetector
from tergan_core.errors import ConfigError, MissingExtraError, MissingLibraryError

pytestmark = pytest.mark.photos

BY_EYE = np.array([[203.8, 100.5], [247.0, 103.0], [224.5, 126.3], [205.0, 141.5], [243.5, 142.0]])
"""The astronaut's eyes, nose tip and corners of the mouth, measured by hand."""


@pytest.fixture(scope="module")
def detector():
    return MediaPipeDetector()


def test_the_five_points_lie_where_a_person_sees_them(detector):
    (face,) = detector.detect(astronaut())
    assert np.abs(face.landmarks - BY_EYE).max() < 6
    left, top, right, bottom = face.box
    assert (left < BY_EYE[:, 0]).all() and (BY_EYE[:, 0] < right).all()
    assert (top < BY_EYE[:, 1]).all() and (BY_EYE[:, 1] < bottom).all()


@pytest.mark.parametrize("width_px", [600, 2000])
def test_faces_narrower_than_a_tenth_of_the_photo_are_found(detector, width_px):
    """The astronaut's face is a sixth of her picture, and her picture here less than half of the photo."""
    photo = np.full((width_px * 3 // 4, width_px, 3), 128, np.uint8)
    edge_px = width_px * 9 // 20
    photo[:edge_px, :edge_px] = np.asarray(PIL.Image.fromarray(astronaut()).resize((edge_px, edge_px)))
    (face,) = detector.detect(photo)
    assert face.box[2] - face.box[0] < width_px / 10
    assert np.abs(face.landmarks - BY_EYE * edge_px / 512).max() < 6 * edge_px / 512 + 1


def test_small_faces_of_a_large_photo_are_found_in_its_tiles(detector):
    photo = np.full((1500, 2000, 3), 128, np.uint8)
    for place in (100, 1200):
        photo[750:1450, place : place + 700] = np.asarray(PIL.Image.fromarray(astronaut()).resize((700, 700)))
    found = sorted(detector.detect(photo), key=lambda face: face.box[0])
    assert len(found) == 2
    for face, place in zip(found, (100, 1200), strict=True):
        assert np.abs(face.landmarks - (BY_EYE * 700 / 512 + [place, 750])).max() < 8


def test_no_face_is_an_empty_list(detector):
    assert detector.detect(np.full((64, 80, 3), 128, np.uint8)) == []


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(detect.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tergan-core\[photos\]'"):
        MediaPipeDetector()


@pytest.mark.parametrize("arguments", [{"max_faces": 0}, {"min_confidence": 0.0}, {"min_confidence": 1.5}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ConfigError, match="accepted: at least 1, and 0 to 1"):
        MediaPipeDetector(**arguments)


@pytest.mark.parametrize("kind", [OSError, ImportError])  # of MediaPipe's own libraries, and of those of OpenCV
def test_a_missing_library_of_the_system_is_named_with_what_to_do(monkeypatch, kind):
    from mediapipe.tasks.python import vision

    def fail(options):
        raise kind("libGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", fail)
    with pytest.raises(MissingLibraryError, match=r"libGL\.so\.1.*apt-get install libgl1 .*libgles2.*--no-align"):
        detect.landmarker(7)


def test_mediapipe_is_silent_when_it_starts_and_others_are_heard(monkeypatch, capfd):
    from mediapipe.tasks.python import vision

    create = vision.FaceLandmarker.create_from_options

    def create_and_write(options):
        os.write(2, b"another thread\n")
        return create(options)

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", create_and_write)
    detect.landmarker(1, min_confidence=0.123)
    assert capfd.readouterr().err == "another thread\n"

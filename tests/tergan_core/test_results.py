import base64
import dataclasses
import io
import json

import numpy as np
import PIL.Image
import pytest

from tergan_core import GeneratedFace, Recognition
from tergan_core.errors import UnsupportedMediaTypeError


@pytest.fixture
def face(face_image):
    return GeneratedFace(face_image, "edit", "happiness", 0.8)


def test_a_face_shows_itself_as_pil_and_in_notebooks(face, face_image):
    assert np.array_equal(np.asarray(face.pil()), face_image)
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(face._repr_png_()))), face_image)


@pytest.mark.parametrize(
    ("suffix", "format"), [(".png", "PNG"), (".JPG", "JPEG"), (".jpeg", "JPEG"), (".webp", "WEBP")]
)
def test_a_face_is_saved_in_the_format_of_the_suffix(face, suffix, format, tmp_path):
    path = face.save(str(tmp_path / f"face{suffix}"))
    assert path == tmp_path / f"face{suffix}"
    with PIL.Image.open(path) as picture:
        assert picture.format == format and picture.size == (80, 96)


def test_unknown_suffixes_are_refused_before_anything_is_written(face, tmp_path):
    with pytest.raises(UnsupportedMediaTypeError, match=r"its suffix is '.gif'; accepted: .png, .jpg, .jpeg, .webp"):
        face.save(tmp_path / "face.gif")
    assert not list(tmp_path.iterdir())


def test_results_are_ready_for_json(face, face_image):
    values = json.loads(json.dumps(face.to_dict()))
    assert (values["task"], values["to"], values["intensity"]) == ("edit", "happiness", 0.8)
    png = io.BytesIO(base64.b64decode(values["image"]))
    assert np.array_equal(np.asarray(PIL.Image.open(png)), face_image)
    recognition = Recognition("fear", {"neutral": 0.25, "fear": 0.75}, {"jawOpen": 0.5})
    assert Recognition(**json.loads(json.dumps(recognition.to_dict()))) == recognition


def test_results_are_frozen(face):
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.to = "anger"

import numpy as np
import pytest
from skimage.data import astronaut

from training import judges
from training.faces import EXPRESSIONS, UNITS

pytestmark = pytest.mark.skipif(judges.missing("landmarker") is not None, reason=str(judges.missing("landmarker")))


@pytest.fixture(scope="module")
def face():
    return judges.find_face(astronaut())


def test_the_landmarker_finds_the_astronaut_where_she_is(face):
    # Read off the picture by eye.
    expected = [[207, 106], [248, 105], [228, 132], [202, 150], [248, 152]]
    assert np.abs(face.five - expected).max() < 12
    assert face.blendshapes[UNITS.index("mouthSmileLeft")] > 0.5
    assert np.flatnonzero(np.isnan(face.blendshapes)).tolist() == [UNITS.index("tongueOut")]


def test_no_face_is_found_where_there_is_none():
    assert judges.find_face(np.full((64, 64, 3), 128, np.uint8)) is None


@pytest.mark.parametrize("reader", judges.EXPRESSION_READERS)
def test_expression_readers_see_that_the_astronaut_smiles(reader, face):
    if reason := judges.missing(reader):
        pytest.skip(reason)
    probabilities = judges.expression_probabilities(reader, astronaut(), face)
    assert probabilities.sum() == pytest.approx(1, abs=1e-3)
    assert EXPRESSIONS[probabilities.argmax()] == "happiness"


@pytest.mark.parametrize("reader", judges.PERSON_READERS)
def test_person_readers_know_the_astronaut_in_other_light(reader, face):
    if reason := judges.missing(reader):
        pytest.skip(reason)
    one = judges.person_embedding(reader, astronaut(), face)
    darker = (astronaut() * 0.7).astype(np.uint8)
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one @ judges.person_embedding(reader, darker, judges.find_face(darker)) > 0.8


def test_an_absent_model_says_how_to_get_it(monkeypatch, face):
    monkeypatch.delenv("TERGAN_JUDGES", raising=False)
    judges._graph.cache_clear()
    assert "npm pack @vladmandic/human;" in judges.missing("faceres")
    with pytest.raises(judges.MissingJudgeError, match="TERGAN_JUDGES"):
        judges.person_embedding("faceres", astronaut(), face)


def test_an_unknown_reader_is_refused_with_the_known_ones(face):
    with pytest.raises(ValueError, match="accepted: fer, facex"):
        judges.expression_probabilities("far", astronaut(), face)

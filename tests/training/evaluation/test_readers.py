import numpy as np
import pytest
import torch

from training import judges
from training.evaluation.readers import Readers, Readings, mean, unit_error
from training.evaluation.transfer import _row
from training.faces import UNITS, FaceSet, peak_expression


@pytest.mark.skipif(judges.missing("landmarker") is not None, reason="the landmarker is not installed")
def test_aligned_faces_are_read_and_a_blank_picture_is_not():
    faces = FaceSet("validation", people=1, size_px=96)
    calm, smiling = (faces.sample(0, 0, peak_expression(name)).image for name in ("neutral", "happiness"))
    images = torch.stack([torch.tensor(image).permute(2, 0, 1) / 255 for image in (calm, smiling)])
    read = Readers().read(torch.cat([images, torch.full((1, 3, 96, 96), 0.5)]), units_only=True)
    assert read.found.tolist() == [True, True, False]
    smile = read.blendshapes[:, UNITS.index("mouthSmileLeft")]
    assert smile[1] > smile[0] + 0.2
    error = unit_error(read.blendshapes, read.blendshapes[[0, 0, 0]])
    assert error[0] == 0 and error[1] > 0.01 and np.isnan(error[2])


def test_without_the_landmarker_nothing_is_read_and_the_reason_is_told(monkeypatch):
    monkeypatch.setattr(judges, "missing", lambda name: f"{name} is not here")
    readers = Readers()
    assert not readers.can_see and not readers.expression and not readers.person
    assert readers.missing["landmarker"] == "landmarker is not here"


def test_similarities_and_ranks_are_those_of_hand_made_embeddings():
    def readings(vectors, labels=(0, 0, 0)):
        n = len(vectors)
        shapes = np.zeros((n, 52), np.float32)
        return Readings(shapes, {"fer": np.array(labels[:n])}, {"faceres": np.array(vectors, float)})

    references = readings([[1, 0], [0, 1]])
    outputs = readings([[1, 0], [0, 1], [0.6, 0.8]], labels=(1, 1, 0))
    truth = readings([[1, 0], [0, 1], [1, 0]], labels=(1, 0, 0))
    row = _row(outputs, truth, references, np.array([1, 0, 0]), np.array([True, False, False]), np.array([0, 1, 0]))
    assert row["found"] == 1 and row["aed"] == 0
    assert row["faceres"]["same_person"] == pytest.approx((1 + 1 + 0.6) / 3, abs=1e-4)
    assert row["faceres"]["other_person"] == pytest.approx((0 + 0 + 0.8) / 3, abs=1e-4)
    assert row["faceres"]["rank_1"] == pytest.approx(2 / 3, abs=1e-4)
    assert row["fer"] == {
        "accuracy": pytest.approx(2 / 3, abs=1e-4),
        "accuracy_from_neutral": 1.0,
        "accuracy_from_expressive": 0.5,
        "agrees_with_truth": pytest.approx(2 / 3, abs=1e-4),
    }


def test_the_mean_of_what_could_not_be_read_is_nothing():
    nothing = np.full((2, 52), np.nan, np.float32)
    assert mean(unit_error(nothing, nothing)) is None
    assert mean(np.array([1.0, np.nan, 2.0])) == 1.5

import numpy as np
import pytest

from training.faces import PLAIN, SPLITS, FaceSet, peak_expression
from training.faces.expression import sample_style

FEAR, HAPPINESS = peak_expression("fear"), peak_expression("happiness")


def test_no_person_is_in_two_splits():
    people = [set(split) for split in SPLITS.values()]
    assert sum(map(len, people)) == len(set.union(*people)) == 120_000


def test_a_sample_is_the_same_every_time_and_depends_on_each_number():
    faces = FaceSet("train", people=3, size_px=32)
    sample = faces.sample(1, 0, FEAR)
    again = FaceSet("train", people=3, size_px=32).sample(1, 0, FEAR)
    assert np.array_equal(sample.image, again.image) and np.array_equal(sample.landmarks, again.landmarks)
    assert (sample.identity, sample.label, sample.intensity) == (1, "fear", 1.0)
    others = (
        faces.sample(2, 0, FEAR),
        faces.sample(1, 1, FEAR),
        faces.sample(1, 0, FEAR, view=1),
        faces.sample(1, 0, HAPPINESS),
        FaceSet("train", size_px=32, seed=1).sample(1, 0, FEAR),
    )
    assert all(not np.array_equal(sample.image, other.image) for other in others)


def test_people_do_not_depend_on_how_many_are_used():
    few, many = FaceSet("test", people=2, size_px=32), FaceSet("test", size_px=32)
    assert len(few) == 2 and len(many) == 10_000
    assert np.array_equal(few.sample(1, 0, FEAR).image, many.sample(1, 0, FEAR).image)


def test_a_true_transfer_is_the_same_person_and_scene_with_the_other_expression():
    faces = FaceSet("validation", size_px=48, variety=PLAIN)
    identity = faces.sample(4, 2, HAPPINESS, view=3)
    truth = faces.true_transfer(identity, FEAR)
    assert (truth.identity, truth.recording, truth.view) == (identity.identity, identity.recording, identity.view)
    assert truth.label == "fear"
    assert np.array_equal(truth.units, sample_style(identity.identity).show(FEAR.units))
    assert np.array_equal(truth.image, faces.sample(4, 2, FEAR, view=3).image)
    assert np.array_equal(faces.true_transfer(truth, HAPPINESS).image, identity.image)
    around = (truth.mask == 0) & (identity.mask == 0)
    assert np.median(np.abs(truth.image[around].astype(int) - identity.image[around])) == 0


def test_a_face_can_show_just_the_units_that_are_asked_for():
    faces = FaceSet("train", size_px=32)
    sample = faces.sample(1, 2, FEAR)
    assert not np.array_equal(sample.units, FEAR.units)  # it is shown in the person's own style
    assert np.array_equal(faces.show(1, 2, sample.units), sample.image)
    assert not np.array_equal(faces.show(1, 2, FEAR.units), sample.image)


def test_a_pair_has_both_samples_and_the_flow_of_each_into_the_other():
    faces = FaceSet("train", size_px=48)
    pair = faces.pair(0, 1, HAPPINESS, FEAR)
    assert np.array_equal(pair.samples[0].image, faces.sample(0, 1, HAPPINESS).image)
    assert np.array_equal(pair.samples[1].image, faces.sample(0, 1, FEAR).image)
    assert pair.flows.shape == (2, 48, 48, 2) and pair.flows.dtype == np.float32
    backwards = faces.pair(0, 1, FEAR, HAPPINESS)
    assert np.array_equal(pair.flows, backwards.flows[::-1])
    assert np.array_equal(pair.visible, backwards.visible[::-1])


def test_unknown_splits_and_people_give_clear_errors():
    with pytest.raises(ValueError, match=r"'training'; accepted: train, validation, test"):
        FaceSet("training")
    with pytest.raises(ValueError, match="people is 0"):
        FaceSet("train", people=0)
    with pytest.raises(IndexError, match="has 2 people"):
        FaceSet("train", people=2).sample(2, 0, FEAR)
    foreign = FaceSet("train", size_px=32).sample(0, 0, FEAR)
    with pytest.raises(ValueError, match="not in 'test'"):
        FaceSet("test", size_px=32).true_transfer(foreign, FEAR)

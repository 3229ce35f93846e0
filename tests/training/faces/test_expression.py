import numpy as np
import pytest

from training.faces import EXPRESSIONS, UNITS, load_head, peak_expression, sample_expression, sample_pool
from training.faces.expression import MAX_UNIT, RECIPES, sample_style


def test_the_52_units_are_those_of_the_head_model_in_its_order():
    assert len(UNITS) == 52
    assert load_head().units == UNITS


def test_units_stay_in_range_and_labels_in_the_list():
    for seed in range(200):
        expression = sample_expression(np.random.default_rng(seed))
        assert expression.label in EXPRESSIONS
        assert expression.units.shape == (52,) and expression.units.dtype == np.float32
        assert expression.units.min() >= 0 and expression.units.max() <= MAX_UNIT


def test_every_emotion_has_at_least_two_recipes():
    assert all(len(RECIPES[label]) >= 2 for label in EXPRESSIONS if label != "neutral")


def test_a_peak_is_symmetric_and_without_chance():
    for label in EXPRESSIONS:
        expression = peak_expression(label)
        sides = {name: weight for name, weight in zip(UNITS, expression.units, strict=True)}
        assert np.array_equal(expression.units, peak_expression(label).units)
        assert all(sides[name] == sides[name[:-4] + "Right"] for name in UNITS if name == "browDownLeft")
    assert not peak_expression("neutral").units.any()


def test_samples_are_asymmetric_and_vary_but_keep_the_label_asked_for():
    samples = [sample_expression(np.random.default_rng(seed), "happiness", 1.0) for seed in range(20)]
    left, right = UNITS.index("mouthSmileLeft"), UNITS.index("mouthSmileRight")
    assert {sample.label for sample in samples} == {"happiness"}
    assert all(sample.units[left] != sample.units[right] for sample in samples)
    assert np.std([sample.units[left] for sample in samples]) > 0.05


def test_stronger_intensity_gives_larger_units():
    weak, strong = (sample_expression(np.random.default_rng(3), "fear", intensity) for intensity in (0.4, 1.0))
    assert strong.units.sum() > 1.5 * weak.units.sum()


def test_a_pool_is_balanced_and_the_same_every_time():
    pool, again = sample_pool(70, 5), sample_pool(70, 5)
    labels = [expression.label for expression in pool]
    assert {labels.count(label) for label in EXPRESSIONS} == {10}
    assert all(np.array_equal(a.units, b.units) for a, b in zip(pool, again, strict=True))
    assert all(0.45 <= e.intensity <= 1.1 for e in pool if e.label != "neutral")
    assert min(e.intensity for e in sample_pool(700, 5, weakest=0.2) if e.label != "neutral") < 0.25
    assert all(e.intensity == 0 for e in pool if e.label == "neutral")


def test_an_unknown_label_is_named_with_close_ones():
    with pytest.raises(ValueError, match=r"'happyness'.*happiness"):
        peak_expression("happyness")
    with pytest.raises(ValueError, match="intensity is 5"):
        sample_expression(np.random.default_rng(0), "fear", 5)


def test_a_person_has_one_style_and_people_differ():
    happy = peak_expression("happiness").units
    shown = np.stack([sample_style(seed).show(happy) for seed in range(200)])
    assert np.array_equal(shown[3], sample_style(3).show(happy))
    smile = shown[:, UNITS.index("mouthSmileLeft")]
    assert 0.1 < smile.std() < 0.25 and abs(smile.mean() - happy[UNITS.index("mouthSmileLeft")]) < 0.1
    assert shown.min() >= 0 and shown.max() <= MAX_UNIT
    lean = shown[:, UNITS.index("mouthSmileLeft")] - shown[:, UNITS.index("mouthSmileRight")]
    assert 0.05 < lean.std() < 0.4


def test_style_is_as_strong_as_asked_for():
    happy = peak_expression("happiness").units
    assert np.array_equal(sample_style(3, strength=0.0).show(happy), happy)
    weak, full = (np.abs(sample_style(3, strength).show(happy) - happy).sum() for strength in (0.5, 1.0))
    assert 0.3 * full < weak < 0.7 * full

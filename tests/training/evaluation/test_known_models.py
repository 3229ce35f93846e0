"""Evaluation of networks whose every code is known, so that every figure is."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.evaluation import edit, leakage, recognition
from training.faces import EXPRESSIONS

PEOPLE, SCENES = 12, 6


class Marked:
    """Pairs whose pictures hold nothing but their number."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.person = np.repeat(np.arange(PEOPLE), SCENES)
        self.scene = np.tile(np.arange(SCENES), PEOPLE)
        self.expressions = rng.integers(0, 40, (len(self.person), 2))
        self.labels = torch.arange(40) % len(EXPRESSIONS)

    def __len__(self):
        return len(self.person)

    def images_at(self, pair, side):
        return torch.from_numpy(2 * pair + side).float()[:, None, None, None].expand(-1, 3, 2, 2) / 1000

    def of(self, images):
        """Person, scene and label of pictures."""
        number = (images[:, 0, 0, 0] * 1000).round().long().numpy()
        label = self.labels.numpy()[self.expressions[number // 2, number % 2]]
        return self.person[number // 2], self.scene[number // 2], label


def one_hot(values, width):
    return torch.eye(width)[torch.from_numpy(np.asarray(values))]


@pytest.fixture(scope="module")
def pairs():
    return Marked()


def test_leakage_is_everything_for_codes_that_tell_and_chance_for_codes_that_only_remember(pairs):
    def telling(images):
        person, _, label = pairs.of(images)
        return SimpleNamespace(expression=one_hot(label, len(EXPRESSIONS)), embedding=one_hot(person, PEOPLE))

    def remembering(images):
        person, scene, label = pairs.of(images)
        expression = one_hot(person * len(EXPRESSIONS) + label, PEOPLE * len(EXPRESSIONS))
        return SimpleNamespace(expression=expression, embedding=one_hot(person * SCENES + scene, PEOPLE * SCENES))

    known = leakage.measure(SimpleNamespace(encode_identity=telling), pairs)
    assert known["expression code"]["expression"] == 1 and known["expression code"]["person"] < 0.35
    assert known["identity embedding"]["person"] == 1 and known["identity embedding"]["expression"] < 0.35
    # What was fitted is of other people and of other scenes than what is asked for.
    alien = leakage.measure(SimpleNamespace(encode_identity=remembering), pairs)
    assert alien["expression code"]["expression"] < 0.35 and alien["identity embedding"]["person"] < 0.35


def test_recognition_counts_every_picture_once(pairs):
    def right_on_the_first_side(images):
        _, _, label = pairs.of(images)
        second = (images[:, 0, 0, 0] * 1000).round().long().numpy() % 2
        return one_hot((label + second) % len(EXPRESSIONS), len(EXPRESSIONS)) * 0.93 + 0.01

    model = SimpleNamespace(recognize=right_on_the_first_side, config=SimpleNamespace(expressions=EXPRESSIONS))
    found = recognition.measure(model, pairs)
    assert found["images"] == 2 * len(pairs) and found["accuracy"] == 0.5
    assert found["ece"] == pytest.approx(0.94 - 0.5, abs=1e-3)


@pytest.mark.parametrize("remembers", [False, True])
def test_no_person_is_in_two_folds(remembers, monkeypatch):
    people, names = 20, [name for name in EXPRESSIONS if name not in ("neutral", "contempt")]

    def frames(count, expressions, _size_px):
        for person in range(count):
            for index, name in enumerate(expressions):
                for _ in range(3):
                    yield person, name, torch.full((3, 2, 2), (person * len(names) + index) / 1000)

    def encode(images):
        number = int((images[0, 0, 0, 0] * 1000).round())
        return one_hot([number], people * len(names)) if remembers else one_hot([number % len(names)], len(names))

    def classify(code):
        index = EXPRESSIONS.index(names[int(code[0].argmax()) % len(names)])
        return one_hot([index], len(EXPRESSIONS))

    monkeypatch.setattr(recognition, "last_frames", frames)
    config = SimpleNamespace(expressions=EXPRESSIONS, image_size=2)
    model = SimpleNamespace(encode_expression=encode, classify=classify, config=config)
    found = recognition.in_folds(model, people)
    assert found["images"] == people * len(names) * 3 and found["as_it_is"]["accuracy"] == 1
    assert found["probe"]["accuracy"] < 0.35 if remembers else found["probe"]["accuracy"] == 1


@pytest.mark.parametrize(("moves", "monotone"), [(1.0, 1.0), (0.0, 0.0)])
def test_the_way_of_an_edit_is_read_from_what_was_drawn(moves, monotone, smoke, monkeypatch):
    from training.data import Pairs
    from training.train import _cache

    pairs = Pairs(_cache(smoke, "train"))
    width, size_px = 4, smoke.model.image_size
    monkeypatch.setattr(edit.judge, "load", lambda: lambda images: (torch.zeros(len(images), len(EXPRESSIONS)), None))

    class Drawing:
        """Writes the code that it is given into the first row of a picture, or the one that was there."""

        config = smoke.model
        prototypes = torch.rand(len(EXPRESSIONS), width, generator=torch.Generator().manual_seed(0)) + 1

        def encode_identity(self, images):
            return SimpleNamespace(expression=torch.zeros(len(images), width), embedding=images)

        def decode(self, person, code):
            drawn = torch.zeros(len(code), 3, size_px, size_px)
            drawn[:, 0, 0, :width] = moves * code
            return drawn

        def encode_expression(self, images):
            return images[:, 0, 0, :width]

        def edit(self, images, to, intensity=1.0):
            return images

    found = edit.measure(Drawing(), pairs, 6)
    assert found["own"]["monotone"] == monotone
    assert found["own"]["curve"] == pytest.approx([moves * t for t in edit.INTENSITIES])
    assert found["psnr_db_at_intensity_0"] > 60

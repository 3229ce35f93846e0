import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from tergan_core import TERGAN, FaceEditor, GeneratedFace, IdentityCode, ModelConfig, Recognition
from tergan_core.errors import (
    IntensityError,
    InvalidCodeError,
    InvalidImageError,
    InvalidRequestError,
    UnknownExpressionError,
    UnknownUnitError,
    WeightsNotFoundError,
)
from tergan_core.images import encode, face_tensor, to_array, to_tensor

NAMES = ["happiness", "fear", "anger", "neutral", "surprise", "sadness", "disgust", "happiness"]
INTENSITIES = [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1]


def same(one: object, other: object) -> bool:
    """Whether two results agree: floats to 1e-5, pixels to one step."""
    if isinstance(one, GeneratedFace) and isinstance(other, GeneratedFace):
        apart = np.abs(one.image.astype(int) - other.image).max()
        return apart <= 1 and (one.task, one.to, one.intensity) == (other.task, other.to, other.intensity)
    assert isinstance(one, Recognition) and isinstance(other, Recognition)
    values, others = ([*r.probabilities.values(), *r.units.values()] for r in (one, other))
    return one.label == other.label and np.allclose(values, others, atol=1e-5)


def test_transfer_draws_what_the_network_draws(tiny_editor, face_images):
    one, other = (face_tensor(image, 64) for image in face_images[:2])
    with torch.no_grad():
        expected = tiny_editor.model.transfer(identity=one[None], expression=other[None], intensity=0.7)[0]
    result = tiny_editor.transfer(identity=face_images[0], expression=face_images[1], intensity=0.7)
    assert same(result, GeneratedFace(to_array(expected), "transfer", None, 0.7))
    assert result.image.shape == (64, 64, 3) and result.image.dtype == np.uint8
    swapped = tiny_editor.transfer(identity=face_images[1], expression=face_images[0], intensity=0.7)
    assert not same(result, swapped)


def test_edit_draws_what_the_network_draws(tiny_editor, face_image):
    face, index = face_tensor(face_image, 64), tiny_editor.expressions.index("surprise")
    with torch.no_grad():
        expected = tiny_editor.model.edit(face[None], torch.tensor([index]), 1.2)[0]
    result = tiny_editor.edit(face_image, "surprise", 1.2)
    assert same(result, GeneratedFace(to_array(expected), "edit", "surprise", 1.2))


def test_recognize_says_what_the_network_says(tiny_editor, face_image):
    with torch.no_grad():
        expected = tiny_editor.model.recognize(face_tensor(face_image, 64)[None])[0]
    result = tiny_editor.recognize(face_image)
    assert tuple(result.probabilities) == tiny_editor.expressions
    assert list(result.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert sum(result.probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert result.label == tiny_editor.expressions[expected.argmax()]
    assert tuple(result.units) == tiny_editor.config.units


def test_every_form_of_a_picture_gives_the_same_result(tiny_editor, face_image, tmp_path):
    path = tmp_path / "face.png"
    path.write_bytes(encode(face_image))
    forms = [path, path.read_bytes(), face_image, to_tensor(face_image)]
    pixels = {tiny_editor.edit(form, "fear").image.tobytes() for form in forms}
    assert len(pixels) == 1
    assert len({str(tiny_editor.recognize(form)) for form in forms}) == 1


def test_a_batch_of_eight_is_eight_singles(tiny_editor, face_images):
    others = face_images[::-1]
    edits = tiny_editor.edit(face_images, NAMES, INTENSITIES)
    transfers = tiny_editor.transfer(identity=face_images, expression=others, intensity=INTENSITIES)
    recognitions = tiny_editor.recognize(face_images)
    for i, face in enumerate(face_images):
        assert same(edits[i], tiny_editor.edit(face, NAMES[i], INTENSITIES[i]))
        single = tiny_editor.transfer(identity=face, expression=others[i], intensity=INTENSITIES[i])
        assert same(transfers[i], single)
        assert same(recognitions[i], tiny_editor.recognize(face))


def test_permuting_a_batch_permutes_the_results(tiny_editor, face_images):
    order = [3, 1, 7, 0, 2, 6, 5, 4]

    def permuted(values: list) -> list:
        return [values[i] for i in order]

    straight = tiny_editor.edit(face_images, NAMES, INTENSITIES)
    mixed = tiny_editor.edit(permuted(face_images), permuted(NAMES), permuted(INTENSITIES))
    assert all(map(same, permuted(straight), mixed))
    assert not all(map(same, straight, mixed))


def test_long_lists_run_in_several_batches(tiny_model, face_images):
    editor = FaceEditor(tiny_model)
    whole = editor.edit(face_images, NAMES, INTENSITIES)
    editor.batch_size = 3
    assert all(map(same, whole, editor.edit(face_images, NAMES, INTENSITIES)))
    assert all(map(same, editor.recognize(face_images), [editor.recognize(face) for face in face_images]))


def test_a_single_value_holds_for_a_whole_list_and_is_encoded_once(tiny_editor, face_images, monkeypatch):
    calls = []
    encode_identity = TERGAN.encode_identity
    monkeypatch.setattr(TERGAN, "encode_identity", lambda *args: calls.append(1) or encode_identity(*args))
    strip = tiny_editor.edit(face_images[0], "happiness", np.linspace(0, 1.5, 20))
    assert len(calls) == 1 and len(strip) == 20
    assert [face.intensity for face in strip] == pytest.approx(np.linspace(0, 1.5, 20).tolist())
    assert all(map(same, strip[:1], tiny_editor.edit(face_images[:1], "happiness", torch.zeros(1))))
    crowd = tiny_editor.transfer(identity=face_images, expression=face_images[3])
    singles = [tiny_editor.transfer(identity=face, expression=face_images[3]) for face in face_images]
    assert all(map(same, crowd, singles))


def test_empty_lists_give_empty_lists(tiny_editor, face_image):
    assert tiny_editor.recognize([]) == []
    assert tiny_editor.edit([], "happiness") == []
    assert tiny_editor.transfer(identity=face_image, expression=()) == []


def test_intensity_zero_is_the_reconstruction(tiny_editor, face_images):
    person = tiny_editor.encode_identity(face_images[0])
    with torch.no_grad():
        own = to_array(tiny_editor.model.decode(person, person.expression)[0])
    for name in tiny_editor.expressions:
        assert np.abs(tiny_editor.edit(face_images[0], name, 0).image.astype(int) - own).max() <= 1
    moved = tiny_editor.transfer(identity=face_images[0], expression=face_images[1], intensity=0)
    assert np.abs(moved.image.astype(int) - own).max() <= 1
    itself = tiny_editor.transfer(identity=face_images[0], expression=face_images[0], intensity=1.3)
    assert np.abs(itself.image.astype(int) - own).max() <= 1


def test_codes_stand_for_faces(tiny_editor, face_images):
    one, other = face_images[:2]
    person, shown = tiny_editor.encode_identity(one), tiny_editor.encode_expression(other)
    assert isinstance(person, IdentityCode) and shown.shape == (8,)
    expected = tiny_editor.transfer(identity=one, expression=other)
    assert same(tiny_editor.transfer(identity=person, expression=shown), expected)
    assert same(tiny_editor.edit(person, "fear", 0.4), tiny_editor.edit(one, "fear", 0.4))
    assert same(tiny_editor.recognize(shown), tiny_editor.recognize(other))
    mixed = tiny_editor.edit([person, other, one], "anger")
    assert all(map(same, mixed, tiny_editor.edit([one, other, one], "anger")))


def test_codes_can_be_calculated_with(tiny_editor, face_images):
    one, other = (tiny_editor.encode_expression(face) for face in face_images[:2])
    between = tiny_editor.transfer(identity=face_images[0], expression=one + 0.5 * (other - one))
    half = tiny_editor.transfer(identity=face_images[0], expression=other, intensity=0.5)
    assert same(between, dataclasses.replace(half, intensity=1.0))
    one.requires_grad_()  # an ordinary tensor: it may be optimised
    tiny_editor.model.classify(one[None]).sum().backward()
    assert one.grad is not None


def test_a_mixture_of_one_whole_expression_is_that_expression(tiny_editor, face_image):
    for name in tiny_editor.expressions:
        mixed, plain = tiny_editor.edit(face_image, [{name: 1.0}, name])
        assert np.abs(mixed.image.astype(int) - plain.image).max() <= 1
    half = tiny_editor.edit(face_image, {"happiness": 0.5})
    assert half.to == "0.5 happiness"
    explicit = tiny_editor.edit(face_image, {"happiness": 0.5, "neutral": 0.5})
    assert np.abs(half.image.astype(int) - explicit.image).max() <= 1


def test_setting_all_units_to_those_of_an_expression_is_that_expression(tiny_model, tiny_editor, face_image):
    width = len(tiny_editor.config.units)
    model = copy.deepcopy(tiny_model)
    with torch.no_grad():
        model.prototypes[:, :width] = torch.rand(model.prototypes.shape[0], width)
        model.prototypes[:, width:] = FaceEditor(model).encode_expression(face_image)[width:]
    editor = FaceEditor(model)
    for index, name in enumerate(editor.expressions):
        units = dict(zip(editor.config.units, model.prototypes[index].tolist(), strict=False))
        by_units, by_name = editor.edit(face_image, units=units), editor.edit(face_image, name)
        assert np.abs(by_units.image.astype(int) - by_name.image).max() <= 1


def test_a_unit_changes_its_own_entry_and_a_name_without_side_both(tiny_model, tiny_editor, face_image):
    person = tiny_editor.encode_identity(face_image)
    known = list(tiny_editor.config.units)
    code = person.expression.clone()
    code[0, [known.index("mouthSmileLeft"), known.index("mouthSmileRight")]] = 0.6
    code[0, known.index("jawOpen")] = 1.5
    with torch.inference_mode():
        (expected,) = tiny_model.decode(person, code)
    drawn = tiny_editor.edit(face_image, units={"mouthSmile": 0.6, "jawOpen": 1.5})
    assert np.abs(drawn.image.astype(int) - to_array(expected)).max() <= 1
    assert drawn.to == "0.6 mouthSmile + 1.5 jawOpen"


def test_units_come_on_top_of_an_expression_and_intensity_holds_for_both(tiny_editor, face_image):
    both = tiny_editor.edit(face_image, "happiness", 0.5, units={"jawOpen": 0.2})
    assert both.to == "happiness + 0.2 jawOpen"
    assert not np.array_equal(both.image, tiny_editor.edit(face_image, "happiness", 0.5).image)
    unchanged = tiny_editor.edit(face_image, "happiness", 0.0, units={"jawOpen": 0.2})
    assert np.array_equal(unchanged.image, tiny_editor.edit(face_image, "happiness", 0.0).image)
    one, other = tiny_editor.edit(face_image, units=[{"jawOpen": 0.2}, {"jawOpen": 0.9}])
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize(
    ("units", "kind", "message"),
    [
        ({"mouthSmil": 0.5}, UnknownUnitError, "Close names: mouthSmile"),
        ({"jawOpen": 1.6}, IntensityError, r"units\['jawOpen'\] is 1\.6; accepted: a number from 0 to 1\.5"),
        ({"jawOpen": math.nan}, IntensityError, "is nan"),
        ({}, UnknownUnitError, "mouthSmile"),
        ("jawOpen", UnknownUnitError, "mouthSmile"),
        (None, InvalidRequestError, "neither an expression nor units"),
    ],
)
def test_units_are_checked(tiny_editor, face_image, units, kind, message):
    with pytest.raises(kind, match=message):
        tiny_editor.edit(face_image, units=units)


def test_a_model_without_units_says_so(face_image):
    options = {"identity_backbone": "test_resnet", "expression_backbone": "test_resnet"}
    editor = FaceEditor(TERGAN(ModelConfig(image_size=32, **options)))
    with pytest.raises(UnknownUnitError, match="no face units"):
        editor.edit(face_image, units={"jawOpen": 1.0})


def test_a_bad_item_takes_its_place_and_leaves_its_neighbours_alone(tiny_editor, face_images):
    faces: list = list(face_images)
    names, intensities = list(NAMES), list(INTENSITIES)
    expected = tiny_editor.edit(faces, names, intensities)
    faces[1], names[3], intensities[5] = b"no picture", "joy", math.nan
    results = tiny_editor.edit(faces, names, intensities, errors="return")
    kinds = {1: InvalidImageError, 3: UnknownExpressionError, 5: IntensityError}
    for i, result in enumerate(results):
        assert isinstance(result, kinds[i]) if i in kinds else same(result, expected[i])
    assert "face[1]" in str(results[1]) and "to[3]" in str(results[3]) and "intensity[5]" in str(results[5])
    with pytest.raises(InvalidImageError, match=r"face\[1\] is not a picture"):
        tiny_editor.edit(faces, names, intensities)


def test_when_all_items_are_bad_all_errors_come_back(tiny_editor):
    results = tiny_editor.recognize([b"", "nowhere.png", torch.full((3, 4, 4), torch.nan)], errors="return")
    assert [result.code for result in results] == ["invalid_image"] * 3
    assert isinstance(tiny_editor.recognize(b"", errors="return"), InvalidImageError)


@pytest.mark.parametrize("intensity", [-0.1, 1.6, math.nan, math.inf, "1", None, True, 10**400, 1j])
def test_intensities_out_of_range_are_refused(tiny_editor, face_image, intensity):
    for task in (
        lambda: tiny_editor.edit(face_image, "fear", intensity),
        lambda: tiny_editor.transfer(identity=face_image, expression=face_image, intensity=intensity),
    ):
        with pytest.raises(IntensityError, match=r"intensity is .*; accepted: a number from 0 to 1\.5") as caught:
            task()
        assert caught.value.code == "invalid_intensity"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("happy", "to is 'happy', which this model does not have. Close names: happiness"),
        ("contempt", "which this model does not have"),
        ("", "to is '', which"),
        (3, "to is 3, which"),
        ({"joy": 1.0}, "to is 'joy', which"),
        ({}, "to is an empty mixture"),
        ("x" * 10**6, "to is 'xxx"),
    ],
)
def test_unknown_expressions_are_refused_and_near_ones_offered(tiny_editor, face_image, to, message):
    with pytest.raises(UnknownExpressionError, match=message) as caught:
        tiny_editor.edit(face_image, to)
    assert caught.value.code == "unknown_expression" and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("mixture", "message"),
    [
        ({"happiness": 0.7, "fear": 0.7}, r"to has weights that sum to 1\.4; accepted: at most 1"),
        ({"happiness": -0.1}, r"to\['happiness'\] is -0.1; accepted: a number from 0 to 1"),
        ({"happiness": math.nan}, r"to\['happiness'\] is nan"),
    ],
)
def test_weights_of_mixtures_are_checked(tiny_editor, face_image, mixture, message):
    with pytest.raises(IntensityError, match=message):
        tiny_editor.edit(face_image, mixture)


def test_codes_of_another_model_are_refused(tiny_editor, face_image):
    person = tiny_editor.encode_identity(face_image)
    damaged = person._replace(embedding=person.embedding * torch.nan)
    for code in (person._replace(maps=person.maps[:-1]), damaged, person.take([0, 0])):
        with pytest.raises(InvalidCodeError, match="face is an identity code of other shapes"):
            tiny_editor.edit(code, "fear")
    for wrong in (torch.zeros(9), torch.full((8,), torch.nan), torch.zeros(8, dtype=torch.long)):
        with pytest.raises(InvalidCodeError, match=r"expression is a tensor .* 8 finite floats") as caught:
            tiny_editor.transfer(identity=face_image, expression=wrong)
        assert caught.value.code == "invalid_code"


def test_lists_of_different_lengths_and_unknown_modes_are_refused(tiny_editor, face_images):
    with pytest.raises(InvalidRequestError, match="differ in length: face 8, to 2; accepted: one length"):
        tiny_editor.edit(face_images, ["fear", "anger"])
    with pytest.raises(InvalidRequestError, match="errors is 'ignore'; accepted: 'raise', 'return'"):
        tiny_editor.recognize(face_images, errors="ignore")


def test_an_editor_loads_from_a_folder_and_draws_the_same(tiny_editor, tiny_folder, face_image):
    loaded = FaceEditor.load(tiny_folder, device="cpu")
    assert not loaded.model.training and loaded.config == tiny_editor.config
    assert np.array_equal(loaded.edit(face_image, "fear").image, tiny_editor.edit(face_image, "fear").image)


def test_loading_nothing_says_so(tmp_path):
    with pytest.raises(WeightsNotFoundError, match="no model at"):
        FaceEditor.load(tmp_path / "nowhere")


def test_calling_leaves_no_trace_in_the_network(tiny_editor, face_images):
    before = {name: value.clone() for name, value in tiny_editor.model.state_dict().items()}
    first = tiny_editor.edit(face_images[0], "fear")
    tiny_editor.recognize(face_images)
    assert np.array_equal(tiny_editor.edit(face_images[0], "fear").image, first.image)
    assert all(torch.equal(value, before[name]) for name, value in tiny_editor.model.state_dict().items())


@pytest.mark.gpu
def test_the_gpu_draws_what_the_cpu_draws(tiny_folder, face_images):
    gpu, cpu = FaceEditor.load(tiny_folder, device="cuda"), FaceEditor.load(tiny_folder, device="cpu")
    drawn = zip(gpu.edit(face_images, NAMES), cpu.edit(face_images, NAMES), strict=True)
    assert all(np.abs(one.image.astype(int) - other.image).max() <= 3 for one, other in drawn)
    code = cpu.encode_identity(face_images[0])
    assert gpu.edit(code, "fear").image.shape == (64, 64, 3)


def test_codes_of_other_floats_are_the_networks(tiny_editor, face_image):
    code, person = tiny_editor.encode_expression(face_image), tiny_editor.encode_identity(face_image)
    results = tiny_editor.recognize([code, code.double(), code.half()], errors="return")
    assert results[0] == results[1] and results[2].label == results[0].label
    as_double = person._replace(embedding=person.embedding.double(), maps=[part.double() for part in person.maps])
    drawn = [tiny_editor.transfer(identity=one, expression=code).image for one in (person, as_double)]
    assert np.array_equal(*drawn)

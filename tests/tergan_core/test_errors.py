import inspect

import pytest

from tergan_core import errors

CLASSES = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.TerganError)]


def test_every_error_has_a_code_of_its_own_and_a_docstring():
    assert len({error.code for error in CLASSES}) == len(CLASSES)
    for error in CLASSES:
        assert error.code.isidentifier() and error.code == error.code.lower()
        assert error.__doc__


def test_codes_are_stable():
    assert {error.code for error in CLASSES} >= {
        "tergan_error",
        "invalid_image",
        "image_too_large",
        "no_face",
        "unknown_expression",
        "invalid_intensity",
        "invalid_code",
        "missing_field",
        "invalid_request",
        "unsupported_media_type",
        "invalid_config",
        "unknown_backbone",
        "weights_not_found",
        "weights_corrupt",
        "missing_extra",
    }


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.InvalidImageError, ValueError),
        (errors.IntensityError, ValueError),
        (errors.WeightsNotFoundError, FileNotFoundError),
        (errors.MissingExtraError, ImportError),
    ],
)
def test_errors_are_the_builtin_kind_as_well(error, builtin):
    assert issubclass(error, builtin)


def test_a_missing_extra_names_the_exact_pip_line():
    error = errors.MissingExtraError("numba", "train", "rendering faces")
    assert str(error) == (
        "rendering faces needs the package 'numba'. Install it with: pip install 'tergan-core[train]'"
    )


def test_close_names_are_offered_or_all_if_few():
    known = ["neutral", "happiness", "surprise"]
    assert errors.close_names("Happines", known) == "Close names: happiness."
    assert errors.close_names("xyz", known) == "Known names: neutral, happiness, surprise."
    assert errors.close_names("xyz", [f"name{i}" for i in range(13)]) == ""

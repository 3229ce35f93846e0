import json

import pytest

from tergan_core.config import ModelConfig
from tergan_core.errors import ConfigError


def test_a_configuration_survives_json():
    config = ModelConfig(units=("jawOpen",), expression_backbone_options={"stem_width": 16})
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 100}, "image_size is 100; accepted: a multiple of 32"),
        ({"expressions": ("neutral", "happyness")}, "'happyness'. Close names: happiness"),
        ({"expressions": ("anger", "neutral")}, "begin with 'neutral'"),
        ({"expressions": ("neutral", "anger", "anger")}, "distinct"),
        ({"units": ("a", "b", "c"), "expression_width": 2}, "at least the number of units"),
        ({"decoder": "unet"}, "'warp', 'skip' or 'vector'"),
        ({"decoder_widths": (20,)}, "multiples of 8"),
        ({"max_intensity": 0.5}, "at least 1"),
        ({"identity_backbone_options": {"pretrained_cfg": {"file": "x"}}}, "'pretrained_cfg'; accepted: what shapes"),
        ({"expression_backbone_options": {"checkpoint_path": "x"}}, "'checkpoint_path'; accepted: what shapes"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(change, message):
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**change)


def test_an_unknown_key_is_refused_with_close_names():
    with pytest.raises(ConfigError, match=r"unknown key 'image_siez'. Close names: image_size"):
        ModelConfig.from_dict({"image_siez": 64})


def test_a_value_of_a_wrong_kind_is_refused():
    with pytest.raises(ConfigError, match="wrong kind"):
        ModelConfig.from_dict({"image_size": "large"})

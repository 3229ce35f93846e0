import dataclasses

import pytest
import torch

from tergan_core.config import ModelConfig
from tergan_core.model import TERGAN
from training.widen import at_every_place, fits, widen

NARROW = ModelConfig(
    image_size=32,
    identity_backbone="test_resnet",
    expression_backbone="resnet10t",
    expression_backbone_options={"channels": [8, 8, 16, 16], "stem_width": 8},
    decoder_widths=(8, 16, 24),
)
WIDE = dataclasses.replace(
    NARROW,
    expression_backbone_options={"channels": [8, 16, 16, 40], "stem_width": 8},
    decoder_widths=(16, 16, 40),
)


def network(config, seed):
    torch.manual_seed(seed)
    model = TERGAN(config)
    for tensor in model.state_dict().values():  # nothing is left at zero or one, batch statistics included
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if tensor.ndim == 1 else tensor.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize("decoder", ["warp", "skip"])
def test_a_wider_network_computes_at_first_what_the_narrow_one_does(decoder):
    narrow, wide = (network(dataclasses.replace(c, decoder=decoder), seed) for seed, c in enumerate((NARROW, WIDE)))
    identity, expression = torch.rand(2, 2, 3, 32, 32)
    with torch.inference_mode():
        expected = narrow.transfer(identity=identity, expression=expression)
        assert not torch.allclose(wide.transfer(identity=identity, expression=expression), expected, atol=1e-2)
        for name, part in narrow.named_children():
            assert fits(part, wide.get_submodule(name))
            widen(part, wide.get_submodule(name))
        assert torch.allclose(wide.transfer(identity=identity, expression=expression), expected, atol=1e-5)


def test_a_head_that_reads_every_place_computes_at_first_what_it_did_with_their_mean():
    head, features = torch.nn.Linear(16, 52), torch.rand(2, 16, 3, 3)
    wide = at_every_place(head, 9)
    assert torch.allclose(wide(features.flatten(1)), head(features.mean((2, 3))), atol=1e-6)
    model = network(dataclasses.replace(WIDE, image_size=96, expression_pooling="flatten"), 1)
    assert model.expression_places == 9 and fits(wide, model.expression_head)
    assert model.encode_expression(torch.rand(2, 3, 96, 96)).shape == (2, 52)


def test_new_channels_learn():
    narrow, wide = network(NARROW, 0), network(WIDE, 1)
    widen(narrow.expression_encoder, wide.expression_encoder)
    widen(narrow.expression_head, wide.expression_head)
    wide.encode_expression(torch.rand(2, 3, 32, 32)).square().sum().backward()
    assert wide.expression_head.weight.grad[:, 16:].abs().sum() > 0


def test_a_narrower_network_or_one_of_other_layers_does_not_fit():
    narrow, wide = network(NARROW, 0), network(WIDE, 1)
    assert not fits(wide.decoder, narrow.decoder)
    assert not fits(narrow.decoder, wide.expression_encoder)

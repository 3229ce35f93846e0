import pytest
import torch

from tergan_core.backbone import Backbone
from tergan_core.errors import UnknownBackboneError


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv4_conv_small_035", "convnext_atto", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_maps_have_the_channels_and_strides_that_the_backbone_states(name):
    backbone = Backbone(name, image_size=64).eval()
    maps = backbone(torch.rand(2, 3, 64, 64))
    assert [m.shape for m in maps] == [
        (2, c, 64 // s, 64 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert backbone.strides == sorted(set(backbone.strides))


def test_an_unknown_name_offers_close_ones():
    with pytest.raises(UnknownBackboneError, match=r"no backbone named 'resnet-18'. Close names: .*resnet18"):
        Backbone("resnet-18", image_size=64)


def test_an_option_that_timm_refuses_is_named():
    with pytest.raises(UnknownBackboneError, match="no_such_option"):
        Backbone("resnet10t", image_size=64, options={"no_such_option": 1})


def test_strides_that_are_no_powers_of_two_are_refused():
    with pytest.raises(UnknownBackboneError, match="powers of two"):
        Backbone("vit_small_patch14_dinov2", image_size=56)


@torch.no_grad()
def test_standardisation_takes_out_brightness_and_contrast():
    backbone = Backbone("test_resnet", image_size=32, standardize=True).eval()
    seen = []
    backbone.features.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    face = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    backbone(face)
    backbone(0.5 * face + 0.4)
    for x in seen:
        assert torch.allclose(x.mean((1, 2, 3)), torch.zeros(2), atol=1e-4)
        assert (x.std((1, 2, 3)) - 1).abs().max() < 0.3  # 0.05 in the denominator spares flat pictures
    one, other = (x / x.std() for x in seen)
    assert torch.allclose(one, other, atol=0.02)

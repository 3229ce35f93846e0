import shutil

import pytest
import torch

from tergan_core.config import ModelConfig
from tergan_core.decoder import IdentityCode
from tergan_core.errors import ConfigError
from tergan_core.model import TERGAN

BACKBONES = ["resnet10t", "mobilenetv4_conv_small_035", "convnext_atto", "vit_tiny_patch16_224"]
SIZE = 64


def build(seed: int = 0, **changes) -> TERGAN:
    torch.manual_seed(seed)
    small = {"image_size": SIZE, "identity_backbone": "test_resnet", "expression_backbone": "test_resnet"}
    model = TERGAN(ModelConfig(**(small | changes))).eval()
    torch.nn.init.normal_(model.prototypes)
    for layer in (getattr(model.decoder, name, None) for name in ("to_flow", "to_pixels")):
        if layer is not None:  # away from the initial identity map, so that every input matters
            torch.nn.init.normal_(layer.weight, std=0.2)
    return model


@pytest.fixture(scope="module")
def model() -> TERGAN:
    return build()


@pytest.fixture
def faces() -> torch.Tensor:
    """Smooth pictures, as faces are; white noise would blow up every rounding difference of a flow."""
    coarse = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize("decoder", ["warp", "skip", "vector"])
@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_every_family_of_backbone_works_on_both_sides_of_every_decoder(backbone, decoder, faces):
    model = build(identity_backbone=backbone, expression_backbone=backbone, decoder=decoder)
    output = model.transfer(identity=faces, expression=faces.flip(0))
    assert output.shape == faces.shape
    assert 0 <= output.min() and output.max() <= 1
    assert model.recognize(faces).shape == (4, 7)


@torch.no_grad()
def test_a_stride_that_does_not_divide_the_face_is_read_by_the_expression_encoder_and_refused_of_the_other():
    model = build(image_size=96, expression_backbone="levit_conv_128s", expression_pooling="flatten")
    assert model.expression_encoder.strides[-1] == 64
    assert model.encode_expression(torch.rand(2, 3, 96, 96)).shape == (2, model.config.expression_width)
    with pytest.raises(ConfigError, match=r"image_size is 96; accepted .* a multiple of 64"):
        build(image_size=96, identity_backbone="levit_conv_128s")


def test_probabilities_sum_to_one(model, faces):
    assert torch.allclose(model.recognize(faces).sum(1), torch.ones(4))


@torch.no_grad()
def test_permuting_a_batch_permutes_the_results(model, faces):
    order = torch.tensor([2, 0, 3, 1])
    straight = model.transfer(identity=faces, expression=faces.flip(0))
    permuted = model.transfer(identity=faces[order], expression=faces.flip(0)[order])
    assert torch.allclose(permuted, straight[order], atol=1e-5)


@torch.no_grad()
def test_a_batch_equals_its_items_one_by_one(model, faces):
    to = torch.arange(4)
    together = model.edit(faces, to)
    singly = torch.cat([model.edit(faces[i : i + 1], to[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, singly, atol=1e-5)


@torch.no_grad()
def test_transfer_is_encode_then_decode(model, faces):
    identity, expression = faces[:2], faces[2:]
    by_hand = model.decode(model.encode_identity(identity), model.encode_expression(expression))
    assert torch.equal(model.transfer(identity=identity, expression=expression), by_hand)


@torch.no_grad()
def test_the_two_images_have_different_roles(model, faces):
    one = model.transfer(identity=faces[:2], expression=faces[2:])
    other = model.transfer(identity=faces[2:], expression=faces[:2])
    assert not torch.allclose(one, other, atol=1e-2)


@torch.no_grad()
def test_the_expression_image_matters_through_its_code_alone(model, faces):
    person = model.encode_identity(faces[:2])
    assert not torch.allclose(
        model.decode(person, model.encode_expression(faces[2:])), model.decode(person, person.expression), atol=1e-4
    )


@torch.no_grad()
def test_intensity_zero_is_the_reconstruction_for_every_expression(model, faces):
    person = model.encode_identity(faces)
    reconstruction = model.decode(person, person.expression)
    assert torch.allclose(model.edit(faces, torch.arange(4), 0.0), reconstruction, atol=1e-6)
    assert torch.allclose(
        model.transfer(identity=faces, expression=faces.flip(0), intensity=0.0), reconstruction, atol=1e-6
    )


@torch.no_grad()
def test_intensity_may_differ_within_a_batch(model, faces):
    mixed = model.edit(faces[:2], torch.tensor([1, 1]), torch.tensor([0.0, 1.0]))
    assert torch.allclose(mixed[:1], model.edit(faces[:1], torch.tensor([1]), 0.0), atol=1e-5)
    assert torch.allclose(mixed[1:], model.edit(faces[1:2], torch.tensor([1]), 1.0), atol=1e-5)


def test_codes_mix_as_values():
    shown, wanted = torch.zeros(2, 3), torch.ones(2, 3)
    assert torch.equal(TERGAN.blend(shown, wanted, 0.25), torch.full((2, 3), 0.25))
    assert torch.equal(TERGAN.blend(shown, wanted, torch.tensor([0.0, 1.5]))[1], torch.full((3,), 1.5))


@torch.no_grad()
def test_identity_codes_can_be_taken_apart_and_joined(model, faces):
    codes = model.encode_identity(faces)
    joined = IdentityCode.concatenate([codes.take(slice(0, 1)), codes.take([1, 2, 3])])
    assert torch.equal(model.decode(joined, codes.expression), model.decode(codes, codes.expression))


@torch.no_grad()
def test_a_fresh_warp_decoder_gives_back_a_faint_copy(faces):
    torch.manual_seed(0)
    model = TERGAN(
        ModelConfig(image_size=SIZE, identity_backbone="test_resnet", expression_backbone="test_resnet")
    ).eval()
    drawing = model.decoder.draw(model.encode_identity(faces), torch.zeros(4, 52))
    assert torch.allclose(drawing.warped, faces, atol=1e-5)
    assert (drawing.image - faces).abs().mean() < 0.05


@pytest.mark.parametrize("decoder", ["warp", "skip", "vector"])
def test_every_parameter_is_trained_by_some_task(decoder, faces):
    model = build(decoder=decoder).train()
    output = model.transfer(identity=faces, expression=faces.flip(0))
    logits = model.classify(model.encode_expression(faces))
    embedding = model.encode_identity(faces).embedding
    (output.mean() + logits.logsumexp(1).mean() + embedding.square().mean()).backward()
    untouched = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert untouched == []


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on the CPU")
@torch.no_grad()
def test_it_compiles_as_one_graph_and_gives_the_same_image(faces):
    small, faces = build(image_size=32, decoder_widths=(8,)), faces[..., :32, :32]
    compiled = torch.compile(small.transfer, fullgraph=True)
    expected = small.transfer(identity=faces, expression=faces.flip(0))
    assert torch.allclose(compiled(identity=faces, expression=faces.flip(0)), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "decoder"),
    [*((backbone, "warp") for backbone in BACKBONES), ("test_resnet", "skip"), ("test_resnet", "vector")],
)
@torch.no_grad()
def test_every_family_of_backbone_traces_as_one_graph(backbone, decoder, faces):
    model = build(identity_backbone=backbone, decoder=decoder)
    compiled = torch.compile(model.transfer, fullgraph=True, backend="eager")
    expected = model.transfer(identity=faces, expression=faces.flip(0))
    assert torch.allclose(compiled(identity=faces, expression=faces.flip(0)), expected, atol=1e-4)


class Transfer(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, identity, expression):
        return self.model.transfer(identity=identity, expression=expression)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["test_resnet", "vit_tiny_patch16_224"])
@torch.no_grad()
def test_it_exports_with_a_dynamic_batch(backbone, faces):
    model = build(identity_backbone=backbone)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Transfer(model), (faces, faces.flip(0)), dynamic_shapes=({0: batch}, {0: batch}), strict=False
    )
    for size in (1, 3, 4):
        one, other = faces[:size], faces.flip(0)[:size]
        assert torch.allclose(program.module()(one, other), model.transfer(identity=one, expression=other), atol=1e-4)

import math
from typing import get_args

import pytest
import torch

from tergan_core import losses

FACES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("kind", "critic", "generator"),
    # At real = 1 and fake = 0, by hand.
    [
        ("logistic", math.log(1 + math.exp(-1)) + math.log(2), math.log(2)),
        ("hinge", 0 + 1, 0),
        ("least squares", 0, 0.5),
        ("relativistic", math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))),
    ],
)
def test_adversarial_losses_have_the_values_of_their_papers(kind, critic, generator):
    real, fake = torch.ones(4), torch.zeros(4)
    assert losses.adversarial_discriminator(real, fake, kind).item() == pytest.approx(critic)
    assert losses.adversarial_generator(fake, real, kind).item() == pytest.approx(generator)


@pytest.mark.parametrize("kind", get_args(losses.Adversarial))
def test_critic_and_generator_want_opposite_logits(kind):
    real, fake = torch.full((4,), 0.5), torch.full((4,), 0.5, requires_grad=True)
    (for_critic,) = torch.autograd.grad(losses.adversarial_discriminator(real, fake, kind), fake)
    (for_generator,) = torch.autograd.grad(losses.adversarial_generator(fake, real, kind), fake)
    assert (for_critic > 0).all() and (for_generator < 0).all()


def test_feature_matching_is_the_mean_over_scales_and_moves_the_output_alone():
    truth = [torch.zeros(2, 3, 4, 4, requires_grad=True), torch.zeros(2, 5, 2, 2, requires_grad=True)]
    output = [torch.ones(2, 3, 4, 4, requires_grad=True), torch.full((2, 5, 2, 2), 3.0, requires_grad=True)]
    loss = losses.feature_matching(output, truth)
    loss.backward()
    assert loss.item() == pytest.approx(2.0)
    assert all(part.grad.abs().sum() > 0 for part in output) and all(part.grad is None for part in truth)


def test_r1_penalty_of_a_linear_critic_is_half_its_squared_norm():
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    image = FACES.clone().requires_grad_()
    penalty = losses.r1_penalty((image * weight).sum((1, 2, 3)), image)
    assert penalty.item() == pytest.approx(0.5 * weight.square().sum().item(), rel=1e-5)


def test_r1_penalty_has_a_gradient_for_the_critic():
    critic = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.LeakyReLU(0.2), torch.nn.Flatten(), torch.nn.Linear(144, 1)
    )
    image = FACES.clone().requires_grad_()
    losses.r1_penalty(critic(image)[:, 0], image).backward()
    assert critic[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("loss", [losses.expression_classification, losses.identity_classification])
def test_classification_of_equal_logits_is_the_log_of_the_number_of_classes(loss):
    assert loss(torch.zeros(5, 7), torch.arange(5)).item() == pytest.approx(math.log(7))


def test_expression_consistency_is_zero_for_equal_codes_and_moves_only_the_generated_image():
    wanted = torch.rand(4, 5, requires_grad=True)
    generated = (wanted.detach() + 0.5).requires_grad_()
    loss = losses.expression_consistency(generated, wanted)
    loss.backward()
    assert loss.item() == pytest.approx(0.5)
    assert losses.expression_consistency(wanted, wanted).item() == 0
    assert generated.grad.abs().sum() > 0 and wanted.grad is None


@pytest.mark.parametrize(("angle_degrees", "expected"), [(0, 0.0), (60, 0.5), (90, 1.0), (180, 2.0)])
def test_identity_consistency_is_one_minus_the_cosine(angle_degrees, expected):
    angle = math.radians(angle_degrees)
    generated, identity = torch.tensor([[math.cos(angle), math.sin(angle)]]), torch.tensor([[3.0, 0.0]])
    assert losses.identity_consistency(generated, identity).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("loss", [losses.reconstruction, losses.cross_cycle])
def test_image_distance_is_the_mean_absolute_difference(loss):
    assert loss(FACES * 0 + 0.25, FACES * 0 + 0.75).item() == pytest.approx(0.5)


def test_paired_swap_weighs_the_pixels_that_have_to_change():
    identity = torch.zeros(1, 3, 2, 2)
    truth = identity.clone()
    truth[:, :, 0, 0] = 1.0  # one pixel of four has to change
    missed = losses.paired_swap(identity, truth, identity, changed_weight=9.0)
    wrong_elsewhere = identity.clone()
    wrong_elsewhere[:, :, 0, 0], wrong_elsewhere[:, :, 1, 1] = 1.0, 1.0
    spoiled = losses.paired_swap(wrong_elsewhere, truth, identity, changed_weight=9.0)
    assert missed.item() == pytest.approx(9 / 4) and spoiled.item() == pytest.approx(1 / 4)


def test_paired_swap_is_zero_at_the_truth():
    assert losses.paired_swap(FACES, FACES, FACES.flip(0)).item() == 0


def test_a_relative_paired_swap_counts_a_half_done_change_alike_whether_weak_or_strong():
    identity = torch.full((1, 3, 8, 8), 0.2)
    half, relative = [], []
    for change in (0.1, 0.4):
        truth, output = identity + change, identity + change / 2
        half.append(losses.paired_swap(output, truth, identity).item())
        relative.append(losses.paired_swap(output, truth, identity, relative=True).item())
    assert half[1] / half[0] == pytest.approx(4)
    assert 1 < relative[1] / relative[0] < 1.1
    tiny = losses.paired_swap(identity + 1e-4, identity, identity, relative=True).item()
    assert tiny == pytest.approx(1e-4 / 0.25, rel=1e-3)


def test_unit_regression_is_quadratic_below_its_knee_and_linear_above():
    zero = torch.zeros(1, 1)
    assert losses.unit_regression(zero + 0.05, zero).item() == pytest.approx(0.05**2 / 0.2)
    assert losses.unit_regression(zero + 1, zero).item() == pytest.approx(1 - 0.05)


def test_unit_regression_counts_units_by_their_shares():
    wrong = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    shares = torch.tensor([0.5, 1.5])
    assert losses.unit_regression(wrong, 0 * wrong, shares).item() == pytest.approx(0.5 * (1 - 0.05) / 2)

import copy
import dataclasses

import numpy as np
import pytest
import torch

from training import train
from training.config import TermWeights
from training.data import Augmentation, Batch, Pairs
from training.data.pairs import randomize_textures
from training.faces import UNITS
from training.objective import REFINING, critic_terms, generator_terms, weigh
from training.train import _cache, build


@pytest.fixture(scope="module")
def pairs(smoke):
    return Pairs(_cache(smoke, "train"))


@pytest.fixture(scope="module")
def networks(smoke, pairs):
    return build(smoke, len(pairs.people), torch.device("cpu")).networks


@pytest.fixture
def batch(pairs):
    return pairs.draw(np.random.default_rng(0), 6, reconstructions=2)


def terms_of(networks, batch, weights, refine=True):
    chosen = torch.zeros(len(batch.identity), dtype=torch.bool)
    return generator_terms(networks, batch, weights, refine=refine, true_units=chosen)[0]


def test_every_weight_has_its_term_and_a_zero_weight_none(networks, batch):
    every = TermWeights(critic_identity=0.1, critic_expression=0.1, feature_matching=1.0)
    generator = terms_of(networks, batch, every)
    critic = critic_terms(networks, batch, batch.identity, every, penalize=True)
    assert generator.keys() | critic.keys() == set(vars(every))
    only = TermWeights(**{name: 0.0 for name in vars(every)} | {"paired_swap": 1.0})
    assert terms_of(networks, batch, only).keys() == {"paired_swap"}


def test_standardized_units_weigh_units_by_how_little_they_vary(pairs):
    shares, deviations = pairs.unit_shares(), pairs.units.reshape(-1, len(UNITS)).std(axis=0)
    assert shares.mean().item() == pytest.approx(1)
    moving, still = np.argmax(deviations), np.argmin(deviations)
    assert deviations[still] < 0.03  # counts as if it were that
    assert (shares[still] / shares[moving]).item() == pytest.approx(deviations[moving] / 0.03, rel=1e-4)


def test_refining_terms_wait(networks, batch):
    assert not terms_of(networks, batch, TermWeights(), refine=False).keys() & REFINING


def test_a_term_without_a_weight_is_an_error():
    with pytest.raises(KeyError, match="'novelty' has no weight"):
        weigh({"novelty": torch.tensor(1.0)}, TermWeights())


def test_the_sum_is_weighted():
    weights = TermWeights(paired_swap=2.0, reconstruction=3.0)
    assert weigh({"paired_swap": torch.tensor(1.0), "reconstruction": torch.tensor(10.0)}, weights).item() == 32


@pytest.mark.parametrize(
    "term",
    [
        "paired_swap",
        "cross_cycle",
        "identity_consistency",
        "expression_consistency",
        "adversarial",
        "feature_matching",
    ],
)
def test_each_term_on_the_output_trains_the_decoder(networks, batch, term):
    networks.model.zero_grad()
    terms_of(networks, batch, dataclasses.replace(TermWeights(), **{term: 1.0}))[term].backward()
    assert networks.model.decoder.to_pixels.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("term", ["adversarial", "feature_matching", "critic_expression"])
@pytest.mark.parametrize("steepness", [1.0, 1000.0])
def test_what_the_critic_says_counts_as_much_as_the_true_image_however_steep_it_is(networks, batch, term, steepness):
    weights = TermWeights(**dict.fromkeys(vars(TermWeights()), 0.0) | {"paired_swap": 1.0, term: 1.0})
    critic = copy.deepcopy(networks.critic)
    with torch.no_grad():
        critic.realness.weight.mul_(steepness)
        critic.trunk[0].weight.mul_(steepness)
    chosen = torch.zeros(len(batch.identity), dtype=torch.bool)
    steep = dataclasses.replace(networks, critic=critic)
    terms, output = generator_terms(steep, batch, weights, refine=True, true_units=chosen)
    ours, reference = (
        torch.autograd.grad(terms[name], output, retain_graph=True)[0].flatten(1).norm(dim=1)
        for name in (term, "paired_swap")
    )
    assert torch.allclose(ours, reference, rtol=1e-3) and reference[2:].min() > 0
    assert ours[:2].max() == 0  # reconstructions have no true transfer


def test_the_critic_learns_no_more_than_it_teaches(networks, batch):
    terms = critic_terms(networks, batch, batch.identity, TermWeights(), penalize=False)
    assert terms.keys() == {"adversarial"}
    once, twice = (
        critic_terms(networks, batch, batch.identity, TermWeights(critic_identity=weight), penalize=False)
        for weight in (0.1, 0.2)
    )
    assert torch.allclose(2 * once["critic_identity"], twice["critic_identity"])


def test_the_critic_learns_from_its_penalty(networks, batch):
    networks.critic.zero_grad()
    terms = critic_terms(networks, batch, batch.identity, TermWeights(), penalize=True)
    terms["r1"].backward()
    assert networks.critic.trunk[0].weight.grad.abs().sum() > 0


def test_items_decoded_from_true_units_do_not_depend_on_the_predicted_ones(networks, batch):
    networks.model.eval()
    chosen = torch.ones(6, dtype=torch.bool)
    _, output = generator_terms(networks, batch, TermWeights(), refine=False, true_units=chosen)
    person = networks.model.encode_identity(batch.identity)._replace(expression=batch.identity_units)
    assert torch.allclose(output, networks.model.decode(person, batch.truth_units), atol=1e-6)
    networks.model.train()


def test_a_batch_holds_one_person_twice_and_a_stranger_with_the_wanted_expression(pairs):
    batch = pairs.draw(np.random.default_rng(3), 16, reconstructions=4)
    assert torch.equal(batch.expression[:4], batch.identity[:4]) and torch.equal(batch.truth[:4], batch.identity[:4])
    assert all(not torch.equal(a, b) for a, b in zip(batch.identity[4:], batch.truth[4:], strict=True))
    assert torch.equal(batch.truth_units[:4], batch.identity_units[:4])
    assert torch.equal(batch.expression_units[:4], batch.identity_units[:4])
    # Strangers mean the same expression and show it in their own style.
    assert not torch.equal(batch.truth_units[4:], batch.expression_units[4:])
    assert (
        torch.corrcoef(torch.stack([batch.truth_units[4:].flatten(), batch.expression_units[4:].flatten()]))[0, 1] > 0.9
    )


def test_the_true_image_never_drives_its_own_transfer_where_a_stranger_can(smoke):
    pairs = Pairs(_cache(smoke, "validation"))  # what some of its sides show is shown by the other person as well
    assert 0 < pairs._has_stranger.sum() < pairs._has_stranger.size
    pair, side, wanted_side, driver_pair, driver_side, person, _ = pairs.choose(np.random.default_rng(0), 50)
    assert (pairs.person[driver_pair] != person).all() and (wanted_side == 1 - side).all()
    assert (pairs.expressions[driver_pair, driver_side] == pairs.expressions[pair, wanted_side]).all()


def test_the_same_seed_draws_the_same_batch(pairs):
    one, other = (pairs.draw(np.random.default_rng((1, 2)), 4) for _ in range(2))
    assert torch.equal(one.identity, other.identity) and torch.equal(one.expression, other.expression)


def rngs(batch: Batch) -> list[np.random.Generator]:
    return [np.random.default_rng((0, i)) for i in range(len(batch.identity))]


def test_an_item_is_the_same_in_any_batch(smoke, pairs):
    config = dataclasses.replace(smoke, textures_share=0.5)
    cpu = torch.device("cpu")
    whole = train.load_batch(config, pairs, 3, range(8), 1, cpu)
    parts = [train.load_batch(config, pairs, 3, numbers, 1, cpu) for numbers in ([0], range(1, 8))]
    for field in dataclasses.fields(whole):
        if field.name != "reconstructions":
            assert torch.allclose(
                getattr(whole, field.name), torch.cat([getattr(part, field.name) for part in parts]), atol=1e-6
            ), field.name
    assert whole.reconstructions == 1 and [part.reconstructions for part in parts] == [1, 0]


@pytest.mark.gpu
def test_a_batch_made_on_a_gpu_is_that_of_a_cpu_but_for_its_grain(smoke, pairs):
    config = dataclasses.replace(smoke, textures_share=0.5)
    cpu, gpu = (train.load_batch(config, pairs, 3, range(8), 1, torch.device(d)) for d in ("cpu", "cuda"))
    for field in dataclasses.fields(cpu):
        one, other = getattr(cpu, field.name), getattr(gpu, field.name)
        if field.name == "expression":
            assert (one - other.cpu()).abs().mean() < 0.05
        elif field.name != "reconstructions":
            assert other.is_cuda and torch.allclose(one, other.cpu(), atol=1e-5), field.name


def test_mirroring_swaps_left_and_right_units_and_is_its_own_inverse():
    mirror = Augmentation(UNITS).mirror
    assert UNITS[mirror[UNITS.index("mouthSmileLeft")]] == "mouthSmileRight"
    assert UNITS[mirror[UNITS.index("jawOpen")]] == "jawOpen"
    assert torch.equal(mirror[mirror], torch.arange(len(UNITS)))


def test_augmentation_changes_identity_image_and_truth_alike(batch):
    plain = dataclasses.replace(batch, truth=batch.identity.clone())
    changed = Augmentation(UNITS)(plain, rngs(plain))
    assert torch.equal(changed.identity, changed.truth)
    assert not torch.equal(changed.identity, plain.identity)
    assert changed.expression.min() >= 0 and changed.expression.max() <= 1


def test_strange_textures_are_on_the_expression_image_alone_and_keep_its_mean_and_spread(batch):
    plain, strange = (Augmentation(UNITS)(batch, rngs(batch), share) for share in (0.0, 1.0))
    assert torch.equal(plain.identity, strange.identity) and torch.equal(plain.truth, strange.truth)
    assert not torch.allclose(plain.expression, strange.expression, atol=0.05)
    image = 0.3 + 0.1 * torch.rand(3, 32, 32)
    made = randomize_textures(image, np.random.default_rng(1))
    assert made.mean().item() == pytest.approx(image.mean().item(), abs=0.02)
    assert 0 < made.std().item() <= image.std().item() * 1.1 and not torch.allclose(made, image, atol=0.01)

"""The objective as named terms. The loop weighs them; a term whose weight is 0 is not computed."""

from dataclasses import dataclass

import torch
from einops import reduce
from torch import Tensor, nn

from tergan_core import losses
from tergan_core.decoder import IdentityCode
from tergan_core.discriminator import Discriminator
from tergan_core.model import TERGAN
from training.config import TermWeights
from training.data import Batch

REFINING = {
    "expression_consistency",
    "identity_consistency",
    "cross_cycle",
    "adversarial",
    "feature_matching",
    "critic_expression",
    "critic_identity",
}
"""Terms that need a generated image which is already a face; they join at `refine_from`."""

CRITICAL = {"adversarial", "feature_matching", "critic_expression", "critic_identity"}
"""Terms for which a critic is needed."""

_ENCODING = {"unit_regression", "expression_classification", "identity_classification", "r1"}
"""Terms for which nothing has to be drawn."""

R1_EVERY = 8


@dataclass
class Networks:
    """All that is trained: the network, the critic, and the training people's names for the identity embedding."""

    model: TERGAN
    critic: Discriminator
    identity_classifier: nn.Linear


def generator_terms(
    networks: Networks,
    batch: Batch,
    weights: TermWeights,
    *,
    refine: bool,
    true_units: Tensor,
    kind: losses.Adversarial = "relativistic",
    relative: bool = False,
    unit_share: float | Tensor = 1.0,
) -> tuple[dict[str, Tensor], Tensor | None]:
    """The generator's terms by name, and the generated images, if any term needs some.

    Args:
        refine: whether the terms of `REFINING` take part.
        true_units: bool [b], the items that are decoded from true units in place of predicted codes.
        kind: of the adversarial loss.
        relative: of `losses.paired_swap`.
        unit_share: of `losses.unit_regression`.
    """
    model = networks.model
    active = {name for name in vars(weights) if getattr(weights, name) and (refine or name not in REFINING)}
    person = model.encode_identity(batch.identity)
    wanted = model.encode_expression(batch.expression)
    terms = {}

    if "unit_regression" in active:
        n = len(model.config.units)
        terms["unit_regression"] = losses.unit_regression(
            torch.cat([person.expression[:, :n], wanted[:, :n]]),
            torch.cat([batch.identity_units, batch.expression_units]),
            unit_share,
        )
    if "expression_classification" in active:
        terms["expression_classification"] = losses.expression_classification(
            model.classify(torch.cat([person.expression, wanted])), torch.cat([batch.identity_label, batch.label])
        )
    if "identity_classification" in active:
        terms["identity_classification"] = losses.identity_classification(
            networks.identity_classifier(person.embedding), batch.person
        )

    if active <= _ENCODING:
        return terms, None
    if model.config.units:
        person, wanted = _with_true_units(person, wanted, batch, true_units)
    output = model.decode(person, wanted)
    r = batch.reconstructions
    if "reconstruction" in active and r:
        terms["reconstruction"] = losses.reconstruction(output[:r], batch.identity[:r])
    if "paired_swap" in active:
        terms["paired_swap"] = losses.paired_swap(output[r:], batch.truth[r:], batch.identity[r:], relative=relative)

    if active & {"expression_consistency", "identity_consistency", "cross_cycle"}:
        again = model.encode_identity(output)
        if "expression_consistency" in active:
            terms["expression_consistency"] = losses.expression_consistency(again.expression, wanted)
        if "identity_consistency" in active:
            terms["identity_consistency"] = losses.identity_consistency(again.embedding, person.embedding)
        if "cross_cycle" in active:
            terms["cross_cycle"] = losses.cross_cycle(model.decode(again, person.expression), batch.identity)
    if active & CRITICAL:
        verdict = networks.critic(output)
        with torch.no_grad():
            true_verdict = networks.critic(batch.truth)
        if "adversarial" in active:
            terms["adversarial"] = losses.adversarial_generator(verdict.realness, true_verdict.realness, kind)
        if "feature_matching" in active:
            terms["feature_matching"] = losses.feature_matching(verdict.maps, true_verdict.maps)
        if "critic_expression" in active:
            terms["critic_expression"] = losses.expression_classification(verdict.expression, batch.label)
        if "critic_identity" in active:
            terms["critic_identity"] = losses.identity_classification(verdict.identity, batch.person)
        if "paired_swap" in active:
            length = weights.paired_swap * _gradient(terms["paired_swap"], output)[1]
            for name in CRITICAL & active:
                terms[name] = _balanced(terms[name], length, output)
    return terms, output


def critic_terms(
    networks: Networks,
    batch: Batch,
    fake: Tensor,
    weights: TermWeights,
    *,
    penalize: bool,
    kind: losses.Adversarial = "relativistic",
) -> dict[str, Tensor]:
    """The critic's terms by name, weighed, to be summed; the critic learns to classify from real images alone.

    What the generator is not taught, the critic does not learn either: with weights of 1, both classifications together
    kept it at chance about what is real for more than a hundred steps, of which it needs forty.

    Args:
        fake: generated images, detached.
        penalize: whether the R1 penalty is due in this step (lazy regularisation, StyleGAN2).
        kind: of the adversarial loss.
    """
    real = batch.truth.detach().requires_grad_(penalize)
    verdict = networks.critic(real)
    terms = {"adversarial": losses.adversarial_discriminator(verdict.realness, networks.critic(fake).realness, kind)}
    if weights.critic_expression:
        terms["critic_expression"] = weights.critic_expression * losses.expression_classification(
            verdict.expression, batch.label
        )
    if weights.critic_identity:
        terms["critic_identity"] = weights.critic_identity * losses.identity_classification(
            verdict.identity, batch.person
        )
    if penalize and weights.r1:
        terms["r1"] = R1_EVERY * weights.r1 * losses.r1_penalty(verdict.realness, real)
    return terms


def weigh(terms: dict[str, Tensor], weights: TermWeights) -> Tensor:
    """The weighted sum.

    Raises:
        KeyError: a term has no weight.
    """
    missing = [name for name in terms if not hasattr(weights, name)]
    if missing:
        raise KeyError(f"the term {missing[0]!r} has no weight")
    return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def _balanced(term: Tensor, length: Tensor, output: Tensor) -> Tensor:
    """The term with its gradient at each output image made of a given length [b, 1, 1, 1]: that of the paired swap.

    The steepness of a critic grows by orders of magnitude while it learns; so a weight of 1 always means as much as the
    paired swap. Esser et al. 2021 (VQGAN, 2012.09841, eq. 7) do that for the last layer; for each image it is the same
    in any number of processes, and images that the paired swap leaves alone stay alone.
    """
    gradient, own = _gradient(term, output)
    linear = (output * (gradient * length / (own + 1e-12))).sum()
    return term.detach() + linear - linear.detach()


def _gradient(term: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """A term's gradient at the output images [b, c, h, w], and its length in each of them [b, 1, 1, 1]."""
    (gradient,) = torch.autograd.grad(term, output, retain_graph=True)
    return gradient, reduce(gradient**2, "b c h w -> b 1 1 1", "sum").sqrt()


def _with_true_units(person: IdentityCode, wanted: Tensor, batch: Batch, chosen: Tensor) -> tuple[IdentityCode, Tensor]:
    """The codes with their units replaced by the true ones in the chosen items."""

    def replaced(code: Tensor, units: Tensor) -> Tensor:
        true = torch.cat([units, code[:, units.shape[1] :]], dim=1)
        return torch.where(chosen[:, None], true, code)

    return person._replace(expression=replaced(person.expression, batch.identity_units)), replaced(
        wanted, batch.truth_units
    )

"""Transfer against the true image, beside handing back the identity image, the expression image, and the truth."""

from typing import Any

import numpy as np
import torch
from einops import reduce
from torch import Tensor
from tqdm import tqdm

from tergan_core.model import TERGAN
from training import judge
from training.data import Batch, Choice, Pairs
from training.evaluation import extractor
from training.evaluation.measures import kernel_distance, masked_psnr, ssim
from training.evaluation.readers import Readers, Readings, mean, unit_error
from training.validate import changed_pixels, masked_l1, psnr

FRONTAL_DEGREES = 20.0
ROWS = ("model", "copy identity", "copy expression", "truth")


def measure(model: TERGAN, pairs: Pairs, transfers: int, seed: int) -> dict[str, dict[str, float | None]]:
    """Rows of figures over all transfers.

    `psnr_db`, `ssim`, `l1`, `perceptual` compare with the true image over the whole picture, `psnr_face_db` in the mask
    of the face, `l1_changed` in the pixels that have to change; `gain_db` is the PSNR above that of the identity image,
    `gain_frontal_db` that of faces turned by at most `FRONTAL_DEGREES` to either side, None if there is none. `kid`
    compares with pictures of other scenes (`kid_sd`: spread over subsets). Our own judge reads expression and
    `identity_similarity`.
    """
    reader = judge.load()
    rng = np.random.default_rng(seed)
    columns: dict[str, list[dict[str, Tensor]]] = {name: [] for name in ROWS}
    features: dict[str, list[Tensor]] = {name: [] for name in (*ROWS, "others")}
    shown, frontal = [], []
    for start in tqdm(range(0, transfers, 32), desc="transfer", unit="batch"):
        choice = pairs.choose(rng, min(32, transfers - start))
        batch, images = outputs(model, pairs, choice)
        mask = pairs.masks_at(choice.pair, choice.wanted_side)
        other = reference(pairs, rng, choice)
        features["others"].append(extractor.pooled(extractor.maps(other)))
        true_maps = extractor.maps(batch.truth)
        _, embedding_reference = reader(other)
        shown.append(batch.identity_label == 0)
        frontal.append(torch.from_numpy(np.abs(pairs.poses[choice.pair, 0]) <= FRONTAL_DEGREES))
        changed = changed_pixels(batch.truth, batch.identity)
        for name, image in images.items():
            logits, embedding = reader(image)
            image_maps = extractor.maps(image)
            features[name].append(extractor.pooled(image_maps))
            columns[name].append(
                {
                    "psnr_db": psnr(image, batch.truth),
                    "gain_db": psnr(image, batch.truth) - psnr(batch.identity, batch.truth),
                    "psnr_face_db": masked_psnr(image, batch.truth, mask),
                    "ssim": ssim(image, batch.truth),
                    "l1": reduce((image - batch.truth).abs(), "b c h w -> b", "mean"),
                    "l1_changed": masked_l1(image, batch.truth, changed),
                    "perceptual": extractor.perceptual_distance(image_maps, true_maps),
                    "expression_accuracy": (logits.argmax(1) == batch.label).float(),
                    "identity_similarity": (embedding * embedding_reference).sum(1),
                }
            )
    neutral = torch.cat(shown)
    others = torch.cat(features["others"]).numpy()
    rows: dict[str, dict[str, float | None]] = {}
    for name, parts in columns.items():
        values = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        rows[name] = {key: round(float(value.mean()), 4) for key, value in values.items()}
        rows[name]["gain_frontal_db"] = mean(values["gain_db"][torch.cat(frontal)].numpy())
        for side, chosen in (("neutral", neutral), ("expressive", ~neutral)):
            rows[name][f"expression_accuracy_from_{side}"] = mean(values["expression_accuracy"][chosen].numpy())
        distance, spread = kernel_distance(torch.cat(features[name]).numpy(), others)
        rows[name] |= {"kid": round(distance, 4), "kid_sd": round(spread, 4)}
    return rows


def read_independently(
    model: TERGAN, pairs: Pairs, readers: Readers, transfers: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Rows of what networks read that nobody here trained.

    `found`: share of pictures with a face. `aed`: mean absolute difference to the truth of the landmarker's
    blendshapes. For each reader of expressions: accuracy, and agreement with what it reads from the truth. For each
    reader of persons: cosine similarity to another picture of the person (CSIM), to those of others, and the share of
    pictures whose nearest reference is that of the right person (rank 1 among the people of these transfers). No rows
    where the landmarker is not installed, or sees a face in less than half of the true images, as in tiny ones.
    """
    if not readers.can_see:
        return {}
    rng = np.random.default_rng(seed)
    choice = pairs.choose(rng, transfers)
    batch, images = outputs(model, pairs, choice)
    people, first = np.unique(choice.person, return_index=True)
    references = readers.read(reference(pairs, rng, choice)[first])
    if references.found.mean() < 0.5:
        return {}
    person = np.searchsorted(people, choice.person)
    read = {name: readers.read(image) for name, image in tqdm(images.items(), desc="independent readers")}
    return {
        name: _row(readings, read["truth"], references, batch.label.numpy(), batch.identity_label.numpy() == 0, person)
        for name, readings in read.items()
    }


def extremes(model: TERGAN, pairs: Pairs, transfers: int, seed: int, rows: int = 4) -> Batch:
    """Transfers to look at: in turn one of the best, of the middle, and of the worst, by the share of the error in the
    pixels that have to change which is left of a copy's. Of all transfers, the half in which most pixels change, each
    identity image once."""
    choice = pairs.choose(np.random.default_rng(seed), transfers)
    choice = _some(choice, np.unique(2 * choice.pair + choice.side, return_index=True)[1])
    batch, images = outputs(model, pairs, choice)
    changed = changed_pixels(batch.truth, batch.identity)
    model_error, copy_error = (masked_l1(images[name], batch.truth, changed) for name in ("model", "copy identity"))
    much = np.argsort(-reduce(changed, "b 1 h w -> b", "mean").numpy(), kind="stable")[: len(changed) // 2]
    order = much[np.argsort((model_error / (copy_error + 1e-6)).numpy()[much], kind="stable")]
    first = (len(order) - rows) // 2
    picked = np.stack([order[:rows], order[first : first + rows], order[-rows:]], axis=1).ravel()
    return pairs.take(_some(choice, picked))


def _some(choice: Choice, rows: np.ndarray) -> Choice:
    return Choice(*(part[rows] for part in choice[:-1]), choice.reconstructions)


def outputs(model: TERGAN, pairs: Pairs, choice: Choice) -> tuple[Batch, dict[str, Tensor]]:
    """The pairs of a choice, and the images that stand for a transfer by the names of `ROWS`."""
    batch = pairs.take(choice)
    made = [
        model.transfer(identity=identity, expression=expression)
        for identity, expression in zip(batch.identity.split(32), batch.expression.split(32), strict=True)
    ]
    images = (torch.cat(made), batch.identity, batch.expression, batch.truth)
    return batch, dict(zip(ROWS, images, strict=True))


def reference(pairs: Pairs, rng: np.random.Generator, choice: Choice) -> Tensor:
    """A picture of each person in another scene: what identity is compared with."""
    chosen = [
        int(rng.choice(np.flatnonzero((pairs.person == person) & (np.arange(len(pairs)) != pair))))
        for person, pair in zip(choice.person, choice.pair, strict=True)
    ]
    return pairs.images_at(np.array(chosen), np.zeros(len(chosen), np.int64))


def _row(
    read: Readings,
    truth: Readings,
    references: Readings,
    label: np.ndarray,
    neutral: np.ndarray,
    person: np.ndarray,
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "found": mean(read.found),
        "aed": mean(unit_error(read.blendshapes, truth.blendshapes)),
    }
    for name, labels in read.labels.items():
        right = labels == label
        row[name] = {
            "accuracy": mean(right),
            "accuracy_from_neutral": mean(right[neutral]),
            "accuracy_from_expressive": mean(right[~neutral]),
            "agrees_with_truth": mean((labels == truth.labels[name])[truth.found]),
        }
    for name, embeddings in read.embeddings.items():
        similarity = embeddings @ references.embeddings[name].T
        usable = np.isfinite(similarity)
        own = np.arange(similarity.shape[1])[None] == person[:, None]
        nearest = np.where(usable, similarity, -np.inf).argmax(1)
        row[name] = {
            "same_person": mean(similarity[own]),
            "other_person": mean(similarity[~own]),
            "rank_1": mean((nearest == person)[usable.any(1)]),
        }
    return row

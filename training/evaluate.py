"""Evaluation on people never trained on: `python -m training.evaluate --model tergan-s`.

Every figure of the model stands beside the same figure of handing back the identity image (`copy identity`), of handing
back the expression image (`copy expression`), and of the true image of the transfer (`truth`, the ceiling).
Expression and identity are read by the judge, which took no part in training (`training.judge`).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from einops import reduce
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from tergan_core import weights
from tergan_core.errors import TerganError
from tergan_core.model import TERGAN
from training import grid, judge
from training.data import Batch, Pairs
from training.faces import write_pairs
from training.validate import psnr


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured, on whom."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    out: str = "runs/evaluation"
    """Folder of `evaluation.json`, `evaluation.md` and `grid.png`."""

    people: int = 60
    """Number of people of the test split."""

    scenes: int = 6
    """Scenes per person, each with two expressions that no training image showed."""

    transfers: int = 512
    """Number of transfers."""

    cache: str = "cache"
    """Folder of rendered pairs."""

    workers: int = 1
    """Processes that render."""

    seed: int = 2002
    """Seed of scenes, expressions and choice of transfers."""


@torch.inference_mode()
def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """All figures, as plain values; writes them and a grid to `config.out`."""
    model = weights.load(config.model)
    size_px = model.config.image_size
    folder = Path(config.cache) / f"test-{config.people}x{config.scenes}-{size_px}px-seed{config.seed}"
    write_pairs(
        folder,
        split="test",
        people=config.people,
        scenes_per_person=config.scenes,
        pool_size=140,
        size_px=size_px,
        seed=config.seed,
        workers=config.workers,
    )
    pairs = Pairs(folder)
    result = {
        "model": {key: weights.describe(config.model)[key] for key in ("name", "version", "sha256")},
        "people": config.people,
        "transfers": config.transfers,
        "transfer": _transfer(model, pairs, config),
        "edit": _edit(model, pairs),
        "recognition": _recognition(model, pairs),
    }
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(table(result), encoding="utf-8")
    batch = pairs.draw(np.random.default_rng(config.seed), 24)
    faces = batch.identity[batch.identity_label == 0][:5]
    grid.save(out / "grid.png", grid.transfer_grid(model, batch), grid.edit_grid(model, faces))
    return result


def ssim(image: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Structural similarity with an 11-pixel Gaussian window of sd 1.5 (Wang et al. 2004, eq. 13); images in [0, 1]."""
    offsets = torch.arange(-5, 6, dtype=image.dtype)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    c = image.shape[1]
    kernel = (window[:, None] * window[None, :]).expand(c, 1, 11, 11)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=c)

    mean_x, mean_y = mean(image), mean(truth)
    var_x, var_y = mean(image**2) - mean_x**2, mean(truth**2) - mean_y**2
    covariance = mean(image * truth) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return reduce(value, "b c h w -> b", "mean")


def _transfer(model: TERGAN, pairs: Pairs, config: EvaluateConfig) -> dict[str, dict[str, float]]:
    """Rows by name: image distances to the truth, expression accuracy, and similarity to the person."""
    reader = judge.load()
    rng = np.random.default_rng(config.seed)
    sums: dict[str, list[dict[str, Tensor]]] = {"model": [], "copy identity": [], "copy expression": [], "truth": []}
    shown = []
    for _ in tqdm(range(0, config.transfers, 32), desc="transfer"):
        batch = pairs.draw(rng, 32)
        reference = _reference(pairs, rng, batch)
        output = model.transfer(identity=batch.identity, expression=batch.expression)
        images = {
            "model": output,
            "copy identity": batch.identity,
            "copy expression": batch.expression,
            "truth": batch.truth,
        }
        _, embedding_reference = reader(reference)
        shown.append(batch.identity_label == 0)
        for name, image in images.items():
            logits, embedding = reader(image)
            sums[name].append(
                _image_row(image, batch)
                | {
                    "expression_accuracy": (logits.argmax(1) == batch.label).float(),
                    "identity_similarity": (embedding * embedding_reference).sum(1),
                }
            )
    neutral = torch.cat(shown)
    rows = {}
    for name, parts in sums.items():
        columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
        rows[name] = {key: round(float(column.mean()), 4) for key, column in columns.items()}
        accuracy = columns["expression_accuracy"]
        rows[name]["expression_accuracy_from_neutral"] = round(float(accuracy[neutral].mean()), 4)
        rows[name]["expression_accuracy_from_expressive"] = round(float(accuracy[~neutral].mean()), 4)
    return rows


def _image_row(image: Tensor, batch: Batch) -> dict[str, Tensor]:
    changed = (reduce((batch.truth - batch.identity).abs(), "b c h w -> b 1 h w", "mean") > 0.04).float()
    difference = (image - batch.truth).abs()
    return {
        "psnr_db": psnr(image, batch.truth),
        "ssim": ssim(image, batch.truth),
        "l1": reduce(difference, "b c h w -> b", "mean"),
        "l1_changed": reduce(difference * changed, "b c h w -> b", "sum")
        / (3 * reduce(changed, "b 1 h w -> b", "sum") + 1),
    }


def _reference(pairs: Pairs, rng: np.random.Generator, batch: Batch) -> Tensor:
    """Another picture of each person, from any scene: what identity is compared with."""
    chosen = [int(rng.choice(np.flatnonzero(pairs.person == person))) for person in batch.person.tolist()]
    return pairs.images_at(np.array(chosen), np.zeros(len(chosen), np.int64))


def _edit(model: TERGAN, pairs: Pairs, faces: int = 48) -> dict[str, Any]:
    """Expression accuracy of edits to the peak by the judge, reconstruction at intensity 0, and monotonicity.

    An edit is monotone if the model's own code moves from the shown towards the wanted expression at each of five
    intensities.
    """
    reader = judge.load()
    rng = np.random.default_rng(0)
    batch = pairs.draw(rng, faces)
    accuracy, monotone = {}, []
    for index, name in enumerate(model.config.expressions):
        to = torch.full((faces,), index)
        read = reader(model.edit(batch.identity, to))[0].argmax(1)
        accuracy[name] = round(float((read == index).float().mean()), 4)
        person = model.encode_identity(batch.identity)
        direction = model.prototypes[to] - person.expression
        along = []
        for intensity in (0.0, 0.25, 0.5, 0.75, 1.0):
            code = model.encode_expression(model.decode(person, person.expression + intensity * direction))
            along.append(((code - person.expression) * direction).sum(1))
        steps = torch.stack(along).diff(dim=0)
        far = batch.identity_label != index
        monotone.append((steps > 0).all(0)[far].float())
    output = model.edit(batch.identity, torch.zeros(faces, dtype=torch.long), 0.0)
    return {
        "expression_accuracy": accuracy,
        "mean_expression_accuracy": round(sum(accuracy.values()) / len(accuracy), 4),
        "psnr_db_at_intensity_0": round(float(psnr(output, batch.identity).mean()), 2),
        "monotone_share": round(float(torch.cat(monotone).mean()), 4),
    }


def _recognition(model: TERGAN, pairs: Pairs) -> dict[str, Any]:
    """Accuracy over all test images, macro-F1, and the confusion matrix (rows: true, columns: predicted)."""
    names = model.config.expressions
    confusion = torch.zeros(len(names), len(names), dtype=torch.long)
    sides = np.arange(2 * len(pairs))
    for chunk in np.array_split(sides, max(1, len(sides) // 64)):
        predicted = model.recognize(pairs.images_at(chunk // 2, chunk % 2)).argmax(1)
        truth = pairs.labels[pairs.expressions[chunk // 2, chunk % 2]]
        confusion.index_put_((truth, predicted), torch.ones_like(truth), accumulate=True)
    right = confusion.diagonal()
    f1 = 2 * right / (confusion.sum(0) + confusion.sum(1)).clamp_min(1)
    return {
        "accuracy": round(float(right.sum() / confusion.sum()), 4),
        "macro_f1": round(float(f1.mean()), 4),
        "images": int(confusion.sum()),
        "expressions": list(names),
        "confusion": confusion.tolist(),
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    transfer, edit, recognition = result["transfer"], result["edit"], result["recognition"]
    columns = {
        "psnr_db": "PSNR dB",
        "ssim": "SSIM",
        "l1": "L1",
        "l1_changed": "L1, changed pixels",
        "expression_accuracy": "expression accuracy",
        "expression_accuracy_from_neutral": "from neutral",
        "expression_accuracy_from_expressive": "from expressive",
        "identity_similarity": "identity similarity",
    }
    lines = [
        f"{result['transfers']} transfers among {result['people']} people never trained on:",
        "",
        "| | " + " | ".join(columns.values()) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in transfer.items():
        cells = (
            "∞" if row["l1"] == 0 and key == "psnr_db" else f"{row[key]:.{2 if key == 'psnr_db' else 3}f}"
            for key in columns
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"Editing to the peak, read by the judge: {edit['mean_expression_accuracy']:.3f} on average ("
        + ", ".join(f"{name} {value:.2f}" for name, value in edit["expression_accuracy"].items())
        + f"); intensity 0 gives the input back at {edit['psnr_db_at_intensity_0']:.1f} dB; "
        f"{100 * edit['monotone_share']:.0f} % of edits are monotone in intensity.",
        "",
        f"Recognition: accuracy {recognition['accuracy']:.3f}, macro-F1 {recognition['macro_f1']:.3f} "
        f"over {recognition['images']} images. Confusion (rows: true):",
        "",
        "| | " + " | ".join(recognition["expressions"]) + " |",
        "|---" * (len(recognition["expressions"]) + 1) + "|",
    ]
    for name, row in zip(recognition["expressions"], recognition["confusion"], strict=True):
        lines.append(f"| {name} | " + " | ".join(map(str, row)) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line; the table goes to stdout."""
    config = tyro.cli(EvaluateConfig, args=arguments, description=__doc__)
    try:
        print(table(evaluate(config)))
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

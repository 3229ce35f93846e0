"""Evaluation on people never trained on: `python -m training.evaluate --model tergan-s`.

Every figure of the model stands beside the same figure of handing back the identity image (`copy identity`), of handing
back the expression image (`copy expression`), and of the true image of the transfer (`truth`, the ceiling). Expression
and identity are read by our own judge, which took no part in training (`training.judge`), and by networks that nobody
here trained (`training.judges`), as far as they are installed. What each figure is: docs/evaluation.md.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from tergan_core import weights
from tergan_core.errors import ConfigError, TerganError
from training import grid
from training.data import Pairs
from training.evaluation import edit, leakage, photographs, recognition, transfer
from training.evaluation.readers import Readers
from training.evaluation.report import plot, table
from training.faces import EXPRESSIONS, FaceSet, write_pairs


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured, on whom."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    out: str = "runs/evaluation"
    """Folder of `evaluation.json`, `evaluation.md`, `plots.png`, `grid.png`, `extremes.jpg` (the best, the middle and
    the worst transfers) and `photographs.png`."""

    people: int = 60
    """Number of people of the test split."""

    scenes: int = 6
    """Scenes per person, each with two expressions that no training image showed."""

    transfers: int = 512
    """Number of transfers."""

    read: int = 192
    """How many of them the independent readers read; a transfer costs them about half a second."""

    edit_faces: int = 96
    """Number of faces that are edited to every expression, at five intensities."""

    fold_people: int = 80
    """Number of people of the sequences that recognition is measured on in ten folds."""

    photographs: Path | None = None
    """Folder of photographs `<person>_<expression>.<ending>`, which are measured as well."""

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
    if model.config.expressions != EXPRESSIONS:
        raise ConfigError(f"--model knows {model.config.expressions}; the rendered people show {EXPRESSIONS}")
    size_px = model.config.image_size
    folder = Path(config.cache) / f"test-{config.people}x{config.scenes}-{size_px}px-seed{config.seed}"
    write_pairs(
        folder,
        split="test",
        people=config.people,
        scenes_per_person=config.scenes,
        pool_size=min(140, max(14, config.people * config.scenes)),  # in a small set, too, people share expressions
        size_px=size_px,
        seed=config.seed,
        workers=config.workers,
    )
    pairs, faces = Pairs(folder), FaceSet("test", config.people, size_px, config.seed)
    readers = Readers()
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    result = {
        "model": {key: weights.describe(config.model)[key] for key in ("name", "version", "sha256")},
        "people": config.people,
        "transfers": config.transfers,
        "read": config.read,
        "transfer": transfer.measure(model, pairs, config.transfers, config.seed),
        "independent": transfer.read_independently(model, pairs, readers, config.read, config.seed),
        "edit": edit.measure(model, pairs, config.edit_faces, readers, faces),
        "recognition": recognition.measure(model, pairs),
        "folds": recognition.in_folds(model, config.fold_people),
        "leakage": leakage.measure(model, pairs),
        "missing": readers.missing,
    }
    if config.photographs is not None:
        result["photographs"], sheet = photographs.measure(model, config.photographs, readers)
        sheet.save(out / "photographs.png")
    (out / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(table(result), encoding="utf-8")
    plot(result, out / "plots.png")
    batch = pairs.draw(np.random.default_rng(config.seed), 24)
    neutral_first = (batch.identity_label != 0).int().argsort(stable=True)[:5]
    edits = grid.edit_grid(model, batch.identity[neutral_first])
    grid.save(out / "grid.png", grid.transfer_grid(model, batch), edits)
    extremes = transfer.extremes(model, pairs, config.transfers, config.seed)
    grid.save(out / "extremes.jpg", grid.transfer_grid(model, extremes))
    return result


def main(arguments: list[str] | None = None) -> int:
    """The command line; the table goes to stdout."""
    config = tyro.cli(EvaluateConfig, args=arguments, description=__doc__)
    try:
        print(table(evaluate(config)))
    except (TerganError, ValueError) as error:
        print(f"error [{getattr(error, 'code', 'invalid_request')}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

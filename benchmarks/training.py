"""Cost of training: `python -m benchmarks.training` times a transfer forward and back.

The batch is random pictures, so neither rendering nor reading is counted. The critic and the other terms of the
objective are left out: a lower bound.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro

from benchmarks.latency import timed
from benchmarks.rows import Row, row, spread, write
from tergan_core import weights
from tergan_core.model import TERGAN


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What is measured."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name; the weights do not matter."""

    batches: tuple[int, ...] = (16,)
    """Batch sizes."""

    steps: int = 5
    """Steps that are counted; one more warms up."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""


def measure(config: TrainingConfig) -> list[Row]:
    """One row per batch size: a transfer forward and back, and an Adam step."""
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: TERGAN = weights.load(config.model, device=device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    size_px, rows = model.config.image_size, []
    for batch in config.batches:
        faces = torch.rand(batch, 3, size_px, size_px, device=device)

        def step(faces: torch.Tensor = faces) -> None:
            optimizer.zero_grad(set_to_none=True)
            drawn = model.transfer(identity=faces, expression=faces.flip(0))
            (drawn - faces).abs().mean().backward()
            optimizer.step()

        wall_ms, cpu_ms = timed(step, device, 1, config.steps)
        figures = spread(wall_ms, "ms")
        figures |= {
            "images_per_s": 1e3 * batch / figures["p50_ms"],
            "cpu_ms_per_image": float(np.percentile(cpu_ms, 25)) / batch,
        }
        case = {"task": "transfer step", "batch": batch, "size_px": size_px}
        rows.append(row("training", case, figures, {"steps": config.steps, "threads": 1}, device.type))
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from benchmarks.report import table

    config = tyro.cli(TrainingConfig, args=arguments, description=__doc__)
    rows = measure(config)
    print(f"wrote {write(rows, Path(config.out) if config.out else None)}", file=sys.stderr)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Cost of training: `python -m benchmarks.training --preset tiny`.

A step's parts (data, the networks forward and back before and while refining, the critic, the optimiser), each by
itself; what each term of the objective costs, which is what leaving it out saves, or what it adds to a preset that
does without it; the step compiled; and whole runs of one and of several processes. Faces are rendered before.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn
from tqdm import tqdm

from benchmarks.latency import timed
from benchmarks.rows import Row, row, spread, write
from training import train
from training.config import PRESETS, TrainConfig
from training.data import Batch
from training.objective import CRITICAL, R1_EVERY, critic_terms, generator_terms, weigh


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """What is measured."""

    preset: str = "tiny"
    """A preset of `training.config`, with fewer people."""

    batch: int = 8
    """Images per step and process."""

    steps: int = 15
    """Steps that are counted; one more warms up."""

    people: int = 16
    """People that are rendered for it, with 4 scenes each."""

    compiled: bool = False
    """Also measure a transfer forward and back through `torch.compile`, which compiles for minutes."""

    processes: tuple[int, ...] = ()
    """Also measure whole runs of so many processes, one core each."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""


def measure(config: TrainingConfig) -> list[Row]:
    """Rows: the parts of a step, whole steps, the terms of the objective, runs of several processes."""
    run = _run(config)
    torch.set_num_threads(1)
    device = train._device(run)
    train.render(run)
    pairs, _ = train.load_data(run)
    state = train.build(run, len(pairs.people), device)

    def load(step: int) -> Batch:
        return train.load_batch(run, pairs, step, range(config.batch), 1, device)

    batch = load(0)
    settings = {"steps": config.steps, "threads": 1}
    rows: list[Row] = []

    def keep(name: str, figures: dict[str, float]) -> dict[str, float]:
        case = {"preset": config.preset, "size_px": run.model.image_size, "batch": config.batch, "part": name}
        rows.append(row("training", case, figures, settings, device.type))
        return rows[-1]["figures"]

    def part(name: str, work: Callable[[], Any]) -> dict[str, float]:
        wall_ms, cpu_ms = timed(work, device, 1, config.steps)
        return keep(name, spread(wall_ms, "ms") | {"cpu_ms_per_image": _lower_quartile(cpu_ms) / config.batch})

    def term(name: str, weight: float) -> None:
        # In turn with the whole step: on a busy machine the same step costs more at one time than another.
        changed = dataclasses.replace(run.weights, **{name: 0.0 if weight else 0.1})
        work = _generator_step(state, batch, dataclasses.replace(run, weights=changed), refine=True)
        work()
        pairs_ms = np.array([[timed(step, device, 0, 1) for step in (whole, work)] for _ in range(config.steps)])
        wall_ms, cpu_ms = pairs_ms[:, :, 0, 0], pairs_ms[:, :, 1, 0]  # [steps, with and without]
        sign = 1 if weight else -1
        saved_ms, saved_cpu_ms = (sign * (ms[:, 0] - ms[:, 1]) / config.batch for ms in (wall_ms, cpu_ms))
        costs = {
            "term_ms_per_image": float(np.median(saved_ms)),
            "term_cpu_ms_per_image": float(np.median(saved_cpu_ms)),
            "term_cpu_ms_per_image_iqr": float(np.subtract(*np.percentile(saved_cpu_ms, (75, 25)))),
        }
        cpu_ms_per_image = _lower_quartile(cpu_ms[:, 1]) / config.batch
        title = f"refining {'without' if weight else 'with'} {name}"
        keep(title, spread(wall_ms[:, 1], "ms") | {"cpu_ms_per_image": cpu_ms_per_image} | costs)

    data = part("data", lambda: load(1))
    first = part("first stage", _generator_step(state, batch, run, refine=False))
    whole = _generator_step(state, batch, run, refine=True)
    refining = part("refining", whole)
    critic_ms = 0.0
    if any(getattr(run.weights, name) for name in CRITICAL):
        plain, penalized = (
            part(name, _critic_step(state, batch, run, penalize=penalize))["cpu_ms_per_image"]
            for name, penalize in (("critic", False), ("critic with R1", run.weights.r1 > 0))
        )
        critic_ms = plain + (penalized - plain) / R1_EVERY
    optimizer = part("optimiser", lambda: _optimize(state))
    for name, generator, critic in (("step of the first stage", first, 0.0), ("refining step", refining, critic_ms)):
        cost = sum(figures["cpu_ms_per_image"] for figures in (generator, optimizer, data)) + critic
        figures = {
            "cpu_ms_per_image": cost,
            "images_per_cpu_s": 1e3 / cost,
            "share_of_data": data["cpu_ms_per_image"] / cost,
        }
        keep(name, figures)
    possible = {name: weight for name, weight in vars(run.weights).items() if name != "r1"}
    if not run.model.units:
        del possible["unit_regression"]
    for name, weight in tqdm(possible.items(), desc="terms"):
        term(name, weight)
    if config.compiled:
        drawing, compiled = _drawing(state, batch), torch.compile(_drawing(state, batch))
        part("drawing", lambda: drawing().backward())
        part("drawing, compiled", lambda: compiled().backward())
    for count in config.processes:
        rows.append(_whole_run(config, run, count, device.type))
    return rows


def _run(config: TrainingConfig) -> TrainConfig:
    base = PRESETS[config.preset]
    faces = dataclasses.replace(base.faces, people=config.people, scenes=4, pool=70, validation_people=2)
    return dataclasses.replace(base, faces=faces, batch_size=config.batch, start_from=None, threads=1)


def _lower_quartile(values: Sequence[float] | np.ndarray) -> float:
    return float(np.percentile(values, 25))


def _generator_step(state: train.State, batch: Batch, run: TrainConfig, *, refine: bool) -> Callable[[], None]:
    chosen = torch.zeros(len(batch.identity), dtype=torch.bool, device=batch.identity.device)

    def step() -> None:
        state.optimizer.zero_grad(set_to_none=True)
        terms, _ = generator_terms(state.networks, batch, run.weights, refine=refine, true_units=chosen)
        weigh(terms, run.weights).backward()

    return step


def _critic_step(state: train.State, batch: Batch, run: TrainConfig, *, penalize: bool) -> Callable[[], None]:
    def step() -> None:
        terms = critic_terms(state.networks, batch, batch.identity, run.weights, penalize=penalize)
        state.critic_optimizer.zero_grad(set_to_none=True)
        torch.stack([*terms.values()]).sum().backward()
        state.critic_optimizer.step()

    return step


def _optimize(state: train.State) -> None:
    networks = state.networks
    nn.utils.clip_grad_norm_([*networks.model.parameters(), *networks.identity_classifier.parameters()], 2.0)
    state.optimizer.step()
    state.average.update_parameters(networks.model)


def _drawing(state: train.State, batch: Batch) -> Callable[[], torch.Tensor]:
    """A transfer and its error: what there is to compile in a step."""
    model = state.networks.model
    return lambda: (model.transfer(identity=batch.identity, expression=batch.expression) - batch.truth).abs().mean()


def _whole_run(config: TrainingConfig, run: TrainConfig, processes: int, device: str) -> Row:
    """Images per second of `training.train` itself, by its own record, after the first report."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"run": folder, "report_every": config.steps, "checkpoint_every": 10**6}
        options |= {"refine_from": 1.0, "critic_warmup_steps": 0}
        images = 3 * config.steps * config.batch * processes
        (Path(folder) / "run.json").write_text(json.dumps(run.to_dict() | options | {"images": images}))
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "-m",
                   "training.train", "--preset", config.preset, "--config", f"{folder}/run.json"]  # fmt: skip
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    reports = [entry for entry in map(json.loads, lines) if "images_per_s" in entry][1:]
    figures = {
        "images_per_s": float(np.mean([entry["images_per_s"] for entry in reports])),
        "share_of_waiting": float(np.mean([entry["waiting_share"] for entry in reports])),
    }
    case = {"preset": config.preset, "size_px": run.model.image_size, "batch": config.batch, "part": "whole run"}
    return row("training", case | {"processes": processes}, figures, {"steps": config.steps, "threads": 1}, device)


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

"""Latency and throughput of the three tasks in this process: `python -m benchmarks.latency`.

Tensors in, tensors out: no decoding, no server. The same command measures CUDA where there is a GPU (by CUDA events)
and the CPU where there is none. One JSON row per case goes to `--out`; the table goes to stdout.
"""

import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from tqdm import tqdm

from tergan_core import weights
from tergan_core.errors import TerganError
from tergan_core.model import TERGAN


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """What is measured."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`."""

    batches: tuple[int, ...] = (1, 8)
    """Batch sizes."""

    threads: tuple[int, ...] = (1,)
    """CPU threads."""

    warmup: int = 3
    """Calls that are not counted."""

    repeats: int = 20
    """Calls that are counted."""

    out: str | None = None
    """File that rows are appended to, one JSON object a line."""


@torch.inference_mode()
def measure(config: LatencyConfig) -> list[dict[str, Any]]:
    """One row per task, batch size and thread count."""
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    model = weights.load(config.model, device=device).to(memory_format=torch.channels_last)
    setting = {
        "model": weights.describe(config.model)["name"],
        "image_size": model.config.image_size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "torch": torch.__version__,
        "commit": _commit(),
    }
    rows = []
    for threads, batch in tqdm(list(itertools.product(config.threads, config.batches)), desc="latency"):
        torch.set_num_threads(threads)
        for task, call in _tasks(model, batch, device).items():
            times_ms = _time(call, device, config.warmup, config.repeats)
            median_ms = statistics.median(times_ms)
            rows.append(
                {
                    **setting,
                    "task": task,
                    "batch": batch,
                    "threads": threads,
                    "repeats": config.repeats,
                    "p50_ms": round(median_ms, 2),
                    "min_ms": round(min(times_ms), 2),
                    "max_ms": round(max(times_ms), 2),
                    "images_per_s": round(1000 * batch / median_ms, 1),
                }
            )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    columns = ("task", "batch", "threads", "p50_ms", "min_ms", "max_ms", "images_per_s")
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    first = rows[0]
    where = f"{first['model']}, {first['image_size']} px, {first['device']}, torch {first['torch']}, {first['commit']}"
    return "\n".join([*lines, "", where])


def _tasks(model: TERGAN, batch: int, device: torch.device) -> dict[str, Callable[[], torch.Tensor]]:
    size = model.config.image_size
    faces = torch.rand(batch, 3, size, size, device=device).to(memory_format=torch.channels_last)
    to = torch.ones(batch, dtype=torch.long, device=device)
    return {
        "transfer": lambda: model.transfer(identity=faces, expression=faces),
        "edit": lambda: model.edit(faces, to),
        "recognize": lambda: model.recognize(faces),
    }


def _time(call: Callable[[], torch.Tensor], device: torch.device, warmup: int, repeats: int) -> list[float]:
    """Milliseconds of each call."""
    for _ in range(warmup):
        call()
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            call()
            times.append(1000 * (time.perf_counter() - began))
        return times
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    for start, end in events:
        start.record()
        call()
        end.record()
    torch.cuda.synchronize(device)
    return [start.elapsed_time(end) for start, end in events]


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(LatencyConfig, args=arguments, description=__doc__)
    try:
        rows = measure(config)
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    if config.out:
        with Path(config.out).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

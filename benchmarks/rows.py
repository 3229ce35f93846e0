"""The one form of a measurement, and the one writer: a row is what was run, where, how, and the figures.

{"suite", "case": {...}, "figures": {...}, "settings": {...}, "versions": {...}, "hardware": {...}, "commit", "date"}
"""

import datetime
import functools
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "timm", "numpy", "Pillow", "onnxruntime", "openvino", "torchserve", "ai-edge-litert")

Row = dict[str, Any]


def row(suite: str, case: dict[str, Any], figures: dict[str, float], settings: dict[str, Any], device: str) -> Row:
    """One measurement.

    Args:
        suite: the module that measured.
        case: what tells this row from the others of the run, and joins it with the same row of another run.
        figures: numbers by name; the name ends in the unit.
        settings: how often, how long, how many threads.
        device: `cpu` or `cuda`.
    """
    figures = {name: float(f"{value:.5g}") for name, value in figures.items()}
    return {"suite": suite, "case": case, "figures": figures, "settings": settings, **_where(device)}


def write(rows: Iterable[Row], path: Path | None = None) -> Path:
    """Appends rows to a file, by default `results/<date>-<commit>-<device>.jsonl`, and returns its path."""
    rows = list(rows)
    if path is None:
        first = rows[0]
        path = RESULTS / f"{first['date'][:10]}-{first['commit']}-{first['hardware']['device']}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(entry) + "\n" for entry in rows)
    return path


def read(path: Path) -> list[Row]:
    """The rows of a file; lines of another form, as other benchmarks write them, are left out."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [entry for entry in found if {"suite", "case", "figures"} <= set(entry)]


def spread(values: Iterable[float], unit: str) -> dict[str, float]:
    """Median, percentiles and interquartile range of repeated measurements, named by their unit."""
    ordered = np.asarray(list(values), float)
    p25, p50, p75, p90, p99 = np.percentile(ordered, (25, 50, 75, 90, 99))
    return {f"p50_{unit}": p50, f"p90_{unit}": p90, f"p99_{unit}": p99, f"iqr_{unit}": p75 - p25}


@functools.cache
def _where(device: str) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    hardware = {"device": device, "cpu": _cpu_name(), "cores": os.cpu_count(), "system": platform.platform()}
    if device == "cuda":
        hardware |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    commit_name = commit.stdout.strip() or "unknown"
    return {"commit": commit_name, "date": date, "versions": versions, "hardware": hardware}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())

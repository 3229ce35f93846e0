"""Tables, plots and comparisons of benchmark rows: `python -m benchmarks.report FILE [--against OLDER] [--plots DIR]`.

`--run` measures first, all suites, into one file in benchmarks/results/. The comparison ends with code 1 if a case
needs more CPU time per image than before by more than the noise.
"""

import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tyro.conf import Positional

from benchmarks.rows import RESULTS, Row, read

COST = "cpu_ms_per_image"


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """What is reported."""

    rows: Positional[Path | None] = None
    """File of rows; by default the newest of benchmarks/results/."""

    against: Path | None = None
    """File of an earlier run on the same machine."""

    noise: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.15
    """Growth of the CPU time per image that is not called a regression."""

    plots: Path | None = None
    """Folder for plots."""

    run: bool = False
    """Measure first."""

    quick: bool = False
    """With `--run`: few cases and repeats, to see that everything works; not for publishing."""


def table(rows: list[Row]) -> str:
    """The rows as Markdown, one table for each suite; columns that never differ stand below it."""
    suites: dict[str, list[Row]] = defaultdict(list)
    for entry in rows:
        suites[entry["suite"]].append(entry)
    return "\n\n".join(f"## {suite}\n\n{_suite_table(entries)}" for suite, entries in suites.items())


def _suite_table(rows: list[Row]) -> str:
    flat = [{**entry["case"], **entry["figures"]} for entry in rows]
    names = list(dict.fromkeys(name for values in flat for name in values))
    fixed = {n: flat[0].get(n) for n in names if len(flat) > 1 and len({str(values.get(n)) for values in flat}) == 1}
    columns = [name for name in names if name not in fixed]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(_shown(values.get(column, "")) for column in columns) + " |" for values in flat]
    first = rows[0]
    where = f"{first['hardware']['cpu']}, {first['hardware']['device']}, torch {first['versions']['torch']}"
    notes = ", ".join(f"{name} {_shown(value)}" for name, value in fixed.items())
    return "\n".join([*lines, "", f"{where}, commit {first['commit']}, {first['date']}; {notes}"])


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def regressions(now: list[Row], before: list[Row], noise: float) -> list[str]:
    """The cases that cost more CPU time per image than before, beyond the noise; one sentence each.

    Raises:
        ValueError: the runs are of different machines, or have no case in common.
    """
    if now[0]["hardware"] != before[0]["hardware"]:
        raise ValueError(f"the runs are of {now[0]['hardware']} and {before[0]['hardware']}; accepted: one machine")
    older = {_key(entry): entry["figures"][COST] for entry in before if COST in entry["figures"]}
    shared = [entry for entry in now if COST in entry["figures"] and _key(entry) in older]
    if not shared:
        raise ValueError("the runs have no case in common; run the same suites with the same options")
    return [
        f"{entry['suite']} {entry['case']}: {COST} {older[_key(entry)]:.3g} -> {entry['figures'][COST]:.3g}"
        for entry in shared
        if entry["figures"][COST] > older[_key(entry)] * (1 + noise)
    ]


def _key(entry: Row) -> str:
    return json.dumps([entry["suite"], entry["case"]], sort_keys=True)


def plot(rows: list[Row], folder: Path) -> list[Path]:
    """PNG files: cost against batch size for every engine, throughput and p99 against concurrency."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        ("latency", "batch", ("task", "engine"), COST),
        ("serving", "concurrency", ("server", "task"), "images_per_s"),
        ("serving", "concurrency", ("server", "task"), "p99_ms"),
    ]
    paths = []
    for suite, x, by, y in wanted:
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for entry in rows:
            if entry["suite"] == suite and x in entry["case"] and y in entry["figures"]:
                label = " ".join(str(entry["case"].get(name)) for name in by)
                lines[label].append((entry["case"][x], entry["figures"][y]))
        if not lines:
            continue
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for label, points in sorted(lines.items()):
            axes.plot(*zip(*sorted(points), strict=True), "o-", label=label)
        axes.set(xlabel=x, ylabel=y, xscale="log", ylim=(0, None))
        axes.legend(fontsize=7)
        paths.append(folder / f"{suite}-{y}.png")
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def run(quick: bool) -> Path:
    """Runs all suites, each in a process of its own, and returns the file of their rows."""
    import torch

    from benchmarks.rows import row

    place = row("", {}, {}, {}, "cuda" if torch.cuda.is_available() else "cpu")
    out = RESULTS / f"{place['date'][:10]}-{place['commit']}-{place['hardware']['device']}.jsonl"
    suites = [
        [
            "latency",
            *(["--batches", "1", "2", "--repeats", "3"] if quick else ["--engines", "eager", "onnx", "openvino"]),
        ],
        ["peers", *(["--people", "2"] if quick else [])],
        ["serving", *(["--seconds", "2", "--concurrencies", "1", "8"] if quick else [])],
        ["training", *(["--steps", "2"] if quick else [])],
    ]
    for suite, *options in suites:
        command = [sys.executable, "-m", f"benchmarks.{suite}", *options, "--out", str(out)]
        print(" ".join(command[1:]), file=sys.stderr)
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f"left out: benchmarks.{suite} failed, see above", file=sys.stderr)
    return out


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(ReportConfig, args=arguments, description=__doc__)
    path = run(config.quick) if config.run else config.rows
    if path is None:
        files = [file for file in RESULTS.glob("*.jsonl") if read(file)]
        if not files:
            print(f"error [no_rows]: no rows in {RESULTS}; measure with --run", file=sys.stderr)
            return 1
        path = max(files, key=lambda file: file.stat().st_mtime)
    rows = read(path)
    if not rows:
        print(f"error [no_rows]: {path} holds no rows of these suites", file=sys.stderr)
        return 1
    print(f"# {path.stem}\n\n{table(rows)}")
    if config.plots:
        print("\n".join(f"![{made.stem}]({made.name})" for made in plot(rows, config.plots)))
    if config.against:
        try:
            worse = regressions(rows, read(config.against), config.noise)
        except (ValueError, IndexError) as error:
            print(f"error [not_comparable]: {error}", file=sys.stderr)
            return 1
        print("\n".join(worse) or f"\nNo case costs over {config.noise:.0%} more than in {config.against.name}.")
        return int(bool(worse))
    return 0


if __name__ == "__main__":
    sys.exit(main())

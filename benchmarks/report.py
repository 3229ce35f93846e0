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

import numpy as np
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
    text = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    text += ["| " + " | ".join(_shown(values.get(column, "")) for column in columns) + " |" for values in flat]
    first = rows[0]
    where = f"{first['hardware']['cpu']}, {first['hardware']['device']}, torch {first['versions']['torch']}"
    notes = ", ".join(f"{name} {_shown(value)}" for name, value in fixed.items())
    return "\n".join([*text, "", f"{where}, commit {first['commit']}, {first['date']}; {notes}"])


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


PLOTS = {
    "latency": [("batch", COST), ("batch", "images_per_s")],
    "serving": [
        ("concurrency", "images_per_s"),
        ("concurrency", "p99_ms"),
        ("photo_px", COST),
        ("photo_px", "p99_ms"),
        ("workers", "images_per_s"),
        ("workers", "memory_mib"),
        ("loaded", "images_per_s"),
        ("loaded", "memory_mib"),
    ],
}
"""What each suite's figure shows: a figure of the rows against an entry of their case."""


def plot(rows: list[Row], folder: Path) -> list[Path]:
    """A PNG file for each suite of `PLOTS`: a line joins the rows whose cases differ in nothing but x."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for suite, axes in PLOTS.items():
        found = [(x, y, lines([entry for entry in rows if entry["suite"] == suite], x, y)) for x, y in axes]
        found = [(x, y, drawn) for x, y, drawn in found if drawn]
        if not found:
            continue
        columns = min(2, len(found))
        height = -(-len(found) // columns)
        figure, places = plt.subplots(height, columns, figsize=(6 * columns, 4 * height), layout="constrained")
        for place, (x, y, drawn) in zip(np.ravel(places), found, strict=False):
            for label, points in sorted(drawn.items()):
                place.plot(*zip(*points, strict=True), "o-", label=label)
            place.set(xlabel=x, ylabel=y, xscale="log", ylim=(0, None))
            place.set_xticks(sorted({point[0] for points in drawn.values() for point in points}))
            place.xaxis.set_major_formatter("{x:g}")
            place.minorticks_off()
            if all(drawn):
                place.legend(fontsize=7)
        paths.append(folder / f"{suite}.png")
        figure.savefig(paths[-1], dpi=90)
        plt.close(figure)
    return paths


def lines(rows: list[Row], x: str, y: str) -> dict[str, list[tuple[float, float]]]:
    """Points of each line by its label, which names what tells the lines apart; lone points are no line. Rows of one
    case are one point, their median; of servers, those under a closed load are shown."""
    cases: dict[tuple, list[tuple[float, float]]] = defaultdict(list)
    for entry in rows:
        if entry["suite"] == "serving" and "concurrency" not in entry["case"]:
            continue
        if x in entry["case"] and y in entry["figures"]:
            rest = {name: value for name, value in entry["case"].items() if name not in (x, "scenario")}
            cases[tuple(sorted(rest.items()))].append((entry["case"][x], entry["figures"][y]))
    joined = {}
    for case, points in cases.items():
        places = sorted({place for place, _ in points})
        if len(places) > 1:
            joined[case] = [(at, float(np.median([value for place, value in points if place == at]))) for at in places]
    shared = set.intersection(*map(set, joined)) if joined else set()

    def label(case: tuple) -> str:
        told = [entry for entry in case if entry not in shared]
        return " ".join(value if isinstance(value, str) else f"{name} {value}" for name, value in told)

    return {label(case): points for case, points in joined.items()}


_TORCHSERVE = "serving --servers torchserve --protocols torchserve"
SUITES = (
    "latency --engines eager onnx onnx-int8 openvino aoti --batches 1 8 32",
    "peers",
    "peers --engine onnx-int8",
    "serving --servers torchserve fastapi litserve triton --repeats 3 --cold-starts 3 --warm-up-seconds 30",
    f"{_TORCHSERVE} --concurrencies 1 2 4 8 16 32 64 128 256",
    f"{_TORCHSERVE} --tasks recognize --concurrencies 8 --sizes 128 256 512 1024 2048 4898",
    f"{_TORCHSERVE} --tasks edit --concurrencies 32 --workers 1 2 3",
    f"{_TORCHSERVE} --tasks recognize --concurrencies 16 --loaded 1 2 3",
    "training",
)
"""What `--run` measures: the network, its peers, the servers side by side, then how TorchServe grows with the number of
requests, the size of the photograph (to 24 megapixels), the workers and the models loaded; a training step."""

QUICK = (
    "latency --batches 1 2 --repeats 3",
    "peers --people 2",
    "serving --seconds 2 --concurrencies 1 8 --warm-up-seconds 4",
    "training --steps 2",
)


def run(quick: bool) -> Path:
    """Runs all suites, each in a process of its own, and returns the file of their rows."""
    import torch

    from benchmarks.rows import row

    place = row("", {}, {}, {}, "cuda" if torch.cuda.is_available() else "cpu")
    out = RESULTS / f"{place['date'][:10]}-{place['commit']}-{place['hardware']['device']}.jsonl"
    for arguments in QUICK if quick else SUITES:
        command = [sys.executable, "-m", *f"benchmarks.{arguments}".split(), "--out", str(out)]
        print(" ".join(command[1:]), file=sys.stderr)
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            print(f"left out: {arguments} failed, see above", file=sys.stderr)
    return out


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(ReportConfig, args=arguments, description=__doc__)
    path = run(config.quick) if config.run else config.rows
    if path is None:
        newest = {max(row["date"] for row in rows): file for file in RESULTS.glob("*.jsonl") if (rows := read(file))}
        if not newest:
            print(f"error [no_rows]: no rows in {RESULTS}; measure with --run", file=sys.stderr)
            return 1
        path = newest[max(newest)]
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

"""Half an hour of ordinary days: `python -m benchmarks.soak [--minutes 30]`.

Sound and broken requests of all three tasks arrive at one rate (Poisson) at a TorchServe of our own on loopback, with
the archives that `python -m model_archives.build` makes. Every request has one right status; memory is read every few
seconds. Ends with code 1 if a request was lost, got another status, or memory rises. One row, whose slope is that of a
straight line through the memory of the second half: in the first, the Java machine takes the memory that it works in.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import numpy as np
from tqdm import tqdm

from benchmarks import load, rows
from benchmarks.chaos import memory_by_program, picture
from model_archives import build
from model_archives.server import TorchServe, stop_on_sigterm
from tergan_core.engine import quickest

RISE_MIB_PER_H = 60.0
"""A steeper rise than this, beyond twice its error, is called a leak."""


@dataclass(frozen=True)
class Kind:
    """A request, and the status that is right for it."""

    name: str
    task: str
    fields: dict[str, bytes | str]
    status: int
    share: float


def kinds() -> list[Kind]:
    """What users send: four of five requests are sound."""
    face, torn = picture(), picture()[:200]
    return [
        Kind("recognition", "recognize", {"image": face}, 200, 0.4),
        Kind("edit", "edit", {"image": face, "expression": "happiness", "intensity": "0.7"}, 200, 0.2),
        Kind("transfer", "transfer", {"identity": face, "expression": face}, 200, 0.2),
        Kind("torn picture", "recognize", {"image": torn}, 422, 0.03),
        Kind("no picture", "recognize", {"image": b"not a picture"}, 422, 0.03),
        Kind("unknown expression", "edit", {"image": face, "expression": "boredom"}, 422, 0.05),
        Kind("missing picture", "transfer", {"identity": face}, 400, 0.05),
        Kind("unknown field", "recognize", {"image": face, "picture": "x"}, 400, 0.04),
    ]


async def soak(server: TorchServe, minutes: float, requests_per_s: float, every_s: float = 10.0) -> dict:
    """Figures, counts by kind and status, and the memory [MiB] by second."""
    draw, found = random.Random(0), kinds()
    weights = [kind.share for kind in found]
    counts: Counter[str] = Counter()
    sent = wrong = 0
    memory: list[tuple[float, dict[str, float]]] = []
    began = time.monotonic()

    async def watch() -> None:
        with tqdm(total=round(60 * minutes), unit="s", desc="soak") as bar:
            while True:
                memory.append((time.monotonic() - began, await asyncio.to_thread(memory_by_program, server)))
                bar.update(round(time.monotonic() - began) - bar.n)
                await asyncio.sleep(every_s)

    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, headers=server.headers) as session:

        async def send() -> int:
            nonlocal sent, wrong
            (kind,) = draw.choices(found, weights)
            form = aiohttp.FormData()
            for name, value in kind.fields.items():
                form.add_field(name, value, **({"filename": name} if isinstance(value, bytes) else {}))
            sent += 1
            async with session.post(f"{server.url}/predictions/{kind.task}", data=form) as answer:
                await answer.read()
            counts[f"{kind.name} {answer.status}"] += 1
            wrong += answer.status != kind.status
            return answer.status

        watching = asyncio.create_task(watch())
        result = await load.opened(send, requests_per_s, 60 * minutes)
        watching.cancel()
    answered = result.outcomes["200"]
    refused = sum(n for status, n in result.outcomes.items() if status.isdigit()) - answered
    errors = sum(n for status, n in result.outcomes.items() if not status.isdigit())
    total = [(second, sum(programs.values())) for second, programs in memory]
    slope, error = rise(total, 30 * minutes)
    figures = {
        "sent": sent,
        "answered": answered,
        "refused": refused,
        "errors": errors,
        "lost": sent - answered - refused - errors,
        "wrong_status": wrong,
        "p50_ms": float(np.percentile(result.latencies_ms, 50)),
        "p99_ms": float(np.percentile(result.latencies_ms, 99)),
        "memory_first_mib": total[0][1],
        "memory_last_mib": total[-1][1],
        "memory_most_mib": max(mib for _, mib in total),
        "rise_mib_per_h": slope,
        "rise_error_mib_per_h": error,
    }
    return {"figures": figures, "counts": dict(counts), "memory": memory}


def rise(memory: list[tuple[float, float]], after_s: float) -> tuple[float, float]:
    """Slope of memory over time [MiB/h] by least squares, and its standard error; what is before `after_s` is left out.

    >>> [round(value, 6) for value in rise([(s, 100 + s / 3600) for s in range(0, 100, 10)], 0)]
    [1.0, 0.0]
    """
    hours, mib = np.array([(seconds / 3600, mib) for seconds, mib in memory if seconds >= after_s]).T
    if len(hours) < 3:
        return float("nan"), float("nan")
    (slope, offset), spread = np.polyfit(hours, mib, 1), hours - hours.mean()
    residual = mib - slope * hours - offset
    return float(slope), float(np.sqrt((residual**2).sum() / (len(hours) - 2) / (spread**2).sum()))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=4.0, help="requests per second")
    parser.add_argument("--out", type=Path, help="file of the row; by default named after date, commit and device")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tergan-soak-"))
    stop_on_sigterm()
    settings = {"minutes": arguments.minutes, "requests_per_s": arguments.rate}
    # Made now, so that it names the commit that runs, whatever happens to the clone meanwhile.
    row = rows.row("soak", {"scenario": f"{arguments.minutes:g} minutes"}, {}, settings, "cpu")
    try:
        build.build(store=folder, engine=quickest())
        with TorchServe(folder) as server:
            result = asyncio.run(soak(server, arguments.minutes, arguments.rate))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures = result["figures"]
    row["figures"] = {name: float(f"{value:.5g}") for name, value in figures.items()}
    memory = [[round(seconds), mib] for seconds, mib in result["memory"]]
    print(rows.write([{**row, "statuses": result["counts"], "memory": memory}], arguments.out), file=sys.stderr)
    print("\n".join(f"{name}: {value:.6g}" for name, value in figures.items()))
    leaks = figures["rise_mib_per_h"] - 2 * figures["rise_error_mib_per_h"] > RISE_MIB_PER_H
    sys.exit(bool(figures["lost"] or figures["wrong_status"] or figures["errors"] or leaks))


if __name__ == "__main__":
    main()

"""Requests through real servers on loopback: `python -m benchmarks.serving`.

The same worker code (`tergan_core.serving.Service`) is called directly in its best batch, and behind TorchServe (its
own route, the Open Inference Protocol over HTTP and gRPC), Triton, LitServe and a bare FastAPI app, in one run. Closed
load at each concurrency, then MLPerf's server scenario: Poisson arrivals at 70 % of the highest throughput seen. CPU
time is that of the server's processes, the load generator's is apart. The direct call is measured before and after each
window, while the server waits: ratios to it (`..._to_direct`) hold on a machine whose speed changes.
"""

import asyncio
import contextlib
import math
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from benchmarks.load import Load, Send, closed, opened
from benchmarks.rows import Row, row, spread, write
from benchmarks.servers import SERVERS, Target, cold_start
from model_archives import build, checksums
from tergan_core import weights
from tergan_core.client import IN_FLIGHT, TRANSPORTS, Fields
from tergan_core.engine import EngineName, export
from tergan_core.errors import TerganError
from tergan_core.images import encode
from tergan_core.serving import Request, Service

JPEG_FROM_PX = 512
"""Photographs of this side and above are sent as JPEG, smaller ones as PNG."""


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """What is measured: every combination."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    engine: EngineName | None = None
    """What runs the network; by default what archives get, see `model_archives.build`."""

    servers: tuple[str, ...] = ("torchserve", "fastapi")
    """`torchserve`, `fastapi`, `litserve`, `triton`."""

    protocols: tuple[str, ...] = tuple(TRANSPORTS)
    """`torchserve` (multipart to /predictions/<task>), `kserve-http`, `kserve-grpc`; those that a server speaks."""

    tasks: tuple[str, ...] = ("edit", "recognize")
    """Tasks."""

    concurrencies: tuple[int, ...] = (1, 16, 64)
    """Requests in flight."""

    sizes: tuple[int, ...] = (128,)
    """Side of the square photograph that is sent, in pixels."""

    workers: tuple[int, ...] = (1,)
    """Workers of the task; TorchServe alone takes other numbers."""

    loaded: tuple[int, ...] = (3,)
    """Tasks whose archives TorchServe has loaded, the one that is asked included."""

    seconds: float = 6.0
    """Length of each measurement."""

    warm_up_seconds: float = 12.0
    """Load on each task over each protocol before the first measurement. Java compiles itself for minutes."""

    repeats: int = 1
    """Measurements of each point; the row has the median of each figure and ratio, and the range of the CPU time."""

    cold_starts: int = 0
    """Starts of a worker's code in a process of its own, for each task."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""


def measure(config: ServingConfig) -> list[Row]:
    """Rows of the direct call and of each server."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tergan-bench-") as work:
        engine = config.engine or build.usual_engine(config.model)
        folder = str(export(config.model, engine, Path(work) / "model") if engine else config.model)
        store = Path(work) / "store"
        build.build(folder, store)
        known = weights.describe(folder)
        fixed = {"model": known["name"], "engine": known.get("engine", {"name": "eager"})["name"]}
        for task in config.tasks:
            case = {**fixed, "task": task, "photo_px": config.sizes[0]}
            figures = {"archive_mib": (store / f"{task}.mar").stat().st_size / 2**20}
            starts = [cold_start(folder, task, _fields(task, config.sizes[0])) for _ in range(config.cold_starts)]
            if starts:
                figures |= {name: float(np.median([start[name] for start in starts])) for name in starts[0]}
            rows.append(row("serving", {"server": "direct", "scenario": "cold_start", **case}, figures,
                            {"repeats": config.cold_starts}, "cpu"))  # fmt: skip
        for server in config.servers:
            for task in config.tasks if len(config.loaded) > 1 else ("",):
                for loaded in config.loaded:
                    try:
                        rows += _of_server(config, server, folder, _part(store, task, loaded), task, loaded, fixed)
                    except (TerganError, RuntimeError) as error:
                        print(f"left out: {server}: {error}", file=sys.stderr)
    return rows


def _part(store: Path, task: str, loaded: int) -> Path:
    """A store with so many of the archives, that of `task` first."""
    archives = sorted(store.glob("*.mar"), key=lambda archive: archive.stem != task)
    if loaded >= len(archives):
        return store
    part = store.with_name(f"store-{task}-{loaded}")
    part.mkdir(exist_ok=True)
    for archive in archives[:loaded]:
        shutil.copy(archive, part)
    checksums.write(part)
    return part


def _of_server(
    config: ServingConfig, server: str, folder: str, store: Path, task: str, loaded: int, fixed: dict[str, Any]
) -> list[Row]:
    rows = []
    with SERVERS[server](folder, store) as targets:
        targets = {name: target for name, target in targets.items() if name in config.protocols}
        tasks = [name for name in config.tasks if task in ("", name)]
        points = [(name, size, workers) for name in tasks for size in config.sizes for workers in config.workers]
        for name, size_px, workers in tqdm(points, desc=server):
            case = {**fixed, "server": server, "task": name, "photo_px": size_px, "workers": workers, "loaded": loaded}
            fields = _fields(name, size_px)
            direct = _Direct(folder, name, fields)
            offline = {**case, "protocol": "direct", "scenario": "offline"}
            rows.append(row("serving", offline, direct.measure(), {}, "cpu"))
            for protocol, target in targets.items():
                if workers > 1 or len(config.workers) > 1:
                    if target.scale is None:
                        continue
                    target.scale(name, workers)
                rows += _served(config, target, name, fields, {**case, "protocol": protocol}, direct)
    return rows


def _fields(task: str, size_px: int) -> Fields:
    y, x = np.mgrid[0:size_px, 0:size_px] * np.float32(6.0 / size_px)
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    pixels = (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
    picture = encode(pixels, "jpeg" if size_px >= JPEG_FROM_PX else "png")
    return {
        "transfer": {"identity": picture, "expression": picture},
        "edit": {"image": picture, "expression": "happiness"},
        "recognize": {"image": picture},
    }[task]


class _Direct:
    """The worker's code called in this process, at the batch size that suits it best."""

    def __init__(self, folder: str, task: str, fields: Fields):
        self._service, self._request = Service.load(folder, task, "cpu", threads=1), Request(dict(fields))
        found = {batch: self._call(batch, 2.0) for batch in (1, 4, 8, 16)}
        self.best_batch = min(found, key=lambda batch: found[batch]["cpu_ms_per_image"])

    def measure(self, seconds: float = 1.5) -> dict[str, float]:
        """CPU time and throughput at that size; `p50_ms` is of a request alone."""
        alone, best = self._call(1, seconds / 3), self._call(self.best_batch, seconds)
        return {**best, "best_batch": float(self.best_batch), "p50_ms": alone["p50_ms"]}

    def _call(self, batch: int, seconds: float) -> dict[str, float]:
        requests = [self._request] * batch
        cpu, wall = [], []
        self._service.handle(requests)
        while len(wall) < 3 or sum(wall) < 1e3 * seconds:
            cpu_began, began = time.process_time(), time.perf_counter()
            self._service.handle(requests)
            cpu.append(1e3 * (time.process_time() - cpu_began) / batch)
            wall.append(1e3 * (time.perf_counter() - began))
        p50_ms = float(np.median(wall))
        return {"cpu_ms_per_image": float(np.median(cpu)), "images_per_s": 1e3 * batch / p50_ms, "p50_ms": p50_ms}


def _served(
    config: ServingConfig, target: Target, task: str, fields: Fields, case: dict[str, Any], direct: _Direct
) -> list[Row]:
    rows, best = [], 0.0
    settings = {"seconds": config.seconds, "repeats": config.repeats, "warm_up_seconds": config.warm_up_seconds}
    if not _drive(target, task, fields, config.warm_up_seconds, concurrency=16).latencies_ms:
        raise RuntimeError(f"{case['server']} answers no request of {task}; its own output says why")
    for concurrency in config.concurrencies:
        runs, beside = [], direct.measure()
        for _ in range(config.repeats):
            served = _run(target, task, fields, config.seconds, concurrency=concurrency)
            before, beside = beside, direct.measure()
            runs.append(served | _against(served, {name: (before[name] + beside[name]) / 2 for name in before}))
        figures = _median(runs)
        best = max(best, figures["images_per_s"])
        if concurrency > 1:
            figures.pop("p50_over_direct_ms", None)  # they wait for each other
        scenario = "single_stream" if concurrency == 1 else "multi_stream"
        rows.append(
            row("serving", {**case, "scenario": scenario, "concurrency": concurrency}, figures, settings, "cpu")
        )
    rate = 0.7 * best
    if rate:
        runs = [_run(target, task, fields, config.seconds, requests_per_s=rate) for _ in range(config.repeats)]
        rows.append(
            row("serving", {**case, "scenario": "server"}, {**_median(runs), "arrivals_per_s": rate}, settings, "cpu")
        )
    return rows


def _run(target: Target, task: str, fields: Fields, seconds: float, **load: float) -> dict[str, float]:
    before, cpu_before = target.stages(task) if target.stages else {}, target.cpu_s()
    done = _drive(target, task, fields, seconds, **load)
    cpu_s, after = target.cpu_s() - cpu_before, target.stages(task) if target.stages else {}
    answered = len(done.latencies_ms)
    split = {name: after[name] - before[name] for name in after}
    requests = split.pop("requests", 0)
    return {
        **(spread(done.latencies_ms, "ms") if answered else {}),
        "images_per_s": answered / done.seconds,
        "cpu_ms_per_image": 1e3 * cpu_s / max(1, answered),
        "answered": float(answered),
        "refused_or_lost": float(sum(done.outcomes.values()) - answered),
        **{f"{stage}_ms": ms / requests for stage, ms in split.items() if requests},
        **target.memory_mib(),
    }


def _against(served: dict[str, float], direct: dict[str, float]) -> dict[str, float]:
    ratios = {
        "cpu_to_direct": served["cpu_ms_per_image"] / direct["cpu_ms_per_image"],
        "images_to_direct": served["images_per_s"] / direct["images_per_s"],
    }
    return ratios | ({"p50_over_direct_ms": served["p50_ms"] - direct["p50_ms"]} if "p50_ms" in served else {})


def _median(runs: list[dict[str, float]]) -> dict[str, float]:
    figures = {name: float(np.median([run[name] for run in runs if name in run])) for name in runs[0]}
    cpu = [run["cpu_ms_per_image"] for run in runs]
    return {**figures, "cpu_ms_per_image_range": max(cpu) - min(cpu)}


def _drive(
    target: Target, task: str, fields: Fields, seconds: float, *, concurrency: int = 0, requests_per_s: float = 0.0
) -> Load:
    """Closed load if there is a concurrency, else open load."""

    async def run() -> Load:
        async with _asking(target, task, fields, concurrency or 16 * IN_FLIGHT) as send:
            if concurrency:
                return await closed(send, concurrency, seconds)
            return await opened(send, requests_per_s, seconds)

    return asyncio.run(run())


@contextlib.asynccontextmanager
async def _asking(target: Target, task: str, fields: Fields, most: int) -> AsyncIterator[Send]:
    """Sends one request over the next of so many connections as `most` requests in flight need."""
    make: Callable[..., Any] = TRANSPORTS[target.protocol]
    transports = [make(target.url, dict(target.headers)) for _ in range(math.ceil(most / IN_FLIGHT))]
    sent = 0

    async def send() -> int:
        nonlocal sent
        sent += 1
        await asyncio.wait_for(transports[sent % len(transports)].ask(task, fields), 60)
        return 200

    try:
        yield send
    finally:
        for transport in transports:
            await transport.close()


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from benchmarks.report import table

    config = tyro.cli(ServingConfig, args=arguments, description=__doc__)
    try:
        rows = measure(config)
    except (TerganError, RuntimeError) as error:
        print(f"error [{getattr(error, 'code', 'server_error')}]: {error}", file=sys.stderr)
        return 1
    print(f"wrote {write(rows, Path(config.out) if config.out else None)}", file=sys.stderr)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

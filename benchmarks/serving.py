"""Requests through real servers on loopback: `python -m benchmarks.serving`.

The same worker code (`tergan_core.serving.Service`) is called directly in its best batch, behind TorchServe and behind
a bare FastAPI app, in one run. Closed load at each concurrency, then MLPerf's server scenario: Poisson arrivals at 70 %
of the highest throughput seen. CPU time is that of the server's processes, the load generator's is apart.
"""

import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
import torch
import tyro
from tqdm import tqdm

from benchmarks.load import Load, closed, opened
from benchmarks.rows import Row, row, spread, write
from model_archives import build
from model_archives.server import TorchServe
from tergan_core import weights
from tergan_core.engine import EngineName, export
from tergan_core.errors import TerganError
from tergan_core.images import encode
from tergan_core.serving import Request, Service

SERVERS = ("torchserve", "fastapi")


@dataclass(frozen=True, kw_only=True)
class ServingConfig:
    """What is measured: every combination."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    engine: EngineName | None = None
    """What runs the network; by default what the model folder names."""

    servers: tuple[str, ...] = SERVERS
    """`torchserve`, `fastapi`."""

    tasks: tuple[str, ...] = ("edit", "recognize")
    """Tasks."""

    concurrencies: tuple[int, ...] = (1, 16, 64)
    """Requests in flight."""

    sizes: tuple[int, ...] = (96,)
    """Side of the square PNG that is sent, in pixels."""

    seconds: float = 6.0
    """Length of each measurement; as long again, at most 3 s, warms the server up."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""


def measure(config: ServingConfig) -> list[Row]:
    """Rows of the direct call and of each server."""
    torch.set_num_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="tergan-bench-") as work:
        folder = str(export(config.model, config.engine, Path(work) / "model") if config.engine else config.model)
        store = Path(work) / "store"
        build.build(folder, store)
        sizes_mib = {file.stem: file.stat().st_size / 2**20 for file in store.glob("*.mar")}
        for task in config.tasks:
            for size_px in config.sizes:
                fields = _fields(task, size_px)
                case = {"task": task, "photo_px": size_px, "engine": config.engine or "as packed"}
                rows.append(_direct(folder, task, fields, case, sizes_mib[task]))
        for server in config.servers:
            with _SERVERS[server](folder, store) as (urls, headers, process):
                for task in tqdm(config.tasks, desc=server):
                    for size_px in config.sizes:
                        case = {"task": task, "photo_px": size_px, "engine": config.engine or "as packed"}
                        rows += _served(config, server, urls[task], headers, process, _fields(task, size_px), case)
    return rows


def _fields(task: str, size_px: int) -> dict[str, bytes]:
    y, x = np.mgrid[0:size_px, 0:size_px] * (6.0 / size_px)
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    picture = encode((127 + 100 * waves + noise).clip(0, 255).astype(np.uint8))
    return {
        "transfer": {"identity": picture, "expression": picture},
        "edit": {"image": picture, "expression": b"happiness"},
        "recognize": {"image": picture},
    }[task]


def _direct(folder: str, task: str, fields: dict[str, bytes], case: dict[str, Any], archive_mib: float) -> Row:
    """The worker's code called in this process, at the batch size that suits it best."""
    service = Service.load(folder, task, "cpu", threads=1)
    best, best_batch, single_ms = float("inf"), 1, 0.0
    for batch in (1, 4, 8, 16):
        requests = [Request(fields)] * batch
        cpu, wall = [], []
        for repeat in range(12):
            cpu_began, began = time.process_time(), time.perf_counter()
            service.handle(requests)
            if repeat >= 2:
                cpu.append(1e3 * (time.process_time() - cpu_began) / batch)
                wall.append(1e3 * (time.perf_counter() - began))
        single_ms = float(np.median(wall)) if batch == 1 else single_ms
        if np.percentile(cpu, 25) < best:
            best, best_batch = float(np.percentile(cpu, 25)), batch
    figures = {
        "cpu_ms_per_image": best,
        "best_batch": float(best_batch),
        "p50_ms": single_ms,
        "archive_mib": archive_mib,
    }
    return row("serving", {"server": "direct", "scenario": "offline", **case}, figures, {"repeats": 10}, "cpu")


def _served(
    config: ServingConfig,
    server: str,
    url: str,
    headers: dict[str, str],
    process: psutil.Process,
    fields: dict[str, bytes],
    case: dict[str, Any],
) -> list[Row]:
    rows, best = [], 0.0
    settings = {"seconds": config.seconds}
    _drive(url, headers, fields, min(config.seconds, 3.0), concurrency=8)
    for concurrency in config.concurrencies:
        load, cpu_s = _counted(
            process, lambda c=concurrency: _drive(url, headers, fields, config.seconds, concurrency=c)
        )
        figures = _figures(load, cpu_s, process)
        best = max(best, figures["images_per_s"])
        scenario = "single_stream" if concurrency == 1 else "multi_stream"
        rows.append(row("serving", {"server": server, "scenario": scenario, "concurrency": concurrency, **case},
                        figures, settings, "cpu"))  # fmt: skip
    load, cpu_s = _counted(process, lambda: _drive(url, headers, fields, config.seconds, requests_per_s=0.7 * best))
    figures = {**_figures(load, cpu_s, process), "arrivals_per_s": 0.7 * best}
    rows.append(row("serving", {"server": server, "scenario": "server", **case}, figures, settings, "cpu"))
    return rows


def _figures(load: Load, cpu_s: float, process: psutil.Process) -> dict[str, float]:
    answered = len(load.latencies_ms)
    memory = sum(member.memory_full_info().pss for member in _family(process)) / 2**20
    return {
        **(spread(load.latencies_ms, "ms") if answered else {}),
        "images_per_s": answered / load.seconds,
        "cpu_ms_per_image": 1e3 * cpu_s / max(1, answered),
        "answered": float(answered),
        "refused_or_lost": float(sum(load.outcomes.values()) - answered),
        "memory_mib": memory,
    }


def _drive(url: str, headers: dict[str, str], fields: dict[str, bytes], seconds: float, *, concurrency: int = 0,
           requests_per_s: float = 0.0) -> Load:  # fmt: skip
    """Closed load if there is a concurrency, else open load."""

    async def run() -> Load:
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:

            async def send() -> int:
                form = aiohttp.FormData()
                for name, value in fields.items():
                    form.add_field(name, value, filename=name if len(value) > 64 else None)
                async with session.post(url, data=form) as answer:
                    await answer.read()
                    return answer.status

            if concurrency:
                return await closed(send, concurrency, seconds)
            return await opened(send, requests_per_s, seconds)

    return asyncio.run(run())


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _counted(process: psutil.Process, work: Any) -> tuple[Load, float]:
    """What the work returns, and the CPU seconds of the server's processes meanwhile."""

    def total() -> float:
        return sum(sum(member.cpu_times()[:2]) for member in _family(process))

    before = total()
    load = work()
    return load, total() - before


@contextlib.contextmanager
def _torchserve(folder: str, store: Path) -> Iterator[tuple[dict[str, str], dict[str, str], psutil.Process]]:
    with TorchServe(store) as server:
        urls = {name: f"{server.url}/predictions/{name}" for name in server.names}
        yield urls, server.headers, psutil.Process(server.process.pid)


@contextlib.contextmanager
def _fastapi(folder: str, store: Path) -> Iterator[tuple[dict[str, str], dict[str, str], psutil.Process]]:
    with socket.create_server(("127.0.0.1", 0)) as opened_socket:
        port = opened_socket.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.bare_server", folder, str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{url}/ping", timeout=2).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the bare server did not start; its own output says why") from error
                time.sleep(0.3)
        tasks = ("transfer", "edit", "recognize")
        yield {task: f"{url}/predictions/{task}" for task in tasks}, {}, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(timeout=20)


_SERVERS = {"torchserve": _torchserve, "fastapi": _fastapi}


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

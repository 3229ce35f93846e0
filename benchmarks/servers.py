"""The servers that `benchmarks.serving` compares, as context managers that give the ways to ask them."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from model_archives.server import TorchServe, free_ports
from tergan_core import packing
from tergan_core.client import Fields
from tergan_core.errors import ConfigError

ROOT = Path(__file__).parents[1]
START_S = 180


@dataclass(frozen=True)
class Target:
    """One way to ask a running server."""

    protocol: str
    """A key of `tergan_core.client.TRANSPORTS`."""

    url: str
    headers: dict[str, str]
    process: psutil.Process
    stages: Callable[[str], dict[str, float]] | None = None
    """Sums since the start, for a task: requests, and milliseconds of each stage; of TorchServe alone."""

    scale: Callable[[str, int], None] | None = None
    """Sets the number of workers of a task; of TorchServe alone."""

    def family(self) -> list[psutil.Process]:
        """The server's processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU time of all processes so far."""
        return sum(sum(member.cpu_times()[:2]) for member in self.family())

    def memory_mib(self) -> dict[str, float]:
        """PSS of all processes, which divides shared memory among them, and its mean over those of Python alone."""
        members = {member: member.memory_full_info().pss / 2**20 for member in self.family()}
        python = [mib for member, mib in members.items() if member.name().startswith("python")]
        return {"memory_mib": sum(members.values()), "worker_memory_mib": sum(python) / max(1, len(python))}


Targets = dict[str, Target]
"""By protocol."""


@contextlib.contextmanager
def torchserve(folder: str, store: Path) -> Iterator[Targets]:
    """TorchServe with the archives of a store, all three protocols."""
    with TorchServe(store) as server:
        process = psutil.Process(server.process.pid)
        headers = {name.lower(): value for name, value in server.headers.items()}  # gRPC takes no other
        stages, scale = functools.partial(_stages, server), functools.partial(_scale, server)
        urls = {
            "torchserve": server.url,
            "kserve-http": server.url,
            "kserve-grpc": f"grpc://127.0.0.1:{server.ports[3]}",
        }
        yield {name: Target(name, url, headers, process, stages, scale) for name, url in urls.items()}


def _stages(server: TorchServe, task: str) -> dict[str, float]:
    time.sleep(1.2)  # workers hand their counts over once a second
    with urllib.request.urlopen(f"{server.metrics_url}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]

    def total(metric: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(metric) and f'"{task}"' in line)

    sums = {stage: total(f"tergan_{stage}_ms_total") for stage in ("decode", "forward", "encode")}
    waited = total("ts_queue_latency_microseconds") / 1000
    return {"requests": total("tergan_requests_total"), "queue": waited, **sums}


def _scale(server: TorchServe, task: str, workers: int) -> None:
    url = f"{server.management_url}/models/{task}?min_worker={workers}&max_worker={workers}&synchronous=true"
    request = urllib.request.Request(url, method="PUT", headers=server.management_headers)
    urllib.request.urlopen(request, timeout=START_S).close()


@contextlib.contextmanager
def fastapi(folder: str, store: Path) -> Iterator[Targets]:
    """`benchmarks.bare_server`: one process, no batching."""
    with _python("benchmarks.bare_server", folder) as target:
        yield {"torchserve": target}


@contextlib.contextmanager
def litserve(folder: str, store: Path) -> Iterator[Targets]:
    """`benchmarks.lit_server`: LitServe, one worker that batches."""
    with _python("benchmarks.lit_server", folder) as target:
        yield {"torchserve": target}


@contextlib.contextmanager
def triton(folder: str, store: Path) -> Iterator[Targets]:
    """Triton with the model repository that the build makes; `TERGAN_TRITONSERVER` names its program.

    Raises:
        ConfigError: it names none.
    """
    program = os.environ.get("TERGAN_TRITONSERVER")
    if program is None:
        raise ConfigError("TERGAN_TRITONSERVER is not set; accepted: the path of a tritonserver, see docs/serving.md")
    models = store.parent / "triton"
    packing.triton_repository(folder, models)
    http, grpc = free_ports(2)
    options = {"model-repository": models, "http-port": http, "grpc-port": grpc, "http-address": "127.0.0.1",
               "grpc-address": "127.0.0.1", "allow-metrics": "false"}  # fmt: skip
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    with _running(command, f"http://127.0.0.1:{http}/v2/health/ready") as process:
        urls = {"kserve-http": f"http://127.0.0.1:{http}", "kserve-grpc": f"grpc://127.0.0.1:{grpc}"}
        yield {name: Target(name, url, {}, process) for name, url in urls.items()}


SERVERS: dict[str, Callable[[str, Path], Any]] = {
    "torchserve": torchserve,
    "fastapi": fastapi,
    "litserve": litserve,
    "triton": triton,
}


@contextlib.contextmanager
def _python(module: str, folder: str) -> Iterator[Target]:
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with _running([sys.executable, "-m", module, folder, str(port)], f"{url}/ping") as process:
        yield Target("torchserve", url, {}, process)


@contextlib.contextmanager
def _running(command: list[str], ready: str) -> Iterator[psutil.Process]:
    """The process of a command, once a URL answers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + START_S
    try:
        while True:
            try:
                urllib.request.urlopen(ready, timeout=2).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start; its own output says why") from error
                time.sleep(0.3)
        yield psutil.Process(process.pid)
    finally:
        members = []
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended by itself
            members = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        for member in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


def cold_start(folder: str, task: str, fields: Fields) -> dict[str, float]:
    """Seconds from the start of a Python process to the first answer of the worker's code, and the CPU time of it."""
    code = (
        "import json, sys, time; from tergan_core.serving import Request, Service; imported = time.process_time(); "
        "service = Service.load(*sys.argv[1:3], 'cpu', threads=1); loaded = time.process_time(); "
        "fields = {name: bytes.fromhex(value) for name, value in json.load(sys.stdin).items()}; "
        "(answer,) = service.handle([Request(fields)]); assert answer.status == 200, answer.body; "
        "print(json.dumps([imported, loaded, time.process_time()]))"
    )
    sent = {name: value if isinstance(value, bytes) else str(value).encode() for name, value in fields.items()}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, folder, task],
        input=json.dumps({name: value.hex() for name, value in sent.items()}),
        cwd=ROOT, text=True, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    wall_s = time.perf_counter() - began
    imported, loaded, answered = json.loads(done.stdout)
    return {"wall_s": wall_s, "cpu_s": answered, "import_cpu_s": imported, "load_cpu_s": loaded - imported}

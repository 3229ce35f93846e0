"""Faults put on a TorchServe of our own on loopback: `python -m benchmarks.chaos`.

Prints a table and writes one row per scenario. Every request ends in an answer (200), a refusal (any other status) or
an error that the client saw; `lost` is what is left over.
"""

import argparse
import asyncio
import contextlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import aiohttp
import PIL.Image
import psutil

from benchmarks import load, rows
from model_archives import build
from model_archives.rollout import rollout
from model_archives.server import TorchServe, stop_on_sigterm


@dataclass
class Outcome:
    """What came of one scenario."""

    scenario: str
    sent: int
    statuses: Counter[str] = field(default_factory=Counter)
    """Number of requests by HTTP status or name of the client's error."""

    recovery_s: float | None = None
    """From the fault to the next answer with 200."""

    server_errors: dict[str, int] = field(default_factory=dict)
    """Answers of 500 and above by status and text."""

    memory_before_mib: float = 0.0
    memory_after_mib: float = 0.0

    @property
    def answered(self) -> int:
        return self.statuses["200"]

    @property
    def refused(self) -> int:
        return sum(n for status, n in self.statuses.items() if status.isdigit() and status != "200")

    @property
    def errors(self) -> int:
        """Connections that ended without an answer, which the client saw."""
        return sum(n for status, n in self.statuses.items() if not status.isdigit())

    @property
    def lost(self) -> int:
        return self.sent - self.answered - self.refused - self.errors

    def row(self, scale: float) -> rows.Row:
        """The outcome as a row of `benchmarks.rows`, with the counts by status beside the figures."""
        figures = {name: getattr(self, name) for name in ("sent", "answered", "refused", "errors", "lost")}
        figures |= {"memory_before_mib": self.memory_before_mib, "memory_after_mib": self.memory_after_mib}
        figures |= {} if self.recovery_s is None else {"recovery_s": self.recovery_s}
        found = rows.row("chaos", {"scenario": self.scenario}, figures, {"scale": scale}, "cpu")
        return {**found, "statuses": dict(self.statuses), "server_errors": self.server_errors}


class Target:
    """Sends recognition requests and counts those that it began, apart from those that came back."""

    def __init__(self, server: TorchServe):
        self.server = server
        self.headers = {**server.headers, "Content-Type": "image/png"}
        self.picture = picture()
        self.sent = 0
        self.server_errors: Counter[str] = Counter()
        self.last_answer = 0.0

    async def __aenter__(self) -> "Target":
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(self, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        self.sent += 1
        url = f"{self.server.url}/predictions/recognize"
        async with self.session.post(url, data=body or self.picture, headers=headers or self.headers) as answer:
            content = await answer.read()
        if answer.status >= 500:
            self.server_errors[f"{answer.status} {content.decode(errors='replace')[:120]}"] += 1
        if answer.status == 200:
            self.last_answer = time.monotonic()
        return answer.status

    async def answered_since(self, moment: float) -> float:
        """When the load that is running got its first 200 after a moment, both by `time.monotonic`."""
        while self.last_answer < moment:
            if time.monotonic() > moment + 60:
                raise RuntimeError("the server did not recover within 60 s")
            await asyncio.sleep(0.02)
        return self.last_answer

    async def recovered(self, since: float) -> float:
        """Seconds from `since` to the next 200; its probes are not counted."""
        count = self.sent
        while time.monotonic() < since + 60:
            try:
                if await self.send() == 200:
                    self.sent = count
                    return time.monotonic() - since
            except (aiohttp.ClientError, TimeoutError):
                pass
            await asyncio.sleep(0.05)
        raise RuntimeError("the server did not recover within 60 s")


async def version_rollout(target: Target, _: float) -> Outcome:
    """A second version comes, takes over, and the first goes, under load."""
    store = target.server.store
    _with_version(store / "recognize.mar", store / "recognize-2.mar", "0.0.2")
    stop = asyncio.Event()
    running = asyncio.create_task(_load_until(stop, target))
    await asyncio.sleep(1)
    headers = target.server.management_headers
    await asyncio.to_thread(rollout, "recognize", "recognize-2.mar", headers, target.server.management_url, drain_s=2)
    await asyncio.sleep(1)
    stop.set()
    outcomes = (await running).outcomes
    return Outcome("new version under load", target.sent, outcomes)


async def worker_killed(target: Target, _: float) -> Outcome:
    """kill -9 of the worker that answers, under load."""
    stop = asyncio.Event()
    running = asyncio.create_task(_load_until(stop, target))
    await asyncio.sleep(1)
    for worker in _workers(target.server):
        worker.kill()
    killed = time.monotonic()
    recovery_s = await target.answered_since(killed + 0.2) - killed
    stop.set()
    outcomes = (await running).outcomes
    return Outcome("worker killed under load", target.sent, outcomes, recovery_s)


async def malformed(target: Target, count: int) -> Outcome:
    """Mutated pictures, forms and headers, 16 at a time, from a kept seed."""
    statuses: Counter[str] = Counter()
    requests = _mutations(target, count)

    async def client() -> None:
        for body, headers in requests:
            try:
                statuses[str(await target.send(body, headers))] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                statuses[type(error).__name__] += 1

    await asyncio.gather(*(client() for _ in range(16)))
    sent = target.sent
    return Outcome(f"{count} malformed requests", sent, statuses, await target.recovered(time.monotonic()))


async def many_connections(target: Target, count: int) -> Outcome:
    """So many connections at once, one request on each; the queue holds 100."""
    result = load.Load()
    await asyncio.gather(*(load.once(target.send, result, time.perf_counter()) for _ in range(count)))
    sent = target.sent
    return Outcome(f"{count} connections, full queue", sent, result.outcomes, await target.recovered(time.monotonic()))


async def half_sent(target: Target, count: int) -> Outcome:
    """Bodies that stop half-way and stay open for a second, beside sound requests, of which alone answers can come."""
    address = target.server.url.removeprefix("http://").split(":")
    opened = [await asyncio.open_connection(address[0], int(address[1])) for _ in range(count)]
    head = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    start = f"POST /predictions/recognize HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 10000\r\n\r\n".encode()
    for _, writer in opened:
        writer.write(start + b"half")
        await writer.drain()
    outcomes = (await load.closed(target.send, 4, 1)).outcomes
    for _, writer in opened:
        writer.close()
    outcomes["ClosedByClient"] += count
    sent = target.sent + count
    return Outcome(f"{count} half-sent bodies", sent, outcomes, await target.recovered(time.monotonic()))


async def slow_clients(target: Target, count: int) -> Outcome:
    """Clients that send a byte every half second for six seconds, beside sound requests, which alone are answered."""
    address = target.server.url.removeprefix("http://").split(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    start = f"POST /predictions/recognize HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 10000\r\n\r\n".encode()

    async def drip() -> None:
        _, writer = await asyncio.open_connection(address[0], int(address[1]))
        writer.write(start)
        for _ in range(12):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.5)
        writer.close()

    dripping = asyncio.gather(*(drip() for _ in range(count)))
    result = await load.closed(target.send, 4, 5)
    await dripping
    result.outcomes["ClosedByClient"] += count
    sent = target.sent + count
    return Outcome(f"{count} slow clients", sent, result.outcomes, await target.recovered(time.monotonic()))


async def bombs(target: Target, count: int) -> Outcome:
    """Small files of huge pictures, between sound requests: each is refused unread."""
    result, files = load.Load(), [_bomb(kind) for kind in ("PNG", "TIFF", "GIF")]
    for number in range(count):
        await load.once(lambda file=files[number % 3]: target.send(file), result, time.perf_counter())
        await load.once(target.send, result, time.perf_counter())
    sent = target.sent
    outcome = Outcome(f"{count} decompression bombs", sent, result.outcomes, await target.recovered(time.monotonic()))
    if outcome.answered != count:
        raise RuntimeError(f"{outcome.answered} answers to {count} sound requests and {count} bombs")
    return outcome


async def restarted(server: TorchServe, scale: float) -> Outcome:
    """The whole server is stopped under load and comes back at the same ports, with the tokens of a new start."""
    async with Target(server) as target:
        await target.recovered(time.monotonic())
        target.sent, stop = 0, asyncio.Event()
        running = asyncio.create_task(_load_until(stop, target, 2, pause_s=0.05))
        await asyncio.sleep(max(1.0, 5 * scale))
        began = time.monotonic()
        await asyncio.to_thread(server.stop)
        stopped = time.monotonic()
        (server.store / "recognize-2.mar").unlink(missing_ok=True)  # of the roll-out; one archive per model
        await asyncio.to_thread(server.__enter__)
        target.headers.update(server.headers)
        recovery_s = await target.answered_since(stopped) - began
        await asyncio.sleep(max(1.0, 5 * scale))
        stop.set()
        outcomes = (await running).outcomes
        outcome = Outcome("server restarted under load", target.sent, outcomes, recovery_s)
        outcome.server_errors = dict(target.server_errors)
        return outcome


def disk_full(store: Path, scale: float) -> Outcome | None:
    """A server whose folder for sockets, logs and unpacked archives has no byte left for a while, and then has again.

    None where this user may not mount a small file system to try it in.
    """
    mount = store.parent / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        print("left out: disk full; this user may not mount a tmpfs", file=sys.stderr)
        return None

    async def fill(server: TorchServe) -> Outcome:
        async with Target(server) as target:
            await target.recovered(time.monotonic())
            before, target.sent, stop = memory_mib(server), 0, asyncio.Event()
            running = asyncio.create_task(_load_until(stop, target, 2, pause_s=0.01))
            await asyncio.sleep(1)
            ballast = mount / "ballast"
            with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(2**20))
            if shutil.disk_usage(mount).free:
                raise RuntimeError(f"{mount} is not full")
            await asyncio.sleep(max(1.0, 10 * scale))
            ballast.unlink()
            freed = time.monotonic()
            recovery_s = await target.answered_since(freed) - freed
            await asyncio.sleep(1)
            stop.set()
            outcome = Outcome("temporary folder full", target.sent, (await running).outcomes, recovery_s)
            outcome.server_errors = dict(target.server_errors)
            outcome.memory_before_mib, outcome.memory_after_mib = before, memory_mib(server)
            return outcome

    usual, tempfile.tempdir = tempfile.tempdir, str(mount)
    try:
        with TorchServe(store) as server:
            return asyncio.run(fill(server))
    finally:
        tempfile.tempdir = usual
        subprocess.run(["umount", "--lazy", str(mount)], check=False)


async def run(server: TorchServe, scale: float = 1.0) -> list[Outcome]:
    """All scenarios one after another on one server; `scale` shortens them."""
    scenarios = [
        (version_rollout, 0),
        (worker_killed, 0),
        (malformed, int(10_000 * scale)),
        (half_sent, int(200 * scale)),
        (slow_clients, int(200 * scale)),
        (bombs, int(200 * scale)),
        (many_connections, int(1000 * scale)),
    ]
    outcomes = []
    for scenario, size in scenarios:
        before = memory_mib(server)
        async with Target(server) as target:
            await target.recovered(time.monotonic())
            outcome = await scenario(target, size)  # type: ignore[operator]
        outcome.server_errors = dict(target.server_errors)
        outcome.memory_before_mib, outcome.memory_after_mib = before, memory_mib(server)
        print(f"{outcome.scenario}: {dict(outcome.statuses)}", file=sys.stderr, flush=True)
        outcomes.append(outcome)
    before = memory_mib(server)
    outcomes.append(await restarted(server, scale))
    outcomes[-1].memory_before_mib, outcomes[-1].memory_after_mib = before, memory_mib(server)
    return outcomes


async def _load_until(
    stop: asyncio.Event,
    target: Target,
    concurrency: int = 8,
    pause_s: float = 0.0,
) -> load.Load:
    """Keeps requests in flight until told to stop."""
    result = load.Load()

    async def client() -> None:
        while not stop.is_set():
            await load.once(target.send, result, time.perf_counter())
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return result


def memory_mib(server: TorchServe) -> float:
    """Proportional set size of the server and its workers."""
    total = 0
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:
            continue
    return round(total / 2**20, 1)


def _workers(server: TorchServe) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process(server.process.pid).children(recursive=True)
        if "model_service_worker" in " ".join(process.cmdline())
    ]


def _mutations(target: Target, count: int, seed: int = 0) -> Iterator[tuple[bytes, dict[str, str]]]:
    """Sound pictures with bytes changed, cut off or put in, under content types of all kinds."""
    draw = random.Random(seed)
    types = ["image/png", "application/json", "multipart/form-data; boundary=x", "multipart/form-data", "text/html"]
    bodies = [
        target.picture,
        b'{"image": "aaaa"}',
        b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\na\r\n--x--',
    ]
    for _ in range(count):
        body = bytearray(draw.choice(bodies))
        for _ in range(draw.randrange(1, 8)):
            body[draw.randrange(len(body))] = draw.randrange(256)
        content = bytes(body[: draw.randrange(1, len(body) + 1)])
        yield content, {**target.headers, "Content-Type": draw.choice(types)}


def picture() -> bytes:
    """A PNG file that is sound and of no face."""
    file = BytesIO()
    PIL.Image.effect_noise((64, 64), 60).convert("RGB").save(file, "png")
    return file.getvalue()


def _bomb(kind: str) -> bytes:
    """A picture of 12,000 x 12,000 pixels of one colour; some kilobytes."""
    side = 12_000
    file = BytesIO()
    PIL.Image.new("1", (side, side)).save(file, kind, **({"compression": "group4"} if kind == "TIFF" else {}))
    return file.getvalue()


def _with_version(source: Path, target: Path, version: str) -> None:
    """A copy of an archive under another version."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("MANIFEST.json"):
                manifest = json.loads(content)
                manifest["model"]["modelVersion"] = version
                content = json.dumps(manifest).encode()
            new.writestr(entry, content)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes in Markdown."""
    lines = ["| scenario | sent | answered | refused | errors seen | lost | recovery s | MiB before | after |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for one in outcomes:
        recovery = "" if one.recovery_s is None else f"{one.recovery_s:.1f}"
        cells = [one.scenario, one.sent, one.answered, one.refused, one.errors, one.lost, recovery]
        cells += [one.memory_before_mib, one.memory_after_mib]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full length and counts")
    parser.add_argument("--out", type=Path, help="file of the rows; by default named after date, commit and device")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tergan-chaos-"))
    store = folder / "store"
    stop_on_sigterm()
    try:
        build.packing.pack("recognize", out=store)
        with TorchServe(store, model_api=True) as server:
            outcomes = asyncio.run(run(server, arguments.scale))
        outcomes += [one for one in [disk_full(store, arguments.scale)] if one]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    if lost := [one.scenario for one in outcomes if one.lost]:
        sys.exit(f"requests were lost: {', '.join(lost)}")
    print(rows.write((one.row(arguments.scale) for one in outcomes), arguments.out), file=sys.stderr)


if __name__ == "__main__":
    main()

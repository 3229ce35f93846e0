"""Faults put on a TorchServe of our own on loopback: `python -m benchmarks.chaos`.

Prints a table and writes one row per scenario. Every request ends in an answer (200), a refusal (any other status) or
an error that the client saw; `lost` is what is left over. What a scenario promises beyond that it checks itself, and
ends the run where it does not hold. Those behind nginx are left out where it is not installed (deploy/nginx.conf).
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import PIL.Image
import psutil

from benchmarks import fuzz, load, proxy, rows
from model_archives.rollout import rollout
from model_archives.server import TorchServe, stop_on_sigterm
from tergan_core import packing
from tergan_core.images import MAX_SCANS
from tergan_core.serving import FIELDS, LIMITS


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

    cut_off_s: list[float] = field(default_factory=list)
    """When clients that did not finish their request were disconnected by the server, seconds from their connection."""

    memory_before_mib: float = 0.0
    memory_most_mib: float = 0.0
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
        figures |= {f"memory_{when}_mib": getattr(self, f"memory_{when}_mib") for when in ("before", "most", "after")}
        figures |= {} if self.recovery_s is None else {"recovery_s": self.recovery_s}
        if self.cut_off_s:
            figures |= {"cut_off_first_s": min(self.cut_off_s), "cut_off_last_s": max(self.cut_off_s)}
        found = rows.row("chaos", {"scenario": self.scenario}, figures, {"scale": scale}, "cpu")
        return {**found, "statuses": dict(self.statuses), "server_errors": self.server_errors}


class Target:
    """Sends requests, of recognition unless told otherwise, and counts those that it began, come back or not.

    Args:
        server: what is asked.
        url: where, if not at its own address.
    """

    def __init__(self, server: TorchServe, url: str | None = None):
        self.server = server
        self.url = url or server.url
        self.headers = {**server.headers, "Content-Type": "image/png"}
        self.picture = picture()
        self.sent = 0
        self.server_errors: Counter[str] = Counter()
        self.last_answer = 0.0

    async def __aenter__(self) -> "Target":
        self.session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=90), connector=aiohttp.TCPConnector(limit=0)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def send(
        self, body: bytes | None = None, headers: dict[str, str] | None = None, path: str = "/predictions/recognize"
    ) -> int:
        self.sent += 1
        url = f"{self.url}{path}"
        async with self.session.post(url, data=body or self.picture, headers=headers or self.headers) as answer:
            content = await answer.read()
        if answer.status >= 500:
            self.server_errors[f"{answer.status} {content.decode(errors='replace')[:120]}"] += 1
        if answer.status == 200:
            self.last_answer = time.monotonic()
        return answer.status

    async def answered_since(self, moment: float) -> float:
        """When the load that is running got its first 200 after a moment, both by `time.monotonic`."""
        deadline = time.monotonic() + 60
        while self.last_answer < moment:
            if time.monotonic() > deadline:
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
    """A second version comes, takes over, and the first goes."""
    _altered_archive(target.server.store, "recognize-2.mar", "0.0.2")
    async with _under_load(target) as running:
        await asyncio.sleep(1)
        await _roll_out(target, "recognize-2.mar")
        await asyncio.sleep(1)
    return Outcome("new version under load", target.sent, running.outcomes)


async def archives_damaged(target: Target, _: float) -> Outcome:
    """Archives cut short, without a manifest that can be read, and with other weights are registered: none comes in."""
    store = target.server.store
    archives = [store / f"recognize-damaged-{kind}.mar" for kind in ("short", "manifest", "weights")]
    short, manifest, weights = archives
    short.write_bytes((store / "recognize.mar").read_bytes()[:100_000])
    _altered_archive(store, manifest.name, "0.0.8", **{"MANIFEST.json": lambda content: content[:-20]})
    _altered_archive(store, weights.name, "0.0.9", **{".safetensors": lambda content: content[:-1] + b"?"})
    async with _under_load(target) as running:
        before = await _versions(target)
        for archive in archives:
            query = f"url={archive.name}&model_name=recognize&initial_workers=1&synchronous=true"
            running.outcomes[str(await _manage(target, "POST", f"/models?{query}"))] += 1
            archive.unlink()
        _require(await _versions(target) == before, "a damaged archive is registered")
    return Outcome("damaged archives registered", target.sent + len(archives), running.outcomes)


async def model_folder_damaged(target: Target, _: float) -> Outcome:
    """The weights of a running model are damaged on the disk, its worker is killed, and the weights come back."""
    found = [path.parent for path in target.server.folder.glob("models/*/model.safetensors")]
    files = [folder / "model.safetensors" for folder in found if (folder / "recognize_handler.py").exists()]
    sound = {file: file.read_bytes() for file in files}
    async with _under_load(target) as running:
        await asyncio.sleep(1)
        for file in files:
            file.write_bytes(sound[file][:-1] + b"?")
        killed = await _signal(target, signal.SIGKILL)
        await asyncio.sleep(8)
        _require(target.last_answer < killed + 0.5, "damaged weights gave an answer")
        for file, content in sound.items():
            file.write_bytes(content)
        restored = time.monotonic()
        recovery_s = await target.answered_since(restored) - restored
    return Outcome("model folder damaged, worker killed", target.sent, running.outcomes, recovery_s)


async def worker_killed(target: Target, _: float) -> Outcome:
    """kill -9 of the worker that answers.

    TorchServe forgets the requests that it has taken out of its queue and not yet handed to the worker when that dies
    (`BatchAggregator.getRequest` clears them): these come back as time-outs of the client, or of the proxy as 504.
    """
    async with _under_load(target) as running:
        await asyncio.sleep(1)
        killed = await _signal(target, signal.SIGKILL)
        recovery_s = await target.answered_since(killed + 0.2) - killed
    return Outcome("worker killed under load", target.sent, running.outcomes, recovery_s)


async def worker_hanging(target: Target, _: float) -> Outcome:
    """A worker stops in the middle of its work and goes on never; its archive's response time-out is 3 s here."""
    timeout = {"recognize.yaml": lambda content: content.replace(b"responseTimeout: 30", b"responseTimeout: 3 ")}
    _altered_archive(target.server.store, "recognize-3.mar", "0.0.3", **timeout)
    await _roll_out(target, "recognize-3.mar")
    async with _under_load(target) as running:
        await asyncio.sleep(1)
        stopped = await _signal(target, signal.SIGSTOP)
        recovery_s = await target.answered_since(stopped + 0.2) - stopped
    return Outcome("worker hanging under load", target.sent, running.outcomes, recovery_s)


async def malformed(target: Target, count: int) -> Outcome:
    """Mutated pictures, forms, JSON, tensors and headers for all tasks, 16 at a time, from a kept seed."""
    statuses: Counter[str] = Counter()
    requests, before = fuzz.mutations(target.picture, count), [await _pids(target, task) for task in FIELDS]

    async def client() -> None:
        for path, body, headers in requests:
            try:
                statuses[str(await target.send(body, {**target.headers, **headers}, path))] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                statuses[type(error).__name__] += 1

    await asyncio.gather(*(client() for _ in range(16)))
    sent = target.sent
    _require([await _pids(target, task) for task in FIELDS] == before, "a malformed request cost a worker")
    return Outcome(f"{count} malformed requests", sent, statuses, await target.recovered(time.monotonic()))


async def many_connections(target: Target, count: int) -> Outcome:
    """So many connections at once, one request on each; the queue holds 100."""
    result = load.Load()
    await asyncio.gather(*(load.once(target.send, result, time.perf_counter()) for _ in range(count)))
    sent = target.sent
    return Outcome(f"{count} connections, full queue", sent, result.outcomes, await target.recovered(time.monotonic()))


async def half_sent(target: Target, count: int) -> Outcome:
    """Bodies that stop half-way for 15 s, beside sound requests."""
    return await _unfinished(f"{count} half-sent bodies", target, count, pause_s=60)


async def slow_clients(target: Target, count: int) -> Outcome:
    """Clients that send a byte every half second for 15 s, beside sound requests."""
    return await _unfinished(f"{count} slow clients", target, count, pause_s=0.5)


async def _unfinished(scenario: str, target: Target, count: int, pause_s: float) -> Outcome:
    """Both come from one address, which is not that of the sound requests."""
    async with _under_load(target, concurrency=4) as running:
        ends = await asyncio.gather(*(_never_done(target, pause_s, hold_s=15) for _ in range(count)))
    outcomes = running.outcomes + Counter(end for end, _ in ends)
    sent = target.sent + count
    _require(running.outcomes == {"200": target.sent}, f"sound requests beside them got {dict(running.outcomes)}")
    outcome = Outcome(scenario, sent, outcomes, await target.recovered(time.monotonic()))
    outcome.cut_off_s = [seconds for end, seconds in ends if end == "CutOff"]
    return outcome


async def _never_done(target: Target, pause_s: float, hold_s: float) -> tuple[str, float]:
    """How a client ends that sends a byte of its body every `pause_s`, and after how many seconds."""
    host, port = target.url.removeprefix("http://").split(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    start = f"POST /predictions/recognize HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 10000\r\n\r\nhalf"
    began, answer = time.monotonic(), None
    reader, writer = await asyncio.open_connection(host, int(port), local_addr=("127.0.0.2", 0))
    try:
        writer.write(start.encode())
        while answer is None and (left_s := began + hold_s - time.monotonic()) > 0:
            try:
                answer = await asyncio.wait_for(reader.read(1000), min(pause_s, left_s))
            except TimeoutError:
                writer.write(b"x")
    except ConnectionError:
        answer = b""
    finally:
        writer.close()
    end = "ClosedByClient" if answer is None else answer[9:12].decode() or "CutOff"
    return end, time.monotonic() - began


async def bombs(target: Target, count: int) -> Outcome:
    """Small files of large pictures, eight at a time, beside sound requests: over the limit, at it, of many scans."""
    files = [_bomb("PNG", 12_000), _bomb("WEBP", 12_000), _scans(), _bomb("WEBP", int(LIMITS.max_pixels**0.5))]
    wanted = Counter({"413": 2 * count // 4, "422": count // 4, "200": count // 4})
    waiting, bombed = iter(files * (count // 4)), load.Load()

    async def bomber() -> None:
        for file in waiting:
            await load.once(lambda file=file: target.send(file), bombed, time.perf_counter())

    async with _under_load(target, concurrency=4, pause_s=0.05) as running:
        await asyncio.gather(*(bomber() for _ in range(8)))
    sent, outcomes = target.sent, running.outcomes + bombed.outcomes
    _require(bombed.outcomes == wanted, f"bombs got {dict(bombed.outcomes)}, not {dict(wanted)}")
    _require(set(running.outcomes) == {"200"}, f"sound requests beside bombs got {dict(running.outcomes)}")
    return Outcome(f"{count} decompression bombs", sent, outcomes, await target.recovered(time.monotonic()))


async def restarted(server: TorchServe, scale: float) -> Outcome:
    """The whole server is stopped under load and comes back at the same ports, with the tokens of a new start."""
    async with Target(server) as target:
        await target.recovered(time.monotonic())
        target.sent = 0
        async with _under_load(target, 2, pause_s=0.05) as running:
            await asyncio.sleep(max(1.0, 5 * scale))
            began = time.monotonic()
            await asyncio.to_thread(server.stop)
            stopped = time.monotonic()
            for archive in server.store.glob("recognize-*.mar"):  # of the roll-outs; one archive per model
                archive.unlink()
            await asyncio.to_thread(server.__enter__)
            target.headers.update(server.headers)
            recovery_s = await target.answered_since(stopped) - began
            await asyncio.sleep(max(1.0, 5 * scale))
        outcome = Outcome("server restarted under load", target.sent, running.outcomes, recovery_s)
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
            target.sent = 0
            async with _under_load(target, 2, pause_s=0.01) as running:
                await asyncio.sleep(1)
                ballast = mount / "ballast"
                with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(2**20))
                _require(not shutil.disk_usage(mount).free, f"{mount} is not full")
                await asyncio.sleep(max(1.0, 10 * scale))
                ballast.unlink()
                freed = time.monotonic()
                recovery_s = await target.answered_since(freed) - freed
                await asyncio.sleep(1)
            outcome = Outcome("temporary folder full", target.sent, running.outcomes, recovery_s)
            outcome.server_errors = dict(target.server_errors)
            return outcome

    usual, tempfile.tempdir = tempfile.tempdir, str(mount)
    try:
        with TorchServe(store) as server:
            return asyncio.run(_measured(server, fill(server)))
    finally:
        tempfile.tempdir = usual
        subprocess.run(["umount", "--lazy", str(mount)], check=False)


Scenario = Callable[[Target, int], Awaitable[Outcome]]

SCENARIOS: dict[Scenario, int] = {
    version_rollout: 0,
    archives_damaged: 0,
    model_folder_damaged: 0,
    worker_killed: 0,
    malformed: 10_000,
    half_sent: 200,
    slow_clients: 200,
    bombs: 200,
    many_connections: 1000,
    worker_hanging: 0,
}
"""What is put on one server, in this order, and how many of what it is about."""

BEHIND_PROXY: tuple[Scenario, ...] = (worker_killed, malformed, half_sent, slow_clients)
"""Those that come a second time, behind nginx."""


async def run(server: TorchServe, scale: float = 1.0, only: tuple[Scenario, ...] = tuple(SCENARIOS)) -> list[Outcome]:
    """Scenarios one after another on one server; `scale` shortens them."""

    async def put(scenario: Scenario, url: str | None = None) -> Outcome:
        async with Target(server, url) as target:
            await target.recovered(time.monotonic())
            target.server_errors.clear()
            outcome = await scenario(target, 4 * round(SCENARIOS[scenario] * scale / 4))
        outcome.server_errors = dict(target.server_errors)
        return outcome

    outcomes = []
    for scenario in SCENARIOS:
        if scenario in only:
            outcomes.append(await _measured(server, put(scenario)))
    if absent := proxy.missing():
        print(f"left out: behind nginx; {absent}", file=sys.stderr)
        return outcomes
    with proxy.Nginx(server.url) as nginx:
        for scenario in BEHIND_PROXY:
            if scenario in only:
                outcome = await _measured(server, put(scenario, nginx.url))
                outcome.scenario = f"behind nginx: {outcome.scenario}"
                if scenario is malformed:  # a dead worker's requests are another matter
                    _require(not any(status[:3] == "500" for status in outcome.server_errors), "nginx let a 500 happen")
                outcomes.append(outcome)
    return outcomes


async def _measured(server: TorchServe, scenario: Awaitable[Outcome]) -> Outcome:
    """The outcome with the server's memory before, at its most, and after."""
    seen = [memory_mib(server)]

    async def watch() -> None:
        while True:
            await asyncio.sleep(0.25)
            seen.append(await asyncio.to_thread(memory_mib, server))

    watching = asyncio.create_task(watch())
    try:
        outcome = await scenario
    finally:
        watching.cancel()
    outcome.memory_before_mib, outcome.memory_after_mib = seen[0], memory_mib(server)
    outcome.memory_most_mib = max(*seen, outcome.memory_after_mib)
    print(f"{outcome.scenario}: {dict(outcome.statuses)}", file=sys.stderr, flush=True)
    return outcome


@contextlib.asynccontextmanager
async def _under_load(target: Target, concurrency: int = 8, pause_s: float = 0.0) -> AsyncIterator[load.Load]:
    """Keeps requests in flight; the counts are whole after the block."""
    result, stop = load.Load(), asyncio.Event()

    async def client() -> None:
        while not stop.is_set():
            await load.once(target.send, result, time.perf_counter())
            await asyncio.sleep(pause_s)

    clients = asyncio.gather(*(client() for _ in range(concurrency)))
    try:
        yield result
    finally:
        stop.set()
        await clients


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(otherwise)


async def _manage(target: Target, method: str, path: str) -> int:
    """The status that the management interface answers with."""
    url, headers = f"{target.server.management_url}{path}", target.server.management_headers
    async with target.session.request(method, url, headers=headers) as answer:
        await answer.read()
        return answer.status


async def _described(target: Target, model: str) -> list[dict[str, Any]]:
    """What the management interface says of the versions of a model."""
    url, headers = f"{target.server.management_url}/models/{model}", target.server.management_headers
    async with target.session.get(url, headers=headers) as answer:
        return await answer.json(content_type=None)


async def _versions(target: Target) -> set[str]:
    return {model["modelVersion"] for model in await _described(target, "recognize/all")}


async def _signal(target: Target, number: signal.Signals) -> float:
    """Sends it to the workers of recognition and returns when, by `time.monotonic`."""
    for pid in await _pids(target):
        os.kill(pid, number)
    return time.monotonic()


async def _roll_out(target: Target, archive: str) -> None:
    headers, url = target.server.management_headers, target.server.management_url
    await asyncio.to_thread(rollout, "recognize", archive, headers, url, drain_s=2)


def memory_mib(server: TorchServe) -> float:
    """Anonymous memory of the server and its workers, which is what can grow. Libraries are left out: how much of them
    is counted for a process (PSS) depends on how many others have them mapped."""
    return round(sum(memory_by_program(server).values()), 1)


def memory_by_program(server: TorchServe) -> dict[str, float]:
    """The same by the name of the program: `java` is the server, the rest are its workers."""
    total: dict[str, float] = defaultdict(float)
    with contextlib.suppress(psutil.NoSuchProcess):  # while the server is restarted
        for process in psutil.Process(server.process.pid).children(recursive=True):
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
                kib = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss_Anon:"))
                total[process.name()] += kib / 2**10
    return {name: round(mib, 1) for name, mib in total.items()}


async def _pids(target: Target, task: str = "recognize") -> set[int]:
    """Process numbers of the workers of a task's default version."""
    return {worker["pid"] for worker in (await _described(target, task))[0]["workers"]}


def picture() -> bytes:
    """A PNG file that is sound and of no face."""
    file = BytesIO()
    PIL.Image.effect_noise((64, 64), 60).convert("RGB").save(file, "png")
    return file.getvalue()


def _bomb(kind: str, side: int) -> bytes:
    """A square picture of one colour; some kilobytes."""
    file = BytesIO()
    PIL.Image.new("1" if kind == "PNG" else "RGB", (side, side)).save(file, kind)
    return file.getvalue()


def _scans() -> bytes:
    """A progressive JPEG of 25 megapixels and more scans than are read."""
    file = BytesIO()
    PIL.Image.new("L", (5000, 5000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:-2] + data[last:-2] * MAX_SCANS + data[-2:]


def _altered_archive(store: Path, name: str, version: str, **changes: Callable[[bytes], bytes]) -> None:
    """A copy of the archive of recognition under another version, with files changed whose names end so."""
    with zipfile.ZipFile(store / "recognize.mar") as old, zipfile.ZipFile(store / name, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("MANIFEST.json"):
                manifest = json.loads(content)
                manifest["model"]["modelVersion"] = version
                content = json.dumps(manifest).encode()
            for ending, change in changes.items():
                content = change(content) if entry.filename.endswith(ending) else content
            new.writestr(entry, content)


def table(outcomes: list[Outcome]) -> str:
    """The outcomes in Markdown."""
    lines = ["| scenario | sent | answered | refused | errors seen | lost | recovery s | MiB before | most | after |"]
    lines.append("|---|---|---|---|---|---|---|---|---|---|")
    for one in outcomes:
        recovery = "" if one.recovery_s is None else f"{one.recovery_s:.1f}"
        cells = [one.scenario, one.sent, one.answered, one.refused, one.errors, one.lost, recovery]
        cells += [round(mib) for mib in (one.memory_before_mib, one.memory_most_mib, one.memory_after_mib)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full length and counts")
    parser.add_argument("--out", type=Path, help="file of the rows; by default named after date, commit and device")
    names = {scenario.__name__: scenario for scenario in SCENARIOS}
    parser.add_argument("--only", nargs="+", choices=names, help="these scenarios, without restart and full disk")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="tergan-chaos-"))
    store = folder / "store"
    stop_on_sigterm()
    try:
        for task in packing.TASKS:
            packing.pack(task, out=store)
        with TorchServe(store, model_api=True) as server:
            chosen = tuple(names[name] for name in arguments.only or names)
            outcomes = asyncio.run(run(server, arguments.scale, chosen))
            if not arguments.only:
                outcomes.append(asyncio.run(_measured(server, restarted(server, arguments.scale))))
        if not arguments.only:
            outcomes += [one for one in [disk_full(store, arguments.scale)] if one]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(outcomes))
    if lost := [one.scenario for one in outcomes if one.lost]:
        sys.exit(f"requests were lost: {', '.join(lost)}")
    print(rows.write((one.row(arguments.scale) for one in outcomes), arguments.out), file=sys.stderr)


if __name__ == "__main__":
    main()

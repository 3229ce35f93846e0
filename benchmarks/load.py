"""Load on an HTTP server from one asyncio loop: closed (so many requests in flight) or open (Poisson arrivals)."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Load:
    """What came back."""

    latencies_ms: list[float] = field(default_factory=list)
    """Of the requests that were answered with 200; under open load from the planned arrival on."""

    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of requests by HTTP status or name of the client's error."""

    seconds: float = 0.0


Send = Callable[[], Awaitable[int]]
"""Sends one request and returns its status."""


async def closed(send: Send, concurrency: int, seconds: float) -> Load:
    """Keeps `concurrency` requests in flight."""
    load, began = Load(), time.perf_counter()

    async def client() -> None:
        while time.perf_counter() < began + seconds:
            await once(send, load, time.perf_counter())

    await asyncio.gather(*(client() for _ in range(concurrency)))
    load.seconds = time.perf_counter() - began
    return load


async def opened(send: Send, requests_per_s: float, seconds: float, seed: int = 0) -> Load:
    """Sends at the times of a Poisson process, whether answers came or not."""
    gaps = np.random.default_rng(seed).exponential(1 / requests_per_s, int(requests_per_s * seconds) + 1)
    load, began = Load(), time.perf_counter()
    running = []
    for arrival in began + np.cumsum(gaps):
        await asyncio.sleep(max(0.0, arrival - time.perf_counter()))
        running.append(asyncio.create_task(once(send, load, float(arrival))))
    await asyncio.gather(*running)
    load.seconds = time.perf_counter() - began
    return load


async def once(send: Send, load: Load, began: float) -> None:
    """Sends one request and notes what comes of it; its latency counts from `began` (`time.perf_counter`)."""
    try:
        status = await send()
    except Exception as error:  # whatever the client library raises is an outcome
        load.outcomes[type(error).__name__] += 1
        return
    load.outcomes[str(status)] += 1
    if status == 200:
        load.latencies_ms.append(1e3 * (time.perf_counter() - began))

import asyncio

import pytest

from benchmarks.load import closed, opened


async def send():
    await asyncio.sleep(0.01)
    return 200


def test_a_closed_load_keeps_its_number_of_requests_in_flight():
    flying, most = 0, 0

    async def watched():
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.01)
        flying -= 1
        return 200

    load = asyncio.run(closed(watched, 5, 0.1))
    assert most == 5 and min(load.latencies_ms) >= 9
    assert load.outcomes["200"] == len(load.latencies_ms) >= 10


def test_an_open_load_sends_at_the_rate_asked_for_whatever_the_answers_take():
    load = asyncio.run(opened(send, 200, 0.5))
    assert sum(load.outcomes.values()) == 101
    assert load.seconds == pytest.approx(0.5, rel=0.5)


def test_refusals_and_errors_are_counted_by_name():
    answers = iter([503, 200])

    async def broken():
        try:
            return next(answers)
        except StopIteration:
            await asyncio.sleep(0.01)
            raise ConnectionResetError from None

    load = asyncio.run(closed(broken, 1, 0.05))
    assert load.outcomes["503"] == load.outcomes["200"] == len(load.latencies_ms) == 1
    assert load.outcomes["ConnectionResetError"] >= 1

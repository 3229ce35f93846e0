import asyncio
from collections import Counter

import pytest

from benchmarks import chaos, fuzz
from model_archives import build
from model_archives.server import TorchServe
from tergan_core.serving import FIELDS


def test_what_never_came_back_is_lost():
    outcome = chaos.Outcome("x", 10, Counter({"200": 5, "503": 2, "ServerDisconnectedError": 1}))
    assert (outcome.answered, outcome.refused, outcome.errors, outcome.lost) == (5, 2, 1, 2)


def test_the_fuzzer_asks_all_tasks_by_both_routes_and_again_the_same():
    picture = chaos.picture()
    requests = list(fuzz.mutations(picture, 300))
    assert requests == list(fuzz.mutations(picture, 300))
    assert {path for path, _, _ in requests} == {
        path.format(task) for task in FIELDS for path in ("/predictions/{}", "/v2/models/{}/infer")
    }


@pytest.mark.server
@pytest.mark.slow
def test_nothing_is_lost_in_a_short_form_of_the_chaos(tiny_folder, tmp_path):
    build.build(tiny_folder, tmp_path)
    chosen = (chaos.worker_killed, chaos.malformed, chaos.bombs, chaos.many_connections)
    with TorchServe(tmp_path, model_api=True) as server:
        outcomes = asyncio.run(chaos.run(server, scale=0.04, only=chosen))
    killed, malformed, bombs, crowd, *_ = outcomes
    assert [outcome.lost for outcome in outcomes] == [0] * len(outcomes)
    # Rarely a time-out: TorchServe forgets the requests of a batch that it is putting together when the worker dies.
    assert killed.recovery_s > 0.2 and set(killed.statuses) - {"200"} <= {"500", "503", "507", "TimeoutError"}
    assert malformed.sent == 400 and malformed.errors == 0
    assert all("Exception" in text for text in malformed.server_errors), "a worker of ours answered 500"
    assert bombs.statuses["413"] == 4 and bombs.statuses["422"] == 2
    assert crowd.sent == 40 == crowd.answered + crowd.refused
    (row,) = [outcome.row(0.04) for outcome in outcomes if outcome is bombs]
    assert row["figures"]["lost"] == 0 and row["figures"]["memory_most_mib"] >= row["figures"]["memory_before_mib"]

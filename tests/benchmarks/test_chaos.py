from collections import Counter

from benchmarks import chaos


def test_what_never_came_back_is_lost():
    outcome = chaos.Outcome("x", 10, Counter({"200": 5, "503": 2, "ServerDisconnectedError": 1}))
    assert (outcome.answered, outcome.refused, outcome.errors, outcome.lost) == (5, 2, 1, 2)

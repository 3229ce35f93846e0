import dataclasses

import pytest

from benchmarks import serving
from benchmarks.report import lines


@pytest.mark.server
def test_every_server_answers_all_and_is_held_against_the_direct_call(tiny_folder):
    config = serving.ServingConfig(
        model=str(tiny_folder), servers=("torchserve",), tasks=("recognize",), concurrencies=(1, 4),
        workers=(2,), sizes=(64,), seconds=0.5, warm_up_seconds=1,
        cold_starts=1,
    )  # fmt: skip
    rows = serving.measure(config)
    alone = dataclasses.replace(config, servers=("fastapi",), workers=(1,), cold_starts=0)
    others = [row for row in serving.measure(alone) if "protocol" in row["case"]]
    assert {row["case"]["protocol"] for row in others} == {"direct", "torchserve"}
    (start,) = (row for row in rows if row["case"]["scenario"] == "cold_start")
    assert 0 < start["figures"]["import_cpu_s"] < start["figures"]["cpu_s"] and start["figures"]["archive_mib"] > 0
    asked = {(row["case"].get("server"), row["case"].get("protocol"), row["case"].get("workers")) for row in rows}
    protocols = ("direct", "torchserve", "kserve-http", "kserve-grpc")
    assert asked >= {("torchserve", protocol, 2) for protocol in protocols}
    served = [row for row in rows + others if "concurrency" in row["case"]]
    for figures in (row["figures"] for row in served):
        assert figures["answered"] > 0 and figures["refused_or_lost"] == 0
        assert figures["cpu_to_direct"] > 0 and 0 < figures["worker_memory_mib"] <= figures["memory_mib"]
    for row in served:
        assert ("p50_over_direct_ms" in row["figures"]) is (row["case"]["concurrency"] == 1)
        if row["case"]["server"] == "torchserve" and row["case"]["concurrency"] == 4:
            assert all(row["figures"][f"{stage}_ms"] > 0 for stage in ("decode", "forward", "encode"))
            # TorchServe counts no waiting of its gRPC requests.
            assert (row["figures"]["queue_ms"] > 0) is (row["case"]["protocol"] != "kserve-grpc")


def test_a_store_with_fewer_archives_holds_the_one_that_is_asked(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    for task in ("edit", "recognize", "transfer"):
        (store / f"{task}.mar").write_bytes(task.encode())
    part = serving._part(store, "transfer", 1)
    assert [archive.name for archive in part.glob("*.mar")] == ["transfer.mar"]
    assert serving._part(store, "transfer", 3) == store


def test_what_cannot_be_started_is_left_out_with_the_reason(tiny_folder, monkeypatch, capsys):
    monkeypatch.delenv("TERGAN_TRITONSERVER", raising=False)
    rows = serving.measure(serving.ServingConfig(model=str(tiny_folder), servers=("triton",), tasks=("edit",)))
    assert "TERGAN_TRITONSERVER is not set" in capsys.readouterr().err
    assert [row["case"]["server"] for row in rows] == ["direct"]


def test_lines_join_what_differs_in_x_alone_and_are_named_by_what_tells_them_apart():
    def row(server, n, ms=None, **case):
        case = {"server": server, "scenario": f"{n}", **({"concurrency": n} if n else {}), **case}
        return {"suite": "serving", "case": case, "figures": {"p99_ms": ms or n + 1.0}}

    found = lines([row("a", 1), row("a", 2, 9.0), row("a", 2, 3.0), row("a", 2, 1.0), row("b", 1), row("b", 2),
                   row("alone", 1), row("a", 0, 5.0)], "concurrency", "p99_ms")  # fmt: skip
    assert found == {"a": [(1, 2.0), (2, 3.0)], "b": [(1, 2.0), (2, 3.0)]}

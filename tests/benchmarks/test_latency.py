import json

import pytest
import torch

from benchmarks import latency
from benchmarks.latency import LatencyConfig, main, measure
from benchmarks.rows import read


def test_every_task_and_batch_size_has_a_row_with_its_setting(tiny_folder):
    rows = measure(LatencyConfig(model=str(tiny_folder), device="cpu", batches=(1, 2), warmup=1, repeats=3))
    assert [(entry["case"]["task"], entry["case"]["batch"], entry["case"]["scenario"]) for entry in rows] == [
        (task, batch, name)
        for batch, name in ((1, "single_stream"), (2, "offline"))
        for task in ("transfer", "edit", "recognize")
    ]
    for entry in rows:
        figures = entry["figures"]
        assert 0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"]
        assert figures["gflop_per_image"] > 0 and 0 < figures["share_of_convolution_peak"]
        assert entry["versions"]["torch"] == torch.__version__.split("+")[0]
        assert entry["commit"] and entry["hardware"]["cpu"] and entry["settings"]["repeats"] == 3


def test_both_peaks_of_the_machine_are_measured():
    peaks = latency.peak_gflops(torch.device("cpu"))
    assert set(peaks) == {"matmul", "convolution"} and min(peaks.values()) > 0.1


def test_another_size_and_another_precision_are_measured(tiny_folder):
    config = LatencyConfig(
        model=str(tiny_folder), device="cpu", batches=(1,), sizes=(96,), precisions=("fp32", "bf16", "tf32"),
        warmup=0, repeats=1,
    )  # fmt: skip
    cases = [entry["case"] for entry in measure(config)]
    assert {case["size_px"] for case in cases} == {96}
    assert {case["precision"] for case in cases} == {"fp32", "bf16"}  # TF32 is CUDA's


def test_rows_are_appended_and_the_table_printed(tiny_folder, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    command = ["--model", str(tiny_folder), "--device", "cpu", "--batches", "1", "--repeats", "1", "--out", str(out)]
    assert main(command) == main(command) == 0
    assert len(read(out)) == len([json.loads(line) for line in out.read_text().splitlines()]) == 6
    assert "| recognize |" in capsys.readouterr().out


def test_a_missing_model_ends_with_code_one_and_an_unknown_precision_is_wrong_usage(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "none")]) == 1
    assert "error [weights_not_found]" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--precisions", "fp7"])
    assert "accepted: fp32" in capsys.readouterr().err

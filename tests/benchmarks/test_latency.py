import json

from benchmarks.latency import LatencyConfig, main, measure


def test_every_task_and_batch_size_has_a_row_with_its_setting(tiny_folder):
    rows = measure(LatencyConfig(model=str(tiny_folder), device="cpu", batches=(1, 2), warmup=1, repeats=3))
    assert [(row["task"], row["batch"]) for row in rows] == [
        (task, batch) for batch in (1, 2) for task in ("transfer", "edit", "recognize")
    ]
    for row in rows:
        assert 0 < row["min_ms"] <= row["p50_ms"] <= row["max_ms"]
        assert row["device"] and row["torch"] and row["commit"]


def test_rows_are_appended_and_the_table_printed(tiny_folder, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    command = ["--model", str(tiny_folder), "--device", "cpu", "--batches", "1", "--repeats", "1", "--out", str(out)]
    assert main(command) == main(command) == 0
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 6
    assert "| recognize | 1 |" in capsys.readouterr().out


def test_a_missing_model_ends_with_code_one(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "none")]) == 1
    assert "error [weights_not_found]" in capsys.readouterr().err

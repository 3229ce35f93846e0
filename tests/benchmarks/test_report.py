import copy

import pytest

from benchmarks import rows
from benchmarks.report import main, plot, regressions, table


@pytest.fixture
def run():
    return [
        rows.row("latency", {"task": "edit", "engine": "eager", "batch": batch}, {"cpu_ms_per_image": cost}, {}, "cpu")
        for batch, cost in ((1, 10.0), (8, 8.0))
    ]


def test_rows_come_back_as_they_were_written_and_other_forms_are_left_out(run, tmp_path):
    path = rows.write(run, tmp_path / "a.jsonl")
    with path.open("a") as file:
        file.write('{"p50_ms": 3}\n')
    assert rows.read(path) == run


def test_only_growth_beyond_the_noise_is_a_regression(run):
    now = copy.deepcopy(run)
    now[0]["figures"]["cpu_ms_per_image"], now[1]["figures"]["cpu_ms_per_image"] = 11.0, 12.0
    (worse,) = regressions(now, run, 0.15)
    assert "'batch': 8" in worse and "8 -> 12" in worse
    assert regressions(run, now, 0.15) == []


def test_runs_of_different_machines_or_cases_are_not_compared(run):
    other = copy.deepcopy(run)
    for entry in other:
        entry["hardware"] = {"cpu": "another"}
    with pytest.raises(ValueError, match="one machine"):
        regressions(run, other, 0.1)
    with pytest.raises(ValueError, match="no case in common"):
        regressions(run, [{**entry, "suite": "peers"} for entry in run], 0.1)


def test_the_command_fails_on_a_regression_and_draws(run, tmp_path, capsys):
    before, slower = rows.write(run, tmp_path / "before.jsonl"), copy.deepcopy(run)
    for entry in slower:
        entry["figures"]["cpu_ms_per_image"] *= 2
    after = rows.write(slower, tmp_path / "after.jsonl")
    assert main([str(before), "--against", str(before), "--plots", str(tmp_path / "plots")]) == 0
    assert (tmp_path / "plots" / "latency.png").stat().st_size > 1000
    assert main([str(after), "--against", str(before)]) == 1
    assert "20" in capsys.readouterr().out


def test_columns_that_never_differ_stand_below_the_table(run):
    text = table(run)
    assert "| batch | cpu_ms_per_image |" in text and "task edit" in text


def test_nothing_to_plot_gives_no_file(run, tmp_path):
    assert plot([{**entry, "suite": "peers"} for entry in run], tmp_path) == []

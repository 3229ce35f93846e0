import dataclasses
import shutil
from pathlib import Path

import pytest

from training import ablate, train
from training.config import merge


@pytest.mark.parametrize("name", ablate.ROWS)
def test_every_row_changes_the_base_and_builds(name):
    run = merge(ablate.BASE, ablate.ROWS[name])
    assert (run == ablate.BASE) == (name == "base")
    run = dataclasses.replace(
        run, expression_backbone_file=None
    )  # made by training.imagenet, which is tested by itself
    state = train.build(run, 3, train.torch.device("cpu"))
    assert sum(p.numel() for p in state.networks.model.parameters()) > 100_000


@pytest.mark.slow
def test_rows_are_run_once_and_tabled(smoke, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablate, "BASE", dataclasses.replace(smoke, images=8))
    monkeypatch.setattr(ablate, "ROWS", {name: ablate.ROWS[name] for name in ("base", "no critic")})
    monkeypatch.setattr(ablate, "ProcessPoolExecutor", _Here)
    arguments = ["--rows", "base", "no critic", "--seeds", "0", "--images", "8", "--out", str(tmp_path)]
    arguments += ["--cache", smoke.faces.cache, "--results", str(tmp_path / "results.jsonl")]
    assert ablate.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| base |") and lines[3].startswith("| no critic |")
    monkeypatch.setattr(ablate, "_row", lambda *_: pytest.fail("these are done"))
    assert ablate.main(arguments) == 0
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 2


@pytest.mark.slow
def test_a_row_that_starts_from_a_shared_first_part_equals_one_trained_whole_to_the_bit(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "BASE", dataclasses.replace(smoke, images=32))
    config = ablate.AblateConfig(
        rows=("adversarial: hinge", "no R1 penalty", "no true units"),
        images=32,
        out=tmp_path / "rows",
        cache=smoke.faces.cache,
    )
    parts = {part.run: part for part in (ablate._first_part(config, name, 0) for name in config.rows)}
    assert len(parts) == 2  # no true units: another first part
    for part in parts.values():
        ablate._train_first_part(part)
        assert train.torch.load(Path(part.run) / "checkpoint" / "state.pt", weights_only=True)["step"] == 3
    for name in config.rows:
        parted = ablate._train(config, name, 0)
        run = dataclasses.replace(ablate._run(config, name, 0), run=str(tmp_path / "whole"))
        whole = train.fit(run, progress=False)
        ours, alone = (
            train.torch.load(folder / "checkpoint" / "state.pt", weights_only=True) for folder in (parted, whole)
        )
        shutil.rmtree(whole)
        for part in ("model", "average", "critic"):
            assert all(train.torch.equal(value, alone[part][key]) for key, value in ours[part].items()), (name, part)


@pytest.mark.slow
def test_a_row_that_was_told_to_stop_has_no_figures(smoke, tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "BASE", dataclasses.replace(smoke, images=32))
    config = ablate.AblateConfig(images=32, out=tmp_path / "rows", cache=smoke.faces.cache)
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda run, progress: fit(run, progress=progress, until=5))
    with pytest.raises(InterruptedError, match="'no critic', seed 0, was stopped"):
        ablate._train(config, "no critic", 0)
    monkeypatch.setattr(train, "fit", fit)
    assert ablate._train(config, "no critic", 0).name.startswith("no-critic")


def test_the_table_compares_within_each_seed():
    def row(name, seed, gain):
        return (
            {"row": name, "seed": seed} | dict.fromkeys(ablate._COLUMNS, 0.5) | {"gain_db": gain, "photographs": None}
        )

    rows = [row("base", 0, 1.0), row("base", 1, 3.0), row("no critic", 0, 0.8), row("no critic", 1, 3.0)]
    base, changed = ablate.table(rows).splitlines()[2:]
    assert base.startswith("| base | 2 | 2.000 ± 1.000 | 0.500 ± 0.000 |")
    assert changed.startswith("| no critic | 2 | -0.100 ± 0.100 | +0.000 ± 0.000 |")
    assert "nan" in base  # no photographs were measured


def test_an_unknown_row_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown name 'nonsense'; accepted: base"):
        ablate.AblateConfig(rows=("nonsense",), out=tmp_path)


class _Here:
    """Runs what is submitted at once, in this process, which the patches of a test reach."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        from concurrent.futures import Future

        future: Future = Future()
        future.set_result(function(*arguments))
        return future

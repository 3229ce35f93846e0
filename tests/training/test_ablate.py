import dataclasses
import shutil
from pathlib import Path

import pytest

from training import ablate, train
from training.config import merge


@pytest.mark.parametrize(
    ("study", "name"), [(key, name) for key, study in ablate.STUDIES.items() for name in study.rows]
)
def test_every_row_changes_its_base_and_builds(study, name):
    base, rows = ablate.STUDIES[study].base, ablate.STUDIES[study].rows
    run = merge(base, rows[name])
    assert (run == base) == (name == "base")
    run = dataclasses.replace(
        run, expression_backbone_file=None
    )  # made by training.imagenet, which is tested by itself
    state = train.build(run, 3, train.torch.device("cpu"))
    assert sum(p.numel() for p in state.networks.model.parameters()) > 100_000


@pytest.mark.slow
@pytest.mark.parametrize(("study", "row"), [("network", "no critic"), ("recognition", "strange textures")])
def test_rows_are_run_once_and_tabled(study, row, smoke, tmp_path, monkeypatch, capsys):
    _small(monkeypatch, smoke, study)
    monkeypatch.setattr(ablate, "ProcessPoolExecutor", _Here)
    arguments = ["--study", study, "--rows", "base", row, "--seeds", "0", "--images", "8", "--out", str(tmp_path)]
    arguments += ["--cache", smoke.faces.cache, "--results", str(tmp_path)]
    assert ablate.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| base |") and lines[3].startswith(f"| {row} |")
    monkeypatch.setattr(ablate, "_row", lambda *_: pytest.fail("these are done"))
    assert ablate.main(arguments) == 0
    assert len((tmp_path / f"{study}.jsonl").read_text().splitlines()) == 2


def test_the_study_of_recognition_trains_what_reads_expressions_alone(smoke, tmp_path, monkeypatch):
    _small(monkeypatch, smoke, "recognition")
    config = ablate.AblateConfig(study="recognition", images=8, out=tmp_path, cache=smoke.faces.cache)
    run = ablate._run(config, "base", 0)
    train.render(run)
    before = train.build(run, 3, train.torch.device("cpu")).networks.model.state_dict()
    after = train.weights.load(ablate._train(config, "base", 0) / "checkpoint" / "model").state_dict()
    changed = {key.split(".")[0] for key, value in before.items() if not train.torch.equal(value, after[key])}
    assert changed == {"expression_encoder", "expression_head", "classifier", "prototypes"}


@pytest.mark.slow
def test_a_row_that_starts_from_a_shared_first_part_equals_one_trained_whole_to_the_bit(smoke, tmp_path, monkeypatch):
    _small(monkeypatch, smoke, "network")
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
    _small(monkeypatch, smoke, "network")
    config = ablate.AblateConfig(images=32, out=tmp_path / "rows", cache=smoke.faces.cache)
    fit = train.fit
    monkeypatch.setattr(train, "fit", lambda run, progress: fit(run, progress=progress, until=5))
    with pytest.raises(InterruptedError, match="'no critic', seed 0, was stopped"):
        ablate._train(config, "no critic", 0)
    monkeypatch.setattr(train, "fit", fit)
    assert ablate._train(config, "no critic", 0).name.startswith("no-critic")


def test_the_table_compares_within_each_seed():
    columns = ablate.STUDIES["network"].columns

    def row(name, seed, gain):
        return {"row": name, "seed": seed} | dict.fromkeys(columns, 0.5) | {"gain_db": gain, "photographs": None}

    rows = [row("base", 0, 1.0), row("base", 1, 3.0), row("no critic", 0, 0.8), row("no critic", 1, 3.0)]
    base, changed = ablate.table(rows, columns).splitlines()[2:]
    assert base.startswith("| base | 2 | 2.000 ± 1.414 | 0.500 ± 0.000 |")
    assert changed.startswith("| no critic | 2 | -0.100 ± 0.141 | +0.000 ± 0.000 |")
    assert "nan" in base  # no photographs were measured


def test_an_unknown_row_is_named(tmp_path):
    with pytest.raises(ValueError, match="unknown name 'nonsense'; accepted: base"):
        ablate.AblateConfig(rows=("nonsense",), out=tmp_path)


def _small(monkeypatch, smoke, name):
    """The study with faces and a network that are trained on in seconds."""
    study = ablate.STUDIES[name]
    kept = ("weights", "frozen") if name == "recognition" else ()
    base = dataclasses.replace(smoke, **{field: getattr(study.base, field) for field in kept})
    monkeypatch.setitem(ablate.STUDIES, name, dataclasses.replace(study, base=base))


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

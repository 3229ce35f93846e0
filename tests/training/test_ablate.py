import dataclasses

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

import dataclasses
import json

import pytest

from tergan_core import weights
from tergan_core.errors import MissingLibraryError
from training import judge, train
from training.evaluate import EvaluateConfig
from training.ship import ShipConfig, ship


@pytest.mark.skipif(not judge.PATH.exists(), reason="the judge is not trained yet")
@pytest.mark.slow
def test_a_shipped_model_is_the_runs_with_a_card_that_says_what_and_how_well(smoke, tmp_path, monkeypatch):
    run = train.fit(dataclasses.replace(smoke, run=str(tmp_path / "run"), images=8), progress=False)
    small = EvaluateConfig(out=str(tmp_path / "out"), people=3, scenes=3, transfers=32, cache=str(tmp_path / "cache"))
    folder = ship(ShipConfig(run=run, name="mine", version="9.8.7", folder=tmp_path / "shipped", evaluation=small))
    assert weights.describe(folder)["version"] == "9.8.7"
    assert weights.describe(folder)["sha256"] == weights.describe(run / "checkpoint" / "model")["sha256"]
    card = (folder / "README.md").read_text()
    assert card.startswith("# mine 9.8.7") and "copy identity" in card and "\n8 identity images" in card
    assert json.loads((folder / "training.json").read_text())["config"]["images"] == 8
    assert (folder / "extremes.jpg").stat().st_size > 5_000 and "(extremes.jpg)" in card
    assert (folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert json.loads((folder / "metrics.json").read_text())["transfers"] == 32

    def fail(_):
        raise MissingLibraryError("something is missing")

    monkeypatch.setattr("training.ship.evaluate", fail)
    with pytest.raises(MissingLibraryError):
        ship(ShipConfig(run=run, name="mine", version="10.0.0", folder=tmp_path / "shipped", evaluation=small))
    assert weights.describe(folder)["version"] == "9.8.7"

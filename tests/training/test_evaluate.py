import dataclasses
import json

import numpy as np
import pytest
import torch

from tergan_core import weights
from training import judge
from training.evaluate import EvaluateConfig, evaluate, main
from training.evaluation.report import table
from training.train import build
from training.validate import psnr


def test_psnr_of_a_constant_error():
    assert psnr(torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)).item() == pytest.approx(20.0, abs=1e-3)


@pytest.mark.skipif(not judge.PATH.exists(), reason="the judge is not trained yet")
@pytest.mark.slow
def test_every_figure_stands_beside_the_trivial_rows_and_the_ceiling(smoke, tmp_path):
    model = build(smoke, 3, torch.device("cpu")).networks.model
    folder = weights.save(model.eval(), tmp_path / "model")
    config = EvaluateConfig(
        model=str(folder), out=str(tmp_path / "out"), people=3, scenes=3, transfers=32, cache=str(tmp_path / "cache"),
        read=4, edit_faces=4, fold_people=10,
    )  # fmt: skip
    result = evaluate(config)
    rows = result["transfer"]
    assert rows.keys() == {"model", "copy identity", "copy expression", "truth"}
    assert rows["truth"]["l1"] == 0 and rows["truth"]["ssim"] == pytest.approx(1)
    assert rows["copy identity"]["l1_changed"] > 0.02
    assert rows["copy expression"]["identity_similarity"] < rows["copy identity"]["identity_similarity"]
    assert rows["copy identity"]["gain_db"] == 0 and rows["truth"]["perceptual"] == 0
    assert rows["copy identity"]["perceptual"] > 0
    assert result["folds"]["images"] == 10 * 6 * 3
    assert result["leakage"].keys() == {"expression code", "identity embedding", "chance"}
    assert np.sum(result["recognition"]["confusion"]) == result["recognition"]["images"] == 18
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text()) == result
    assert (tmp_path / "out" / "evaluation.md").read_text() == table(result)
    assert (tmp_path / "out" / "plots.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "grid.png").stat().st_size > 10_000


def test_a_missing_model_ends_with_code_one(tmp_path, capsys):
    assert main(["--model", str(tmp_path / "none"), "--cache", str(tmp_path)]) == 1
    assert "error [weights_not_found]" in capsys.readouterr().err


def test_the_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        EvaluateConfig().people = 3

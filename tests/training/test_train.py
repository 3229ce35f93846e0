import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from tergan_core import weights
from tergan_core.errors import ConfigError, WeightsCorruptError
from training import checkpoint, train
from training.config import PRESETS, merge


def state(run) -> dict[str, torch.Tensor]:
    saved = torch.load(Path(run) / "checkpoint" / "state.pt", weights_only=True)
    return saved["model"] | {f"average.{k}": v for k, v in saved["average"].items()} | saved["critic"]


def metrics(run) -> list[dict]:
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(smoke, tmp_path_factory):
    config = dataclasses.replace(smoke, run=str(tmp_path_factory.mktemp("run") / "whole"))
    train.fit(config, progress=False)
    return config


def test_a_run_leaves_metrics_grids_its_configuration_and_a_model_that_loads(finished):
    run = Path(finished.run)
    rows = metrics(run)
    assert [row["step"] for row in rows if "lr" in row] == list(range(1, 9))
    assert {"paired_swap", "unit_regression", "images_per_s", "waiting_share"} <= rows[0].keys()
    assert "validation/psnr" in rows[-1]
    assert sorted(path.name for path in (run / "grids").iterdir()) == ["0000004.png", "0000008.png"]
    assert json.loads((run / "config.json").read_text())["config"]["images"] == 32
    model = weights.load(run / "checkpoint" / "model")
    assert model.config == finished.model
    assert model.prototypes[1:].abs().sum(1).min() > 0


def test_a_run_starts_from_the_parts_of_finished_weights_that_fit(finished, tmp_path, capsys):
    finished_model = str(Path(finished.run) / "checkpoint" / "model")
    config = dataclasses.replace(finished, start_from=finished_model, run=str(tmp_path))
    started = train.build(config, 3, torch.device("cpu")).networks.model
    for name, value in weights.load(finished_model).named_parameters():
        assert torch.equal(started.state_dict()[name], value), name
    assert not capsys.readouterr().err

    places = dataclasses.replace(config.model, image_size=64, expression_pooling="flatten")
    started = train.build(dataclasses.replace(config, model=places), 3, torch.device("cpu")).networks.model
    assert started.expression_places > 1
    head = weights.load(finished_model).expression_head.weight
    assert torch.allclose(started.expression_head.weight.unflatten(1, (head.shape[1], -1)).sum(-1), head, atol=1e-6)
    assert not capsys.readouterr().err

    larger = dataclasses.replace(config.model, image_size=64, expression_backbone="test_convnext")
    started = train.build(dataclasses.replace(config, model=larger), 3, torch.device("cpu")).networks.model
    for name, value in weights.load(finished_model).named_parameters():
        if not name.startswith("expression_"):
            assert torch.equal(started.state_dict()[name], value), name
    assert "expression_encoder, expression_head" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="'expression_head', which is of another shape"):
        stuck = dataclasses.replace(config, model=larger, frozen=("expression_head",))
        train.build(stuck, 3, torch.device("cpu"))


def test_a_run_starts_with_what_reads_expressions_from_other_weights(smoke, finished, tmp_path):
    source = str(Path(finished.run) / "checkpoint" / "model")
    config = dataclasses.replace(smoke, expression_from=source, seed=7, run=str(tmp_path))
    plain = train.build(dataclasses.replace(config, expression_from=None), 3, torch.device("cpu")).networks.model
    started = train.build(config, 3, torch.device("cpu")).networks.model.state_dict()
    other = weights.load(source).state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(started[name], (other[name] if name.startswith(train.READS_EXPRESSIONS) else value)), name


def test_a_run_starts_its_expression_encoder_from_a_file_of_timm_weights(smoke, tmp_path):
    backbone = timm.create_model("test_resnet")
    file = tmp_path / "backbone.safetensors"
    save_file(backbone.state_dict(), file)
    config = dataclasses.replace(smoke, expression_backbone_file=str(file))
    started = train.build(config, 3, torch.device("cpu")).networks.model.expression_encoder.features.model.state_dict()
    assert started
    for name, value in started.items():
        assert torch.equal(value, backbone.state_dict()[name]), name

    save_file({"conv1.0.weight": torch.zeros(2)}, file)
    with pytest.raises(ConfigError, match="does not hold this backbone"):
        train.build(config, 3, torch.device("cpu"))
    save_file({"other": torch.zeros(2)}, file)
    with pytest.raises(ConfigError, match="lacks"):
        train.build(config, 3, torch.device("cpu"))


def test_frozen_parts_do_not_move_and_the_others_do(smoke, tmp_path):
    frozen = ("expression_encoder", "expression_head", "classifier")
    config = dataclasses.replace(smoke, frozen=frozen, run=str(tmp_path / "run"))
    before = train.build(config, 3, torch.device("cpu")).networks.model.state_dict()
    after = state(train.fit(config, progress=False))
    moved = {name for name, value in before.items() if not torch.equal(value, after[name]) and name != "prototypes"}
    assert not [name for name in moved if name.startswith(frozen)]
    assert {"decoder", "identity_encoder", "identity_head"} == {name.partition(".")[0] for name in moved}
    with pytest.raises(ConfigError, match="Close names: decoder"):
        train.build(dataclasses.replace(config, frozen=("decodr",)), 3, torch.device("cpu"))


def test_an_encoder_is_trained_alone_without_drawing(smoke, tmp_path, monkeypatch):
    weights_ = dataclasses.replace(PRESETS["expression"].weights)
    config = dataclasses.replace(smoke, weights=weights_, run=str(tmp_path / "run"), images=8)
    monkeypatch.setattr(train, "validate", lambda *_: {})
    monkeypatch.setattr(train, "_draw", lambda *_: None)
    monkeypatch.setattr("tergan_core.decoder.WarpDecoder.draw", lambda *_: pytest.fail("nothing has to be drawn"))
    train.fit(config, progress=False)
    assert {"unit_regression", "expression_classification"} <= metrics(tmp_path / "run")[0].keys()


def test_consistency_and_adversarial_terms_join_late(finished):
    rows = [row for row in metrics(finished.run) if "lr" in row]
    assert all(("adversarial" in row) == (row["step"] > 4) for row in rows)
    assert all(("cross_cycle" in row) == (row["step"] > 4) for row in rows)


def test_the_critic_learns_alone_before_its_terms_join(finished):
    rows = [row for row in metrics(finished.run) if "lr" in row]
    assert all(("critic/adversarial" in row) == (row["step"] > 3) for row in rows)


def test_a_stopped_run_resumed_equals_an_uninterrupted_one_to_the_bit(finished, tmp_path, monkeypatch):
    config = dataclasses.replace(finished, run=str(tmp_path / "stopped"))
    log = train._log

    def log_then_stop(row, run, writer):
        log(row, run, writer)
        if row["step"] == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_log", log_then_stop)
        train.fit(config, progress=False)
    assert torch.load(tmp_path / "stopped" / "checkpoint" / "state.pt", weights_only=True)["step"] == 5
    train.fit(config, progress=False)
    one, other = state(finished.run), state(config.run)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights_and_metrics(finished, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"faces": {"cache": finished.faces.cache}, "run": str(tmp_path / "killed")}))
    command = [sys.executable, "-m", "training.train", "--preset", "smoke", "--config", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = tmp_path / "killed" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (log.exists() and '"step": 6' in log.read_text()) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert torch.load(log.parent / "checkpoint" / "state.pt", weights_only=True)["step"] == 4
    with log.open("a") as torn:
        torn.write('{"step": 7, "paired_sw')
    config = dataclasses.replace(finished, run=str(log.parent))
    train.fit(config, progress=False)
    one, other = state(finished.run), state(config.run)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    terms = [[row["paired_swap"] for row in metrics(run) if "lr" in row] for run in (finished.run, config.run)]
    assert terms[0] == terms[1] and len(terms[0]) == 8


def test_a_loss_that_is_not_finite_ends_the_run_and_is_never_saved(finished, tmp_path, monkeypatch, capsys):
    weigh, steps = train.weigh, iter(range(100))

    def broken(terms, weights):
        if next(steps) == 5:
            os.kill(os.getpid(), signal.SIGTERM)  # stopping saves, but not this
            return weigh(terms, weights) * float("nan")
        return weigh(terms, weights)

    monkeypatch.setattr(train, "weigh", broken)
    run = tmp_path / "run"
    file = tmp_path / "config.json"
    changes = {"faces": {"cache": finished.faces.cache}, "run": str(run), "report_every": 4}
    file.write_text(json.dumps(changes))
    assert train.main(["--preset", "smoke", "--config", str(file)]) == 1
    assert "error [not_finite]: the loss is not finite at step 6" in capsys.readouterr().err
    saved = torch.load(run / "checkpoint" / "state.pt", weights_only=True)
    assert saved["step"] == 4 and all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_a_full_disk_ends_the_run_with_a_message_and_leaves_the_last_checkpoint(finished, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished.run, run)
    before = (run / "checkpoint" / "state.pt").read_bytes()
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"faces": {"cache": finished.faces.cache}, "run": str(run), "images": 48}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        assert train.main(["--preset", "smoke", "--config", str(file)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    error = capsys.readouterr().err
    assert "error [file_system]: no checkpoint can be written to" in error and "The last checkpoint is whole" in error
    assert (run / "checkpoint" / "state.pt").read_bytes() == before
    assert not (run / "checkpoint.new").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_trains_and_goes_on_where_it_stopped(smoke, tmp_path, precision):
    config = dataclasses.replace(smoke, run=str(tmp_path), device="cuda", precision=precision, loaders=2)
    train.fit(config, progress=False, until=5)
    train.fit(config, progress=False)
    assert [row["step"] for row in metrics(tmp_path) if "lr" in row] == list(range(1, 9))
    assert weights.load(tmp_path / "checkpoint" / "model").config == smoke.model


def test_a_finished_run_is_left_alone(finished):
    before = (Path(finished.run) / "checkpoint" / "state.pt").read_bytes()
    train.fit(finished, progress=False)
    assert (Path(finished.run) / "checkpoint" / "state.pt").read_bytes() == before


def test_a_run_that_goes_on_with_other_settings_keeps_the_earlier_ones(finished, tmp_path, capsys):
    run = shutil.copytree(finished.run, tmp_path / "run")
    before = json.loads((run / "config.json").read_text())
    train.fit(dataclasses.replace(finished, run=str(run)), progress=False)  # is finished: nothing to record
    assert json.loads((run / "config.json").read_text()) == before
    train.fit(dataclasses.replace(finished, run=str(run), images=36, lr=1e-5), progress=False)
    record = json.loads((run / "config.json").read_text())
    assert record["earlier"] == [before] and record["from_step"] == 8 and record["config"]["lr"] == 1e-5
    assert "from step 8 on the settings are other ones" in capsys.readouterr().err


def test_a_checkpoint_of_other_people_is_refused(finished, tmp_path):
    run = shutil.copytree(finished.run, tmp_path / "run")
    more = dataclasses.replace(finished, run=str(run), faces=dataclasses.replace(finished.faces, people=4))
    with pytest.raises(ConfigError, match="of other people"):
        train.fit(more, progress=False)


def test_a_damaged_checkpoint_is_refused(finished, tmp_path):
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes((Path(finished.run) / "checkpoint" / "state.pt").read_bytes()[:5000])
    with pytest.raises(WeightsCorruptError, match="Delete the folder to start again"):
        checkpoint.load(tmp_path / "run", torch.device("cpu"))


def test_a_checkpoint_whose_renaming_was_cut_off_is_found(finished, tmp_path):
    old = tmp_path / "checkpoint.old"
    old.mkdir()
    (old / "state.pt").write_bytes((Path(finished.run) / "checkpoint" / "state.pt").read_bytes())
    assert checkpoint.load(tmp_path, torch.device("cpu"))["step"] == 8


def test_a_dry_run_prints_the_resolved_configuration_and_the_cost(capsys):
    assert train.main(["--preset", "smoke", "--dry-run", "--batch-size", "2", "--model.decoder", "vector"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["config"]["batch_size"] == 2 and printed["config"]["model"]["decoder"] == "vector"
    assert printed["steps"] == 16
    cost = printed["per_image"]
    assert 0 < cost["critic"]["gflops"] and 0 < cost["first stage"]["gflops"] < cost["refining"]["gflops"]
    assert 0 < cost["first stage"]["kept_mib"] < cost["refining"]["kept_mib"]
    assert printed["parameters_millions"]["model"] > 0


def test_either_gradient_of_a_grouped_convolution_costs_what_it_does_itself():
    layer, image = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8), torch.rand(2, 8, 16, 16, requires_grad=True)
    forward = 2 * 9 * 8 * 16 * 16
    assert train._cost(lambda: layer(image).sum())["gflops"] == pytest.approx(3 * forward / 1e9)


def test_flags_win_over_the_file_and_the_file_over_the_preset(tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"images": 64, "seed": 5, "faces": {"people": 9}}))
    assert train.main(["--preset", "smoke", "--config", str(file), "--dry-run", "--seed", "6"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["images"], config["seed"], config["faces"]["people"], config["faces"]["pool"]) == (64, 6, 9, 7)


def test_an_unknown_key_in_the_file_ends_with_code_one_and_close_names(tmp_path, capsys):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"weights": {"paired_swop": 1}}))
    assert train.main(["--preset", "smoke", "--config", str(file), "--dry-run"]) == 1
    assert "unknown key 'paired_swop'. Close names: paired_swap" in capsys.readouterr().err


def test_other_people_have_another_cache(smoke):
    others = merge(smoke, {"faces": {"variety": {"camera": 0.0}}}), merge(smoke, {"faces": {"weakest": 0.3}})
    caches = {train._cache(config, "train") for config in (smoke, *others)}
    assert len(caches) == 3 and len({train._cache(config, "validation") for config in (smoke, *others)}) == 1


def test_the_paper_preset_uses_neither_units_nor_true_transfers():
    paper = PRESETS["paper"]
    assert paper.model.units == () and paper.model.decoder == "vector"
    assert paper.weights.paired_swap == paper.weights.unit_regression == paper.true_units_share == 0
    assert paper.weights.expression_consistency > 0 and paper.weights.identity_consistency > 0


@pytest.mark.slow
def test_the_paper_preset_trains(smoke, tmp_path):
    paper = PRESETS["paper"]
    model = dataclasses.replace(smoke.model, units=(), expression_width=16, decoder="vector")
    config = dataclasses.replace(
        smoke, model=model, weights=paper.weights, true_units_share=0.0, reconstruction_share=0.5, refine_from=0.0,
        run=str(tmp_path / "paper"), images=8,
    )  # fmt: skip
    train.fit(config, progress=False)
    assert "identity_consistency" in metrics(config.run)[0]
    prototypes = weights.load(tmp_path / "paper" / "checkpoint" / "model").prototypes
    assert prototypes.abs().sum(1).min() > 0
    assert torch.pdist(prototypes).min() > 0


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_global_batch(smoke, tmp_path):
    # Layer norm alone: batch norm sees the faces of its own process.
    model = {"identity_backbone": "test_vit", "expression_backbone": "test_vit"}
    rows = {}
    for processes, batch_size in ((1, 8), (2, 4)):
        run = tmp_path / str(processes)
        changes = {"faces": {"cache": smoke.faces.cache}, "run": str(run), "images": 72, "model": model}
        changes["seed"] = 1  # by 0 a gradient of the critic is so near 0 that rounding turns its sign: r1 2.6 % apart
        file = tmp_path / f"{processes}.json"
        file.write_text(json.dumps({**changes, "batch_size": batch_size, "reconstruction_share": 0.25}))
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command += ["-m", "training.train", "--preset", "smoke", "--config", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        rows[processes] = [row for row in metrics(run) if "lr" in row]
    for one, two in zip(rows[1], rows[2], strict=True):
        for timing in ("images_per_s", "waiting_share"):
            del one[timing], two[timing]
        assert one == pytest.approx(two, rel=1e-3)
    assert "adversarial" in rows[1][-1] and "critic/r1" in rows[1][-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warmup_steps": 0}, "--warmup-steps is 0"),
        ({"reconstruction_share": 0.95, "batch_size": 8}, "leave no image for paired_swap"),
        ({"model": {"expressions": ("neutral", "happiness", "anger")}}, "accepted for the procedural people"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(smoke, change, message):
    with pytest.raises(ConfigError, match=message):
        merge(smoke, change)


def test_small_batches_reconstruct_too(smoke):
    assert smoke.reconstruction_share * smoke.batch_size < 1
    assert smoke.reconstructions == 1

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from tergan_core import weights
from tergan_core.config import ModelConfig
from tergan_core.errors import WeightsCorruptError, WeightsNotFoundError
from tergan_core.model import TERGAN


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    config = ModelConfig(image_size=32, identity_backbone="test_resnet", expression_backbone="test_resnet")
    return weights.save(
        TERGAN(config).eval(), tmp_path / "mine", version="1.2.3", card="# Mine", metrics={"psnr": 30.0}
    )


@torch.no_grad()
def test_a_loaded_model_gives_the_same_output_to_the_bit(folder, tmp_path):
    model = weights.load(folder)
    again = weights.load(weights.save(model, tmp_path / "again"))
    face = torch.rand(2, 3, 32, 32)
    assert torch.equal(
        model.transfer(identity=face, expression=face.flip(0)), again.transfer(identity=face, expression=face.flip(0))
    )
    assert not model.training


def test_the_folder_says_what_it_is(folder):
    description = weights.describe(folder)
    assert (description["name"], description["version"], description["format_version"]) == ("mine", "1.2.3", 1)
    assert json.loads((folder / "metrics.json").read_text()) == {"psnr": 30.0}


def test_a_missing_model_is_not_found(tmp_path):
    with pytest.raises(WeightsNotFoundError, match=r"no model at .*nothing.* is missing"):
        weights.load(tmp_path / "nothing")


def test_damaged_weights_are_refused(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 0xFF
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsCorruptError, match="sha256"):
        weights.load(folder)


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    _refresh_sha256(folder)
    with pytest.raises(WeightsCorruptError, match="does not hold this model's weights"):
        weights.load(folder)


@pytest.mark.parametrize("change", ["drop", "add", "reshape"])
def test_every_tensor_has_to_fit(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if change == "drop":
        tensors.pop("prototypes")
    elif change == "add":
        tensors["stowaway"] = torch.zeros(1)
    else:
        tensors["prototypes"] = torch.zeros(7, 51)
    save_file(tensors, path)
    _refresh_sha256(folder)
    with pytest.raises(WeightsCorruptError, match=r"prototypes|stowaway"):
        weights.load(folder)


_OF_AN_ENGINE = {"format_version": 1, "name": "a", "version": "1", "sha256": "", "model": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "lacks format_version"),
        ('{"format_version": 1}', "lacks model, name"),
        *((json.dumps(_OF_AN_ENGINE | {"engine": engine}), "lacks name, sha256") for engine in ("onnx", {}, None)),
    ],
)
def test_a_damaged_description_is_refused(folder, text, message):
    (folder / "config.json").write_text(text)
    with pytest.raises(WeightsCorruptError, match=message):
        weights.load(folder)


def test_a_newer_format_says_how_to_upgrade(folder):
    _change(folder, format_version=2)
    with pytest.raises(WeightsCorruptError, match="pip install -U tergan-core"):
        weights.load(folder)


def test_an_unknown_key_in_the_configuration_is_refused(folder):
    description = weights.describe(folder)
    _change(folder, model=description["model"] | {"layers": 3})
    with pytest.raises(WeightsCorruptError, match="unknown key 'layers'"):
        weights.load(folder)


def test_a_folder_without_permission_says_so(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(WeightsNotFoundError, match="no permission to read"):
        weights.load(folder)


def test_a_hub_model_that_cannot_be_had_is_not_found(monkeypatch):
    def offline(*_args, **_kwargs):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(WeightsNotFoundError, match=r"hf:someone/model.*no network"):
        weights.load("hf:someone/model")


def test_a_hub_model_is_loaded_from_its_downloaded_folder(folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repository, **_: str(folder))
    assert weights.load("hf:someone/model").config == weights.load(folder).config


@pytest.mark.skipif(not weights.catalogue(), reason="no weights are shipped yet")
def test_the_shipped_weights_load_without_argument_or_network():
    assert weights.SHIPPED in weights.catalogue()
    assert weights.load().config.image_size >= 64


def _change(folder, **values):
    description = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(description | values))


def _refresh_sha256(folder):
    import hashlib

    _change(folder, sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())

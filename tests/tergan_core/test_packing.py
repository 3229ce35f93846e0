"""Archives: what is in them, and that the same input gives the same bytes."""

import hashlib
import json
import os
import shutil
import time
import zipfile
from pathlib import Path

import pytest

from tergan_core import packing, weights
from tergan_core.errors import ConfigError, MissingExtraError, WeightsCorruptError, WeightsNotFoundError


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("task", packing.TASKS)
def test_an_archive_holds_the_model_one_handler_and_its_settings(task, tiny_folder, tmp_path):
    archive = packing.pack(task, tiny_folder, tmp_path)
    assert archive == tmp_path / f"{task}.mar"
    with zipfile.ZipFile(archive) as file:
        names = set(file.namelist())
        manifest = json.loads(file.read("MAR-INF/MANIFEST.json"))
        assert file.read("model.safetensors") == (Path(tiny_folder) / "model.safetensors").read_bytes()
    assert {f"{task}_handler.py", f"{task}.yaml", "config.json", "model.safetensors", "README.md"} <= names
    assert not any(name.endswith((".pt", ".pth", ".pkl")) for name in names)
    assert manifest["model"]["modelName"] == task
    assert manifest["model"]["modelVersion"] == weights.describe(tiny_folder)["version"]
    assert manifest["model"]["handler"] == f"{task}_handler.py"


def test_the_same_model_gives_the_same_bytes_at_another_time_and_place(tiny_folder, tmp_path):
    first = packing.pack("edit", tiny_folder, tmp_path / "one")
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    for path in copy.iterdir():
        os.utime(path, (time.time() + 9_999, time.time() + 9_999))
    second = packing.pack("edit", copy, tmp_path / "two")
    assert sha256(first) == sha256(second)


def test_the_version_of_the_model_folder_becomes_the_archives(tiny_model, tiny_folder, tmp_path):
    newer = weights.save(tiny_model, tmp_path / "model", version="7.1.0")
    archive = packing.pack("edit", newer, tmp_path)
    with zipfile.ZipFile(archive) as file:
        assert json.loads(file.read("MAR-INF/MANIFEST.json"))["model"]["modelVersion"] == "7.1.0"


def test_an_archive_that_is_right_already_is_left_and_another_needs_force(tiny_model, tiny_folder, tmp_path):
    archive = packing.pack("recognize", tiny_folder, tmp_path)
    before = archive.stat().st_mtime_ns
    assert packing.pack("recognize", tiny_folder, tmp_path).stat().st_mtime_ns == before
    newer = weights.save(tiny_model, tmp_path / "model", version="7.1.0")
    with pytest.raises(ConfigError, match="force"):
        packing.pack("recognize", newer, tmp_path)
    packing.pack("recognize", newer, tmp_path, force=True)
    assert archive.stat().st_mtime_ns != before
    assert [path.name for path in tmp_path.glob("*recognize*")] == ["recognize.mar"]


def test_an_unknown_task_is_refused_with_the_known_ones(tiny_folder, tmp_path):
    with pytest.raises(ConfigError, match="transfer"):
        packing.pack("tranfer", tiny_folder, tmp_path)


def test_a_missing_model_and_a_damaged_one_are_refused(tiny_folder, tmp_path):
    with pytest.raises(WeightsNotFoundError):
        packing.pack("edit", tmp_path / "nowhere", tmp_path)
    damaged = shutil.copytree(tiny_folder, tmp_path / "damaged")
    content = bytearray((damaged / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsCorruptError):
        packing.pack("edit", damaged, tmp_path)
    assert not (tmp_path / "edit.mar").exists()


def test_without_the_archiver_the_error_holds_the_pip_line(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packing.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'tergan-core\[serve\]'"):
        packing.pack("edit", tiny_folder, tmp_path)

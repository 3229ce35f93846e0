"""No pickle is read anywhere: a file that is unpickled runs whatever its author wrote."""

import ast
import importlib.util
import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest
import torch

from tergan_core import packing, weights
from tergan_core.errors import WeightsCorruptError

ROOT = Path(__file__).parents[1]
SOURCES = [path for folder in ("tergan_core", "handlers", "model_archives") for path in (ROOT / folder).rglob("*.py")]


class Bomb:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture(params=["pickle", "torch.save"])
def bombed_folder(request, tiny_folder, tmp_path):
    """A model folder whose weights are a pickle of the right sha256; and the mark that it would make."""
    folder, mark = tmp_path / "model", tmp_path / "mark"
    shutil.copytree(tiny_folder, folder)
    file = io.BytesIO()
    (pickle.dump if request.param == "pickle" else torch.save)(Bomb(mark), file)
    (folder / "model.safetensors").write_bytes(file.getvalue())
    (folder / "pytorch_model.bin").write_bytes(file.getvalue())
    description = json.loads((folder / "config.json").read_text())
    description["sha256"] = weights.sha256(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(description))
    return folder, mark


def handler(task):
    path = ROOT / "handlers" / f"{task}_handler.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, f"{task.capitalize()}Handler")()


def context(folder):
    """What TorchServe hands to a worker."""
    quiet = SimpleNamespace(cache_keys=list)
    calls = {name: lambda *arguments: None for name in ("set_response_status", "set_response_content_type")}
    properties = {"model_dir": str(folder), "gpu_id": None}
    headers = {"Content-Type": "image/png"}
    return SimpleNamespace(
        system_properties=properties,
        model_yaml_config={},
        metrics=quiet,
        get_all_request_header=lambda index: headers,
        **calls,
    )


def test_the_bomb_of_these_tests_goes_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


def test_a_pickle_in_the_place_of_weights_is_refused_by_library_packing_and_worker(bombed_folder, tmp_path):
    folder, mark = bombed_folder
    for load in (
        lambda: weights.load(folder),
        lambda: packing.pack("edit", folder, tmp_path / "out"),
        lambda: packing.triton_repository(folder, tmp_path / "repository"),
        lambda: handler("edit").initialize(context(folder)),
    ):
        with pytest.raises(WeightsCorruptError):
            load()
    assert not mark.exists()


def test_a_file_that_does_not_belong_to_the_model_is_not_packed(tiny_folder, tmp_path):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    with zipfile.ZipFile(packing.pack("edit", folder, tmp_path)) as archive:
        assert "pytorch_model.bin" not in archive.namelist()


def test_a_worker_starts_and_answers_where_nothing_can_be_unpickled(tiny_folder, monkeypatch):
    def forbidden(*arguments, **options):
        raise AssertionError("something was unpickled")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")):
        monkeypatch.setattr(module, name, forbidden)
    worker = handler("recognize")
    worker.initialize(context(tiny_folder))
    file = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "teal").save(file, "png")
    (body,) = worker.handle([{"body": bytearray(file.getvalue())}], context(tiny_folder))
    assert "label" in json.loads(body)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_names_what_unpickles(path):
    """By syntax: imports of pickle and its kin, and `torch.load` or `numpy.load` with pickles allowed."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
        if isinstance(node, ast.Attribute):
            assert (getattr(node.value, "id", None), node.attr) not in {("torch", "load"), ("joblib", "load")}
        if isinstance(node, ast.keyword):
            assert node.arg != "allow_pickle" or getattr(node.value, "value", None) is False

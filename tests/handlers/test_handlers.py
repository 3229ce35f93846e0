"""The handler files, driven as TorchServe drives them: by bare module name, with a context, batch by batch."""

import ast
import importlib.util
import inspect
import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest

from tergan_core.errors import EngineError
from tergan_core.serving import Service

HANDLERS = Path(__file__).parents[2] / "handlers"
TASKS = ("transfer", "edit", "recognize")


class FakeMetrics:
    """The part of `ts.metrics.metric_cache_yaml_impl.MetricsCacheYamlImpl` that handlers use."""

    def __init__(self, names):
        self.names, self.seen = names, []

    def cache_keys(self):
        return [f"counter:{name}" for name in self.names]

    def get_metric(self, name):
        assert name in self.names
        return SimpleNamespace(add_or_update=lambda value, labels: self.seen.append((name, value, labels)))


class FakeContext:
    """The part of `ts.context.Context` that handlers use."""

    def __init__(self, model_dir):
        self.system_properties = {"model_dir": str(model_dir), "gpu_id": None, "batch_size": 3}
        self.model_yaml_config = {"handler": {"threads": 1}}
        self.metrics = FakeMetrics(["tergan_requests_total", "tergan_errors_total", "tergan_decode_ms_total"])
        self.headers, self.statuses, self.content_types, self.response_headers = [], {}, {}, {}

    def get_all_request_header(self, index):
        return self.headers[index]

    def set_response_status(self, code=200, phrase="", idx=0):
        self.statuses[idx] = (code, phrase)

    def set_response_content_type(self, index, value):
        self.content_types[index] = value

    def set_response_header(self, index, name, value):
        self.response_headers[index, name] = value


def handler_class(task):
    """The one class of the file, found the way TorchServe finds it."""
    spec = importlib.util.spec_from_file_location(f"{task}_handler", HANDLERS / f"{task}_handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (found,) = (value for _, value in inspect.getmembers(module, inspect.isclass) if value.__module__ == spec.name)
    return found


@pytest.fixture(scope="module")
def model_dir(tiny_folder, tmp_path_factory):
    return shutil.copytree(tiny_folder, tmp_path_factory.mktemp("unpacked") / "model")


def ready(task, model_dir, **options):
    context = FakeContext(model_dir)
    context.model_yaml_config["handler"] |= options
    handler = handler_class(task)()
    handler.initialize(context)
    return handler, context


def run(handler, context, rows, headers):
    context.headers = headers
    bodies = handler.handle(rows, context)
    assert len(bodies) == len(rows) == len(context.statuses) == len(context.content_types)
    return bodies


def png(seed=0):
    file = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "png")
    return bytearray(file.getvalue())


@pytest.mark.parametrize("task", TASKS)
def test_a_handler_file_is_small_has_one_class_and_imports_nothing_at_the_top(task):
    source = (HANDLERS / f"{task}_handler.py").read_text()
    body = ast.parse(source).body
    assert len(source.splitlines()) <= 24
    assert [type(node) for node in body] == [ast.Expr, ast.ClassDef]
    assert "import ts" not in source and "from ts" not in source


@pytest.mark.parametrize("task", TASKS)
def test_a_worker_has_run_its_largest_batch_before_the_first_request(task, model_dir, monkeypatch):
    sizes, handle = [], Service.handle

    def counted(self, requests):
        sizes.append(len(requests))
        return handle(self, requests)

    monkeypatch.setattr(Service, "handle", counted)
    _, context = ready(task, model_dir)
    assert sizes == [context.system_properties["batch_size"]] and not context.metrics.seen


def test_a_worker_that_cannot_answer_does_not_start(model_dir):
    with pytest.raises(EngineError, match=r"cannot answer a blank picture.*image_too_large"):
        ready("edit", model_dir, limits={"max_pixels": 10})


def test_each_request_of_a_batch_gets_its_own_status_and_content_type(model_dir):
    handler, context = ready("edit", model_dir)
    good = {"image": png(), "expression": bytearray(b"happiness")}
    multipart = {"Content-Type": "multipart/form-data; boundary=x"}
    rows = [
        good,
        {**good, "image": bytearray(b"broken")},
        {**good, "expression": bytearray(b"joy")},
        {"body": bytearray(b"x")},
        good,
    ]
    headers = [multipart, multipart, multipart, {"Content-Type": "text/plain"}, {**multipart, "Accept": "image/jpeg"}]
    bodies = run(handler, context, rows, headers)
    assert [context.statuses[i][0] for i in range(5)] == [200, 422, 422, 415, 200]
    assert [context.content_types[i] for i in range(5)] == ["image/png", *["application/json"] * 3, "image/jpeg"]
    assert bodies[0].startswith(b"\x89PNG") and bodies[4].startswith(b"\xff\xd8")
    assert json.loads(bodies[1])["field"] == "image"
    handler.worker.flush()
    counted = {(name, *labels): value for name, value, labels in context.metrics.seen}
    assert counted.pop(("tergan_decode_ms_total", "edit")) > 0
    assert counted == {
        ("tergan_requests_total", "edit"): 5,
        ("tergan_errors_total", "edit", "invalid_image"): 1,
        ("tergan_errors_total", "edit", "unknown_expression"): 1,
        ("tergan_errors_total", "edit", "unsupported_media_type"): 1,
    }


def test_transfer_takes_two_pictures_and_recognize_one(model_dir):
    multipart = {"content-type": "multipart/form-data"}
    bodies = run(*ready("transfer", model_dir), [{"identity": png(1), "expression": png(2)}], [multipart])
    assert bodies[0].startswith(b"\x89PNG")
    bodies = run(*ready("recognize", model_dir), [{"body": png(1)}], [{"content-type": "image/png"}])
    assert "label" in json.loads(bodies[0])


def test_the_archives_settings_may_limit_the_pixels(model_dir):
    raw = {"content-type": "image/png"}
    handler, context = ready("recognize", model_dir, limits={"max_pixels": 64 * 64 - 1})
    (body,) = run(handler, context, [{"body": png()}], [raw])
    assert context.statuses[0][0] == 413 and b"at most 4095" in body
    with pytest.raises(TypeError, match="pixel_limit"):
        ready("recognize", model_dir, limits={"pixel_limit": 1})


def test_a_damaged_model_fails_at_the_start_with_its_own_error(model_dir, tmp_path):
    from tergan_core.errors import WeightsCorruptError

    damaged = shutil.copytree(model_dir, tmp_path / "damaged")
    (damaged / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsCorruptError):
        ready("recognize", damaged)

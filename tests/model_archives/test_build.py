"""The store's model folders with compiled functions."""

import shutil

from model_archives import build
from tergan_core import weights


def test_compiled_functions_are_kept_until_the_model_is_another_one(tiny_model, tmp_path, monkeypatch):
    compiled = []

    def export(source, engine, folder):
        compiled.append(engine)
        shutil.copytree(source, folder)

    monkeypatch.setattr(build, "export", export)
    source = weights.save(tiny_model, tmp_path / "model", version="1.0")
    store = tmp_path / "store"
    first = build._with_engine(source, "onnx", store)
    assert build._with_engine(source, "onnx", store) == first and compiled == ["onnx"]
    other = build._with_engine(source, "onnx-int8", store)
    weights.save(tiny_model, source, version="2.0")
    second = build._with_engine(source, "onnx", store)
    assert compiled == ["onnx", "onnx-int8", "onnx"] and other.exists() and not first.exists()
    assert weights.describe(second)["version"] == "2.0"

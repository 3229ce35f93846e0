"""Engines give what eager PyTorch gives, at any batch size; what cannot run is said, and eager takes its place."""

import importlib.util
import json
import logging
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from tergan_core import TERGAN, FaceEditor, engine, packing, weights
from tergan_core.engine import ENGINES, TOLERANCE, CompiledEngine, export, load_engine, quickest
from tergan_core.errors import ConfigError, EngineError, MissingExtraError, WeightsCorruptError, WeightsNotFoundError

NEEDS = {"onnx": ("onnxscript", "onnxruntime"), "openvino": ("onnxscript", "openvino")}


def skip_unless_it_can_run(name):
    for package in NEEDS.get(name, ()):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    if name in ("compile", "aoti") and not shutil.which("g++"):
        pytest.skip("needs a C++ compiler")


@pytest.fixture(scope="session")
def onnx_folder(tiny_folder, tmp_path_factory):
    skip_unless_it_can_run("onnx")
    return export(tiny_folder, "onnx", tmp_path_factory.mktemp("engines") / "onnx")


def same_as_eager(editor, eager, pictures):
    people, drivers = pictures, pictures[::-1]
    ours = editor.transfer(identity=people, expression=drivers, intensity=0.7)
    for mine, its in zip(ours, eager.transfer(identity=people, expression=drivers, intensity=0.7), strict=True):
        assert np.abs(mine.image.astype(int) - its.image).max() <= 1
        assert np.abs(mine.flow - its.flow).max() <= TOLERANCE["onnx"]
    for mine, its in zip(editor.recognize(pictures), eager.recognize(pictures), strict=True):
        assert mine.probabilities == pytest.approx(its.probabilities, abs=TOLERANCE["onnx"])


def test_onnx_gives_eagers_results_at_batch_sizes_it_was_not_made_with(onnx_folder, tiny_editor, face_images):
    editor = FaceEditor.load(onnx_folder, device="cpu")
    assert isinstance(editor.model, CompiledEngine)
    for count in (1, 5):
        same_as_eager(editor, tiny_editor, face_images[:count])


def test_the_quickest_engine_is_onnx_where_it_can_run_and_eager_elsewhere(monkeypatch):
    skip_unless_it_can_run("onnx")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert quickest() == "onnx"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else object())
    assert quickest() == "eager"
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert quickest() == "eager"


# In a process of its own: one that has run OpenVINO 2026.4 and trains later dies at SIGTERM of a segmentation fault.
OPENVINO = """
import runpy, sys
import numpy as np
from tergan_core import FaceEditor
from tergan_core.engine import CompiledEngine
tests, folder, eager, faces = sys.argv[1:]
editor = FaceEditor.load(folder, device="cpu")
assert isinstance(editor.model, CompiledEngine)
for count in (1, 5):
    pictures = list(np.load(faces)[:count])
    runpy.run_path(tests)["same_as_eager"](editor, FaceEditor.load(eager, device="cpu"), pictures)
"""


def test_openvino_runs_the_same_files(onnx_folder, tiny_folder, face_images, tmp_path):
    skip_unless_it_can_run("openvino")
    folder = shutil.copytree(onnx_folder, tmp_path / "openvino")
    description = weights.describe(folder)
    weights.write_description(folder, {**description, "engine": {**description["engine"], "name": "openvino"}})
    np.save(tmp_path / "faces.npy", np.stack(face_images[:5]))
    files = map(str, (__file__, folder, tiny_folder, tmp_path / "faces.npy"))
    done = subprocess.run([sys.executable, "-c", OPENVINO, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_expression_encoder_of_8_bits_reads_what_eager_reads_and_leaves_the_rest_alone(
    onnx_folder, tiny_folder, tiny_editor, face_images, tmp_path
):
    folder = export(tiny_folder, "onnx-int8", tmp_path / "int8")
    editor = FaceEditor.load(folder, device="cpu")
    assert isinstance(editor.model, CompiledEngine)
    assert (folder / "draw.onnx").stat().st_size == (onnx_folder / "draw.onnx").stat().st_size
    smaller = (folder / "encode_expression.onnx").read_bytes()
    assert len(smaller) < 0.6 * (onnx_folder / "encode_expression.onnx").stat().st_size and b"QuantizeLinear" in smaller
    for count in (1, 5):
        for mine, its in zip(
            editor.recognize(face_images[:count]), tiny_editor.recognize(face_images[:count]), strict=True
        ):
            assert mine.units == pytest.approx(its.units, abs=TOLERANCE["onnx-int8"])
            assert mine.probabilities == pytest.approx(its.probabilities, abs=TOLERANCE["onnx-int8"])


def test_maps_of_8_bits_have_the_range_that_relu6_leaves_them(tmp_path):
    skip_unless_it_can_run("onnx")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU6(), torch.nn.Conv2d(4, 4, 3))
    network[0].weight.data[0] *= 10_000  # a map of some thousand, of which 0 to 6 are left, beside maps of less than 1
    faces = torch.rand(16, 3, 12, 12)
    program = torch.export.export(network, (faces[:2],), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},))
    torch.onnx.export(program, f=str(tmp_path / "network.onnx"), external_data=False, verbose=False)
    engine._quantize(tmp_path / "network.onnx", faces.numpy())
    session = engine._onnx_session(tmp_path / "network.onnx")
    (ours,) = session.run(None, {session.get_inputs()[0].name: faces.numpy()})
    theirs = network(faces).detach().numpy()
    assert np.abs(ours - theirs).mean() < 0.02 * theirs.std()


@pytest.mark.compiles
@pytest.mark.parametrize("name", ["compile", "aoti", "openvino"])
def test_every_other_engine_gives_eagers_results(name, tiny_folder, tiny_editor, face_images, tmp_path):
    skip_unless_it_can_run(name)
    editor = FaceEditor.load(export(tiny_folder, name, tmp_path / name), device="cpu")
    assert isinstance(editor.model, CompiledEngine)
    for count in (1, 5):
        same_as_eager(editor, tiny_editor, face_images[:count])


def test_a_codes_image_and_maps_outlive_the_next_call(onnx_folder, face_images):
    editor = FaceEditor.load(onnx_folder, device="cpu")
    first = editor.encode_identity(face_images[0])
    kept = [part.clone() for part in first.maps]
    editor.encode_identity(face_images[1])
    assert all(torch.equal(now, then) for now, then in zip(first.maps, kept, strict=True))


def test_an_exported_folder_is_a_model_folder_that_an_archive_takes_whole(onnx_folder, tiny_folder, tmp_path):
    import zipfile

    stored = weights.describe(onnx_folder)["engine"]
    assert stored["name"] == "onnx" and sorted(stored["sha256"]) == [
        "draw.onnx", "encode_expression.onnx", "encode_identity.onnx",
    ]  # fmt: skip
    eager, ours = weights.load(tiny_folder), weights.load(onnx_folder)
    assert all(torch.equal(a, b) for a, b in zip(eager.parameters(), ours.parameters(), strict=True))
    with zipfile.ZipFile(packing.pack("edit", onnx_folder, tmp_path)) as file:
        for name in stored["sha256"]:
            assert file.read(name) == (onnx_folder / name).read_bytes()


def test_an_eager_export_is_the_model_without_its_engine(onnx_folder, tiny_folder, tmp_path):
    folder = export(onnx_folder, "eager", tmp_path / "eager")
    assert "engine" not in weights.describe(folder)
    assert {path.name for path in folder.iterdir()} == {path.name for path in weights.files(tiny_folder)}


def changed(folder, to, **changes):
    """A copy of a model folder with other values in its engine's description."""
    shutil.copytree(folder, to)
    config = to / "config.json"
    description = json.loads(config.read_text())
    description["engine"].update(changes)
    config.write_text(json.dumps(description))
    return to


def test_a_compiled_file_that_was_changed_is_refused(onnx_folder, tmp_path):
    folder = shutil.copytree(onnx_folder, tmp_path / "changed")
    with (folder / "draw.onnx").open("ab") as file:
        file.write(b"x")
    with pytest.raises(WeightsCorruptError, match=r"draw\.onnx"):
        FaceEditor.load(folder, device="cpu")


def test_a_folder_whose_engine_cannot_run_here_runs_eagerly_and_the_log_says_why(onnx_folder, tmp_path, caplog):
    folder = changed(onnx_folder, tmp_path / "elsewhere", built_for={"machine": "sparc"})
    with caplog.at_level(logging.WARNING):
        editor = FaceEditor.load(folder, device="cpu")
    assert isinstance(editor.model, TERGAN)
    assert "eager PyTorch is used" in caplog.text and "built for another machine" in caplog.text
    with pytest.raises(EngineError, match="built for another machine"):
        FaceEditor.load(folder, device="cpu", engine="onnx")


def test_a_missing_or_changed_file_of_the_engine_is_not_packed(onnx_folder, tmp_path):
    folder = shutil.copytree(onnx_folder, tmp_path / "model")
    (folder / "draw.onnx").write_bytes(b"something else")
    with pytest.raises(WeightsCorruptError, match=r"draw\.onnx"):
        packing.pack("edit", folder, tmp_path)
    (folder / "draw.onnx").unlink()
    with pytest.raises(WeightsCorruptError, match=r"draw\.onnx"):
        packing.pack("edit", folder, tmp_path)


def test_a_missing_file_of_the_engine_leaves_eager(onnx_folder, tmp_path, caplog):
    folder = shutil.copytree(onnx_folder, tmp_path / "missing")
    (folder / "draw.onnx").unlink()
    editor = FaceEditor.load(folder, device="cpu")
    assert isinstance(editor.model, TERGAN) and "'draw.onnx' is missing" in caplog.text


def test_a_missing_package_is_named_with_its_extra(tiny_folder, onnx_folder, monkeypatch, caplog):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else found(name))
    with pytest.raises(MissingExtraError, match=r"tergan-core\[onnx\]"):
        load_engine(tiny_folder, "onnx")
    assert isinstance(load_engine(onnx_folder), TERGAN)
    assert "tergan-core[onnx]" in caplog.text


def test_an_unknown_engine_is_refused_with_the_known_ones(tiny_folder, tmp_path):
    with pytest.raises(ConfigError, match="onnx"):
        export(tiny_folder, "onxx", tmp_path / "out")
    with pytest.raises(ConfigError, match="another folder"):
        export(tiny_folder, "onnx", tiny_folder)


def test_eager_is_the_network_itself(tiny_folder):
    assert ENGINES[0] == "eager"
    assert isinstance(load_engine(tiny_folder), TERGAN)
    assert isinstance(load_engine(tiny_folder, "eager"), TERGAN)


def test_a_worker_with_compiled_functions_starts_without_timm(onnx_folder):
    """timm and torchvision are more than half of the imports of a worker that runs the network itself."""
    code = (
        "import sys; from tergan_core.serving import Service; "
        f"Service.load({str(onnx_folder)!r}, 'edit', 'cpu'); "
        "sys.exit('timm' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_export_that_fails_leaves_no_model_folder(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tergan_core.engine._difference", lambda *_: 1.0)
    monkeypatch.setattr("tergan_core.engine._build", lambda *_: [])
    monkeypatch.setattr("tergan_core.engine._open", lambda *_: None)
    with pytest.raises(EngineError, match="differ from eager's"):
        export(tiny_folder, "onnx", tmp_path / "failed")
    with pytest.raises(WeightsNotFoundError):
        weights.describe(tmp_path / "failed")


def test_native_code_that_does_not_say_what_it_was_built_for_is_not_run(onnx_folder, tmp_path):
    folder = changed(onnx_folder, tmp_path / "unsaid", name="aoti", built_for={})
    with pytest.raises(EngineError, match="built for another machine"):
        FaceEditor.load(folder, device="cpu", engine="aoti")


@pytest.mark.parametrize("name", ["../draw.onnx", "/etc/hostname", ".."])
def test_a_model_folder_names_no_file_of_another(onnx_folder, tmp_path, name):
    folder = changed(onnx_folder, tmp_path / "reaching", sha256={name: "0" * 64})
    with pytest.raises(WeightsCorruptError, match="not a file of this folder"):
        packing.pack("edit", folder, tmp_path)

"""A real Triton with the repository that the build makes; `TERGAN_TRITONSERVER` names its program (docs/serving.md)."""

import io
import os
import re
import subprocess
import time

import numpy as np
import PIL.Image
import pytest
import tritonclient.http
import tritonclient.utils

from model_archives.server import free_ports
from tergan_core import packing
from tergan_core.client import Client
from tergan_core.errors import ConfigError, InvalidImageError, UnknownExpressionError, UnknownUnitError
from tergan_core.open_inference import MAX_ITEMS
from tergan_core.pipeline import FaceEditor
from tergan_core.serving import FIELDS, OUTPUTS

PROGRAM = os.environ.get("TERGAN_TRITONSERVER")


def png(seed=0):
    file = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def test_a_repository_has_a_model_for_each_task_with_its_fields_and_outputs(tiny_folder, tmp_path):
    folders = packing.triton_repository(tiny_folder, tmp_path)
    assert packing.triton_repository(tiny_folder, tmp_path) == folders  # again, in place
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FIELDS)
    for folder in folders:
        config = (folder / "config.pbtxt").read_text()
        inputs, outputs = config.split("output [")
        named = re.compile(r'{ name: "(\w+)"')
        assert set(FIELDS[folder.name]) < set(named.findall(inputs))
        assert set(named.findall(outputs)) == set(OUTPUTS[folder.name]) - {"image_pixels"}
        assert f"max_batch_size: {MAX_ITEMS}" in config
        assert (folder / "1" / "model.py").exists() and (folder / "1" / "model" / "model.safetensors").exists()


@pytest.fixture(scope="module")
def triton(tiny_folder, tmp_path_factory):
    """The HTTP and gRPC ports of a running Triton."""
    if PROGRAM is None:
        pytest.skip("TERGAN_TRITONSERVER names no tritonserver")
    folder = tmp_path_factory.mktemp("triton")
    packing.triton_repository(tiny_folder, folder / "models")
    http, grpc = free_ports(2)
    command = [PROGRAM, "--model-repository", folder / "models", "--http-port", http, "--grpc-port", grpc]
    command += ["--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1", "--allow-metrics", "false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{http}")
    try:
        for _ in range(1200):  # minutes, where the machine is busy
            try:
                if client.is_server_ready():
                    break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        else:
            raise RuntimeError((folder / "log").read_text()[-2000:])
        yield http, grpc
    finally:
        client.close()
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def editor(tiny_folder):
    return FaceEditor.load(tiny_folder, device="cpu")


@pytest.mark.server
@pytest.mark.parametrize(("protocol", "port"), [("kserve-http", 0), ("kserve-grpc", 1)])
def test_the_client_gives_the_local_editors_results_on_triton(protocol, port, triton, editor):
    with Client(f"http://127.0.0.1:{triton[port]}", protocol) as client:
        good, bad, other = client.edit(
            [png(), png(1), png(2)], ["happiness", "joy", "fear"], [0.5, 1, 1], errors="return"
        )
        # Requests that arrive together share a forward pass, which rounds otherwise than one alone.
        assert np.abs(good.image.astype(int) - editor.edit(png(), "happiness", 0.5).image).max() <= 1
        assert np.abs(other.image.astype(int) - editor.edit(png(2), "fear").image).max() <= 1
        assert isinstance(bad, UnknownExpressionError) and "'joy'" in str(bad)
        moved = client.transfer(identity=png(), expression=png(1))
        assert np.array_equal(moved.image, editor.transfer(identity=png(), expression=png(1)).image)
        units = {"mouthSmile": 0.6, "jawOpen": 0.2}
        for to in (None, "fear"):
            made, local = client.edit(png(), to, units=units), editor.edit(png(), to, units=units)
            assert np.abs(made.image.astype(int) - local.image).max() <= 1 and made.to == local.to
        with pytest.raises(UnknownUnitError, match="jawOpen"):
            client.edit(png(), units={"jawOpn": 0.2})
        found, known = client.recognize(png()), editor.recognize(png())
        assert found.label == known.label
        assert found.probabilities == pytest.approx(known.probabilities, abs=1e-5)
        assert found.units == pytest.approx(known.units, abs=1e-4)


@pytest.mark.server
def test_several_pictures_as_pixels_are_one_request_and_a_broken_file_is_named(triton, editor):
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{triton[0]}")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    tensor = tritonclient.http.InferInput("image_pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    labels = client.infer("recognize", [tensor]).as_numpy("label").ravel()
    assert [label.decode() for label in labels] == [found.label for found in editor.recognize(list(pixels))]
    broken = tritonclient.http.InferInput("image", [1, 1], "BYTES")
    broken.set_data_from_numpy(np.array([[b"text"]], np.object_))
    with pytest.raises(tritonclient.utils.InferenceServerException, match=rf"\[{InvalidImageError.code}\]"):
        client.infer("recognize", [broken])
    client.close()


def test_a_folder_that_is_no_model_of_ours_is_left_alone(tiny_folder, tmp_path):
    (tmp_path / "edit").mkdir()
    (tmp_path / "edit" / "work.py").write_text("mine")
    with pytest.raises(ConfigError, match="no model of ours"):
        packing.triton_repository(tiny_folder, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["edit", "work.py"]

"""Ray Serve answers as TorchServe does: the same client, the local editor as the oracle."""

import contextlib
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tergan_core import batch
from tergan_core.client import Client
from tergan_core.errors import UnknownExpressionError
from tergan_core.pipeline import FaceEditor
from tergan_core.ray_serve import MAX_BODY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed"),
]


@pytest.fixture(scope="module")
def url(tiny_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tergan_core.ray_serve", "--weights", str(tiny_folder), "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(Path(batch.__file__).parents[1])}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    said = ""
    try:
        while "serving http" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_client_gives_the_local_editors_results_on_ray_serve(url, tiny_folder, face_images):
    editor = FaceEditor.load(tiny_folder, device="cpu")
    with Client(url) as client:
        assert client.is_ready()
        good, bad = client.edit(face_images[0], ["fear", "joy"], 0.5, errors="return")
        assert np.abs(good.image.astype(int) - editor.edit(face_images[0], "fear", 0.5).image).max() <= 1
        assert isinstance(bad, UnknownExpressionError)
        moved = client.transfer(identity=face_images[0], expression=face_images[1])
        local = editor.transfer(identity=face_images[0], expression=face_images[1])
        assert np.abs(moved.image.astype(int) - local.image).max() <= 1
        found = client.recognize(face_images)
        assert [one.label for one in found] == [one.label for one in editor.recognize(face_images)]


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary=x"])
def test_a_malformed_form_is_the_clients_fault(url, kind):
    request = urllib.request.Request(
        f"{url}/predictions/recognize", data=b"--x\r\n\r\nabc\r\n--x--\r\n", headers={"Content-Type": kind}
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=60)
    assert refused.value.code == 400 and json.load(refused.value)["code"] in ("invalid_request", "missing_field")


@pytest.mark.parametrize(("kind", "status"), [("image/png", 413), ("multipart/form-data; boundary=x", 411)])
def test_a_body_without_a_length_is_limited_as_well(url, kind, status):
    address = urlsplit(url)
    chunks = (bytes(2**20) for _ in range(MAX_BODY // 2**20 + 2))
    with contextlib.closing(http.client.HTTPConnection(address.hostname, address.port, timeout=60)) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not wait for the rest
            connection.request(
                "POST", "/predictions/recognize", body=chunks, headers={"Content-Type": kind}, encode_chunked=True
            )
        response = connection.getresponse()
        response.read()
    assert response.status == status

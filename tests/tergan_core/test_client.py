"""The client against a server in this process that answers with `serving`: the local editor is the oracle."""

import asyncio
import email
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tergan_core import serving
from tergan_core.client import AsyncClient, Client
from tergan_core.errors import (
    ImageTooLargeError,
    InvalidImageError,
    InvalidRequestError,
    ServerError,
    UnknownExpressionError,
    UnknownUnitError,
)
from tergan_core.images import encode, face_tensor
from tergan_core.provenance import inspect
from tergan_core.results import Recognition
from tergan_core.serving import FIELDS, Service, request_from_row

pytest.importorskip("tritonclient")


def multipart(content_type, body):
    """The row that TorchServe's frontend makes of a body."""
    if not (content_type or "").startswith("multipart/"):
        return {"body": body}
    message = email.message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return {
        part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
        for part in message.get_payload()
    }


@pytest.fixture(scope="module")
def server(tiny_editor):
    services = {task: Service(tiny_editor, task) for task in FIELDS}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        busy = 0
        together = None
        too_large = False

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if Handler.too_large:
                self.send_response(413)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            task = next(part for part in self.path.split("/") if part in services)
            if Handler.together:
                Handler.together.wait()
            with lock:
                row = multipart(self.headers["Content-Type"], body)
                (response,) = services[task].handle([request_from_row(row, dict(self.headers))])
                status, Handler.busy = (503, Handler.busy - 1) if Handler.busy else (response.status, 0)
            self.send_response(status)
            for name, value in {**response.headers, "Content-Length": str(len(response.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(response.body)

        def do_GET(self):
            ready = self.path in ("/ping", "/v2/health/ready")
            self.send_response(200 if ready else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.handler = Handler
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(params=["torchserve", "kserve-http"])
def client(server, request):
    with Client(f"http://127.0.0.1:{server.server_port}", request.param) as client:
        yield client


def test_results_equal_the_local_editors(client, tiny_editor, face_images):
    a, b = face_images[:2]
    edited, local = client.edit(a, "fear", 0.5), tiny_editor.edit(a, "fear", 0.5)
    assert (edited.image == local.image).all() and (edited.to, edited.intensity) == ("fear", 0.5)
    moved = client.transfer(identity=a, expression=b)
    assert (moved.image == tiny_editor.transfer(identity=a, expression=b).image).all()
    found, known = client.recognize(a), tiny_editor.recognize(a)
    assert found.label == known.label and found.probabilities == pytest.approx(known.probabilities, abs=1e-5)


def test_units_are_served_as_they_are_edited(client, tiny_editor, face_images):
    weights = {"mouthSmile": 0.6, "jawOpen": 0.2}
    for to in (None, "fear"):
        made, local = (
            client.edit(face_images[0], to, units=weights),
            tiny_editor.edit(face_images[0], to, units=weights),
        )
        assert (made.image == local.image).all() and made.to == local.to
    with pytest.raises(UnknownUnitError, match="jawOpen"):
        client.edit(face_images[0], units={"jawOpn": 0.2})


def test_a_bad_item_of_a_list_fails_alone_and_with_the_same_error(client, face_images):
    first, second = client.edit(face_images[:2], ["fear", "hapiness"], errors="return")
    assert first.image.shape == (64, 64, 3) and isinstance(second, UnknownExpressionError)
    with pytest.raises(UnknownExpressionError, match="happiness"):
        client.edit(face_images[0], "hapiness")
    with pytest.raises(InvalidImageError):
        client.recognize(np.zeros((0, 3), np.uint8))


def test_a_busy_server_is_asked_again(client, server, face_images):
    server.handler.busy = 2
    assert client.recognize(face_images[0]).label
    assert server.handler.busy == 0


def test_a_server_that_stays_busy_is_a_server_error_of_its_item_alone(server, face_images):
    with Client(f"http://127.0.0.1:{server.server_port}", retries=0) as client:
        server.handler.busy = 1
        results = client.recognize(face_images[:2], errors="return")
    (failure,) = (result for result in results if isinstance(result, ServerError))
    assert "503" in str(failure) and any(isinstance(result, Recognition) for result in results)


@pytest.mark.parametrize("protocol", ["torchserve", "kserve-http", "kserve-grpc"])
def test_nobody_at_the_address_is_said_after_the_retries(protocol, face_images):
    with Client("http://127.0.0.1:9", protocol, retries=1) as client, pytest.raises(ServerError, match=r"127\.0\.0\.1"):
        client.recognize(face_images[0])


def test_a_silent_server_is_given_up_after_the_time_out(face_images):
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:  # it accepts, and never answers
        with Client(f"http://127.0.0.1:{silent.server_port}", timeout_s=0.2) as client:
            began = time.perf_counter()
            with pytest.raises(ServerError, match=r"within 0\.2 s"):
                client.recognize(face_images[0])
            assert time.perf_counter() - began < 2


def test_the_client_works_inside_a_running_event_loop(client, face_images):
    async def notebook():
        return client.recognize(face_images[0])

    assert asyncio.run(notebook()).label


def test_the_asynchronous_client_asks_for_all_items_at_once(server, face_images):
    async def ask():
        async with AsyncClient(f"http://127.0.0.1:{server.server_port}") as client:
            return await asyncio.gather(client.recognize(face_images), client.edit(face_images[0], "fear"))

    server.handler.together = threading.Barrier(len(face_images) + 1, timeout=20)
    try:
        found, drawn = asyncio.run(ask())
    finally:
        server.handler.together = None
    assert len(found) == len(face_images) and drawn.to == "fear"


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_file_is_sent_as_it_is(client, tiny_editor, face_images, tmp_path, monkeypatch, kind):
    file = tmp_path / f"face.{kind}"
    file.write_bytes(encode(face_images[0], kind))
    sent = []
    monkeypatch.setattr(
        serving, "face_tensor", lambda image, *a, **k: sent.append(image) or face_tensor(image, *a, **k)
    )
    found = client.recognize(file)
    assert sent == [file.read_bytes()]
    assert found.probabilities == pytest.approx(tiny_editor.recognize(file).probabilities, abs=1e-6)


def test_what_is_too_large_for_the_server_is_said(server, face_images, monkeypatch):
    monkeypatch.setattr(server.handler, "too_large", True)
    with Client(f"http://127.0.0.1:{server.server_port}") as client, pytest.raises(ImageTooLargeError, match="Scale"):
        client.recognize(face_images[0])


@pytest.mark.parametrize("protocol", ["torchserve", "kserve-http", "kserve-grpc"])
def test_a_server_that_is_not_there_is_not_ready(protocol):
    with Client("http://127.0.0.1:9", protocol) as client:
        assert client.is_ready() is False


def test_a_server_that_serves_is_ready_also_after_requests(client, face_images):
    assert client.recognize(face_images[0]).label and client.is_ready() is True


def test_what_a_server_drew_says_its_model_when_it_is_saved(client, tiny_editor, face_images, monkeypatch, tmp_path):
    monkeypatch.setattr(tiny_editor, "label", "tiny 1.2 abc")
    assert inspect(client.edit(face_images[0], "fear").save(tmp_path / "a.webp"))["model"] == "tiny 1.2 abc"


def test_a_closed_client_says_so():
    client = Client("http://127.0.0.1:9")
    client.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        client.is_ready()


def test_an_unknown_protocol_is_named():
    with pytest.raises(InvalidRequestError, match="kserve-grpc"):
        Client("http://127.0.0.1", "soap")

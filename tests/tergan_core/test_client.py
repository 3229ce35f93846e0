"""The client against a server in this process that answers with `serving`: the local editor is the oracle."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from tergan_core.client import Client
from tergan_core.errors import InvalidImageError, UnknownExpressionError
from tergan_core.serving import FIELDS, Service, request_from_row

pytest.importorskip("aiohttp")


@pytest.fixture(scope="module")
def server(tiny_editor):
    services = {task: Service(tiny_editor, task) for task in FIELDS}
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        busy = 0

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            task = next(part for part in self.path.split("/") if part in services)
            with lock:
                (response,) = services[task].handle([request_from_row({"body": body}, dict(self.headers))])
                status, Handler.busy = (503, Handler.busy - 1) if Handler.busy else (response.status, 0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.handler = Handler
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(params=["torchserve", "kserve-http"])
def client(server, request):
    return Client(f"http://127.0.0.1:{server.server_port}", request.param)


def test_results_equal_the_local_editors(client, tiny_editor, face_images):
    a, b = face_images[:2]
    edited, local = client.edit(a, "fear", 0.5), tiny_editor.edit(a, "fear", 0.5)
    assert (edited.image == local.image).all() and (edited.to, edited.intensity) == ("fear", 0.5)
    moved = client.transfer(identity=a, expression=b)
    assert (moved.image == tiny_editor.transfer(identity=a, expression=b).image).all()
    found, known = client.recognize(a), tiny_editor.recognize(a)
    assert found.label == known.label and found.probabilities == pytest.approx(known.probabilities, abs=1e-5)


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

"""deploy/nginx.conf in a real nginx, before a server that notes what reaches it. With TorchServe: test_server.py."""

import asyncio
import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import pytest

from benchmarks import fuzz, proxy

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(proxy.missing() is not None, reason=str(proxy.missing())),
]
FORM = "multipart/form-data; boundary=x"
IMAGE = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'


class Backend(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, self.headers.get("Content-Type"), body))
        if body == b"forget me":
            time.sleep(3)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"answer")

    do_GET = do_POST

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def backend():
    with ThreadingHTTPServer(("127.0.0.1", 0), Backend) as running:
        running.seen = []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def nginx(backend):
    with proxy.Nginx(f"http://127.0.0.1:{backend.server_port}", timeout_s=1) as running:
        yield running


def ask(nginx, body=b"picture", content_type=None, path="/predictions/edit", method="POST"):
    """Status and body."""
    connection = http.client.HTTPConnection(nginx.url.removeprefix("http://"), timeout=20)
    connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def refusal(nginx, *arguments):
    """Status and code of an answer of nginx."""
    status, content = ask(nginx, *arguments)
    body = json.loads(content)
    assert set(body) == {"code", "message", "field", "hint"}
    return status, body["code"], body["message"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("image/png", b"\0picture"),
        ("application/json; charset=utf-8", b"{}"),
        ("application/octet-stream", b"x"),
        (FORM, fuzz.form((IMAGE, b"\0\r\n--y\r\n" * 9), ('Content-Disposition: form-data; name="intensity"', b"1"))),
        (FORM, fuzz.form((IMAGE, b"p" * 2**20))),  # in a file of nginx
        (FORM, fuzz.form(("Content-Disposition: form-data; name=image; filename*=utf-8''%C3%A4.png", b"p"))),
        ('multipart/form-data; boundary="x"', fuzz.form((IMAGE, b""))),
    ],
)
def test_what_clients_send_reaches_the_server_as_it_was(nginx, backend, content_type, body):
    backend.seen.clear()
    assert ask(nginx, body, content_type) == (200, b"answer")
    assert backend.seen == [("/predictions/edit", content_type, body)]


def test_curls_and_aiohttps_forms_pass(nginx, backend, tmp_path):
    backend.seen.clear()
    picture = tmp_path / "a b.png"
    picture.write_bytes(b"picture")
    form = ["-F", f"image=@{picture}", "-F", "expression=happiness"]
    if curl := shutil.which("curl"):
        done = subprocess.run([curl, "-s", f"{nginx.url}/predictions/edit", *form], capture_output=True, check=True)
        assert done.stdout == b"answer"

    async def post():
        form = aiohttp.FormData()
        form.add_field("image", b"picture", filename="ä.png")
        form.add_field("intensity", "0.5")
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{nginx.url}/predictions/edit", data=form) as answer,
        ):
            return answer.status

    assert asyncio.run(post()) == 200
    assert len(backend.seen) == 1 + (curl is not None)


@pytest.mark.parametrize("head", fuzz.ODD_HEADS)
def test_a_form_that_torchserves_parser_fails_on_is_a_400_before_it(nginx, backend, head):
    backend.seen.clear()
    status, code, message = refusal(nginx, fuzz.form((IMAGE, b"p"), (head, b"p")), FORM)
    assert (status, code) == (400, "invalid_request") and "the form is refused: field 2" in message
    assert backend.seen == []


@pytest.mark.parametrize(
    ("content_type", "body", "reason"),
    [
        (FORM, fuzz.form((IMAGE, b"p"))[:-4], "has no end|does not end"),
        (FORM, fuzz.form((IMAGE, b"p")) + b"more", "does not end"),
        (FORM, b"p", "does not begin"),
        (FORM, b"", "does not begin"),
        (FORM, fuzz.form((IMAGE, b"a\n--x\nContent-Type: b\n\nc")), "has no end"),
        ("multipart/form-data", fuzz.form((IMAGE, b"p")), "no boundary"),
        ("multipart/form-data; boundary=", fuzz.form((IMAGE, b"p")), "no boundary"),
        ("multipart/form-data; boundary=x; charset=nope", fuzz.form((IMAGE, b"p")), "no boundary"),
        (FORM, fuzz.form(*[(IMAGE, b"p")] * 9), "more than 8 fields"),
    ],
)
def test_a_form_of_another_shape_is_refused_with_the_reason(nginx, backend, content_type, body, reason):
    backend.seen.clear()
    status, code, message = refusal(nginx, body, content_type)
    assert (status, code) == (400, "invalid_request") and re.search(reason, message)
    assert backend.seen == []


def test_a_hundred_thousand_fields_are_refused_at_once(nginx):
    body = fuzz.form(*[('Content-Disposition: form-data; name="image"', b"")] * 100_000)
    began = time.perf_counter()
    assert refusal(nginx, body, FORM)[0] == 400
    assert time.perf_counter() - began < 2


def test_types_paths_and_sizes_that_no_task_takes_are_refused(nginx, backend):
    backend.seen.clear()
    for content_type in ("application/x-www-form-urlencoded", "text/html", "multipart/mixed; boundary=x", "image/"):
        assert refusal(nginx, b"x", content_type)[:2] == (415, "unsupported_media_type")
    for path in (
        "/",
        "/models",
        "/predictions/other",
        "/v2/models/edit/versions/1/infer",
        "/workflows",
        "/api-description",
    ):
        assert refusal(nginx, b"x", "image/png", path)[:2] == (404, "not_found")
    connection = socket.create_connection(nginx.url.removeprefix("http://").split(":"), timeout=10)
    connection.sendall(b"POST /predictions/edit HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (2**25 + 1))
    assert b" 413 " in connection.recv(1000)
    connection.close()
    assert backend.seen == []
    for path in ("/ping", "/v2", "/v2/health/ready", "/v2/health/live"):
        assert ask(nginx, None, None, path, "GET")[0] == 200


@pytest.mark.parametrize(
    "start", [b"POST /predic", b"POST /predictions/edit HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"]
)
def test_a_client_that_stops_sending_is_disconnected_and_the_server_never_asked(nginx, backend, start):
    backend.seen.clear()
    began = time.perf_counter()
    with socket.create_connection(nginx.url.removeprefix("http://").split(":"), timeout=10) as connection:
        connection.sendall(start)
        assert connection.recv(1000) == b""
    assert 0.5 < time.perf_counter() - began < 5
    assert backend.seen == []


def test_a_request_that_the_server_forgets_is_a_504(nginx):
    assert refusal(nginx, b"forget me", "image/png")[:2] == (504, "unavailable")


def test_one_address_has_so_many_connections_and_others_are_served(nginx):
    host, port = nginx.url.removeprefix("http://").split(":")
    start = b"POST /predictions/edit HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"
    crowd = [socket.create_connection((host, port), 10, source_address=("127.0.0.2", 0)) for _ in range(40)]
    for connection in crowd:
        connection.sendall(start)
    assert ask(nginx, b"x", "image/png")[0] == 200
    answers = [connection.recv(1000) for connection in crowd]
    assert sum(b" 503 " in answer for answer in answers) == 8
    assert sum(answer == b"" for answer in answers) == 32  # which time ran out for
    for connection in crowd:
        connection.close()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_the_configuration_as_it_is_shipped_passes_nginxs_own_check(tmp_path):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key]
    subprocess.run([*command, "-out", certificate], check=True, capture_output=True)
    shipped = proxy.CONFIG.read_text()
    config = shipped.replace("/etc/ssl/certs/tergan.pem", str(certificate))
    config = config.replace("/etc/ssl/private/tergan.key", str(key))
    assert config.count(str(tmp_path)) == 2
    (tmp_path / "tergan.conf").write_text(config)
    (tmp_path / "main.conf").write_text(
        f"include /etc/nginx/modules-enabled/*.conf; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; include {tmp_path}/tergan.conf; }}"
    )
    done = subprocess.run(["nginx", "-t", "-c", tmp_path / "main.conf"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

"""A real TorchServe with the three archives, over real HTTP. The model is tiny; one server for the whole file."""

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import PIL.Image
import psutil
import pytest
import tritonclient.grpc
import tritonclient.http
import tritonclient.utils
from tritonclient.grpc import service_pb2

from benchmarks import fuzz, proxy
from model_archives import build
from model_archives import server as server_module
from model_archives.rollout import rollout
from model_archives.server import FOLDER, TorchServe, curl_lines
from tergan_core import weights
from tergan_core.client import Client
from tergan_core.errors import IntensityError, ServerError, UnknownExpressionError, UnknownUnitError
from tergan_core.pipeline import FaceEditor
from tergan_core.serving import ERRORS, STAGES

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def server(tiny_folder, tmp_path_factory):
    """With the model API on, which leaves more to attack than the settings that we ship."""
    store = tmp_path_factory.mktemp("store")
    build.build(tiny_folder, store)
    with TorchServe(store, model_api=True) as running:
        yield running


@pytest.fixture(scope="module")
def editor(tiny_folder):
    return FaceEditor.load(tiny_folder, device="cpu")


def png(seed=0, size=(64, 64)):
    file = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


def bomb():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def send(url, body=None, **headers):
    """Status, content type and body."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get_content_type(), error.read()


def multipart(fields):
    """A form with files for bytes and plain fields for text, as curl -F sends it."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        extra = '; filename="a.png"\r\nContent-Type: image/png' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def ask(server, task, fields, accept="*/*"):
    body, content_type = multipart(fields)
    return send(f"{server.url}/predictions/{task}", body, Content_Type=content_type, Accept=accept, **server.headers)


def pixels(body):
    return np.asarray(PIL.Image.open(io.BytesIO(body))).astype(int)


def test_a_second_server_that_cannot_start_leaves_the_link_of_the_first(tmp_path, monkeypatch):
    link = tmp_path / "key_file.json"
    link.write_text("of the first")
    monkeypatch.setattr(sys, "argv", ["server", "--store", str(tmp_path)])
    monkeypatch.setattr(server_module, "stop_on_sigterm", lambda: None)
    with pytest.raises(SystemExit, match="no archive"):
        server_module.main()
    assert link.read_text() == "of the first"


def test_a_new_version_takes_the_place_of_the_old_one_in_the_store(server, tiny_model, tiny_folder, tmp_path):
    def roll_out(source):
        build.build(source, server.store)
        removed = rollout("edit", "edit.mar", server.management_headers, server.management_url, drain_s=0)
        assert ask(server, "edit", {"image": png(), "expression": "fear"})[0] == 200
        described = json.loads(send(f"{server.management_url}/models/edit/all", **server.management_headers)[2])
        return removed, [model["modelVersion"] for model in described]

    newer = weights.save(tiny_model, tmp_path / "newer", version="9.9")
    old = weights.describe(tiny_folder)["version"]
    try:
        assert roll_out(newer) == ([old], ["9.9"])
        with pytest.raises(RuntimeError, match="409"):
            roll_out(newer)
    finally:
        assert roll_out(tiny_folder) == (["9.9"], [old])


def same(drawn, expected):
    """Whether two pictures differ by one level of 255 at most: a server answers in batches, whose forward pass sums in
    another order than that of one picture, so that a value at the edge of two levels may be rounded to either."""
    return np.abs(np.asarray(drawn).astype(int) - expected).max() <= 1


def test_transfer_over_http_equals_the_library(server, editor):
    status, content_type, body = ask(server, "transfer", {"identity": png(1), "expression": png(2), "intensity": "0.7"})
    assert (status, content_type) == (200, "image/png")
    expected = editor.transfer(identity=png(1), expression=png(2), intensity=0.7).image
    assert same(pixels(body), expected)


@pytest.mark.parametrize(("accept", "kind"), [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_edit_answers_in_the_type_asked_for(server, accept, kind):
    status, content_type, body = ask(server, "edit", {"image": png(1), "expression": "happiness"}, accept)
    assert (status, content_type, PIL.Image.open(io.BytesIO(body)).format) == (200, accept, kind)


def test_json_with_base64_works_both_ways(server, editor):
    fields = {"image": base64.b64encode(png(1)).decode(), "expression": "fear", "intensity": 0.5}
    url, body = f"{server.url}/predictions/edit", json.dumps(fields).encode()
    status, content_type, answer = send(
        url, body, Content_Type="application/json", Accept="application/json", **server.headers
    )
    assert (status, content_type) == (200, "application/json")
    image = base64.b64decode(json.loads(answer)["image"])
    assert same(pixels(image), editor.edit(png(1), "fear", 0.5).image)


def test_a_raw_picture_is_recognized(server, editor):
    url = f"{server.url}/predictions/recognize"
    status, content_type, body = send(url, png(1), Content_Type="image/png", **server.headers)
    assert (status, content_type) == (200, "application/json")
    assert json.loads(body)["probabilities"] == pytest.approx(editor.recognize(png(1)).probabilities, abs=1e-4)


def test_a_raw_picture_is_edited_with_options_in_headers(server, editor):
    headers = {"Content-Type": "image/png", "X-Expression": "anger", "X-Intensity": "0.5", **server.headers}
    status, _, body = send(f"{server.url}/predictions/edit", png(1), **headers)
    assert status == 200
    assert same(pixels(body), editor.edit(png(1), "anger", 0.5).image)


@pytest.mark.parametrize(
    ("task", "fields", "accept", "status", "code"),
    [
        ("recognize", {"image": b"not an image"}, "*/*", 422, "invalid_image"),
        ("recognize", {"image": png()[:500]}, "*/*", 422, "invalid_image"),
        ("recognize", {"image": b""}, "*/*", 422, "invalid_image"),
        ("recognize", {"image": bomb()}, "*/*", 413, "image_too_large"),
        ("recognize", {"photo": png()}, "*/*", 400, "invalid_request"),
        ("transfer", {"identity": png()}, "*/*", 400, "missing_field"),
        ("edit", {"image": png(), "expression": "joy"}, "*/*", 422, "unknown_expression"),
        ("edit", {"image": png(), "expression": "fear", "intensity": "7"}, "*/*", 422, "invalid_intensity"),
        ("edit", {"image": png(), "expression": "fear", "intensity": "nan"}, "*/*", 422, "invalid_intensity"),
        ("edit", {"image": png(), "expression": "fear"}, "text/html", 415, "unsupported_media_type"),
    ],
)
def test_bad_input_gets_a_4xx_with_a_stable_code(server, task, fields, accept, status, code):
    got, content_type, body = ask(server, task, fields, accept)
    assert (got, content_type) == (status, "application/json")
    answer = json.loads(body)
    assert answer["code"] == code and answer["message"] and answer["hint"] and "field" in answer


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"image": "!"}', b""])
def test_broken_json_is_a_400(server, body):
    url = f"{server.url}/predictions/recognize"
    status, _, answer = send(url, body, Content_Type="application/json", **server.headers)
    assert (status, json.loads(answer)["code"]) == (400, "invalid_request")


def test_a_bad_picture_among_many_requests_does_not_touch_the_others(server, editor):
    pictures = [png(seed) if seed % 3 else b"broken" for seed in range(24)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda picture: ask(server, "recognize", {"image": picture}), pictures))
    for picture, (status, _, body) in zip(pictures, answers, strict=True):
        if picture == b"broken":
            assert status == 422
        else:
            expected = editor.recognize(picture).probabilities
            assert status == 200
            assert json.loads(body)["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_nothing_is_answered_without_the_token(server):
    body, content_type = multipart({"image": png()})
    for headers in ({}, {"Authorization": "Bearer wrong"}, server.management_headers):
        status, _, answer = send(f"{server.url}/predictions/recognize", body, Content_Type=content_type, **headers)
        assert status == 400 and b"Token Authorization failed" in answer
    assert send(f"{server.management_url}/models")[0] == 400
    assert server.key_file.stat().st_mode & 0o077 == 0


URLS = [
    "{web}/x.mar",
    "{web}/../x.mar",
    "{web}/%2e%2e/x.mar",
    "HTTP{web_rest}/x.mar",
    "file://{folder}/x.mar",
    "file://{store}/../{folder_name}/x.mar",
    "FILE://{folder}/x.mar",
    "file:{folder}/x.mar",
    "{folder}/x.mar",
    "../{folder_name}/x.mar",
    "{store}/../{folder_name}/x.mar",
    "s3://bucket/x.mar",
    "ftp://127.0.0.1/x.mar",
]


@pytest.mark.parametrize("kind", ["models", "workflows"])
def test_no_archive_comes_from_outside_the_store(server, tiny_folder, kind):
    """CVE-2023-43654, CVE-2024-35198 and the workflows: no connection is made and no file is copied."""
    folder = server.store.parent / "outside"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(server.store / "edit.mar", folder / "x.mar")
    before = sorted(path.name for path in server.store.iterdir())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        web = f"http://127.0.0.1:{listener.getsockname()[1]}"
        places = {"web": web, "web_rest": web[4:], "folder": folder, "folder_name": folder.name, "store": server.store}
        for pattern in URLS:
            url = urllib.parse.quote(pattern.format(**places), safe="")
            request_url = f"{server.management_url}/{kind}?url={url}"
            assert send(request_url, b"", **server.management_headers)[0] in (400, 404), pattern
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert sorted(path.name for path in server.store.iterdir()) == before
    assert set(listed_models(server)) == {"transfer", "edit", "recognize"}


def listed_models(server):
    body = send(f"{server.management_url}/models", **server.management_headers)[2]
    return [model["modelName"] for model in json.loads(body)["models"]]


def test_a_body_over_the_limit_is_refused_by_its_length_alone(server):
    with socket.create_connection(("127.0.0.1", server.ports[0]), timeout=20) as connection:
        head = (
            f"POST /predictions/recognize HTTP/1.1\r\nHost: x\r\nAuthorization: {server.headers['Authorization']}\r\n"
        )
        connection.sendall(f"{head}Content-Type: image/png\r\nContent-Length: {2**25 + 1}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_full_queue_answers_503_and_the_rest_is_answered_when_the_worker_goes_on(server):
    """100 wait and a batch of 8 is with the worker, which is stopped."""
    time.sleep(1.5)  # what was counted before has been handed over
    before = samples(server)
    pids = worker_processes(server)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(140) as pool:
            answers = [pool.submit(ask, server, "recognize", {"image": b"text"}) for _ in range(140)]
            deadline = time.monotonic() + 20
            while sum(answer.done() for answer in answers) < 30 and time.monotonic() < deadline:
                time.sleep(0.05)
            refused = sum(answer.done() for answer in answers)
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
            statuses = Counter(answer.result()[0] for answer in answers)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert statuses[503] >= refused >= 30
    assert statuses == {503: statuses[503], 422: 140 - statuses[503]} and statuses[422] >= 100
    assert worker_processes(server) == pids
    task = (("code", "invalid_image"), ("task", "recognize"))
    key = "tergan_errors_total", task
    wait_until(lambda: samples(server).get(key, 0) - before.get(key, 0) == statuses[422])


def samples(server):
    """The metrics port's figures: {(name, labels without the host): value}."""
    found = {}
    for line in send(f"{server.metrics_url}/metrics")[2].decode().splitlines():
        if match := re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line):
            labels = sorted(pair for pair in re.findall(r'(\w+)="([^"]*)"', match[2]) if pair[0].lower() != "hostname")
            found[match[1], tuple(labels)] = float(match[3])
    return found


def test_the_metrics_port_counts_requests_faces_errors_and_times(server):
    time.sleep(1.5)  # what was counted before has been handed over
    before = samples(server)
    ask(server, "transfer", {"identity": png(1), "expression": png(2)})
    ask(server, "transfer", {"identity": png(1), "expression": b"text"})
    ask(server, "edit", {"image": png(1), "expression": "joy"})

    def rise_of_requests(task):
        key = "tergan_requests_total", (("task", task),)
        return samples(server).get(key, 0) - before.get(key, 0)

    def rise(name, **labels):
        key = name, tuple(sorted(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    wanted = {"edit": 1, "transfer": 2}
    wait_until(lambda: all(rise_of_requests(task) == count for task, count in wanted.items()))
    after = samples(server)
    assert rise("tergan_faces_total", task="transfer") == 2
    assert rise("tergan_errors_total", task="transfer", code="invalid_image") == 1
    stages = [rise(f"tergan_{stage}_ms_total", task="transfer") for stage in STAGES]
    assert all(0 < stage < 20_000 for stage in stages)
    # The frontend's own clock goes around the worker's.
    model = {"model_name": "transfer", "model_version": "default"}
    assert sum(stages) <= rise("ts_inference_latency_microseconds", **model) / 1000
    assert rise("ts_queue_latency_microseconds", **model) > 0


def wait_until(holds, timeout_s=10):
    """Workers hand their counts over once a second."""
    deadline = time.monotonic() + timeout_s
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert holds()


def test_the_description_holds_on_the_server(server, schemathesis):
    """Bounded; docs/serving.md tells how to run it at length."""
    done = schemathesis(server.url, "--max-time", "10", "--max-examples", "5", **server.headers)
    assert done.returncode == 0, done.stdout


def test_what_torchserve_itself_answers_with_500_is_known_and_nginx_refuses_it(server):
    """Its form parser fails before a worker is asked, and no setting changes it."""
    path = "/predictions/recognize"
    odd = [(fuzz.form((head, b"p")), "multipart/form-data; boundary=x", 400) for head in fuzz.ODD_HEADS]
    odd.append((fuzz.form((fuzz.ODD_HEADS[0], b"p")), "multipart/form-data; boundary=", 400))
    odd.append((b"image=%zz", "application/x-www-form-urlencoded", 415))
    for body, content_type, _ in odd:
        status, _, answer = send(server.url + path, body, Content_Type=content_type, **server.headers)
        assert status == 500 and json.loads(answer)["type"].endswith("Exception"), (content_type, body)
    # A body without a type is no such case.
    request = urllib.request.Request(server.url + path, data=png(), headers=server.headers)
    request.add_unredirected_header("Content-Type", "")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
    if absent := proxy.missing():
        pytest.skip(f"the half with nginx: {absent}")
    with proxy.Nginx(server.url) as nginx:
        for body, content_type, refusal in odd:
            status, _, answer = send(nginx.url + path, body, Content_Type=content_type, **server.headers)
            assert status == refusal and json.loads(answer)["code"] in ERRORS
        body, content_type = multipart({"image": png()})
        assert send(nginx.url + path, body, Content_Type=content_type, **server.headers)[0] == 200
        assert send(nginx.url + path, body, Content_Type=content_type)[0] == 400, "the token is TorchServe's to check"


def test_everything_listens_on_loopback_only(server):
    group = [process for process in psutil.process_iter() if group_of(process) == server.process.pid]
    listening = [
        connection.laddr
        for process in group
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.port for address in listening} >= set(server.ports)
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_the_printed_curl_lines_name_the_token_file_and_all_tasks(server):
    lines = curl_lines(server.url, server.key_file, "a b.png")
    assert str(server.key_file) in lines and "'@a b.png'" in lines
    assert all(f"{server.url}/predictions/{task}" in lines for task in ("transfer", "edit", "recognize"))


def test_a_stopped_server_leaves_no_process_and_no_file(tiny_folder, tmp_path):
    build.packing.pack("recognize", tiny_folder, tmp_path)
    with TorchServe(tmp_path) as running:
        assert ask(running, "recognize", {"image": png()})[0] == 200
        url = f"{running.management_url}/models?url=recognize.mar"
        assert send(url, b"", **running.management_headers)[0] == 405, "the model API is off by default"
        assert any(group_of(process) == running.process.pid for process in psutil.process_iter())
    assert not running.folder.exists()
    left = [process for process in psutil.process_iter() if group_of(process) == running.process.pid]
    assert [process for process in left if process.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize(("user", "warned"), [(0, True), (1000, False)])
def test_a_start_as_root_is_warned_of(tmp_path, monkeypatch, capsys, user, warned):
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(sys, "argv", ["server", "--store", str(tmp_path)])
    monkeypatch.setattr(server_module, "stop_on_sigterm", lambda: None)
    with pytest.raises(SystemExit, match="no archive"):
        server_module.main()
    assert ("as root" in capsys.readouterr().err) == warned


def test_a_model_that_cannot_load_stops_the_start_with_the_workers_own_error(tiny_folder, tmp_path):
    archive = build.packing.pack("recognize", tiny_folder, tmp_path)
    with zipfile.ZipFile(archive) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    entries["model.safetensors"] = entries["model.safetensors"][:-1] + b"x"
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(RuntimeError, match="WeightsCorruptError"), TorchServe(tmp_path):
        pass


def test_a_store_without_archives_is_refused_with_the_line_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model_archives\.build"), TorchServe(tmp_path):
        pass


@pytest.mark.skipif(weights.SHIPPED not in weights.catalogue(), reason="no shipped weights in this clone")
def test_the_shipped_model_is_packed_by_the_command_line(tmp_path):
    command = [sys.executable, "-m", "model_archives.build", "--store", str(tmp_path)]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        "SHA256SUMS",
        "edit.mar",
        "recognize.mar",
        "transfer.mar",
    ]


def worker_processes(server):
    """Process numbers of the server's workers."""
    commands = ((process.pid, process.cmdline()) for process in psutil.process_iter() if belongs(process, server))
    return sorted(pid for pid, words in commands if any("model_service_worker" in word for word in words))


def belongs(process, server):
    return group_of(process) == server.process.pid and process.status() != psutil.STATUS_ZOMBIE


def grpc_request(**inputs):
    request = service_pb2.ModelInferRequest(model_name="edit")
    for name, value in inputs.items():
        tensor = request.inputs.add(name=name, shape=[1])
        if isinstance(value, float):
            tensor.datatype = "FP32"
            tensor.contents.fp32_contents.append(value)
        else:
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.append(value)
    return request


def broken_grpc_requests():
    yield grpc_request(image=b"text", expression=b"fear"), "invalid_image"
    yield grpc_request(image=png(), expression=b"joy"), "unknown_expression"
    yield grpc_request(image=png(), expression=b"fear", bogus=b"x"), "invalid_request"
    yield grpc_request(image=png(), expression=b"fear", intensity=9.0), "invalid_intensity"
    yield grpc_request(image=png()), "missing_field"
    yield service_pb2.ModelInferRequest(model_name="edit"), "missing_field"
    huge = grpc_request(image=png(), expression=b"fear")
    huge.inputs[0].shape[:] = [10**9, 10**9]
    yield huge, "invalid_request"
    odd = grpc_request(image=png(), expression=b"fear")
    odd.inputs[0].datatype = "FOO"
    yield odd, "invalid_request"
    empty = grpc_request(image=png(), expression=b"fear")
    empty.inputs[0].contents.Clear()
    yield empty, "invalid_request"


def test_the_open_inference_protocol_works_over_grpc_and_nothing_kills_a_worker(server, editor):
    """Messages are tritonclient's; TorchServe has them under a path of its own."""
    before = worker_processes(server)
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[3]}") as channel:
        call = channel.unary_unary(
            "/org.pytorch.serve.grpc.openinference.GRPCInferenceService/ModelInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelInferResponse.FromString,
        )

        def infer(request):
            metadata = [("protocol", "gRPC"), ("session_id", "1"), ("authorization", server.headers["Authorization"])]
            (output, *_) = call(request, timeout=30, metadata=metadata).outputs
            return output.name, json.loads(output.contents.bytes_contents[0])

        good = grpc_request(image=png(), expression=b"happiness", intensity=0.5)
        for request, code in broken_grpc_requests():
            name, message = infer(request)
            assert name == "error" and message.startswith(f"[{code}]")
        name, picture = infer(good)
    assert name == "image"
    drawn = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(picture))))
    assert same(drawn, editor.edit(png(), "happiness", 0.5).image)
    assert worker_processes(server) == before and len(before) == 3


def protobuf(number, data):
    """A length-delimited field of a message, as protobuf writes it."""
    length = len(data)
    size = bytearray()
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


def test_grpc_predictions_answers_as_http_does(server, editor):
    """inference.proto of TorchServe: model_name is 1, the map `input` 3, of key 1 and value 2; `prediction` is 1."""

    def predict(channel, metadata, **fields):
        entries = [protobuf(3, protobuf(1, name.encode()) + protobuf(2, value)) for name, value in fields.items()]
        call = channel.unary_unary("/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions")
        return call(protobuf(1, b"edit") + b"".join(entries), timeout=30, metadata=metadata)

    metadata = [("protocol", "gRPC"), ("session_id", "1"), ("authorization", server.headers["Authorization"])]
    with grpc.insecure_channel(f"127.0.0.1:{server.ports[3]}") as channel:
        answer = predict(channel, metadata, image=png(), expression=b"happiness", intensity=b"0.5")
        drawn = answer[answer.index(b"\x89PNG") :]
        assert protobuf(1, drawn) == answer
        assert same(pixels(drawn), editor.edit(png(), "happiness", 0.5).image)
        # This frontend has no status of a request; the JSON says it.
        assert b'"code": "unknown_expression"' in predict(channel, metadata, image=png(), expression=b"joy")
        with pytest.raises(grpc.RpcError, match="Token Authorization failed"):
            predict(channel, [], image=png(), expression=b"happiness")


def test_tritonclient_infers_over_http_and_shows_our_errors(server, editor):
    client = tritonclient.http.InferenceServerClient(server.url.removeprefix("http://"))

    def infer(**inputs):
        tensors = []
        for name, value in inputs.items():
            tensors.append(tritonclient.http.InferInput(name, [1], "BYTES"))
            tensors[-1].set_data_from_numpy(np.array([value], np.object_), binary_data=True)
        return client.infer("edit", tensors, headers=server.headers).as_numpy("image").ravel()[0]

    drawn = np.asarray(PIL.Image.open(io.BytesIO(infer(image=png(), expression=b"happiness"))))
    assert same(drawn, editor.edit(png(), "happiness").image)
    with pytest.raises(tritonclient.utils.InferenceServerException, match=r"\[unknown_expression\].*'joy'"):
        infer(image=png(), expression=b"joy")
    with pytest.raises(tritonclient.utils.InferenceServerException, match=r"\[invalid_image\]"):
        infer(image=b"text", expression=b"fear")
    client.close()


@pytest.mark.parametrize(("protocol", "port"), [("torchserve", 0), ("kserve-http", 0), ("kserve-grpc", 3)])
def test_the_client_gives_the_local_editors_results_by_every_protocol(protocol, port, server, editor):
    token = server.headers["Authorization"].removeprefix("Bearer ")
    with Client(f"http://127.0.0.1:{server.ports[port]}", protocol, token=token) as client:
        good, bad = client.edit([png(), png(1)], ["happiness", "joy"], 0.5, errors="return")
        assert same(good.image, editor.edit(png(), "happiness", 0.5).image)
        assert isinstance(bad, UnknownExpressionError) and "'joy'" in str(bad)
        moved = client.transfer(identity=png(), expression=png(1))
        assert same(moved.image, editor.transfer(identity=png(), expression=png(1)).image)
        found, known = client.recognize(png()), editor.recognize(png())
        assert found.label == known.label
        assert found.probabilities == pytest.approx(known.probabilities, abs=1e-5)
        assert found.units == pytest.approx(known.units, abs=1e-4)
        units = {"mouthSmile": 0.6, "jawOpen": 0.2}
        assert same(client.edit(png(), units=units).image, editor.edit(png(), units=units).image)
        with pytest.raises(UnknownUnitError, match="jawOpen"):
            client.edit(png(), units={"jawOpn": 0.2})
        with pytest.raises(IntensityError):
            client.edit(png(), "happiness", 9.0)
    with Client(f"http://127.0.0.1:{server.ports[port]}", protocol, token="wrong") as stranger:
        with pytest.raises(ServerError):
            stranger.recognize(png())


def test_what_of_tritonclient_works_is_what_the_table_says(server):
    """The table of docs/serving.md, its columns of TorchServe."""
    address, headers = server.url.removeprefix("http://"), server.headers
    http = tritonclient.http.InferenceServerClient(address)
    stock = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{server.ports[3]}")
    picture = tritonclient.http.InferInput("image", [1, 1], "BYTES")
    picture.set_data_from_numpy(np.array([[png()]], np.object_))

    def infer(**options):
        return http.infer("recognize", [picture], headers=dict(headers), **options).as_numpy("label").ravel()[0]

    assert http.is_server_live(headers=headers) and http.is_server_ready(headers=headers)
    assert http.get_server_metadata(headers=headers)["name"] == "Torchserve"
    assert not http.is_model_ready("recognize", headers=headers)
    assert infer()
    absent = [
        lambda: http.get_model_metadata("recognize", headers=headers),
        lambda: http.get_model_config("recognize", headers=headers),
        lambda: http.get_model_repository_index(headers=headers),
        lambda: http.get_inference_statistics("recognize", headers=headers),
        lambda: http.get_system_shared_memory_status(headers=headers),
        lambda: infer(model_version="0.1.0"),
        lambda: infer(request_compression_algorithm="gzip"),
        lambda: stock.is_server_live(headers={"authorization": headers["Authorization"]}),
    ]
    for call in absent:
        with pytest.raises(tritonclient.utils.InferenceServerException):
            call()
    picture.set_data_from_numpy(np.array([[base64.b64encode(png())]], np.object_), binary_data=False)
    assert infer(outputs=[tritonclient.http.InferRequestedOutput("label", binary_data=False)])
    http.close()
    stock.close()
    token = headers["Authorization"].removeprefix("Bearer ")
    for protocol, port in (("torchserve", 0), ("kserve-http", 0), ("kserve-grpc", 3)):
        with Client(f"http://127.0.0.1:{server.ports[port]}", protocol, token=token) as client:
            assert client.is_ready()


def group_of(process):
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None

"""Malformed requests: sound ones of all tasks, with bytes changed, ends cut off, odd parts of forms and odd headers."""

import base64
import json
import random
from collections.abc import Iterator

from tergan_core.serving import FIELDS

Fields = dict[str, bytes]
Sent = tuple[str, bytes, dict[str, str]]
"""Path, body and headers."""

ODD_HEADS = (
    "Content-Disposition: form-data; filename=q",
    'Content-Disposition: form-data; name=""',
    "Content-Disposition: form-data; name",
    'Content-Disposition: attachment; name="image"',
    "Content-Disposition:",
    "Content-Disposition form-data",
    "Content-Type: image/png",
    'Content-Disposition: form-data; name="image"\r\nContent-Type: text/plain; charset=nope',
    'Content-Disposition: form-data; name="image"\r\nContent-Type: multipart/mixed',
    "Content-Disposition: form-data; name=\"image\"; filename*=nope''q",
    "Content-Disposition: form-data; name=\"image\"; filename*=UTF-8''%zz",
)
"""Heads of parts that TorchServe's form parser answers with 500."""


def mutations(picture: bytes, count: int, seed: int = 0) -> Iterator[Sent]:
    """Paths, bodies and headers of requests, always the same for a seed."""
    draw = random.Random(seed)
    values = {"picture": picture, "text": b"happiness", "number": b"0.5", "weights": b'{"jawOpen": 0.5}'}
    types = ["multipart/form-data", "text/html", "application/x-www-form-urlencoded", "image/png", "application/json"]
    for _ in range(count):
        task = draw.choice(list(FIELDS))
        fields = {name: values[kind] for name, kind in FIELDS[task].items()}
        path, body, headers = draw.choice([_form, _json, _raw, _tensors])(draw, task, fields)
        changed = bytearray(body)
        for _ in range(draw.choice([0, 1, 3, 8])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        content = bytes(changed if draw.random() < 0.5 else changed[: draw.randrange(1, len(changed) + 1)])
        if draw.random() < 0.2:
            headers = {**headers, "Content-Type": draw.choice(types)}
        accept = draw.choice(["*/*", "image/jpeg", "application/json", "text/html", "image/*;q=x, ,;"])
        yield path, content, {**headers, "Accept": accept}


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form of heads and contents, with the boundary `x`."""
    return b"".join(f"--x\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts) + b"--x--\r\n"


def _form(draw: random.Random, task: str, fields: Fields) -> Sent:
    usual = 'Content-Disposition: form-data; name="{}"'
    parts = [
        (draw.choice(ODD_HEADS) if draw.random() < 0.1 else usual.format(name), body) for name, body in fields.items()
    ]
    return f"/predictions/{task}", form(*parts), {"Content-Type": "multipart/form-data; boundary=x"}


def _json(_: random.Random, task: str, fields: Fields) -> Sent:
    text = {name: base64.b64encode(body).decode() if len(body) > 50 else body.decode() for name, body in fields.items()}
    return f"/predictions/{task}", json.dumps(text).encode(), {"Content-Type": "application/json"}


def _raw(_: random.Random, task: str, fields: Fields) -> Sent:
    return f"/predictions/{task}", max(fields.values(), key=len), {"Content-Type": "image/png", "X-Expression": "fear"}


def _tensors(draw: random.Random, task: str, fields: Fields) -> Sent:
    """BYTES tensors of the Open Inference Protocol behind their JSON."""
    raw = [len(body).to_bytes(4, "little") + body for body in fields.values()]
    shape, datatype = draw.choice([[1], [1, 1], [2], [-1]]), draw.choice(["BYTES", "BYTES", "UINT8", "FP32", "?"])
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
        for name, data in zip(fields, raw, strict=True)
    ]
    head = json.dumps({"inputs": inputs}).encode()
    length = draw.choice([len(head), len(head), 0, 10**6])
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    return f"/v2/models/{task}/infer", head + b"".join(raw), headers

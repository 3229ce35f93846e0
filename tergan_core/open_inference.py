"""The Open Inference Protocol (KServe v2): bodies to arrays and back, as JSON alone or with binary tensors behind it.

https://github.com/kserve/open-inference-protocol; the binary form is Triton's extension "binary tensor data". A body of
that form is JSON of `Inference-Header-Content-Length` bytes and then the raw tensors. BYTES tensors are arrays of
objects here: bytes where they came raw, text where they came in JSON.
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .errors import InvalidRequestError

HEADER_LENGTH = "inference-header-content-length"
"""The HTTP header that gives the number of JSON bytes in a body with binary tensors."""

MAX_ITEMS = 64
"""Largest number of pictures in one request."""

DATATYPES: dict[str, type] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The datatypes that are read, and their kinds of array."""

_RESERVED = {"sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output"}


@dataclass(frozen=True)
class InferRequest:
    """One inference request; its arrays have the shapes that it says."""

    inputs: Mapping[str, np.ndarray]
    """Tensors by name."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Options that came as parameters, without those that the protocol reserves for servers."""

    outputs: Mapping[str, bool] = field(default_factory=dict)
    """Names of the outputs that are wanted, and whether each is to be binary; the task's usual ones if empty."""

    binary: bool = False
    """Whether outputs that are not named in `outputs` are to be binary."""

    id: str = ""
    """What the client calls the request; it is sent back."""


def parse(
    body: bytes | Mapping[str, Any], header_length: str | None = None, *, base64_bytes: bool = False
) -> InferRequest:
    """The request in a body.

    Args:
        body: the body, or its JSON already parsed.
        header_length: the header `HEADER_LENGTH`, if there is one.
        base64_bytes: BYTES in JSON are base64, as TorchServe's gRPC frontend writes them.

    Raises:
        InvalidRequestError: the body is not of the protocol, or its shapes, datatypes and data disagree.

    >>> parse(b'{"inputs": [{"name": "x", "shape": [2], "datatype": "UINT8", "data": [1, 2]}]}').inputs["x"].tolist()
    [1, 2]
    """
    value, tail = _split(body, header_length)
    inputs, offset = {}, 0
    for entry in _list(value, "inputs"):
        name, datatype, shape = _described(entry)
        size = _object(entry, "parameters").get("binary_data_size")
        if size is None:
            array = _from_json(name, datatype, shape, entry.get("data"), base64_bytes)
        else:
            if not _is_count(size) or offset + size > len(tail):
                raise _refused(
                    name, f"binary_data_size {str(size)[:40]!r} and {len(tail) - offset} bytes left in the body"
                )
            array = _from_bytes(name, datatype, shape, tail[offset : offset + size])
            offset += size
        if name in inputs:
            raise _refused(name, "been sent twice")
        inputs[name] = array
    if offset != len(tail):
        raise InvalidRequestError(
            f"{len(tail) - offset} bytes of the body belong to no tensor; check binary_data_size."
        )
    parameters = dict(_object(value, "parameters"))
    binary = parameters.get("binary_data_output") is True
    outputs = {}
    for entry in _list(value, "outputs", needed=False):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise InvalidRequestError("an entry of 'outputs' has no 'name'; accepted: objects {name, parameters}.")
        outputs[entry["name"]] = _object(entry, "parameters").get("binary_data", binary) is True
    options = {name: option for name, option in parameters.items() if name not in _RESERVED}
    return InferRequest(inputs, options, outputs, binary, str(value.get("id", ""))[:200])


def items(request: InferRequest, kinds: Mapping[str, str]) -> list[dict[str, Any]]:
    """The fields of each item of a request.

    A picture `name` is a BYTES tensor `name` of `[n]` or `[n, 1]` files, or UINT8 `name_pixels` `[n, h, w, 3]`.
    Anything else is a tensor of n values, or of one, or a parameter, which hold for all items.

    Args:
        kinds: the fields of the task, as `serving.FIELDS` has them.

    Raises:
        InvalidRequestError: tensors differ in their number of items, or have a wrong shape or datatype.
    """
    columns: dict[str, list[Any]] = {}
    for name, array in request.inputs.items():
        if name.endswith("_pixels") and kinds.get(name.removesuffix("_pixels")) == "picture":
            if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8:
                raise _refused(name, f"shape {list(array.shape)} of {array.dtype}; accepted: UINT8 [n, h, w, 3]")
            column, name = list(array), name.removesuffix("_pixels")
        else:
            if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
                raise _refused(name, f"shape {list(array.shape)}; accepted: [n] or [n, 1]")
            column = array.ravel().tolist()
        if name in columns:
            raise _refused(name, "been sent both as files and as pixels; accepted: one of them")
        columns[name] = column
    for name, value in request.parameters.items():
        if name in columns:
            raise _refused(name, "been sent both as a tensor and as a parameter; accepted: one of them")
        columns[name] = [value]
    counts = {name: len(column) for name, column in columns.items()}
    count = max(counts.values(), default=1)
    if count > MAX_ITEMS or any(length not in (1, count) for length in counts.values()):
        raise InvalidRequestError(
            f"the tensors have {str(counts)[:200]} items; accepted: one number for all, at most {MAX_ITEMS}, or 1."
        )
    return [{name: column[index % len(column)] for name, column in columns.items()} for index in range(count)]


def render(
    request: InferRequest,
    outputs: Mapping[str, np.ndarray],
    model_name: str,
    model_version: str,
) -> tuple[bytes, int | None]:
    """The body that answers a request, and how many of its bytes are JSON if not all are.

    In JSON, BYTES of a picture are base64; other text is itself.
    """
    entries, tail = [], []
    for name, array in outputs.items():
        datatype = next(key for key, kind in DATATYPES.items() if array.dtype == kind)
        entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(array.shape)}
        if request.outputs.get(name, request.binary):
            raw = _to_bytes(array)
            entry["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            entry["data"] = [_json_value(item) for item in array.ravel().tolist()]
        entries.append(entry)
    value: dict[str, Any] = {
        "id": request.id,
        "model_name": model_name,
        "model_version": model_version,
        "outputs": entries,
    }
    head = json.dumps(value).encode()
    return b"".join([head, *tail]), len(head) if tail else None


def _split(body: bytes | Mapping[str, Any], header_length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON object and the bytes behind it."""
    if isinstance(body, Mapping):
        return dict(body), b""
    body = bytes(body)
    length = len(body)
    if header_length is not None:
        if (
            not (header_length.isascii() and header_length.isdigit())
            or len(header_length) > 12
            or int(header_length) > length
        ):
            raise InvalidRequestError(
                f"{HEADER_LENGTH} is {header_length[:40]!r}; accepted: the number of JSON bytes, at most {length}."
            )
        length = int(header_length)
    try:
        value = json.loads(body[:length])
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the inference request is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"the inference request is a JSON {type(value).__name__}; accepted: an object.")
    return value, body[length:]


def _described(entry: object) -> tuple[str, str, tuple[int, ...]]:
    """Name, datatype and shape of a tensor."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise InvalidRequestError(
            "an entry of 'inputs' has no 'name'; accepted: objects {name, shape, datatype, data}."
        )
    name, datatype, shape = entry["name"][:100], entry.get("datatype"), entry.get("shape")
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise _refused(name, f"datatype {str(datatype)[:40]!r}; accepted: {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not 1 <= len(shape) <= 4 or not all(map(_is_count, shape)):
        raise _refused(name, f"shape {str(shape)[:100]}; accepted: a list of 1 to 4 positive integers")
    return name, datatype, tuple(shape)


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: object, base64_bytes: bool) -> np.ndarray:
    flat = _flat(data)
    if len(flat) != math.prod(shape):
        raise _refused(name, f"shape {list(shape)} and {len(flat)} values")
    if datatype == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise _refused(name, "datatype BYTES and data that is not text; accepted: a list of strings")
        if base64_bytes:
            try:
                flat = [base64.b64decode(value, validate=True) for value in flat]
            except (binascii.Error, ValueError):
                raise _refused(name, "data that is not base64") from None
        return _objects(flat, shape)
    kinds: Any = {"BOOL": bool, "FP32": (int, float), "FP64": (int, float)}.get(datatype, int)
    if not all(isinstance(value, kinds) and (datatype == "BOOL" or not isinstance(value, bool)) for value in flat):
        raise _refused(name, f"datatype {datatype} and values of another kind")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, DATATYPES[datatype]).reshape(shape)
    except (OverflowError, ValueError):
        raise _refused(name, f"datatype {datatype} and values out of its range") from None


def _from_bytes(name: str, datatype: str, shape: tuple[int, ...], data: bytes) -> np.ndarray:
    if datatype == "BYTES":
        found, offset = [], 0
        while offset + 4 <= len(data):
            (length,) = struct.unpack_from("<I", data, offset)
            found.append(data[offset + 4 : offset + 4 + length])
            offset += 4 + length
        if offset != len(data) or len(found) != math.prod(shape):
            raise _refused(name, f"shape {list(shape)} and binary data of {len(found)} elements")
        return _objects(found, shape)
    if len(data) != math.prod(shape) * np.dtype(DATATYPES[datatype]).itemsize:
        raise _refused(name, f"shape {list(shape)} of {datatype} and {len(data)} bytes")
    return np.frombuffer(data, DATATYPES[datatype]).reshape(shape)


def _to_bytes(array: np.ndarray) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    raws = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
    return b"".join(struct.pack("<I", len(raw)) + raw for raw in raws)


def _json_value(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _objects(values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(values), np.object_)
    array[:] = values
    return array.reshape(shape)


def _flat(data: object) -> list[Any]:
    """The values of nested lists in order; tensors have at most four dimensions, so deeper lists stay as they are."""
    values = data if isinstance(data, list) else [data]
    for _ in range(3):
        if not any(isinstance(value, list) for value in values):
            break
        values = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
    return values


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _list(value: Mapping[str, Any], key: str, *, needed: bool = True) -> list[Any]:
    found = value.get(key)
    if found is None and not needed:
        return []
    if not isinstance(found, list) or len(found) > 32:
        raise InvalidRequestError(f"{key!r} of the inference request is no list of at most 32 tensors.")
    return found


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    if found is not None and not isinstance(found, dict):
        raise InvalidRequestError(f"{key!r} is a JSON {type(found).__name__}; accepted: an object.")
    return found or {}


def _refused(name: str, fact: str) -> InvalidRequestError:
    return InvalidRequestError(f"the tensor {name!r} has {fact}.")

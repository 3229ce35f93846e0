"""Requests in, responses out, for any server: no TorchServe, no Triton. The only place that knows HTTP status codes.

A request is multipart fields, JSON with base64 pictures, a picture as the raw body with its options as headers
(`X-Expression`, `X-Intensity`), or tensors of the Open Inference Protocol (KServe v2).
"""

import base64
import binascii
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from . import open_inference
from .errors import (
    EngineError,
    ImageTooLargeError,
    IntensityError,
    InvalidRequestError,
    MissingFieldError,
    TerganError,
    UnsupportedMediaTypeError,
    close_names,
)
from .images import Limits, count_pixels, encode, face_tensor
from .open_inference import HEADER_LENGTH, InferRequest
from .pipeline import FaceEditor
from .results import GeneratedFace, Recognition
from .weights import describe, locate

Fields = dict[str, Any]

FIELDS: dict[str, dict[str, str]] = {
    "transfer": {"identity": "picture", "expression": "picture", "intensity": "number"},
    "edit": {"image": "picture", "expression": "text", "intensity": "number", "units": "weights"},
    "recognize": {"image": "picture"},
}
"""The fields of each task and their kinds. All but those in `OPTIONAL` are required."""

OPTIONAL: dict[str, dict[str, Any]] = {
    "transfer": {"intensity": 1.0},
    "edit": {"expression": None, "intensity": 1.0, "units": None},
    "recognize": {},
}
"""What fields are that a request leaves out. An edit needs `expression`, or `units` (JSON: an object of weights)."""

IMAGE_TYPES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
"""Media types that a generated face can be asked for in, and their names in `images.encode`."""

OUTPUTS: dict[str, tuple[str, ...]] = {
    "transfer": ("image", "image_pixels"),
    "edit": ("image", "image_pixels"),
    "recognize": ("label", "expressions", "probabilities", "unit_names", "units"),
}
"""The output tensors of each task: `image` BYTES `[n 1]` and `image_pixels` UINT8 `[n h w 3]`; `label` BYTES `[n 1]`,
`probabilities` FP32 of the `expressions` BYTES `[n k]`, `units` FP32 of the `unit_names` BYTES `[n u]`. A
request that names none gets those that recognition has, or `image`."""

LIMITS = Limits(max_pixels=25_000_000, formats=("PNG", "JPEG", "WEBP"))
"""Which pictures are read of those that strangers send. Photographs of 24 megapixels are: decoding takes 16 bytes a
pixel or less, as a test measures, so that a worker needs up to 400 MB more than at rest, whatever its batch."""

MAX_PICTURES = 2
"""Pictures of the largest size that one request of tensors may hold, as many as a transfer has; of smaller ones more.
So no kind of request takes longer to read than another."""

MAX_TEXT = 200
"""Largest number of characters in a field that is not a picture."""

MAX_WEIGHTS = 4096
"""Largest number of characters in a field of weights."""

ERRORS: dict[str, tuple[int, str | None, str]] = {
    "missing_field": (400, None, "Send every required field of the task."),
    "invalid_request": (400, None, "Send multipart/form-data, a picture as the body, or a JSON object."),
    "image_too_large": (413, None, "Send a smaller picture; the model needs no more than a few hundred pixels."),
    "unsupported_media_type": (415, None, "Set Content-Type and Accept to types that the message names."),
    "invalid_image": (422, None, "Send a whole PNG, JPEG or WebP file."),
    "no_face": (422, None, "Send a picture that shows one face, large and from the front."),
    "unknown_expression": (422, "expression", "Send one of the model's expression names."),
    "unknown_unit": (422, "units", "Send weights by names of the model's face units, which recognition gives."),
    "invalid_intensity": (422, "intensity", "Send a number: 0 leaves the face unchanged, 1 is the peak."),
}
"""What a client is told by error code: the HTTP status, the field if the code implies one, the hint."""

STAGES = ("decode", "forward", "encode")
"""What happens to a batch, in order."""

Observe = Callable[..., None]
"""Takes what `Service.handle` counts: `observe("requests", 2)`, `observe("errors", 1, code="no_face")`,
`observe("faces", 2)` for the faces that came to the network, and `observe("decode_ms", 3.1)` for each of `STAGES`."""

OPTION_HEADERS = {"x-expression": "expression", "x-intensity": "intensity", "x-units": "units"}
"""Headers that a picture sent as the body brings its options in, and the options' names."""

_RAW_TYPES = re.compile(r"image/.+|application/octet-stream|")
_DATA_URL = re.compile(r"data:[^,]*;base64,")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One request as a server delivers it; nothing in it has been checked."""

    fields: Mapping[str, Any]
    """Multipart fields and options by name; `body` holds a body that is not multipart."""

    accept: str = "*/*"
    content_type: str = "multipart/form-data"

    tensors: bool = False
    """Whether the body is of the Open Inference Protocol."""

    header_length: str | None = None
    """The protocol's header `Inference-Header-Content-Length`, if there is one."""

    grpc: bool = False
    """Whether TorchServe's gRPC frontend sent it: it puts all BYTES in base64, and loses its worker to an answer that
    is not of the protocol, so that errors are an output tensor `error` there."""


@dataclass(frozen=True)
class Response:
    """What to answer to one request."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def phrase(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase


@dataclass
class _Job:
    """What has become of one request: calls of the network, or the error that stopped it."""

    calls: list[Fields] = field(default_factory=list)
    media_type: str = ""
    infer: InferRequest | None = None
    error: Exception | None = None
    results: list[Any] = field(default_factory=list)


def request_from_row(row: Mapping[str, Any], headers: Mapping[str, Any]) -> Request:
    """The request in one row of a TorchServe batch. Never fails: `Service.handle` judges the content.

    Args:
        row: field name to value; a body that is not multipart is in `body`.
        headers: the request's headers, names in any case. TorchServe mixes dicts in, one per multipart field. Its gRPC
            frontend sends those alone.
    """
    found = {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
    options = {field: found[header] for header, field in OPTION_HEADERS.items() if header in found}
    length = found.get(HEADER_LENGTH)
    content_type = found.get("content-type", "")
    tensors = length is not None or ((_is_json(content_type) or not content_type) and _has_inputs(row.get("body")))
    return Request(
        {**options, **row},
        accept=found.get("accept") or "*/*",
        content_type=content_type,
        tensors=tensors,
        header_length=length,
        grpc=tensors and not found,
    )


class Service:
    """Answers requests of one task: decodes each by itself, runs one forward pass for all, encodes each by itself.

    Args:
        editor: the model that does the work.
        task: `transfer`, `edit` or `recognize`.
        version: of the model, for answers of the Open Inference Protocol.
        limits: of the pictures.
    """

    def __init__(self, editor: FaceEditor, task: str, version: str = "", limits: Limits = LIMITS):
        if task not in FIELDS:
            raise InvalidRequestError(f"there is no task {task!r}. {close_names(task, FIELDS)}")
        self.editor = editor
        self.task = task
        self.version = version
        self.limits = limits

    @classmethod
    def load(
        cls,
        folder: str | Path,
        task: str,
        device: str | None = None,
        *,
        threads: int | None = None,
        limits: Limits = LIMITS,
    ) -> "Service":
        """The service of the model in `folder`.

        Args:
            folder: a model folder, or a name that `weights.load` knows.
            task: `transfer`, `edit` or `recognize`.
            device: a torch device; the GPU if there is one by default.
            threads: CPU threads of this process. Several workers on one machine want one each.
            limits: of the pictures.
        """
        if threads:
            torch.set_num_threads(threads)
        editor = FaceEditor.load(str(folder), device=device)
        return cls(editor, task, describe(locate(folder))["version"], limits)

    def warm_up(self, batch: int) -> None:
        """Answers a batch of blank pictures. Engines keep the memory of the largest batch that they have seen: so a
        worker has it from the start, and does not grow when such a batch comes for the first time.

        Raises:
            EngineError: the model does not answer them.
        """
        blank = encode(np.zeros((8, 8, 3), np.uint8))
        values = {"picture": blank, "text": self.editor.expressions[-1].encode()}
        fields = {name: values[kind] for name, kind in FIELDS[self.task].items() if kind in values}
        for response in self.handle([Request(fields)] * batch):
            if response.status != HTTPStatus.OK:
                raise EngineError(f"the model cannot answer a blank picture: {response.body.decode()}")

    def handle(self, requests: Sequence[Request], observe: Observe | None = None) -> list[Response]:
        """One response for each request, in order. A bad request gets its error and leaves the others alone.

        Args:
            requests: what came in.
            observe: is told what was counted and how long each stage took, once for the whole batch.
        """
        times = [time.perf_counter()]
        jobs = [self._job(request) for request in requests]
        times.append(time.perf_counter())
        self._work(jobs)
        times.append(time.perf_counter())
        responses = [self._answer(request, job) for request, job in zip(requests, jobs, strict=True)]
        times.append(time.perf_counter())
        if observe:
            self._report(jobs, times, observe)
        return responses

    def _report(self, jobs: list[_Job], times: list[float], observe: Observe) -> None:
        observe("requests", len(jobs))
        observe("faces", sum(len(job.calls) for job in jobs) * len(self._pictures))
        for code, count in Counter(error_code(job.error) for job in jobs if job.error).items():
            observe("errors", count, code=code)
        for stage, (start, end) in zip(STAGES, pairwise(times), strict=True):
            observe(f"{stage}_ms", 1000 * (end - start))

    def infer(self, requests: Sequence[InferRequest], accept: str = "*/*") -> list[dict[str, np.ndarray] | Exception]:
        """The output tensors of each request of the Open Inference Protocol, or its error."""
        jobs = [self._tensor_job(request, accept) for request in requests]
        self._work(jobs)
        return [job.error or self._outputs(job) for job in jobs]

    def _job(self, request: Request) -> _Job:
        """The decoded fields and the media type to answer in, or the error."""
        try:
            if request.tensors:
                body = request.fields.get("body", b"")
                infer = open_inference.parse(body, request.header_length, base64_bytes=request.grpc)
                return self._tensor_job(infer, request.accept)
            media_type = choose_media_type(request.accept, [*self._media_types, "application/json"])
            return _Job([self._decode(_raw_fields(request, self.task))], media_type)
        except TerganError as error:
            return _Job(error=error)
        except RecursionError:
            return _Job(error=InvalidRequestError("the request is nested too deeply; accepted: plain fields"))

    def _tensor_job(self, infer: InferRequest, accept: str) -> _Job:
        """As `_job`. The option `accept` takes the place of the header, which not all of its routes have."""
        job = _Job(infer=infer)
        try:
            if unknown := set(infer.outputs) - set(OUTPUTS[self.task]):
                shown = min(unknown)[:100]
                known = close_names(shown, OUTPUTS[self.task])
                raise _at(shown, InvalidRequestError(f"{self.task} has no output {shown!r}. {known}"))
            items = open_inference.items(infer, FIELDS[self.task])
            self._check_pixels(items)
            faces: dict[int, Tensor] = {}
            for item in items:
                wanted = _text("accept", item.pop("accept", accept))
                # Clients of the protocol ask for JSON or octets, which says nothing of the pictures inside.
                offered = [*self._media_types, "application/json", "application/octet-stream"]
                chosen = choose_media_type(wanted, offered)
                job.media_type = chosen if chosen in IMAGE_TYPES else "image/png"
                job.calls.append(self._decode(item, faces))
        except TerganError as error:
            job.error, job.calls = error, []
        return job

    def _work(self, jobs: list[_Job]) -> None:
        """Runs the calls of all jobs at once. A job of several calls fails with the first that does."""
        results = iter(self._run([call for job in jobs for call in job.calls]))
        for job in jobs:
            job.results = list(islice(results, len(job.calls)))
            job.error = job.error or next((result for result in job.results if isinstance(result, Exception)), None)

    @property
    def _media_types(self) -> list[str]:
        return [] if self.task == "recognize" else list(IMAGE_TYPES)

    def _check_pixels(self, items: list[Fields]) -> None:
        """Whether pictures that can be read in time are asked for; each counts once, however many items show it."""
        pictures = {id(item[name]): (name, item[name]) for item in items for name in self._pictures if name in item}
        if len(pictures) <= MAX_PICTURES:
            return  # each has its own limit
        accepted = MAX_PICTURES * self.limits.max_pixels
        if sum(count_pixels(_content(*picture)) for picture in pictures.values()) > accepted:
            raise ImageTooLargeError(
                f"the {len(pictures)} pictures have more than {accepted} pixels in all; accepted: that many. "
                "Send them in several requests, or scale them down first."
            )

    def _decode(self, raw: Fields, faces: dict[int, Tensor] | None = None) -> Fields:
        """The fields of one call. `faces` keeps pictures that several calls share: each is read once."""
        faces = {} if faces is None else faces
        kinds = FIELDS[self.task]
        for name in raw:
            if name not in kinds:
                shown = name[:100]
                raise _at(
                    shown, InvalidRequestError(f"{self.task} has no field {shown!r}. {close_names(shown, kinds)}")
                )
        optional = OPTIONAL[self.task]
        decoded: Fields = dict(optional)
        for name, kind in kinds.items():
            try:
                if name in raw:
                    value = raw[name]
                    if kind != "picture":
                        decoded[name] = _READERS[kind](name, value)
                        continue
                    if id(value) not in faces:
                        faces[id(value)] = self._picture(name, value)
                    decoded[name] = faces[id(value)]
                elif name not in optional:
                    required = ", ".join(field for field in kinds if field not in optional)
                    raise MissingFieldError(f"the field {name!r} is missing; {self.task} needs: {required}")
            except TerganError as error:
                raise _at(name, error) from None
        if self.task == "edit" and decoded["expression"] is None and decoded["units"] is None:
            raise _at("expression", MissingFieldError("the field 'expression' is missing; edit needs it, or 'units'"))
        return decoded

    @property
    def _pictures(self) -> list[str]:
        """The fields that are pictures."""
        return [name for name, kind in FIELDS[self.task].items() if kind == "picture"]

    def _picture(self, name: str, value: object) -> Float[Tensor, "3 h w"]:
        image = _content(name, value)
        return face_tensor(image, self.editor.config.image_size, name=name, limits=self.limits)

    def _run(self, calls: list[Fields]) -> list[Any]:
        """Results or errors of all calls by one forward pass; if that fails unexpectedly, of each call by itself."""
        if not calls:
            return []
        columns = {name: [call[name] for call in calls] for name in FIELDS[self.task]}
        try:
            if self.task == "transfer":
                return self.editor.transfer(**columns, errors="return")
            if self.task == "edit":
                faces, names, intensities = columns["image"], columns["expression"], columns["intensity"]
                return self.editor.edit(faces, names, intensities, units=columns["units"], errors="return")
            return self.editor.recognize(columns["image"], errors="return")
        except Exception as error:
            _log.exception("%s failed for a batch of %d", self.task, len(calls))
            return [error] if len(calls) == 1 else [result for call in calls for result in self._run([call])]

    def _answer(self, request: Request, job: _Job) -> Response:
        if not request.tensors:
            return error_response(job.error) if job.error else self._respond(job.results[0], job.media_type)
        if job.error and not request.grpc:
            response = error_response(job.error)
            # The protocol's own clients show `error`, and nothing else.
            return _json_response(response.status, {**json.loads(response.body), "error": error_text(job.error)})
        outputs = self._outputs(job) if not job.error else {"error": np.array([[error_text(job.error)]], np.object_)}
        body, length = open_inference.render(job.infer or InferRequest({}), outputs, self.task, self.version)
        if length is None:
            return Response(200, "application/json", body)
        return Response(200, "application/octet-stream", body, {"Inference-Header-Content-Length": str(length)})

    def _outputs(self, job: _Job) -> dict[str, np.ndarray]:
        """The output tensors that the request wants."""
        if self.task == "recognize":
            values = {
                "label": lambda: np.array([[result.label] for result in job.results], np.object_),
                "expressions": lambda: np.array([list(result.probabilities) for result in job.results], np.object_),
                "unit_names": lambda: np.array([list(result.units) for result in job.results], np.object_),
                "probabilities": lambda: _floats([list(result.probabilities.values()) for result in job.results]),
                "units": lambda: _floats([list(result.units.values()) for result in job.results]),
            }
        else:
            format = IMAGE_TYPES.get(job.media_type, "png")
            values = {
                "image": lambda: np.array([[face.encode(format)] for face in job.results], np.object_),
                "image_pixels": lambda: np.stack([face.image for face in job.results]),
            }
        usual = OUTPUTS["recognize"] if self.task == "recognize" else ("image",)
        return {name: values[name]() for name in (job.infer and job.infer.outputs) or usual}

    def _respond(self, result: object, media_type: str) -> Response:
        if isinstance(result, GeneratedFace) and media_type in IMAGE_TYPES:
            return Response(200, media_type, result.encode(IMAGE_TYPES[media_type]))
        assert isinstance(result, GeneratedFace | Recognition)
        return _json_response(200, result.to_dict())


def error_response(error: Exception) -> Response:
    """The JSON answer `{code, message, field, hint}` with the status that belongs to the error's code."""
    if not isinstance(error, TerganError):
        body = {"code": error_code(error), "message": "the server failed on this request", "field": None}
        return _json_response(500, {**body, "hint": "This is our fault; the server's log says more."})
    status, field, hint = ERRORS.get(error.code, (422, None, "See the message."))
    message = str(error)
    # The editor names its argument and the place in the batch; the client knows its own field.
    argument = re.match(r"(\w+)\[\d+\]", message)
    if argument and any(argument[1] in fields for fields in FIELDS.values()):
        field = argument[1]
    field = getattr(error, "field", field)
    if argument:
        message = (field or "the request") + message[argument.end() :]
    return _json_response(status, {"code": error.code, "message": message, "field": field, "hint": hint})


def error_code(error: Exception) -> str:
    """The code that a client sees."""
    return error.code if isinstance(error, TerganError) else "internal_error"


def error_text(error: Exception) -> str:
    """The error as `[code] message`, for routes that have room for one line."""
    body = json.loads(error_response(error).body)
    return f"[{body['code']}] {body['message']}"


def choose_media_type(accept: str, offered: Sequence[str]) -> str:
    """The type of `offered` that an `Accept` header likes best; of equals the first.

    Raises:
        UnsupportedMediaTypeError: the header allows none of them.

    >>> choose_media_type("image/*;q=0.5, image/webp", ["image/png", "image/webp"])
    'image/webp'
    """
    wishes = dict(_wishes(accept))

    def quality(offer: str) -> float:
        for pattern in (offer, f"{offer.split('/')[0]}/*", "*/*"):
            if pattern in wishes:
                return wishes[pattern]
        return 0.0

    best = max(offered, key=quality)
    if quality(best) <= 0:
        raise UnsupportedMediaTypeError(f"Accept is {accept[:200]!r}; offered: {', '.join(offered)}")
    return best


def _wishes(accept: str) -> Iterator[tuple[str, float]]:
    for part in accept.lower().split(","):
        pattern, *parameters = [piece.strip() for piece in part.split(";")]
        weights = [piece[2:] for piece in parameters if re.fullmatch(r"q=(0(\.\d*)?|1(\.0*)?)", piece)]
        yield pattern, float(weights[0]) if weights else 1.0


def _raw_fields(request: Request, task: str) -> Fields:
    """Undecoded fields by name, whatever way they came."""
    content_type = request.content_type.split(";")[0].strip().lower()
    fields = dict(request.fields)
    if content_type == "multipart/form-data":
        return fields
    if _is_json(content_type):
        body = _json_object(fields.pop("body", b""))
        return {**fields, **body}
    if not _RAW_TYPES.fullmatch(content_type):
        raise UnsupportedMediaTypeError(
            f"Content-Type is {content_type[:200]!r}; accepted: multipart/form-data, application/json, image/*"
        )
    if "image" not in FIELDS[task]:
        raise UnsupportedMediaTypeError(
            f"{task} takes two pictures and a body of type {content_type[:200]!r} holds one; "
            "accepted: multipart/form-data, application/json"
        )
    if "body" in fields:
        fields["image"] = fields.pop("body")
    return fields


def _is_json(content_type: str) -> bool:
    return content_type.split(";")[0].strip().lower() == "application/json"


def _has_inputs(body: object) -> bool:
    """Whether a JSON body has the key that every request of the Open Inference Protocol has, and no task's fields."""
    if isinstance(body, bytes | bytearray):
        if not body.lstrip()[:1] == b"{" or b'"inputs"' not in body:
            return False
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return False
    return isinstance(body, Mapping) and "inputs" in body


def _floats(rows: list[list[float]]) -> np.ndarray:
    return np.array(rows, np.float32)


def _json_object(body: object) -> Fields:
    if isinstance(body, Mapping):
        return dict(body)
    try:
        value = json.loads(body)  # type: ignore[arg-type]
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidRequestError(f"the body is not JSON: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InvalidRequestError(f"the body is a JSON {type(value).__name__}; accepted: an object with fields")
    return value


def _content(name: str, value: object) -> bytes | np.ndarray:
    return value if isinstance(value, np.ndarray) else _bytes(name, value)


def _bytes(name: str, value: object) -> bytes:
    """A picture's file content: bytes as they are, text as base64 (a data URL is welcome)."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name!r} is a JSON {type(value).__name__}; accepted: the picture as base64 text")
    text = value[match.end() :] if (match := _DATA_URL.match(value)) else value
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"{name!r} is not base64: {error}") from None


def _text(name: str, value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            raise InvalidRequestError(f"{name!r} is not UTF-8 text") from None
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name!r} is a JSON {type(value).__name__}; accepted: text")
    if len(value) > MAX_TEXT:
        raise InvalidRequestError(f"{name!r} has {len(value)} characters; accepted: at most {MAX_TEXT}")
    return value


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value if isinstance(value, int | float) else _text(name, value))
    except (ValueError, OverflowError, InvalidRequestError):
        shown = f"a JSON {type(value).__name__}" if isinstance(value, dict | list) else repr(str(value)[:40])
        raise IntensityError(f"{name!r} is {shown}; accepted: a number") from None


def _weights(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, bytes | bytearray | memoryview | str):
        try:
            value = json.loads(value if isinstance(value, str) else bytes(value)) if len(value) <= MAX_WEIGHTS else None
        except (ValueError, RecursionError):
            value = None
    if (
        not isinstance(value, dict)
        or any(isinstance(weight, dict | list) for weight in value.values())
        or len(json.dumps(value)) > MAX_WEIGHTS
    ):
        raise InvalidRequestError(f'{name!r} is no JSON object of weights; accepted: such as {{"mouthSmile": 0.6}}')
    return value


_READERS: dict[str, Callable[[str, Any], Any]] = {"text": _text, "number": _number, "weights": _weights}
"""What reads each kind of field but pictures."""


def _at(field: str, error: TerganError) -> TerganError:
    """The error, marked with the request's field that it is about."""
    error.field = field  # type: ignore[attr-defined]
    return error


def _json_response(status: int, value: Fields) -> Response:
    return Response(status, "application/json", json.dumps(value).encode())

"""The OpenAPI description of the served tasks, made of the tables that `tergan_core.serving` works by.

`python -m model_archives.openapi` writes `openapi.json`.
"""

import json
from pathlib import Path
from typing import Any

import tergan_core
from tergan_core import open_inference
from tergan_core.serving import ERRORS, FIELDS, IMAGE_TYPES, MAX_TEXT, OPTION_HEADERS, OPTIONAL, OUTPUTS

PATH = Path(__file__).with_name("openapi.json")

ERROR = {"$ref": "#/components/schemas/Error"}
V2_REQUEST = {"$ref": "#/components/schemas/InferenceRequest"}
V2_RESPONSE = {"$ref": "#/components/schemas/InferenceResponse"}


def description() -> dict[str, Any]:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tergan-core",
            "version": tergan_core.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Facial expressions transferred, edited and recognized, as TorchServe serves them.",
        },
        "servers": [{"url": "http://127.0.0.1:8080"}],
        "security": [{"token": []}],
        "paths": {
            "/ping": {"get": {"operationId": "ping", "summary": "Health", "responses": _health()}},
            **{f"/predictions/{task}": {"post": _prediction(task)} for task in FIELDS},
            **{f"/v2/models/{task}/infer": {"post": _inference(task)} for task in FIELDS},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def text() -> str:
    """The description as the file has it."""
    return json.dumps(description(), indent=1) + "\n"


def _prediction(task: str) -> dict[str, Any]:
    """A task by TorchServe's own route: a form, JSON, or where one picture is enough, the picture."""
    kinds = FIELDS[task]
    content = {
        "multipart/form-data": {"schema": _fields(task, {"type": "string", "format": "binary"})},
        "application/json": {"schema": _fields(task, {"type": "string", "contentEncoding": "base64"})},
    }
    headers = []
    if list(kinds.values()).count("picture") == 1:
        content |= {media_type: {"schema": {}} for media_type in IMAGE_TYPES}
        headers = [
            {"name": header.title(), "in": "header", "schema": {"type": "string", "maxLength": MAX_TEXT}}
            for header, name in OPTION_HEADERS.items()
            if name in kinds
        ]
    return {
        "operationId": task,
        "summary": f"{task.capitalize()}; options of a picture sent as the body are headers.",
        "parameters": headers,
        "requestBody": {"required": True, "content": content},
        "responses": _responses(_answers(task)),
    }


def _inference(task: str) -> dict[str, Any]:
    """A task by the Open Inference Protocol."""
    return {
        "operationId": f"{task}_v2",
        "summary": f"{task.capitalize()} by the Open Inference Protocol; outputs: {', '.join(OUTPUTS[task])}.",
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "Bytes of JSON before the binary tensors; the whole body if left out.",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": V2_REQUEST}, "application/octet-stream": {"schema": {}}},
        },
        "responses": _responses({"application/json": {"schema": V2_RESPONSE}, "application/octet-stream": {}}),
    }


def _fields(task: str, picture: dict[str, Any]) -> dict[str, Any]:
    """The fields of a task as an object."""
    kinds = {
        "picture": picture,
        "text": {"type": "string", "maxLength": MAX_TEXT},
        "number": {"type": "number"},
        "weights": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    }
    return {
        "type": "object",
        "properties": {name: kinds.get(kind, {}) for name, kind in FIELDS[task].items()},
        "required": [name for name in FIELDS[task] if name not in OPTIONAL[task]],
        "additionalProperties": False,
    }


def _answers(task: str) -> dict[str, Any]:
    if task == "recognize":
        return {"application/json": {"schema": {"$ref": "#/components/schemas/Recognition"}}}
    face = {"schema": {"$ref": "#/components/schemas/GeneratedFace"}}
    return {**{media_type: {} for media_type in IMAGE_TYPES}, "application/json": face}


def _responses(content: dict[str, Any]) -> dict[str, Any]:
    """200, each status of `ERRORS` with its codes, and what TorchServe answers by itself."""
    codes: dict[int, list[str]] = {}
    for code, (status, *_) in ERRORS.items():
        codes.setdefault(status, []).append(code)
    refused = {"application/json": {"schema": ERROR}}
    responses = {str(status): {"description": ", ".join(found), "content": refused} for status, found in codes.items()}
    responses["400"]["description"] += "; from TorchServe: no token, or a wrong one"
    responses["413"]["description"] += "; from TorchServe, without a body: more than max_request_size"
    responses["503"] = {"description": "From TorchServe: the queue is full.", "content": refused}
    return {"200": {"description": "Done.", "content": content}, **dict(sorted(responses.items()))}


def _health() -> dict[str, Any]:
    status = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    return {
        "200": {"description": "The server is up.", "content": {"application/json": {"schema": status}}},
        "400": {
            "description": "From TorchServe: no token, or a wrong one",
            "content": {"application/json": {"schema": ERROR}},
        },
    }


def _schemas() -> dict[str, Any]:
    text, number = {"type": "string"}, {"type": "number"}
    numbers = {"type": "object", "additionalProperties": number}
    tensor = {
        "type": "object",
        "properties": {
            "name": text,
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 4},
            "datatype": {"enum": list(open_inference.DATATYPES)},
            "parameters": {"type": "object"},
            "data": {"type": "array"},
        },
        "required": ["name", "shape", "datatype"],
    }
    return {
        "Error": {
            "description": "From us: `code` is text. TorchServe's own have a number there, and `type`.",
            "type": "object",
            "properties": {
                "code": {"anyOf": [{"enum": sorted(ERRORS)}, {"type": "integer"}]},
                "message": text,
                "field": {"type": ["string", "null"]},
                "hint": text,
                "error": {"type": "string", "description": "The Open Inference Protocol's: `[code] message`."},
                "type": text,
            },
            "required": ["code", "message"],
        },
        "GeneratedFace": {
            "type": "object",
            "properties": {"image": {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}},
            "required": ["image"],
        },
        "Recognition": {
            "type": "object",
            "properties": {"label": text, "probabilities": numbers, "units": numbers},
            "required": ["label", "probabilities"],
        },
        "InferenceRequest": {
            "type": "object",
            "properties": {
                "id": text,
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "items": tensor, "minItems": 1, "maxItems": 32},
                "outputs": {
                    "type": "array",
                    "maxItems": 32,
                    "items": {
                        "type": "object",
                        "properties": {"name": text, "parameters": {"type": "object"}},
                        "required": ["name"],
                    },
                },
            },
            "required": ["inputs"],
        },
        "InferenceResponse": {
            "type": "object",
            "properties": {
                "id": text,
                "model_name": text,
                "model_version": text,
                "outputs": {"type": "array", "items": tensor},
            },
            "required": ["model_name", "outputs"],
        },
    }


def main() -> None:
    """Writes the description beside this file."""
    PATH.write_text(text(), encoding="utf-8")
    print(PATH)


if __name__ == "__main__":
    main()

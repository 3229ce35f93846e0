"""The committed description against the tables, and against the specification's own validator."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jsonschema_rs
import pytest

from model_archives import openapi
from tergan_core.serving import ERRORS, FIELDS, OPTIONAL, error_response


def test_the_committed_description_is_what_the_tables_give():
    assert openapi.PATH.read_text() == openapi.text(), "run: python -m model_archives.openapi"


def test_each_task_has_both_routes_with_its_fields_and_every_status():
    paths = json.loads(openapi.text())["paths"]
    for task, kinds in FIELDS.items():
        operation = paths[f"/predictions/{task}"]["post"]
        for content_type in ("multipart/form-data", "application/json"):
            schema = operation["requestBody"]["content"][content_type]["schema"]
            assert set(schema["properties"]) == set(kinds)
            assert set(schema["required"]) == set(kinds) - set(OPTIONAL[task])
        for path in (f"/predictions/{task}", f"/v2/models/{task}/infer"):
            assert {str(status) for status, *_ in ERRORS.values()} | {"200", "503"} == set(
                paths[path]["post"]["responses"]
            )


def test_a_new_field_is_described_by_itself(monkeypatch):
    monkeypatch.setitem(FIELDS, "edit", {**FIELDS["edit"], "strength": "number"})
    monkeypatch.setitem(OPTIONAL["edit"], "strength", 0.0)
    schema = openapi.description()["paths"]["/predictions/edit"]["post"]["requestBody"]["content"]
    assert schema["multipart/form-data"]["schema"]["properties"]["strength"] == {"type": "number"}
    assert "strength" not in schema["application/json"]["schema"]["required"]


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_fits_the_error_schema(code):
    from tergan_core import errors

    (kind,) = (kind for kind in vars(errors).values() if getattr(kind, "code", None) == code)
    body = json.loads(error_response(kind("a message")).body)
    schema = openapi.description()["components"]["schemas"]["Error"]
    jsonschema_rs.validate(schema, body)
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema, {**body, "code": "no such code"})


WRONG = {
    "Server error": (500, "application/json", b"{}"),
    "Undocumented status code": (418, "application/json", b"{}"),
    "Undocumented Content-Type": (200, "text/plain", b"neutral"),
    "Response violates schema": (422, "application/json", b'{"code": "no such code"}'),
}


@pytest.mark.parametrize("title", WRONG)
def test_schemathesis_reports_a_server_that_answers_otherwise_than_described(title, schemathesis):
    status, content_type, body = WRONG[title]

    class Wrong(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Wrong) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ("--max-examples", "1", "--max-failures", "1", "--include-path", "/predictions/recognize")
        done = schemathesis(f"http://127.0.0.1:{server.server_port}", *options)
        server.shutdown()
    assert done.returncode == 1 and title in done.stdout, done.stdout

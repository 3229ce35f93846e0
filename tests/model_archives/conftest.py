"""What several files of tests here share."""

import subprocess
import sys

import pytest

from model_archives import openapi

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def schemathesis(tmp_path):
    """Runs schemathesis with the description against a URL."""

    def run(url, *options, **headers):
        command = [sys.executable, "-m", "schemathesis.cli", "run", str(openapi.PATH), "--url", url, "--checks", CHECKS]
        command += ["--phases", "coverage,fuzzing", "--seed", "0", "--generation-database", "none", *options]
        for name, value in headers.items():
            command += ["--header", f"{name}: {value}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run

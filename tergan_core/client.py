"""Client: the served tasks, with the arguments and results of `FaceEditor`. Needs the extra `client`."""

import asyncio
import base64
import io
import json
import re
from typing import Any, Literal

import numpy as np
import PIL.Image

from . import errors as errors_module
from .errors import InvalidRequestError, MissingExtraError, TerganError
from .images import encode, to_pixels
from .results import GeneratedFace, Recognition


class AsyncClient:
    """Asks a server; a list gives a list, whose items are requests of their own, so that none fails its neighbours.

    Args:
        url: `http://host:port` of the server.
        protocol: TorchServe's own, or the Open Inference Protocol over HTTP, which Triton speaks as well.
        token: what TorchServe's `Authorization` wants.
        timeout_s: of one attempt.
        retries: further attempts after status 503 or a failed connection, which every task bears; none after 4xx.
    """

    def __init__(
        self,
        url: str,
        protocol: Literal["torchserve", "kserve-http"] = "torchserve",
        *,
        token: str | None = None,
        timeout_s: float = 30,
        retries: int = 3,
    ):
        if protocol not in ("torchserve", "kserve-http"):
            raise InvalidRequestError(f"protocol is {protocol!r}; accepted: 'torchserve', 'kserve-http'.")
        self.url, self.protocol, self.timeout_s, self.retries = url.rstrip("/"), protocol, timeout_s, retries
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def edit(self, face: Any, to: Any, intensity: Any = 1.0, *, errors: str = "raise") -> Any:
        """As `FaceEditor.edit`; mixtures and codes are not served."""
        return await self._each("edit", errors, image=face, expression=to, intensity=intensity)

    async def transfer(self, *, identity: Any, expression: Any, intensity: Any = 1.0, errors: str = "raise") -> Any:
        """As `FaceEditor.transfer`."""
        return await self._each("transfer", errors, identity=identity, expression=expression, intensity=intensity)

    async def recognize(self, face: Any, *, errors: str = "raise") -> Any:
        """As `FaceEditor.recognize`."""
        return await self._each("recognize", errors, image=face)

    async def _each(self, task: str, errors: str, **columns: Any) -> Any:
        lengths = {len(value) for value in columns.values() if isinstance(value, list | tuple)}
        if len(lengths) > 1 or errors not in ("raise", "return"):
            raise InvalidRequestError(
                f"lists of lengths {sorted(lengths)}, errors={errors!r}; accepted: one length, raise or return."
            )
        rows = [
            {name: value[i] if isinstance(value, list | tuple) else value for name, value in columns.items()}
            for i in range(next(iter(lengths), 1))
        ]
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtraError("aiohttp", "client", "the client") from error
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        connector = aiohttp.TCPConnector(limit=16)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector, headers=self.headers) as session:
            results = await asyncio.gather(*(self._one(session, task, row) for row in rows), return_exceptions=True)
        unexpected = [r for r in results if isinstance(r, BaseException) and not isinstance(r, TerganError)]
        failures = [r for r in results if isinstance(r, BaseException)] if errors == "raise" else unexpected
        if failures:
            raise failures[0]
        return list(results) if lengths else results[0]

    async def _one(self, session: Any, task: str, row: dict[str, Any]) -> Any:
        import aiohttp

        fields = {
            name: value if name == "intensity" or (task, name) == ("edit", "expression") else _file(value, name)
            for name, value in row.items()
        }
        path = f"/predictions/{task}" if self.protocol == "torchserve" else f"/v2/models/{task}/infer"
        body = json.dumps(fields if self.protocol == "torchserve" else _tensors(fields))
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        for attempt in range(self.retries + 1):
            try:
                async with session.post(self.url + path, data=body, headers=headers) as answer:
                    content = await answer.read()
                if answer.status != 503 or attempt == self.retries:
                    break
            except aiohttp.ClientConnectionError:
                if attempt == self.retries:
                    raise
            await asyncio.sleep(0.1 * 2**attempt)
        if answer.status != 200:
            raise _error(answer.status, content)
        return self._result(task, row, json.loads(content))

    def _result(self, task: str, row: dict[str, Any], value: dict[str, Any]) -> Any:
        if self.protocol == "torchserve" and task == "recognize":
            return Recognition(value["label"], value["probabilities"], value["units"])
        if self.protocol == "kserve-http":
            outputs = {output["name"]: output["data"] for output in value["outputs"]}
            if task == "recognize":
                names = value["parameters"]
                pair = [dict(zip(names[k], outputs[k], strict=True)) for k in ("probabilities", "units")]
                return Recognition(outputs["label"][0], pair[0], pair[1])
            value = {"image": outputs["image"][0]}
        picture = np.asarray(PIL.Image.open(io.BytesIO(base64.b64decode(value["image"]))).convert("RGB"))
        return GeneratedFace(picture, task, row["expression"] if task == "edit" else None, float(row["intensity"]))  # type: ignore[arg-type]


class Client:
    """`AsyncClient` for programs that are not asynchronous; not to be called inside an event loop."""

    def __init__(self, url: str, protocol: Literal["torchserve", "kserve-http"] = "torchserve", **options: Any):
        self._client = AsyncClient(url, protocol, **options)

    def edit(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncClient.edit`."""
        return asyncio.run(self._client.edit(*arguments, **options))

    def transfer(self, **options: Any) -> Any:
        """As `AsyncClient.transfer`."""
        return asyncio.run(self._client.transfer(**options))

    def recognize(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncClient.recognize`."""
        return asyncio.run(self._client.recognize(*arguments, **options))


def _file(face: Any, name: str) -> str:
    return base64.b64encode(encode(to_pixels(face, name=name))).decode()


def _tensors(fields: dict[str, Any]) -> dict[str, Any]:
    inputs = [
        {"name": n, "shape": [1, 1], "datatype": "BYTES" if isinstance(v, str) else "FP32", "data": [v]}
        for n, v in fields.items()
    ]
    return {"inputs": inputs}


def _error(status: int, content: bytes) -> Exception:
    """The local editor's error of the same code; what the server says of itself is a ConnectionError."""
    try:
        value = json.loads(content)
        code, message = value.get("code"), value.get("message")
        if match := re.match(r"\[(\w+)\] (.*)", value.get("error") or "", re.S):
            code, message = match.groups()
    except (ValueError, AttributeError, TypeError):
        code, message = None, content[:200].decode(errors="replace")
    kinds = {
        kind.code: kind
        for kind in vars(errors_module).values()
        if isinstance(kind, type) and issubclass(kind, TerganError)
    }
    return (
        kinds[code](message)
        if code in kinds and code != "missing_extra"
        else ConnectionError(f"status {status}: {message}")
    )

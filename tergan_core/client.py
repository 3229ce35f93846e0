"""Client: the served tasks, with the arguments and results of `FaceEditor`. Needs the extra `client`.

Three ways to ask: TorchServe's own REST route, and the Open Inference Protocol over HTTP and gRPC, for which
tritonclient speaks to TorchServe and to Triton alike.
"""

import asyncio
import contextlib
import io
import json
import re
import threading
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import PIL.Image

from . import errors as errors_module
from .errors import ImageTooLargeError, InvalidRequestError, MissingExtraError, ServerError, TerganError
from .images import to_file
from .provenance import described
from .results import GeneratedFace, Recognition, weights_in_words

ProtocolName = Literal["torchserve", "kserve-http", "kserve-grpc"]
IN_FLIGHT = 16
"""Largest number of requests that one client has in flight."""

Fields = dict[str, bytes | str | float]


class AsyncClient:
    """Asks a server; a list gives a list, whose items are requests of their own, so that none fails its neighbours.

    Connections are kept: use `async with`, or `close`.

    Args:
        url: `http://host:port` of the server, or of its gRPC port.
        protocol: TorchServe's own, or the Open Inference Protocol over HTTP or gRPC.
        token: what TorchServe's `Authorization` wants.
        timeout_s: of one attempt.
        retries: further attempts when the server is busy or cannot be reached; none after a refusal.

    Raises:
        InvalidRequestError: there is no such protocol.
        MissingExtraError: tritonclient or aiohttp is not installed.
    """

    def __init__(
        self,
        url: str,
        protocol: ProtocolName = "torchserve",
        *,
        token: str | None = None,
        timeout_s: float = 30,
        retries: int = 3,
    ):
        if protocol not in get_args(ProtocolName):
            raise InvalidRequestError(f"protocol is {protocol!r}; accepted: {', '.join(get_args(ProtocolName))}.")
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.url, self.timeout_s, self.retries = url, timeout_s, retries
        self._transport = TRANSPORTS[protocol](url.rstrip("/"), headers)
        self._places = asyncio.Semaphore(IN_FLIGHT)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def is_ready(self) -> bool:
        """Whether the server answers within `timeout_s` that it is ready; asked once."""
        try:
            return await asyncio.wait_for(self._transport.is_ready(), self.timeout_s)
        except TimeoutError:
            return False

    async def edit(
        self, face: Any, to: Any = None, intensity: Any = 1.0, *, units: Any = None, errors: str = "raise"
    ) -> Any:
        """As `FaceEditor.edit`; mixtures and codes are not served.

        Raises:
            TerganError: what the local editor would raise, by the server's word; ServerError if there is no answer.
        """
        return await self._each("edit", errors, image=face, expression=to, intensity=intensity, units=units)

    async def transfer(self, *, identity: Any, expression: Any, intensity: Any = 1.0, errors: str = "raise") -> Any:
        """As `FaceEditor.transfer`; raises as `edit`."""
        return await self._each("transfer", errors, identity=identity, expression=expression, intensity=intensity)

    async def recognize(self, face: Any, *, errors: str = "raise") -> Any:
        """As `FaceEditor.recognize`; raises as `edit`."""
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
        results = await asyncio.gather(*(self._one(task, row) for row in rows), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and (errors == "raise" or not isinstance(result, TerganError)):
                raise result
        return list(results) if lengths else results[0]

    async def _one(self, task: str, row: dict[str, Any]) -> Any:
        async with self._places:
            answer = await self._ask(task, _fields(task, row))
        if isinstance(answer, Recognition):
            return answer
        picture = PIL.Image.open(io.BytesIO(answer))
        model, pixels = described(picture.info).get("model", ""), np.asarray(picture.convert("RGB"))
        asked = [row["expression"], weights_in_words(row["units"] or {})] if task == "edit" else []
        to = " + ".join(filter(None, asked)) or None
        return GeneratedFace(pixels, task, to, float(row["intensity"]), model=model)  # type: ignore[arg-type]

    async def _ask(self, task: str, fields: Fields) -> bytes | Recognition:
        for attempt in range(self.retries + 1):
            try:
                return await asyncio.wait_for(self._transport.ask(task, fields), self.timeout_s)
            except TimeoutError:
                raise ServerError(
                    f"{self.url} gave no answer within {self.timeout_s:g} s; try a longer timeout_s."
                ) from None
            except _BusyError:
                if attempt == self.retries:
                    raise
            await asyncio.sleep(0.1 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")


class Client:
    """`AsyncClient` for programs that are not asynchronous; it works inside a running event loop, too.

    Use `with`, or `close`. Arguments as `AsyncClient`.
    """

    def __init__(self, url: str, protocol: ProtocolName = "torchserve", **options: Any):
        self._client = AsyncClient(url, protocol, **options)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="tergan-client", daemon=True).start()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections; the client cannot be used afterwards. Does no harm twice."""
        if not self._loop.is_closed():
            self._run(self._client.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            while self._loop.is_running():
                threading.Event().wait(0.001)
            self._loop.close()

    def is_ready(self) -> bool:
        """As `AsyncClient.is_ready`."""
        return bool(self._run(self._client.is_ready()))

    def edit(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncClient.edit`."""
        return self._run(self._client.edit(*arguments, **options))

    def transfer(self, **options: Any) -> Any:
        """As `AsyncClient.transfer`."""
        return self._run(self._client.transfer(**options))

    def recognize(self, *arguments: Any, **options: Any) -> Any:
        """As `AsyncClient.recognize`."""
        return self._run(self._client.recognize(*arguments, **options))

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._loop.is_closed():
            coroutine.close()
            raise InvalidRequestError("the client is closed; make a new one.")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _BusyError(ServerError):
    """The server was busy or could not be reached: the same request may be sent again."""


class _Transport(Protocol):
    """One request in a protocol: a picture file, or a recognition, or a TerganError."""

    async def ask(self, task: str, fields: Fields) -> bytes | Recognition: ...

    async def is_ready(self) -> bool: ...

    async def close(self) -> None: ...


class _TorchServe:
    """Multipart requests to TorchServe's REST route; pictures come back as they are."""

    def __init__(self, url: str, headers: dict[str, str]):
        try:
            import aiohttp
        except ImportError as error:
            raise MissingExtraError("aiohttp", "client", "the client") from error
        self._aiohttp, self._url, self._headers = aiohttp, url, headers
        self._session: Any = None

    def _connected(self) -> Any:
        if self._session is None:
            # Whoever asks has a time-out of its own.
            connector, timeout = self._aiohttp.TCPConnector(limit=IN_FLIGHT), self._aiohttp.ClientTimeout(total=None)
            self._session = self._aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        return self._session

    async def is_ready(self) -> bool:
        try:
            async with self._connected().get(f"{self._url}/ping") as answer:
                return bool(answer.status == 200)
        except self._aiohttp.ClientError:
            return False

    async def ask(self, task: str, fields: Fields) -> bytes | Recognition:
        form = self._aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value if isinstance(value, bytes) else str(value), **_file_name(name, value))
        accept = "application/json" if task == "recognize" else "image/png"
        try:
            async with self._connected().post(
                f"{self._url}/predictions/{task}", data=form, headers={"Accept": accept}
            ) as answer:
                content = await answer.read()
        except self._aiohttp.ClientError as error:
            raise _unreachable(self._url, error) from error
        if answer.status != 200:
            raise _refusal(str(answer.status), content.decode(errors="replace"))
        if task != "recognize":
            return content
        value = json.loads(content)
        return Recognition(value["label"], value["probabilities"], value["units"])

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class _OpenInference:
    """tritonclient, whose HTTP and gRPC clients differ in names alone."""

    def __init__(self, url: str, headers: dict[str, str]):
        try:
            import aiohttp
            import tritonclient.grpc.aio
            import tritonclient.http.aio
        except ImportError as error:
            raise MissingExtraError("tritonclient[http,grpc]", "client", f"the protocol {self.protocol}") from error
        self._kind = tritonclient.grpc.aio if self.protocol == "kserve-grpc" else tritonclient.http.aio
        self._failures = (aiohttp.ClientError,)
        self._exception = tritonclient.utils.InferenceServerException
        scheme, _, self._address = url.rpartition("://")
        self._secure = scheme in ("https", "grpcs")
        self._url, self._headers = url, headers
        self._client: Any = None

    protocol: ProtocolName = "kserve-http"

    def _connect(self) -> Any:
        return self._kind.InferenceServerClient(self._address, ssl=self._secure, conn_limit=IN_FLIGHT)

    def _connected(self) -> Any:
        if self._client is None:
            self._client = self._connect()
        return self._client

    async def is_ready(self) -> bool:
        try:
            return bool(await self._connected().is_server_ready(headers=dict(self._headers)))
        except (self._exception, *self._failures):
            return False

    async def ask(self, task: str, fields: Fields) -> bytes | Recognition:
        inputs = []
        for name, value in fields.items():
            number = isinstance(value, float)
            inputs.append(self._kind.InferInput(name, [1, 1], "FP32" if number else "BYTES"))
            inputs[-1].set_data_from_numpy(np.array([[value]], np.float32 if number else np.object_))
        try:
            # tritonclient writes the length of each request into the headers it is given.
            result = await self._connected().infer(task, inputs, headers=dict(self._headers))
        except self._exception as error:
            raise _refusal(str(error.status()), error.message() or "", error.debug_details()) from error
        except self._failures as error:
            raise _unreachable(self._url, error) from error
        if task != "recognize":
            return result.as_numpy("image").ravel()[0]
        values = {name: result.as_numpy(name).ravel().tolist() for name in _RECOGNITION}
        names = {key: [_text(name) for name in values[key]] for key in ("label", "expressions", "unit_names")}
        return Recognition(
            names["label"][0],
            dict(zip(names["expressions"], values["probabilities"], strict=True)),
            dict(zip(names["unit_names"], values["units"], strict=True)),
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


_RECOGNITION = ("label", "expressions", "probabilities", "unit_names", "units")


class _OpenInferenceGrpc(_OpenInference):
    """As the HTTP one; a server that does not know the protocol's path is asked under TorchServe's."""

    protocol: ProtocolName = "kserve-grpc"

    def _connect(self) -> Any:
        import grpc
        from tritonclient.grpc import service_pb2

        client = self._kind.InferenceServerClient(self._address, ssl=self._secure)
        usual, channel = client._client_stub, client._channel
        is_torchserve = False

        def either(usual_call: Any, torchserve_call: Any) -> Any:
            async def call(request: Any, metadata: Any = None, **options: Any) -> Any:
                nonlocal is_torchserve
                if not is_torchserve:
                    try:
                        return await usual_call(request=request, metadata=metadata, **options)
                    except grpc.RpcError as error:
                        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
                            raise
                        is_torchserve = True
                own = (*(metadata or ()), ("protocol", "gRPC"), ("session_id", "1"))
                return await torchserve_call(request, metadata=own, **options)

            return call

        ready = _torchserve_call(channel, "ServerReady", service_pb2.ServerReadyResponse)
        client._client_stub = SimpleNamespace(
            ModelInfer=either(usual.ModelInfer, _torchserve_infer(channel)),
            ServerReady=either(usual.ServerReady, ready),
        )
        return client


def _torchserve_call(channel: Any, method: str, response: Any) -> Any:
    """A call of the protocol under the path that TorchServe 0.12 has it at."""
    return channel.unary_unary(
        f"/org.pytorch.serve.grpc.openinference.GRPCInferenceService/{method}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=response.FromString,
    )


def _torchserve_infer(channel: Any) -> Any:
    """Inference as TorchServe 0.12 has it: typed in place of raw contents, pictures in base64 on the way back, and
    errors as an output tensor."""
    from tritonclient.grpc import service_pb2
    from tritonclient.utils import InferenceServerException

    call = _torchserve_call(channel, "ModelInfer", service_pb2.ModelInferResponse)

    async def infer(request: Any, **options: Any) -> Any:
        typed = service_pb2.ModelInferRequest()
        typed.CopyFrom(request)
        del typed.raw_input_contents[:]
        for tensor, raw in zip(typed.inputs, request.raw_input_contents, strict=True):
            if tensor.datatype == "BYTES":
                tensor.contents.bytes_contents.append(raw[4:])  # one element behind its length
            else:
                tensor.contents.fp32_contents.extend(np.frombuffer(raw, np.float32).tolist())
        response = await call(typed, **options)
        for tensor in response.outputs:
            if tensor.datatype == "BYTES":
                values = [_unquoted(tensor.name, value) for value in tensor.contents.bytes_contents]
                response.raw_output_contents.append(
                    b"".join(len(value).to_bytes(4, "little") + value for value in values)
                )
                if tensor.name == "error":
                    raise InferenceServerException(values[0].decode())
            else:
                response.raw_output_contents.append(np.array(tensor.contents.fp32_contents, np.float32).tobytes())
            tensor.ClearField("contents")
        return response

    return infer


def _unquoted(name: str, value: bytes) -> bytes:
    """TorchServe's frontend puts BYTES into JSON; pictures are base64 inside."""
    import base64

    text = json.loads(value)
    return base64.b64decode(text) if name == "image" else text.encode()


TRANSPORTS: dict[str, Any] = {
    "torchserve": _TorchServe,
    "kserve-http": _OpenInference,
    "kserve-grpc": _OpenInferenceGrpc,
}
"""What speaks each protocol: fields in, bytes of a picture or a `Recognition` out."""


def _fields(task: str, row: dict[str, Any]) -> Fields:
    """A row as it is sent: pictures as files, words as they are, intensities as numbers."""
    fields: Fields = {}
    for name, value in row.items():
        if name == "intensity":
            try:
                fields[name] = float(value)
            except (TypeError, ValueError):
                fields[name] = str(value)  # the server says what is accepted
        elif task == "edit" and name != "image":
            if value is not None:
                fields[name] = value if isinstance(value, str) else json.dumps(value, default=str)
        else:
            fields[name] = to_file(value, name=name)
    return fields


def _file_name(name: str, value: object) -> dict[str, str]:
    return {"filename": name} if isinstance(value, bytes) else {}


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _unreachable(url: str, error: Exception) -> TerganError:
    return _BusyError(f"{url} cannot be reached ({error}). Is the server up, and does the protocol fit its port?")


def _refusal(status: str, message: str, details: object = None) -> TerganError:
    """The local editor's error of the code that the server names; what the server says for itself is a ServerError."""
    code = None
    with contextlib.suppress(ValueError, AttributeError):
        value = json.loads(message)
        code, message = value.get("code"), value.get("message") or message
    if match := re.match(r"\[(\w+)\] (.*)", message, re.S):
        code, message = match.groups()
    kinds = {
        kind.code: kind
        for kind in vars(errors_module).values()
        if isinstance(kind, type) and issubclass(kind, TerganError)
    }
    if code in kinds and code != "missing_extra":
        return kinds[code](message)
    if status == "413":  # from before the worker: it says nothing of its own
        return ImageTooLargeError("the request is larger than the server accepts. Scale the pictures down first.")
    busy = status == "503" or "UNAVAILABLE" in status
    return (_BusyError if busy else ServerError)(f"status {status}: {message[:300] or details}")

"""What a user would write without TorchServe: FastAPI around the same `Service`; one process, no batching."""

import sys

import torch
import uvicorn
from fastapi import FastAPI, Request, Response

from tergan_core import FaceEditor
from tergan_core.serving import FIELDS, Service
from tergan_core.serving import Request as TaskRequest


def app(folder: str) -> FastAPI:
    """The three tasks at `/predictions/<task>`."""
    torch.set_num_threads(1)
    editor = FaceEditor.load(folder, device="cpu")
    services = {task: Service(editor, task) for task in FIELDS}
    server = FastAPI()

    @server.get("/ping")
    def ping() -> str:
        return "healthy"

    @server.post("/predictions/{task}")
    async def predict(task: str, request: Request) -> Response:
        form = await request.form()
        fields = {name: value if isinstance(value, str) else await value.read() for name, value in form.items()}
        (answer,) = services[task].handle([TaskRequest(fields, accept=request.headers.get("accept", "*/*"))])
        return Response(answer.body, answer.status, media_type=answer.content_type)

    return server


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")

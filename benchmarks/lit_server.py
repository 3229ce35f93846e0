"""What a user would write with LitServe: each task with a worker that batches as TorchServe's does."""

import sys
from typing import Any

import litserve
import torch
from fastapi import Request, Response

from tergan_core.serving import FIELDS, Service
from tergan_core.serving import Request as TaskRequest


class Task(litserve.LitAPI):
    """One task at `/predictions/<task>`."""

    def __init__(self, folder: str, task: str):
        super().__init__(max_batch_size=8, batch_timeout=0.001, api_path=f"/predictions/{task}")
        self.folder, self.task = folder, task

    def setup(self, device: str) -> None:
        """Loads the model in the worker."""
        torch.set_num_threads(1)
        self.service = Service.load(self.folder, self.task, "cpu", threads=1)

    def decode_request(self, request: Request, **_: Any) -> TaskRequest:  # type: ignore[override]
        """The fields of a form, which is what LitServe makes of the request."""
        form: Any = request
        return TaskRequest({name: v if isinstance(v, str) else v.file.read() for name, v in form.items()})

    def batch(self, inputs: list[TaskRequest]) -> list[TaskRequest]:
        """As it is: `Service` takes lists."""
        return inputs

    def predict(self, inputs: list[TaskRequest], **_: Any) -> Any:  # type: ignore[override]
        """One forward pass for all."""
        return self.service.handle(inputs)

    def unbatch(self, output: Any) -> Any:
        """As it is."""
        return output

    def encode_response(self, output: Any, **_: Any) -> Response:  # type: ignore[override]
        """The answer of `Service`."""
        return Response(output.body, output.status, media_type=output.content_type)


if __name__ == "__main__":
    tasks = [Task(sys.argv[1], task) for task in FIELDS]
    server = litserve.LitServer(tasks, accelerator="cpu", healthcheck_path="/ping")
    server.run(host="127.0.0.1", port=sys.argv[2], num_api_servers=1, log_level="warning", generate_client_file=False)

"""The model of Triton's python backend: hands a batch of requests to `tergan_core.serving`, the answers back.

The same file serves all tasks; the model's name in the repository is the task.
"""

import json
from pathlib import Path

import triton_python_backend_utils as pb_utils

from tergan_core.open_inference import InferRequest
from tergan_core.serving import Service, error_code, error_text


class TritonPythonModel:
    """Holds one model; Triton makes one object per instance."""

    def initialize(self, args):
        """Loads the model folder of the repository, on the GPU that Triton assigns, else on the CPU."""
        folder = Path(args["model_repository"]) / args["model_version"] / "model"
        gpu = args["model_instance_kind"] == "GPU"
        device = f"cuda:{args['model_instance_device_id']}" if gpu else "cpu"
        self.service = Service.load(folder, args["model_name"], device, threads=1)
        self.service.warm_up(8)

    def execute(self, requests):
        """One response per request; a bad request gets its error and leaves the others alone."""
        return [self._response(answer) for answer in self.service.infer([self._request(found) for found in requests])]

    def _request(self, found):
        inputs = {tensor.name(): tensor.as_numpy() for tensor in found.inputs()}
        wanted = dict.fromkeys(found.requested_output_names(), True)
        return InferRequest(inputs, json.loads(found.parameters() or "{}"), wanted)

    def _response(self, answer):
        if isinstance(answer, Exception):
            ours = error_code(answer) == "internal_error"
            kind = pb_utils.TritonError.INTERNAL if ours else pb_utils.TritonError.INVALID_ARG
            error = pb_utils.TritonError(error_text(answer), kind)
            return pb_utils.InferenceResponse(error=error)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.items()])

"""What all TorchServe handlers do: load the model, take a batch of rows to `serving` and back, count."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .serving import Service, request_from_row

PREFIX = "tergan_"
"""Of the names of our metrics, which model_archives/metrics.yaml declares."""


def load(context: Any, task: str) -> Service:
    """The service of the unpacked archive, on the GPU that TorchServe assigns, else on the CPU."""
    properties = context.system_properties
    gpu = properties.get("gpu_id")
    device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
    options = (context.model_yaml_config or {}).get("handler", {})
    return Service.load(properties["model_dir"], task, device, threads=options.get("threads"))


def handle(service: Service, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
    """One body per row; sets each request's own status and content type, and counts what was done.

    All metrics are counters. Times are sums in milliseconds: their rate is the load of a stage, and divided by the rate
    of requests its mean. A server whose metrics file does not declare ours gets none.
    """
    declared = context.metrics.cache_keys()

    def observe(name: str, value: float, **labels: str) -> None:
        name = f"{PREFIX}{name}_total"
        if f"counter:{name}" in declared:
            context.metrics.get_metric(name).add_or_update(round(value, 3), [service.task, *labels.values()])

    requests = [request_from_row(row, context.get_all_request_header(index)) for index, row in enumerate(rows)]
    responses = service.handle(requests, observe)
    for index, response in enumerate(responses):
        context.set_response_status(response.status, response.phrase, index)
        context.set_response_content_type(index, response.content_type)
        for name, header in response.headers.items():
            context.set_response_header(index, name, header)
    return [response.body for response in responses]

"""What all TorchServe handlers do: load the model, take batches of rows to `serving` and back, count."""

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from .serving import LIMITS, Service, request_from_row

PREFIX = "tergan_"
"""Of the names of our metrics, which model_archives/metrics.yaml declares."""

PERIOD_S = 1.0
"""How long counts are summed in the worker: each one that goes to TorchServe is a line of text that it parses."""


class Worker:
    """The model of one worker process, on the GPU that TorchServe assigns, else on the CPU.

    All metrics are counters. Times are sums in milliseconds: their rate is the load of a stage, and divided by the rate
    of requests its mean. A server whose metrics file does not declare ours gets none.

    Args:
        context: what TorchServe hands to a handler.
        task: `transfer`, `edit` or `recognize`.
    """

    def __init__(self, context: Any, task: str):
        properties = context.system_properties
        gpu = properties.get("gpu_id")
        device = f"cuda:{gpu}" if gpu is not None and torch.cuda.is_available() else "cpu"
        options = (context.model_yaml_config or {}).get("handler", {})
        limits = replace(LIMITS, **options.get("limits", {}))
        self.service = Service.load(
            properties["model_dir"], task, device, threads=options.get("threads"), limits=limits
        )
        self.service.warm_up(int(properties.get("batch_size") or 1))
        self.metrics = context.metrics
        self._counts: dict[tuple[str, ...], float] = defaultdict(float)
        self._lock = threading.Lock()

    def handle(self, rows: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        """One body per row; sets each request's own status and content type."""
        requests = [request_from_row(row, context.get_all_request_header(index)) for index, row in enumerate(rows)]
        responses = self.service.handle(requests, self._count)
        for index, response in enumerate(responses):
            context.set_response_status(response.status, response.phrase, index)
            context.set_response_content_type(index, response.content_type)
            for name, value in response.headers.items():
                context.set_response_header(index, name, value)
        return [response.body for response in responses]

    def flush(self) -> None:
        """Hands what was counted to TorchServe."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(float)
        declared = self.metrics.cache_keys()
        for (name, *labels), value in counts.items():
            if f"counter:{name}" in declared:
                self.metrics.get_metric(name).add_or_update(round(value, 3), [self.service.task, *labels])

    def _count(self, name: str, value: float, **labels: str) -> None:
        with self._lock:
            if not self._counts:
                timer = threading.Timer(PERIOD_S, self.flush)
                timer.daemon = True
                timer.start()
            self._counts[f"{PREFIX}{name}_total", *labels.values()] += value

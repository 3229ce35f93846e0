"""CUDA graphs: a GPU is told once what a function's kernels are, and then runs all of them at one word.

At the widths of these networks launching kernels one by one costs a CPU ten times what they cost the GPU.
"""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Function = Callable[..., Sequence[Tensor]]
"""Tensors in, tensors out: the form in which compilers take and give functions."""

Graph = tuple[list[Tensor], Callable[[], Sequence[Tensor]]]
"""The memory that it reads, and what replays it."""


def capture(call: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """The call as a CUDA graph: reads the same memory each time, and gives its outputs in the same memory.

    Whoever captures keeps what the call reads alive, the copies of weights that autocast makes among it. Precision is
    that of now. One capture at a time: CUDA allows no more in a process.
    """
    with torch.cuda.device(device), torch.inference_mode(False), torch.no_grad():
        before, stream = torch.cuda.current_stream(), _stream(torch.cuda.current_device())
        stream.wait_stream(before)
        with torch.cuda.stream(stream):  # which is left after a failed capture, too
            for _ in range(3):  # algorithms and workspaces are chosen before, as a graph may do neither
                call()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                outputs = call()
        before.wait_stream(stream)

    def replay() -> T:
        graph.replay()
        return outputs

    return replay


@functools.cache
def _stream(gpu: int) -> torch.cuda.Stream:
    """The stream that graphs of a GPU are captured on; torch's own is of the GPU that came first."""
    return torch.cuda.Stream(gpu)


class Graphed:
    """A function of whole batches, as one graph for each power of two of rows.

    When a size is first needed, it is captured, and the smaller ones are. A batch is filled up to the next power of two
    by what was there before, so rows must not depend on each other; one of more than `largest` rows is taken in parts.
    Calls of several threads are run one by one; they have to use the same stream, as they do unless they ask for
    another.

    Args:
        function: tensors [b ...] in, tensors [b ...] out, all on one device.
        largest: rows of the largest graph, a power of two.
        capture: makes a call without arguments one that can be replayed; see `capture`.
    """

    _lock = threading.Lock()

    def __init__(self, function: Function, largest: int = 128, capture: Callable = capture):
        self._function, self._largest, self._capture = function, largest, capture
        self._graphs: list[Graph] = []  # of 1, 2, 4 rows and so on

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        parts = zip(*(tensor.split(self._largest) for tensor in tensors), strict=True)
        outputs = [self._run(part) for part in parts]
        return [torch.cat(columns) if len(columns) > 1 else columns[0] for columns in zip(*outputs, strict=True)]

    def _run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        rows = len(tensors[0])
        exponent = max(rows - 1, 0).bit_length()
        # Memory of a graph is no inference tensor's: it is written to wherever it is called.
        with self._lock, torch.inference_mode(False), torch.no_grad():
            for size in range(len(self._graphs), exponent + 1):
                self._graphs.append(self._captured(tensors, 2**size))
            inputs, replay = self._graphs[exponent]
            for room, tensor in zip(inputs, tensors, strict=True):
                room[:rows].copy_(tensor)
            return [output[:rows].clone() for output in replay()]

    def _captured(self, tensors: Sequence[Tensor], rows: int) -> Graph:
        inputs, device = [_room(tensor, rows) for tensor in tensors], tensors[0].device
        with torch.autocast(device.type, enabled=False):  # whose copies of weights would not outlive it
            return inputs, self._capture(lambda: self._function(*inputs), device)


def _room(tensor: Tensor, rows: int) -> Tensor:
    """Zeros for so many rows, in the order that convolutions read."""
    room = tensor.new_zeros((rows, *tensor.shape[1:]))
    return room.contiguous(memory_format=torch.channels_last) if room.ndim == 4 else room

"""CUDA graphs: a GPU is told once what a function's kernels are, and then runs all of them at one word.

At the widths of these networks launching kernels one by one costs a CPU ten times what they cost the GPU.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Function = Callable[..., Sequence[Tensor]]


def capture(call: Callable[[], T], device: torch.device) -> Callable[[], T]:
    """The call as a CUDA graph: reads the same memory each time, and gives its outputs in the same memory."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):  # algorithms and workspaces are chosen before, as a graph may do neither
                call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = call()

    def replay() -> T:
        graph.replay()
        return outputs

    return replay


class Graphed:
    """A function of whole batches, as one graph for each power of two of rows, captured when it is first needed.

    A batch is filled up to the next power of two by what was there before, so rows must not depend on each other; one
    of more than `largest` rows is taken in parts. Calls of several threads are run one by one; they have to use the
    same stream, as they do unless they ask for another.

    Args:
        function: tensors [b ...] in, tensors [b ...] out, all on one device.
        largest: rows of the largest graph, a power of two.
        capture: makes a call without arguments one that can be replayed; see `capture`.
    """

    def __init__(self, function: Function, largest: int = 128, capture: Callable = capture):
        self._function, self._largest, self._capture = function, largest, capture
        self._graphs: dict[int, tuple[list[Tensor], Callable[[], Sequence[Tensor]]]] = {}
        self._lock = threading.Lock()

    def __call__(self, *tensors: Tensor) -> list[Tensor]:
        parts = zip(*(tensor.split(self._largest) for tensor in tensors), strict=True)
        outputs = [self._run(part) for part in parts]
        return [torch.cat(columns) if len(columns) > 1 else columns[0] for columns in zip(*outputs, strict=True)]

    def _run(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        rows = len(tensors[0])
        size = 1 << max(rows - 1, 0).bit_length()
        # Memory of a graph is no inference tensor's: it is written to wherever it is called.
        with self._lock, torch.inference_mode(False), torch.no_grad():
            if size not in self._graphs:
                inputs = [_room(tensor, size) for tensor in tensors]
                replay = self._capture(lambda: self._function(*inputs), tensors[0].device)
                self._graphs[size] = inputs, replay
            inputs, replay = self._graphs[size]
            for room, tensor in zip(inputs, tensors, strict=True):
                room[:rows].copy_(tensor)
            return [output[:rows].clone() for output in replay()]


def _room(tensor: Tensor, rows: int) -> Tensor:
    """Zeros for so many rows, in the order that convolutions read."""
    room = tensor.new_zeros((rows, *tensor.shape[1:]))
    return room.contiguous(memory_format=torch.channels_last) if room.ndim == 4 else room

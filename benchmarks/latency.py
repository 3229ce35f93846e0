"""The three tasks in this process, without a server: `python -m benchmarks.latency`.

MLPerf's scenarios by batch size: 1 is single-stream, the largest is offline, those between are multi-stream. The same
command measures CUDA where there is a GPU (by CUDA events) and the CPU where there is none.
CPU time is that of all threads of this process, so it holds on a busy machine too; times and images per second do not.
"""

import contextlib
import dataclasses
import itertools
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from benchmarks.rows import Row, row, spread, write
from tergan_core import graphs, weights
from tergan_core.engine import Engine, EngineName, load_engine
from tergan_core.errors import ConfigError, TerganError
from tergan_core.images import encode, face_tensor, to_array
from tergan_core.model import TERGAN

TASKS = ("transfer", "edit", "recognize")
PRECISIONS = {"fp32": None, "tf32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class LatencyConfig:
    """What is measured: every combination."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`."""

    engines: tuple[EngineName, ...] = ("eager",)
    """Engines; one that the model folder does not hold is compiled first."""

    graphs: bool = False
    """CUDA only: replay each task as one CUDA graph."""

    precisions: tuple[str, ...] = ("fp32",)
    """`fp32`, `tf32` (CUDA), `bf16`, `fp16`; eager and compile run all, cuda-graph fp32 and tf32, others fp32."""

    batches: tuple[int, ...] = (1, 8, 16)
    """Batch sizes."""

    sizes: tuple[int, ...] = ()
    """Image sizes in pixels; by default the model's. At another one the same weights run, where the network allows."""

    threads: tuple[int, ...] = (1,)
    """CPU threads."""

    warmup: int = 3
    """Calls that are not counted."""

    repeats: int = 20
    """Calls that are counted."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""

    def __post_init__(self):
        for precision in self.precisions:
            if precision not in PRECISIONS:
                raise ConfigError(f"precisions has {precision!r}; accepted: {', '.join(PRECISIONS)}")
        if min((*self.batches, *self.threads, self.repeats)) < 1:
            raise ConfigError("batches, threads and repeats are below 1; accepted: positive numbers")
        if self.graphs and "cuda-graph" in self.engines:
            raise ConfigError("graphs captures whole tasks, of which cuda-graph has replays; accepted: one of them.")


def measure(config: LatencyConfig) -> list[Row]:
    """One row per combination that can run; what cannot is said on stderr."""
    device = torch.device(
        ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    )
    rows = []
    weights.locate(config.model)  # or an error that ends the command
    for threads in config.threads:
        torch.set_num_threads(threads)
        peaks = peak_gflops(device)
        for size_px, engine_name, precision in itertools.product(
            config.sizes or (None,), config.engines, config.precisions
        ):
            if _impossible(precision, engine_name, device):
                continue
            began = time.perf_counter()
            with _precision(precision, device):  # what an engine captures at its start is of this precision
                try:
                    with _folder(config.model, size_px) as folder:
                        model = load_engine(folder, "eager", device=device)
                        engine = load_engine(folder, engine_name, device=device)
                except TerganError as error:
                    print(f"left out: {engine_name}: {error}", file=sys.stderr)
                    continue
                start_s = time.perf_counter() - began
                cases = list(itertools.product(config.batches, TASKS))
                for batch, task in tqdm(cases, desc=f"{engine_name}, {precision}, {threads} threads"):
                    with torch.inference_mode():
                        figures = _figures(model, engine, task, batch, device, config, peaks)
                    case = {
                        "scenario": _scenario(batch, config.batches), "model": weights.describe(config.model)["name"],
                        "task": task, "engine": engine_name, "precision": precision, "batch": batch,
                        "size_px": model.config.image_size, "threads": threads, "graph": config.graphs,
                    }  # fmt: skip
                    settings = {"warmup": config.warmup, "repeats": config.repeats, "channels_last": True}
                    rows.append(row("latency", case, {**figures, "engine_start_s": start_s}, settings, device.type))
    return rows


def _scenario(batch: int, batches: tuple[int, ...]) -> str:
    return "single_stream" if batch == 1 else "offline" if batch == max(batches) else "multi_stream"


@contextlib.contextmanager
def _folder(source: str, size_px: int | None) -> Iterator[Path]:
    """The model's folder, or one of the same weights for another image size."""
    model = weights.load(source)
    if size_px is None or size_px == model.config.image_size:
        yield weights.locate(source)
        return
    other = TERGAN(dataclasses.replace(model.config, image_size=size_px))
    other.load_state_dict(model.state_dict())
    with tempfile.TemporaryDirectory(prefix="tergan-size-") as work:
        yield weights.save(other, work)


def _impossible(precision: str, engine: str, device: torch.device) -> bool:
    if precision == "tf32" and device.type != "cuda":
        return True
    return precision not in {"eager": PRECISIONS, "compile": PRECISIONS, "cuda-graph": ("fp32", "tf32")}.get(
        engine, ("fp32",)
    )


@contextlib.contextmanager
def _precision(precision: str, device: torch.device) -> Iterator[None]:
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    dtype = PRECISIONS[precision]
    try:
        with torch.autocast(device.type, dtype) if dtype else contextlib.nullcontext():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def tasks(engine: Engine, faces: Tensor) -> dict[str, Callable[[], Tensor]]:
    """Each task on a batch of faces, as `FaceEditor` runs it."""

    def edit(wanted: Callable[[], Tensor]) -> Tensor:
        person = engine.encode_identity(faces)
        return engine.draw(person, engine.blend(person.expression, wanted(), 1.0)).image

    return {
        "transfer": lambda: edit(lambda: engine.encode_expression(faces)),
        "edit": lambda: edit(lambda: engine.prototypes[1:2].expand(len(faces), -1)),
        "recognize": lambda: engine.classify(engine.encode_expression(faces)).softmax(dim=-1),
    }


def _figures(
    model: Engine,
    engine: Engine,
    task: str,
    batch: int,
    device: torch.device,
    config: LatencyConfig,
    peaks: dict[str, float],
) -> dict[str, float]:
    size_px = model.config.image_size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 6, 6, generator=generator)
    faces = nn.functional.interpolate(coarse, (size_px, size_px), mode="bicubic").clamp(0, 1)
    faces = faces.to(device, memory_format=torch.channels_last)
    call = tasks(engine, faces)[task]
    if config.graphs and device.type == "cuda":
        call = graphs.capture(call, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with meter(device) as power:
        wall_ms, cpu_ms = timed(call, device, config.warmup, config.repeats)
    with FlopCounterMode(display=False) as counter:  # of the network as written, whatever the engine
        tasks(model, faces)[task]()
    gflop = counter.get_total_flops() / 1e9 / batch
    figures = spread(wall_ms, "ms")
    # On a shared machine, noise only ever adds: the lower quartile of CPU time is nearer to the cost than the mean.
    cpu_ms_per_image = float(np.percentile(cpu_ms, 25)) / batch
    seconds = cpu_ms_per_image / 1e3 if device.type == "cpu" else figures["p50_ms"] / 1e3 / batch
    figures |= {
        "images_per_s": 1e3 * batch / figures["p50_ms"],
        "cpu_ms_per_image": cpu_ms_per_image,
        "cpu_ms_per_image_max": max(cpu_ms) / batch,
        "gflop_per_image": gflop,
        "share_of_convolution_peak": gflop / seconds / peaks["convolution"],
        "share_of_matmul_peak": gflop / seconds / peaks["matmul"],
        "convolution_peak_gflops": peaks["convolution"],
        "matmul_peak_gflops": peaks["matmul"],
        "peak_memory_mib": _peak_memory_mib(device),
        **_codecs(model.config.image_size, task, config),
        **power,
    }
    if device.type == "cuda":
        figures |= transfers(faces, device, config.warmup, config.repeats)
    return figures


def _codecs(size_px: int, task: str, config: LatencyConfig) -> dict[str, float]:
    """CPU time of reading the pictures of one request and of writing its answer, both PNG."""
    y, x = np.mgrid[0:size_px, 0:size_px] / 15
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)
    noise = np.random.default_rng(0).normal(0, 3, waves.shape)
    picture = (127 + 100 * waves + noise).clip(0, 255).astype(np.uint8)
    data, drawn = encode(picture), face_tensor(picture, size_px)
    cpu = torch.device("cpu")
    decode = timed(lambda: face_tensor(data, size_px), cpu, config.warmup, config.repeats)[1]
    answer = timed(lambda: encode(to_array(drawn)), cpu, config.warmup, config.repeats)[1]
    pictures, answers = (2 if task == "transfer" else 1), (0 if task == "recognize" else 1)
    return {
        "decode_cpu_ms": pictures * float(np.percentile(decode, 25)),
        "encode_cpu_ms": answers * float(np.percentile(answer, 25)),
    }


def timed(call: Callable[[], Any], device: torch.device, warmup: int, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of each call by the clock (on a GPU: by its events), and of this process's CPU time."""
    for _ in range(warmup):
        call()
    wall, cpu, events = [], [], []
    for _ in range(repeats):
        if device.type == "cuda":
            events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            events[-1][0].record()
        began, cpu_began = time.perf_counter(), time.process_time()
        call()
        cpu.append(1e3 * (time.process_time() - cpu_began))
        wall.append(1e3 * (time.perf_counter() - began))
        if events:
            events[-1][1].record()
    if events:
        torch.cuda.synchronize(device)
        wall = [start.elapsed_time(end) for start, end in events]
    return wall, cpu


def peak_gflops(device: torch.device) -> dict[str, float]:
    """The best rates of matrix product and 3x3 convolution that PyTorch reaches here, in fp32."""
    side, channels, pixels, batch = (1024, 64, 48, 8) if device.type == "cpu" else (8192, 256, 128, 64)
    square = torch.rand(side, side, device=device)
    layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False, device=device)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    maps = torch.rand(batch, channels, pixels, pixels, device=device).to(memory_format=torch.channels_last)
    work = {
        "matmul": (lambda: square @ square, 2 * side**3),
        "convolution": (lambda: layer(maps), 2 * 9 * channels**2 * pixels**2 * batch),
    }
    rates = {}
    with torch.inference_mode():
        for name, (call, flop) in work.items():
            wall, cpu = timed(call, device, 3, 20)
            rates[name] = flop / 1e6 / min(cpu if device.type == "cpu" else wall)
    return rates


def _peak_memory_mib(device: torch.device) -> float:
    """On the CPU, of this process so far, the compilers' work included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


# CUDA only. -------------------------------------------------------------------


def transfers(faces: Tensor, device: torch.device, warmup: int, repeats: int) -> dict[str, float]:
    """Milliseconds to bring a batch to the GPU and back through pinned memory, alone and both at once."""
    host_in = faces.cpu().pin_memory()
    host_out = torch.empty_like(host_in, pin_memory=True)
    there, back = torch.empty_like(faces), faces.clone()
    streams = torch.cuda.Stream(), torch.cuda.Stream()

    def both() -> None:
        current = torch.cuda.current_stream()
        for stream, (target, source) in zip(streams, ((there, host_in), (host_out, back)), strict=True):
            stream.wait_stream(current)
            with torch.cuda.stream(stream):
                target.copy_(source, non_blocking=True)
        for stream in streams:
            current.wait_stream(stream)

    calls = {
        "to_device": lambda: there.copy_(host_in, non_blocking=True),
        "to_host": lambda: host_out.copy_(back, non_blocking=True),
        "both_ways": both,
    }
    return {f"{name}_ms": float(np.median(timed(c, device, warmup, repeats)[0])) for name, c in calls.items()}


@contextlib.contextmanager
def meter(device: torch.device) -> Iterator[dict[str, float]]:
    """Clock and power of the GPU at the end of the block, by nvidia-ml-py if it is installed."""
    figures: dict[str, float] = {}
    yield figures
    if device.type != "cuda":
        return
    try:
        import pynvml
    except ImportError:
        return
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
    figures["sm_clock_mhz"] = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
    figures["power_w"] = pynvml.nvmlDeviceGetPowerUsage(handle) / 1e3


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from benchmarks.report import table

    try:
        config = tyro.cli(LatencyConfig, args=arguments, description=__doc__)
        rows = measure(config)
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    if not rows:
        print("error [no_rows]: none of the combinations can run here", file=sys.stderr)
        return 1
    print(f"wrote {write(rows, Path(config.out) if config.out else None)}", file=sys.stderr)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a GPU may carry, on paper: `python -m benchmarks.capacity FILE`. An estimate, no measurement.

Of the network, operations are counted and so is the memory traffic of every layer's inputs and outputs; a GPU needs the
longer of the two times (roofline), at assumed shares of its published peaks. Of a request's other costs (HTTP, codecs)
the CPU time was measured: FILE has the rows of `benchmarks.latency` and `benchmarks.serving`. The machine's CPU cores
and its GPU work at the same time, so the slower one decides. What replaces this by a measurement:
`python -m benchmarks.latency --device cuda --precisions bf16 --batches 1 32 128` and `python -m benchmarks.serving`.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tyro.conf import Positional

from benchmarks.latency import TASKS, tasks
from benchmarks.rows import Row, read
from tergan_core import weights
from tergan_core.model import TERGAN


@dataclass(frozen=True)
class Machine:
    """A GPU with the CPU cores that it is commonly let with."""

    name: str
    bf16_tflops: float
    """Published dense peak of the tensor cores."""

    memory_gb_per_s: float
    """Published bandwidth."""

    cores: int
    """CPU cores (hyper-threads count half)."""

    usd_per_hour: float
    """Assumed; ask your provider."""


MACHINES = (
    Machine("L4", 121, 300, 4, 0.85),
    Machine("A100 80 GB", 312, 2039, 6, 5.0),
    Machine("H100 SXM", 989, 3350, 13, 11.0),
)


@dataclass(frozen=True, kw_only=True)
class CapacityConfig:
    """Assumptions."""

    rows: Positional[Path]
    """File with rows of `benchmarks.latency` and `benchmarks.serving`."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    share_of_peak: float = 0.3
    """Share of the published operations per second that convolutions of these widths reach."""

    share_of_bandwidth: float = 0.085
    """Share of the published bandwidth: about what an H200 reached (edits, 128 at once as one CUDA graph, affbec9)."""

    core_speed: float = 1.0
    """Speed of the machine's cores, in cores of the machine that measured."""


def network_cost(model: TERGAN, batch: int = 4) -> dict[str, tuple[float, float]]:
    """GFLOP, and MB of layers' inputs and outputs in bf16, per image of each task."""
    size_px = model.config.image_size
    faces = torch.rand(batch, 3, size_px, size_px)
    moved = 0

    def count(_layer: nn.Module, inputs: tuple, output: object) -> None:
        nonlocal moved
        outputs = output if isinstance(output, list | tuple) else (output,)
        moved += sum(2 * value.numel() for value in (*inputs, *outputs) if isinstance(value, Tensor))

    hooks = [layer.register_forward_hook(count) for layer in model.modules() if not list(layer.children())]
    costs = {}
    try:
        for task in TASKS:
            moved = 0
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                tasks(model, faces)[task]()
            costs[task] = counter.get_total_flops() / 1e9 / batch, moved / 1e6 / batch
    finally:
        for hook in hooks:
            hook.remove()
    return costs


def cpu_ms(rows: list[Row], model: str, task: str) -> float:
    """CPU time of a request beside the network: what TorchServe's processes used, less what the network alone did.

    Raises:
        ValueError: the rows do not tell.
    """
    mine = [row for row in rows if row["case"].get("model") == model and row["case"].get("task") == task]
    served, engine = _least(mine, "serving", lambda case: case["server"] == "torchserve")
    network, _ = _least(mine, "latency", lambda case: case["engine"] == engine)
    if not network < served:
        raise ValueError(f"{task}: the network alone cost {network} CPU-ms, behind the server {served}")
    return served - network


def _least(rows: list[Row], suite: str, wanted: Callable[[dict], bool]) -> tuple[float, str]:
    """The lowest CPU time, and the engine of its row."""
    found = [
        (row["figures"]["cpu_ms_per_image"], row["case"]["engine"])
        for row in rows
        if row["suite"] == suite and "cpu_ms_per_image" in row["figures"] and wanted(row["case"])
    ]
    if not found:
        raise ValueError(f"no row of benchmarks.{suite} for it; measure with: python -m benchmarks.report --run")
    return min(found)


def estimate(config: CapacityConfig, gflop: float, megabytes: float, beside_ms: float, machine: Machine) -> dict:
    """Images per second of the GPU and of the CPU cores, and US dollars per million images at the lower one."""
    compute_s = gflop / (1e3 * machine.bf16_tflops * config.share_of_peak)
    memory_s = megabytes / (1e3 * machine.memory_gb_per_s * config.share_of_bandwidth)
    gpu, cpu = 1 / max(compute_s, memory_s), 1e3 * machine.cores * config.core_speed / beside_ms
    return {
        "gpu_images_per_s": gpu,
        "bound": "memory" if memory_s > compute_s else "operations",
        "cpu_images_per_s": cpu,
        "images_per_s": min(gpu, cpu),
        "usd_per_million": 1e6 / min(gpu, cpu) / 3600 * machine.usd_per_hour,
    }


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(CapacityConfig, args=arguments, description=__doc__)
    rows, costs = read(config.rows), network_cost(weights.load(config.model))
    print("| task | GFLOP | MB moved | CPU-ms beside the network | machine | GPU alone, images/s | bound by |"
          " its CPU cores, images/s | US$ per million |")  # fmt: skip
    print("|---" * 9 + "|")
    try:
        for task in ("edit", "recognize"):
            beside = cpu_ms(rows, weights.describe(config.model)["name"], task)
            for machine in MACHINES:
                found = estimate(config, *costs[task], beside, machine)
                print(
                    f"| {task} | {costs[task][0]:.2f} | {costs[task][1]:.0f} | {beside:.1f} | {machine.name} "
                    f"| {found['gpu_images_per_s']:,.0f} | {found['bound']} | {found['cpu_images_per_s']:,.0f} "
                    f"| {found['usd_per_million']:.2f} |"
                )
    except ValueError as error:
        print(f"error [no_rows]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

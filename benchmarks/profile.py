"""Where the network's time goes, by operator: `python -m benchmarks.profile [--batch 8]`.

ONNX Runtime's own profile of each of the three functions, on one thread. What is no convolution or matrix product moves
memory, and no faster arithmetic helps it.
"""

import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import tyro

from tergan_core import weights
from tergan_core.engine import example_arguments, export
from tergan_core.errors import TerganError


@dataclass(frozen=True, kw_only=True)
class ProfileConfig:
    """What is profiled."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    batch: int = 8
    """Faces in a call."""

    repeats: int = 20
    """Calls that are counted; three more warm up."""


def profile(config: ProfileConfig) -> dict[str, Counter[str]]:
    """Milliseconds per image by operator, of each function."""
    import onnxruntime

    found = {}
    with tempfile.TemporaryDirectory(prefix="tergan-profile-") as work:
        folder = export(config.model, "onnx", Path(work) / "model")
        for function, arguments in example_arguments(weights.load(config.model), config.batch).items():
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.enable_mem_pattern = 1, False
            options.enable_profiling, options.profile_file_prefix = True, str(Path(work) / function)
            session = onnxruntime.InferenceSession(folder / f"{function}.onnx", options)
            names = [entry.name for entry in session.get_inputs()]
            inputs = {name: tensor.contiguous().numpy() for name, tensor in zip(names, arguments, strict=True)}
            for _ in range(3 + config.repeats):
                session.run(None, inputs)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            found[function] = _by_operator(events, config)
    return found


def _by_operator(events: list[dict], config: ProfileConfig) -> Counter[str]:
    """Sums the time of kernels; the first three runs of each are left out."""
    seen: Counter[str] = Counter()
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            seen[event["name"]] += 1
            if seen[event["name"]] > 3:
                spent[event["args"]["op_name"]] += event["dur"] / 1e3 / config.repeats / config.batch
    return spent


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(ProfileConfig, args=arguments, description=__doc__)
    try:
        found = profile(config)
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    print("| function | operator | ms per image | share |\n|---|---|---|---|")
    for function, spent in found.items():
        for operator, ms in spent.most_common(8):
            print(f"| {function} | {operator} | {ms:.3f} | {ms / sum(spent.values()):.0%} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())

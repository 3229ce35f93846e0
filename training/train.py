"""Training: `python -m training.train --preset tiny`. The same command again resumes where the last one stopped.

One loop, in the order in which things happen. Several processes: `torchrun --nproc-per-node 2 -m training.train ...`.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import signal
import subprocess
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
import tyro
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count
from tqdm import tqdm

from tergan_core import weights
from tergan_core.backbone import Backbone
from tergan_core.discriminator import Discriminator
from tergan_core.errors import ConfigError, TerganError, close_names
from tergan_core.model import TERGAN
from training import checkpoint, grid
from training.config import PRESETS, TrainConfig, read
from training.data import Augmentation, Batch, Pairs, RecordedPairs, load_recorded, parse_wanted
from training.faces import FULL, UNITS, WEAKEST, write_pairs
from training.faces.resumable import write_text
from training.objective import CRITICAL, R1_EVERY, Networks, critic_terms, generator_terms, weigh
from training.prototypes import set_prototypes
from training.validate import validate
from training.widen import at_every_place, fits, widen

AUGMENT = Augmentation(UNITS)
READS_EXPRESSIONS = ("expression_encoder", "expression_head", "classifier")


@dataclass
class State:
    """All that changes during a run."""

    networks: Networks
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer
    step: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers alone."""
        parts = self._parts()
        return {"step": self.step, **{name: part.state_dict() for name, part in parts.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.step = state["step"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.networks.model,
            "critic": self.networks.critic,
            "identity_classifier": self.networks.identity_classifier,
            "average": self.average,
            "optimizer": self.optimizer,
            "critic_optimizer": self.critic_optimizer,
        }


def build(config: TrainConfig, people: int, device: torch.device, *, start: bool = True) -> State:
    """Freshly initialised networks and optimisers.

    Args:
        people: of the training set.
        start: take over the weights that the run starts from; one that goes on has no need of them.
    """
    torch.manual_seed(config.seed)
    model = TERGAN(config.model, pretrained=config.pretrained and start)
    if start:
        _start(model, config)
    _freeze(model, config.frozen)
    model = model.to(device, memory_format=torch.channels_last)
    critic = Discriminator(expressions=len(config.model.expressions), identities=people).to(device)
    identity_classifier = nn.Linear(config.model.identity_width, people).to(device)
    return State(
        Networks(model, critic, identity_classifier),
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True),
        torch.optim.AdamW(
            [p for part in (model, identity_classifier) for p in part.parameters() if p.requires_grad],
            lr=config.lr,
            betas=(0.9, 0.99),
            weight_decay=1e-2,
            fused=True,
        ),
        torch.optim.Adam(critic.parameters(), lr=config.critic_lr, betas=(0.0, 0.99), fused=True),
    )


def _start(model: TERGAN, config: TrainConfig) -> None:
    """Takes over the finished weights that the configuration names."""
    parts = {name for name, _ in model.named_children()}
    if config.expression_from is not None:
        _take_over(model, config.expression_from, READS_EXPRESSIONS, config.frozen)
        parts -= set(READS_EXPRESSIONS)
    if config.start_from is not None:
        _take_over(model, config.start_from, parts, config.frozen)
    if config.expression_backbone_file is not None:
        _read_backbone(model.expression_encoder, config.expression_backbone_file)


def _take_over(model: TERGAN, source: str, parts: Collection[str], frozen: Collection[str]) -> None:
    """Starts those parts of the network as finished weights have them; wider parts compute the same."""
    finished = weights.load(source)
    donor = dict(finished.named_children())
    if finished.expression_places == 1:
        donor["expression_head"] = at_every_place(finished.expression_head, model.expression_places)
    elif finished.expression_places != model.expression_places:
        del donor["expression_head"]
    wanted = {name: part for name, part in model.named_children() if name in parts}
    fresh = []
    for name, part in wanted.items():
        if name in donor and fits(donor[name], part):
            widen(donor[name], part)
        else:
            fresh.append(name)
    if len(fresh) == len(wanted):
        raise ConfigError(f"{source!r} has no part of the architecture that --model names")
    if stuck := [name for name in fresh if name in frozen]:
        raise ConfigError(f"--frozen has {stuck[0]!r}, which is of another shape in {source!r} and would never learn")
    if fresh:
        print(f"start afresh, being of another shape in {source!r}: {', '.join(fresh)}", file=sys.stderr)


def _read_backbone(backbone: Backbone, file: str) -> None:
    """Takes a backbone's weights from a file of the whole timm model, whose last layers it does not have."""
    try:
        missing = backbone.features.model.load_state_dict(load_file(file), strict=False).missing_keys
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f"--expression-backbone-file {file!r} does not hold this backbone's weights: {error}"
        ) from error
    if missing:
        raise ConfigError(f"--expression-backbone-file {file!r} lacks {missing[0]!r} of this backbone")


def _freeze(model: TERGAN, names: tuple[str, ...]) -> None:
    parts = dict(model.named_children())
    for name in names:
        if name not in parts:
            raise ConfigError(f"--frozen has the unknown part {name!r}. {close_names(name, parts)}")
        parts[name].eval().requires_grad_(False)


def fit(config: TrainConfig, *, progress: bool = True, until: int | None = None) -> Path:
    """Trains to the end of the run, or until SIGTERM or SIGINT; returns the run's folder.

    Args:
        progress: whether a bar is shown.
        until: step after which to stop with a checkpoint, if it is before the end.
    """
    device = _device(config)
    rank, world = _join_processes(device)
    if device.type == "cuda":  # by its number, since every loader thread has a current device of its own
        device = torch.device("cuda", torch.cuda.current_device())
    torch.set_num_threads(config.threads)
    torch.backends.cudnn.benchmark = True  # a GPU sees the same shapes in every step
    # The first process renders what is not in the cache yet; a signal ends that at once, and loses little.
    if rank == 0 and config.recorded.data is None:
        render(config)
    if world > 1:
        distributed.barrier()
    with _stop_signals() as stop, ThreadPoolExecutor(config.loaders) as loader:
        return _fit(config, device, rank, world, loader, stop, progress, until)


def _fit(
    config: TrainConfig,
    device: torch.device,
    rank: int,
    world: int,
    loader: ThreadPoolExecutor,
    stop: list[int],
    progress: bool,
    until: int | None,
) -> Path:
    run = Path(config.run)
    run.mkdir(parents=True, exist_ok=True)
    train, validation = load_data(config)

    # Networks, and where the last run of the same command stopped.
    saved = checkpoint.load(run, device)
    state = build(config, len(train.people), device, start=saved is None)
    if saved is not None:
        try:
            state.load_state_dict(saved)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(
                f"the checkpoint in {config.run!r} is of another network, or of other people: {str(error)[:300]}. "
                "Train with the settings in its config.json, or choose another --run."
            ) from error
    if rank == 0:
        _forget_rows_after(state.step, run)
    networks = state.networks
    generator_parameters = [*networks.model.parameters(), *networks.identity_classifier.parameters()]
    critic_parameters = list(networks.critic.parameters())
    writer = _tensorboard(run) if rank == 0 else None

    by_spread = config.standardized_units and config.weights.unit_regression
    unit_share = train.unit_shares().to(device) if by_spread else 1.0

    # Schedule.
    steps = math.ceil(config.images / (config.batch_size * world))
    end = steps if until is None else min(until, steps)
    uses_critic = any(getattr(config.weights, name) for name in CRITICAL)
    if rank == 0 and state.step < end:
        _record(config, run, state.step)

    sums: dict[str, torch.Tensor] = {}
    reported, waited_s, since = 0, 0.0, time.perf_counter()

    def order(step: int) -> Future[Batch]:
        # Dealt out in turn: what is done in a step does not depend on the number of processes.
        numbers = range(rank, config.batch_size * world, world)
        return loader.submit(load_batch, config, train, step, numbers, world, device)

    upcoming = deque(order(state.step + ahead) for ahead in range(config.loaders))
    bar = tqdm(total=steps, initial=state.step, disable=not progress or rank > 0, unit="step", mininterval=5)
    stopped = False
    while state.step < end and not (stopped := _anyone(stop, world)):
        began = time.perf_counter()
        batch = upcoming.popleft().result()
        waited_s += time.perf_counter() - began
        upcoming.append(order(state.step + config.loaders))
        refine = state.step >= config.refine_from * steps
        criticize = uses_critic and state.step >= config.refine_from * steps - config.critic_warmup_steps
        chance = torch.from_numpy(np.random.default_rng((config.seed, state.step)).random(config.batch_size * world))
        true_units = (chance[rank::world] < config.true_units_share).to(device)

        # Generator.
        _set_lr(state.optimizer, config, state.step, steps)
        for parameter in critic_parameters:
            parameter.requires_grad_(False)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            terms, output = generator_terms(
                networks,
                batch,
                config.weights,
                refine=refine,
                true_units=true_units,
                kind=config.adversarial_kind,
                relative=config.relative_swap,
                unit_share=unit_share,
            )
        loss = weigh(terms, config.weights)
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _average_gradients(generator_parameters, world)
        terms["gradient_norm"] = nn.utils.clip_grad_norm_(generator_parameters, 2.0)
        state.optimizer.step()
        state.average.update_parameters(networks.model)

        # Critic.
        if criticize and output is not None:
            for parameter in critic_parameters:
                parameter.requires_grad_(True)
            penalize = state.step % R1_EVERY == 0
            fake = output.detach().float()
            verdicts = critic_terms(
                networks, batch, fake, config.weights, penalize=penalize, kind=config.adversarial_kind
            )
            state.critic_optimizer.zero_grad(set_to_none=True)
            torch.stack([*verdicts.values()]).sum().backward()
            _average_gradients(critic_parameters, world)
            state.critic_optimizer.step()
            terms |= {f"critic/{name}": term for name, term in verdicts.items()}
        state.step += 1
        bar.update()

        # Report.
        reported += 1
        for name, term in terms.items():
            sums[name] = sums.get(name, 0) + term.detach()
        last = state.step == end
        if state.step % config.report_every == 0 or last:
            elapsed = time.perf_counter() - since
            _average(list(sums.values()), world)
            row = {name: float(total) / reported for name, total in sums.items()}
            if not math.isfinite(row["gradient_norm"]):
                raise _not_finite(state.step, run)
            row |= {
                "step": state.step,
                "images_seen": state.step * config.batch_size * world,
                "images_per_s": reported * config.batch_size * world / elapsed,
                "waiting_share": waited_s / elapsed,
                "lr": state.optimizer.param_groups[0]["lr"],
            }
            if rank == 0:
                _log(row, run, writer)
            sums, reported, waited_s, since = {}, 0, 0.0, time.perf_counter()

        # Checkpoint, with a look at people who are not trained on.
        if rank == 0 and (state.step % config.checkpoint_every == 0 or last):
            _save(state, train, run)
            _log({"step": state.step, **validate(state.average.module, validation, device)}, run, writer)
            _draw(state.average.module, validation, run, state.step, device)
            since = time.perf_counter()
    bar.close()
    loader.shutdown(cancel_futures=True)
    if rank == 0 and stopped:
        _save(state, train, run)
        print(f"stopped at step {state.step} of {steps}; the same command goes on from there", file=sys.stderr)
    if world > 1:
        distributed.destroy_process_group()
    return run


def render(config: TrainConfig) -> None:
    """Renders the run's people into the cache; what is there already is kept."""
    for split in ("train", "validation"):
        train = split == "train"
        write_pairs(
            _cache(config, split),
            split=split,
            people=config.faces.people if train else config.faces.validation_people,
            scenes_per_person=config.faces.scenes if train else 4,
            pool_size=config.faces.pool if train else min(70, 4 * config.faces.validation_people),
            size_px=config.model.image_size,
            seed=config.faces.seed + (0 if train else 1),
            workers=config.faces.workers,
            variety=config.faces.variety if train else FULL,
            weakest=config.faces.weakest if train else WEAKEST,
            alike=config.faces.alike if train else 0.0,
        )


def load_data(config: TrainConfig) -> tuple[Pairs | RecordedPairs, Pairs | RecordedPairs]:
    """What is trained on, and people who are not: rendered, or every tenth person of a real set."""
    recorded, model = config.recorded, config.model
    if recorded.data is None:
        return Pairs(_cache(config, "train")), Pairs(_cache(config, "validation"))
    return load_recorded(
        recorded.data,
        recorded.layout,
        size_px=model.image_size,
        expressions=model.expressions,
        unmapped=recorded.unmapped,
        wanted=parse_wanted(recorded.only),
    )


def load_batch(
    config: TrainConfig,
    pairs: Pairs | RecordedPairs,
    step: int,
    numbers: Sequence[int],
    world: int,
    device: torch.device,
) -> Batch:
    """Some items of a step's `batch_size` times `world`, in order; each depends on nothing but its number."""
    rngs = [np.random.default_rng((config.seed, step, number)) for number in numbers]
    reconstructions = sum(number < config.reconstructions * world for number in numbers)
    return AUGMENT(pairs.draw_items(rngs, reconstructions, device), rngs, config.textures_share)


def dry_run(config: TrainConfig) -> dict[str, Any]:
    """The resolved configuration, the parameters, and what an image costs in a step: floating-point operations, and the
    memory of what is kept for the way back (fp32, without parameters and optimiser)."""
    state = build(config, config.faces.people, torch.device("cpu"))
    networks, s = state.networks, config.model.image_size
    image, label, units = torch.rand(2, 3, s, s), torch.zeros(2, dtype=torch.long), torch.zeros(2, len(UNITS))
    batch = Batch(image, image, image.clone(), units, units, units, label, label, label, 0)
    chosen = torch.zeros(2, dtype=torch.bool)

    def generator(refine: bool) -> torch.Tensor:
        terms, _ = generator_terms(networks, batch, config.weights, refine=refine, true_units=chosen)
        return weigh(terms, config.weights)

    def critic() -> torch.Tensor:
        return torch.stack([*critic_terms(networks, batch, image, config.weights, penalize=False).values()]).sum()

    def millions(module: nn.Module) -> float:
        return sum(p.numel() for p in module.parameters()) / 1e6

    return {
        "config": config.to_dict(),
        "parameters_millions": {
            "model": millions(networks.model),
            **{name: millions(child) for name, child in networks.model.named_children()},
            "critic": millions(networks.critic),
        },
        "per_image": {
            "first stage": _cost(lambda: generator(refine=False)),
            "refining": _cost(lambda: generator(refine=True)),
            "critic": _cost(critic),
        },
        "steps": math.ceil(config.images / config.batch_size),
    }


def _cost(loss: Callable[[], torch.Tensor]) -> dict[str, float]:
    """Operations forward and back of each of two images, and the tensors that autograd keeps, each storage once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if not isinstance(tensor, nn.Parameter):
            kept[storage.data_ptr()] = storage
        return tensor

    formulas = {torch.ops.aten.convolution_backward: _gradients_flops}
    counting = FlopCounterMode(display=False, custom_mapping=formulas)
    with counting as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        loss().backward()
    return {
        "gflops": counter.get_total_flops() / 2 / 1e9,
        "kept_mib": sum(storage.nbytes() for storage in kept.values()) / 2 / 2**20,
    }


def _gradients_flops(grad_output, x, weight, *settings, **_out) -> int:
    """Either gradient of a convolution costs what it does itself; PyTorch's formula takes grouped ones for dense."""
    *_, transposed, _padding, _groups, wanted = settings
    return sum(wanted[:2]) * conv_flop_count(x, weight, grad_output, transposed)


def _cache(config: TrainConfig, split: str) -> Path:
    faces, size_px = config.faces, config.model.image_size
    if split == "train":
        name = f"train-{faces.people}x{faces.scenes}-pool{faces.pool}-from{faces.weakest}"
        if faces.alike:
            name += f"-alike{faces.alike}"
        if faces.variety != FULL:
            name += f"-variety{zlib.crc32(repr(faces.variety).encode()):08x}"
    else:
        name = f"{split}-{faces.validation_people}x4"
    return Path(faces.cache) / f"{name}-{size_px}px-seed{faces.seed}"


def _join_processes(device: torch.device) -> tuple[int, int]:
    """Rank and number of processes; torchrun says so in the environment."""
    if "RANK" not in os.environ:
        return 0, 1
    # The others wait for as long as the first one renders.
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(hours=12))
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return distributed.get_rank(), distributed.get_world_size()


def _device(config: TrainConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _average_gradients(parameters: list[nn.Parameter], world: int) -> None:
    """What DistributedDataParallel does, but free of its single-forward contract."""
    _average([p.grad for p in parameters if p.grad is not None], world)


def _average(tensors: list[torch.Tensor], world: int) -> None:
    """Replaces tensors by their mean over all processes, in one flat all-reduce."""
    if world == 1:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, part in zip(tensors, flat.div_(world).split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _set_lr(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int, steps: int) -> None:
    warm = min(1.0, (step + 1) / config.warmup_steps)
    cosine = 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = config.lr * warm * cosine


def _anyone(stop: list[int], world: int) -> bool:
    """Whether any process was told to stop: all leave the loop at the same step."""
    if world == 1:
        return bool(stop)
    told = torch.tensor(float(bool(stop)), device="cuda" if distributed.get_backend() == "nccl" else "cpu")
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    return bool(told)


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that SIGTERM or SIGINT makes non-empty, so that the step under way can end."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda signum, _frame: received.append(signum))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _record(config: TrainConfig, run: Path, step: int) -> None:
    """Writes what trains from this step on; what trained before with other settings or another commit is kept."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    versions = {name: importlib.metadata.version(name) for name in ("torch", "timm", "einops", "numpy", "numba")}
    record = {"config": config.to_dict(), "commit": commit, "versions": versions, "from_step": step}
    record = json.loads(json.dumps(record))  # as it is read back
    file = run / "config.json"
    if step and file.exists():
        before = json.loads(file.read_text(encoding="utf-8"))
        earlier = before.pop("earlier", [])
        if {**before, "from_step": step} == record:
            return
        if before["config"] != record["config"]:
            print(f"from step {step} on the settings are other ones than before; {file} has both", file=sys.stderr)
        record["earlier"] = [*earlier, before]
    write_text(file, json.dumps(record, indent=2) + "\n")  # whole or not at all: a killed run reads it again


def _tensorboard(run: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(run / "tensorboard")


def _log(row: dict[str, float], run: Path, writer: Any) -> None:
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if writer is not None:
        for name, value in row.items():
            writer.add_scalar(name, value, row["step"])


def _forget_rows_after(step: int, run: Path) -> None:
    """Takes out of the metrics what a killed process wrote after its last checkpoint: those steps are done again."""
    file = run / "metrics.jsonl"
    if not file.exists():
        return
    whole = [line for line in file.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("}\n")]
    kept = [line for line in whole if json.loads(line)["step"] <= step]
    fresh = file.with_suffix(".new")
    fresh.write_text("".join(kept), encoding="utf-8")
    fresh.replace(file)


def _not_finite(step: int, run: Path) -> FloatingPointError:
    return FloatingPointError(
        f"the loss is not finite at step {step}; what was saved before in {str(run / checkpoint.FOLDER)!r} is good. "
        "Lower --lr and run the same command again."
    )


def _save(state: State, train: Pairs | RecordedPairs, run: Path) -> None:
    parts = (state.networks.model, state.networks.critic, state.networks.identity_classifier, state.average)
    if not all(tensor.isfinite().all() for part in parts for tensor in part.state_dict().values()):
        raise _not_finite(state.step, run)
    set_prototypes(state.average.module, train)
    checkpoint.save(run, state.state_dict(), state.average.module, name=run.name)


def _draw(model: TERGAN, validation: Pairs | RecordedPairs, run: Path, step: int, device: torch.device) -> None:
    batch = validation.draw(np.random.default_rng(0), 18).to(device)
    model.eval()
    grid.save(
        run / "grids" / f"{step:07d}.png", grid.transfer_grid(model, batch), grid.edit_grid(model, batch.identity[:5])
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--preset", choices=PRESETS)
    first.add_argument("--config")
    first.add_argument("--dry-run", action="store_true")
    chosen, rest = first.parse_known_args(arguments)
    try:
        recorded = any(argument.partition("=")[0] == "--data" for argument in rest)
        base = PRESETS[chosen.preset or ("recorded" if recorded else "default")]
        base = read(chosen.config, base) if chosen.config else base
        config = tyro.cli(
            TrainConfig, default=base, args=rest, description=f"{__doc__}\nPresets: {', '.join(PRESETS)}."
        )
        if chosen.dry_run:
            print(json.dumps(dry_run(config), indent=2))
        else:
            fit(config)
    except (TerganError, FloatingPointError, OSError) as error:
        code = getattr(error, "code", "not_finite" if isinstance(error, FloatingPointError) else "file_system")
        print(f"error [{code}]: {error}", file=sys.stderr)
        if isinstance(error, OSError):
            print("The last checkpoint is whole. Mend this and run the same command again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

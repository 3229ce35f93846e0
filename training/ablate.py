"""What each part of the objective and of the network buys: `python -m training.ablate --workers 2`.

Every row changes one thing of a small run and sees the same people and as many images; three seeds each. The figures
are of validation people, not of the test people. Rows that differ in refining terms alone are the same run until these
join, so that part is trained once for all of them. The same command again goes on where it stopped; the table goes to
stdout.
"""

import dataclasses
import json
import math
import multiprocessing
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from tergan_core import weights
from training import imagenet, train
from training.config import TINY, FacesConfig, TrainConfig, merge
from training.evaluation import edit, photographs, recognition, transfer
from training.faces import PLAIN
from training.objective import REFINING

BASE = dataclasses.replace(
    TINY,
    model=dataclasses.replace(TINY.model, image_size=64, expression_pooling="average"),
    faces=FacesConfig(people=400, scenes=8, pool=700),
    run="runs/ablations",
    images=36_000,
    batch_size=8,
    refine_from=5 / 6,
    critic_warmup_steps=100,
    relative_swap=False,
    standardized_units=False,
    ema_decay=0.995,
    checkpoint_every=1500,
)
"""About fifteen minutes of one core, ten of them the first part. Half the steps of twice the size learned less."""

_IMAGENET = "cache/imagenet-lite0.safetensors"

ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "no expression consistency": {"weights": {"expression_consistency": 0.0}},
    "no identity consistency": {"weights": {"identity_consistency": 0.0}},
    "neither consistency": {"weights": {"expression_consistency": 0.0, "identity_consistency": 0.0}},
    "no cross-cycle": {"weights": {"cross_cycle": 0.0}},
    "no critic": {"weights": {"adversarial": 0.0}},
    "critic reads the expression": {"weights": {"critic_expression": 0.05}},
    "critic reads the person": {"weights": {"critic_identity": 0.05}},
    "no R1 penalty": {"weights": {"r1": 0.0}},
    "feature matching": {"weights": {"feature_matching": 0.2}},
    "adversarial: hinge": {"adversarial_kind": "hinge"},
    "adversarial: least squares": {"adversarial_kind": "least squares"},
    "adversarial: logistic": {"adversarial_kind": "logistic"},
    "no refining terms": {"weights": dict.fromkeys(REFINING, 0.0)},
    "refining from the start": {"refine_from": 0.0},
    "no paired swap": {"weights": {"paired_swap": 0.0}},
    "no unit regression": {"weights": {"unit_regression": 0.0}, "true_units_share": 0.0},
    "no true units": {"true_units_share": 0.0},
    "standardized units": {"standardized_units": True},
    "relative swap": {"relative_swap": True},
    "alike pairs": {"faces": {"alike": 0.35}},
    "no weak expressions": {"faces": {"weakest": 0.45}},
    "faces: free light alone": {"faces": {"variety": {"illuminations": (1.0, 0.0, 0.0, 0.0, 0.0)}}},
    "faces: a perfect camera": {"faces": {"variety": {"camera": 0.0}}},
    "faces: plain backgrounds": {"faces": {"variety": {"structured_backgrounds": 0.0}}},
    "faces: nothing worn": {"faces": {"variety": {"glasses": 0.0, "headwear": 0.0}}},
    "faces: even skin": {"faces": {"variety": {"skin_marks": 0.0}}},
    "faces: one style for all": {"faces": {"variety": {"style": 0.0}}},
    "faces: heads straight": {"faces": {"variety": {"yaw_degrees": 5.0, "pitch_degrees": 3.0, "roll_degrees": 2.0}}},
    "faces: plain": {"faces": {"variety": dataclasses.asdict(PLAIN)}},
    "decoder: skip": {"model": {"decoder": "skip"}},
    "decoder: vector": {"model": {"decoder": "vector"}},
    "expression pooling: flatten": {"model": {"expression_pooling": "flatten"}},
    "identity backbone: lcnet_050": {"model": {"identity_backbone": "lcnet_050"}},
    "expression backbone: lcnet_050": {
        "model": {"expression_backbone": "lcnet_050", "expression_backbone_options": {}},
    },
    "expression backbone: mobilenetv4": {
        "model": {"expression_backbone": "mobilenetv4_conv_small", "expression_backbone_options": {}},
    },
    "expression backbone: efficientnet_lite0": {
        "model": {"expression_backbone": imagenet.BACKBONE, "expression_backbone_options": {}},
    },
    "expression backbone: efficientnet_lite0 from ImageNet": {
        "model": {"expression_backbone": imagenet.BACKBONE, "expression_backbone_options": {}},
        "expression_backbone_file": _IMAGENET,
    },
}
"""Name, and what it changes in `BASE`."""

RESULTS = Path(__file__).with_name("ablations.jsonl")

_COLUMNS = {
    "gain_db": "gain dB",
    "l1_changed": "L1, changed pixels",
    "perceptual": "perceptual",
    "expression_accuracy": "expression accuracy",
    "expression_accuracy_from_expressive": "from expressive",
    "identity_similarity": "identity similarity",
    "edit_accuracy": "edits",
    "monotone": "monotone",
    "recognition": "recognition",
    "photographs": "photographs",
    "photographs_smile": "smile higher",
}


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Which rows, how long."""

    rows: tuple[str, ...] = tuple(ROWS)
    """Names of the rows; `base`, which they are compared with, is always among them."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of initialisation and batches; the faces are the same."""

    images: int = BASE.images
    """Images seen by each run."""

    out: Path = Path("runs/ablations")
    """Folder of runs."""

    results: Path = RESULTS
    """File of results, to which new ones are added."""

    cache: str = "cache"
    """Folder of rendered pairs."""

    photographs: Path | None = None
    """Folder of photographs `<person>_<expression>.<ending>`, in which expressions are recognized as well."""

    workers: int = 1
    """Runs at a time, each on one core."""

    def __post_init__(self):
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"--rows has the unknown name {unknown[0]!r}; accepted: {', '.join(ROWS)}")


def ablate(config: AblateConfig) -> list[dict[str, Any]]:
    """Runs what is not done yet, and returns all results of these rows, seeds and images."""
    file = config.results
    done = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    found = {(row["row"], row["seed"]): row for row in done if row["images"] == config.images}
    wanted = [(name, seed) for seed in config.seeds for name in dict.fromkeys(("base", *config.rows))]
    for name in dict.fromkeys(name for name, _ in wanted):
        train.render(_run(config, name, 0))
    if _IMAGENET in (ROWS[name].get("expression_backbone_file") for name, _ in wanted):
        Path(_IMAGENET).parent.mkdir(exist_ok=True)
        imagenet.main(Path(_IMAGENET))
    missing = [key for key in wanted if key not in found]
    parts = {key: _first_part(config, *key) for key in missing}
    # A fresh interpreter for each run: nothing of the last one, and no lock of a thread, is inherited.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(config.workers, mp_context=context, max_tasks_per_child=1) as pool,
        tqdm(total=len(missing), desc="ablations", unit="row") as bar,
    ):
        by_run = {part.run: part for part in parts.values()}
        running = {pool.submit(_train_first_part, part) for part in by_run.values()}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for result in (future.result() for future in done):
                if isinstance(result, str):
                    running |= {pool.submit(_row, config, *key) for key in missing if parts[key].run == result}
                    continue
                found[result["row"], result["seed"]] = result
                with file.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(result) + "\n")
                bar.update()
    return [found[key] for key in wanted]


def _run(config: AblateConfig, name: str, seed: int) -> TrainConfig:
    faces = dataclasses.replace(BASE.faces, cache=config.cache)
    folder = config.out / f"{name.replace(' ', '-').replace(':', '')}-{seed}-{config.images}"
    return merge(dataclasses.replace(BASE, faces=faces, images=config.images, seed=seed, run=str(folder)), ROWS[name])


def _first_part(config: AblateConfig, name: str, seed: int) -> TrainConfig:
    """The run up to where refining terms, or the critic, join: rows that differ in these alone have the same."""
    run = _run(config, name, seed)
    same = {term: getattr(BASE.weights, term) for term in REFINING | {"r1"}}
    part = merge(run, {"weights": same, "adversarial_kind": BASE.adversarial_kind, "run": ""})
    return dataclasses.replace(part, run=str(config.out / f"first-{zlib.crc32(repr(part).encode()):08x}-{seed}"))


def _train_first_part(part: TrainConfig) -> str:
    until = math.floor(part.refine_from * math.ceil(part.images / part.batch_size)) - part.critic_warmup_steps
    return str(train.fit(part, progress=False, until=max(until, 0)))


def _train(config: AblateConfig, name: str, seed: int) -> Path:
    """Trains a row to its end, from its first part if that is there, and returns the run's folder."""
    run = _run(config, name, seed)
    first = Path(_first_part(config, name, seed).run)
    if first.exists() and not Path(run.run).exists():
        copy = Path(f"{run.run}.new")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(first, copy)
        copy.rename(run.run)
    folder = train.fit(run, progress=False)
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    if last["step"] < math.ceil(run.images / run.batch_size):
        raise InterruptedError(f"{name!r}, seed {seed}, was stopped; the same command goes on from there")
    return folder


def _row(config: AblateConfig, name: str, seed: int) -> dict[str, Any]:
    run = _run(config, name, seed)
    _, validation = train.load_data(run)
    model = weights.load(_train(config, name, seed) / "checkpoint" / "model")
    with torch.inference_mode():
        figures = transfer.measure(model, validation, 192, 0)["model"]
        edits = edit.measure(model, validation, 32)
        seen = recognition.measure(model, validation)
        photographed = photographs.recognize(model, config.photographs)[0] if config.photographs else None
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "row": name,
        "seed": seed,
        "images": config.images,
        "commit": commit.stdout.strip(),
        **figures,
        "edit_accuracy": edits["mean_expression_accuracy"],
        "monotone": edits["own"]["monotone"],
        "recognition": seen["accuracy"],
        "photographs": photographed and photographed["recognition"]["model"]["accuracy"],
        "photographs_smile": photographed and photographed["smile"]["higher"] / photographed["smile"]["people"],
    }


def table(results: list[dict[str, Any]]) -> str:
    """What the base reaches, and by how much the other rows differ from it: means and standard deviations over seeds.

    Differences are taken within each seed, since seeds differ more than most rows do.
    """
    by_seed: dict[str, dict[int, np.ndarray]] = {}
    for row in results:
        by_seed.setdefault(row["row"], {})[row["seed"]] = np.array([row[key] for key in _COLUMNS], float)
    lines = ["| | seeds | " + " | ".join(_COLUMNS.values()) + " |", "|---" * (len(_COLUMNS) + 2) + "|"]
    for name, figures in by_seed.items():
        sign = "" if name == "base" else "+"
        against = {} if name == "base" else by_seed["base"]
        values = np.array([value - against.get(seed, 0) for seed, value in figures.items()])
        cells = (
            f"{mean:{sign}.3f} ± {deviation:.3f}" for mean, deviation in zip(values.mean(0), values.std(0), strict=True)
        )
        lines.append(f"| {name} | {len(values)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    try:
        config = tyro.cli(AblateConfig, args=arguments, description=__doc__)
        print(table(ablate(config)))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

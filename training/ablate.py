"""What each part of the objective, of the network and of the faces buys: `python -m training.ablate --workers 2`.

Every row changes one thing of a small run and sees as many images; three seeds each. The figures are of validation
people, not of the test people. The study `network` trains all of it, `recognition` the expression encoder alone, for
what is about reading. Rows that differ in refining terms alone are the same run until these join, so that part is
trained once for all of them. The same command again goes on where it stopped; the table goes to stdout.
"""

import dataclasses
import json
import math
import multiprocessing
import shutil
import subprocess
import sys
import zlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from tqdm import tqdm

from tergan_core import weights
from tergan_core.model import TERGAN
from training import imagenet, train
from training.config import EXPRESSION, TINY, FacesConfig, TrainConfig, merge
from training.data import Pairs
from training.evaluation import edit, photographs, recognition, transfer
from training.faces import PLAIN
from training.objective import REFINING
from training.validate import validate

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

READING = dataclasses.replace(BASE, weights=EXPRESSION.weights, frozen=EXPRESSION.frozen, batch_size=16)
"""The expression encoder alone, in about three minutes of one core."""

_IMAGENET = "cache/imagenet-lite0.safetensors"

_NO_WEAK = {"faces": {"weakest": 0.45}}
_ALIKE = {"faces": {"alike": 0.35}}
_STANDARDIZED = {"standardized_units": True}
_FLATTEN = {"model": {"expression_pooling": "flatten"}}

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
    "no unit regression": {
        "model": {"units": ()},  # prototypes are mean codes then
        "weights": {"unit_regression": 0.0},
        "true_units_share": 0.0,
    },
    "no true units": {"true_units_share": 0.0},
    "standardized units": _STANDARDIZED,
    "relative swap": {"relative_swap": True},
    "alike pairs": _ALIKE,
    "no weak expressions": _NO_WEAK,
    "decoder: skip": {"model": {"decoder": "skip"}},
    "decoder: vector": {"model": {"decoder": "vector"}},
    "expression pooling: flatten": _FLATTEN,
    "identity backbone: lcnet_050": {"model": {"identity_backbone": "lcnet_050"}},
}
"""Name, and what it changes in `BASE`."""

READING_ROWS: dict[str, dict[str, Any]] = {
    "base": {},
    "standardized units": _STANDARDIZED,
    "expression pooling: flatten": _FLATTEN,
    "alike pairs": _ALIKE,
    "no weak expressions": _NO_WEAK,
    "strange textures": {"textures_share": 0.5},
    "faces: free light alone": {"faces": {"variety": {"illuminations": (1.0, 0.0, 0.0, 0.0, 0.0)}}},
    "faces: a perfect camera": {"faces": {"variety": {"camera": 0.0}}},
    "faces: plain backgrounds": {"faces": {"variety": {"structured_backgrounds": 0.0}}},
    "faces: nothing worn": {"faces": {"variety": {"glasses": 0.0, "headwear": 0.0}}},
    "faces: even skin": {"faces": {"variety": {"skin_marks": 0.0}}},
    "faces: one style for all": {"faces": {"variety": {"style": 0.0}}},
    "faces: heads straight": {"faces": {"variety": {"yaw_degrees": 5.0, "pitch_degrees": 3.0, "roll_degrees": 2.0}}},
    "faces: plain": {"faces": {"variety": dataclasses.asdict(PLAIN)}},
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
"""Name, and what it changes in `READING`."""

_COLUMNS = {
    "gain_db": "gain dB",
    "l1_changed": "L1, changed pixels",
    "perceptual": "perceptual",
    "kid": "KID",
    "expression_accuracy": "expression accuracy",
    "expression_accuracy_from_expressive": "from expressive",
    "identity_similarity": "identity similarity",
    "edit_accuracy": "edits",
    "monotone": "monotone, own code",
    "recognition": "recognition",
    "photographs": "photographs",
    "photographs_smile": "smile higher",
}

_READING_COLUMNS = {
    "unit_error": "unit error",
    "recognition": "recognition",
    "photographs": "photographs",
    "photographs_neutral": "neutral",
    "photographs_happiness": "happiness",
    "photographs_smile": "smile higher",
    "photographs_units": "units, correlation",
}


def _figures(model: TERGAN, validation: Pairs) -> dict[str, Any]:
    edits = edit.measure(model, validation, 32)
    return {
        **transfer.measure(model, validation, 192, 0)["model"],
        "edit_accuracy": edits["mean_expression_accuracy"],
        "monotone": edits["own"]["monotone"],
    }


def _reading_figures(model: TERGAN, validation: Pairs) -> dict[str, Any]:
    return {"unit_error": validate(model, validation, torch.device("cpu"))["validation/unit_error"]}


@dataclass(frozen=True, kw_only=True)
class Study:
    """Rows that are compared with each other."""

    base: TrainConfig
    """What they change."""

    rows: dict[str, dict[str, Any]]
    """What each changes, by name."""

    figures: Callable[[TERGAN, Pairs], dict[str, Any]]
    """What is measured of validation people, beside recognition."""

    columns: dict[str, str]
    """Figures of the table and their titles."""


STUDIES = {
    "network": Study(base=BASE, rows=ROWS, figures=_figures, columns=_COLUMNS),
    "recognition": Study(base=READING, rows=READING_ROWS, figures=_reading_figures, columns=_READING_COLUMNS),
}

RESULTS = Path(__file__).with_name("ablations")


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Which rows, how long."""

    study: Literal["network", "recognition"] = "network"
    """What is trained."""

    rows: tuple[str, ...] = ()
    """Names of the rows, all if none is named; `base`, which they are compared with, is always among them."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of initialisation and batches; the faces are the same."""

    images: int = BASE.images
    """Images seen by each run."""

    out: Path = Path("runs/ablations")
    """Folder of runs."""

    results: Path = RESULTS
    """Folder with a file of results for each study, to which new ones are added."""

    cache: str = "cache"
    """Folder of rendered pairs."""

    photographs: Path | None = None
    """Folder of photographs `<person>_<expression>.<ending>`, in which expressions are recognized as well."""

    workers: int = 1
    """Runs at a time, each on one core."""

    def __post_init__(self):
        rows = STUDIES[self.study].rows
        unknown = [name for name in self.rows if name not in rows]
        if unknown:
            raise ValueError(f"--rows has the unknown name {unknown[0]!r}; accepted: {', '.join(rows)}")


def ablate(config: AblateConfig) -> list[dict[str, Any]]:
    """Runs what is not done yet, and returns all results of these rows, seeds and images."""
    rows = STUDIES[config.study].rows
    file = config.results / f"{config.study}.jsonl"
    done = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    found = {(row["row"], row["seed"]): row for row in done if row["images"] == config.images}
    wanted = [(name, seed) for seed in config.seeds for name in dict.fromkeys(("base", *(config.rows or rows)))]
    for name in dict.fromkeys(name for name, _ in wanted):
        train.render(_run(config, name, 0))
    if _IMAGENET in (rows[name].get("expression_backbone_file") for name, _ in wanted):
        Path(_IMAGENET).parent.mkdir(exist_ok=True)
        imagenet.main(Path(_IMAGENET))
    missing = [key for key in wanted if key not in found]
    parts = {key: _first_part(config, *key) for key in missing}
    file.parent.mkdir(parents=True, exist_ok=True)
    # A fresh interpreter for each run: nothing of the last one, and no lock of a thread, is inherited.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(config.workers, mp_context=context, max_tasks_per_child=1) as pool,
        tqdm(total=len(missing), desc="ablations", unit="row") as bar,
    ):
        first = {part.run: part for part in parts.values()}.values()
        tasks: deque[tuple[Any, ...]] = deque((_train_first_part, part) for part in first)
        running: set[Future[Any]] = set()
        while tasks or running:
            while tasks and len(running) < config.workers:
                running.add(pool.submit(*tasks.popleft()))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for result in (future.result() for future in ended):
                if isinstance(result, str):  # the rows of this first part come before other first parts
                    tasks.extendleft((_row, config, *key) for key in reversed(missing) if parts[key].run == result)
                    continue
                found[result["row"], result["seed"]] = result
                with file.open("a", encoding="utf-8") as results:
                    results.write(json.dumps(result) + "\n")
                bar.update()
    return [found[key] for key in wanted]


def _run(config: AblateConfig, name: str, seed: int) -> TrainConfig:
    study = STUDIES[config.study]
    faces = dataclasses.replace(study.base.faces, cache=config.cache)
    folder = config.out / config.study / f"{name.replace(' ', '-').replace(':', '')}-{seed}-{config.images}"
    base = dataclasses.replace(study.base, faces=faces, images=config.images, seed=seed, run=str(folder))
    return merge(base, study.rows[name])


def _first_part(config: AblateConfig, name: str, seed: int) -> TrainConfig:
    """The run up to where refining terms, or the critic, join: rows that differ in these alone have the same."""
    base, run = STUDIES[config.study].base, _run(config, name, seed)
    same = {term: getattr(base.weights, term) for term in REFINING | {"r1"}}
    part = merge(run, {"weights": same, "adversarial_kind": base.adversarial_kind, "run": ""})
    folder = config.out / config.study / f"first-{zlib.crc32(repr(part).encode()):08x}-{seed}"
    return dataclasses.replace(part, run=str(folder))


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
    _, validation = train.load_data(_run(config, name, seed))
    model = weights.load(_train(config, name, seed) / "checkpoint" / "model")
    with torch.inference_mode():
        figures = STUDIES[config.study].figures(model, validation)
        seen = recognition.measure(model, validation)
        photographed = photographs.recognize(model, config.photographs)[0] if config.photographs else None
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "row": name,
        "seed": seed,
        "images": config.images,
        "commit": commit.stdout.strip(),
        **figures,
        "recognition": seen["accuracy"],
        **_of_photographs(photographed),
    }


def _of_photographs(read: dict[str, Any] | None) -> dict[str, float | None]:
    if read is None:
        return dict.fromkeys(name for name in _READING_COLUMNS if name.startswith("photographs"))
    shares = read["recognition"]["model"]
    return {
        "photographs": shares["accuracy"],
        **{f"photographs_{name}": share for name, share in shares["share"].items()},
        "photographs_smile": read["smile"] and read["smile"]["higher"] / read["smile"]["people"],
        "photographs_units": read["units"] and float(np.mean([*read["units"].values()])),
    }


def table(results: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """What the base reaches, and by how much the other rows differ from it: means and standard deviations over seeds.

    Differences are taken within each seed, since seeds differ more than most rows do. `monotone, own code` is read by
    the encoder that the losses train: it flatters those that train it so.
    """
    by_seed: dict[str, dict[int, np.ndarray]] = {}
    for row in results:
        by_seed.setdefault(row["row"], {})[row["seed"]] = np.array([row[key] for key in columns], float)
    lines = ["| | seeds | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, figures in by_seed.items():
        sign = "" if name == "base" else "+"
        against = {} if name == "base" else by_seed["base"]
        values = np.array([value - against.get(seed, 0) for seed, value in figures.items()])
        deviations = values.std(0, ddof=min(1, len(values) - 1))
        cells = (
            f"{mean:{sign}.3f} ± {deviation:.3f}" for mean, deviation in zip(values.mean(0), deviations, strict=True)
        )
        lines.append(f"| {name} | {len(values)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    try:
        config = tyro.cli(AblateConfig, args=arguments, description=__doc__)
        print(table(ablate(config), STUDIES[config.study].columns))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

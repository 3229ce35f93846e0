"""Turns a run into a model that is shipped: `python -m training.ship runs/tiny --name tergan-s --version 0.1.0`.

Measures the run's last checkpoint, writes its model card from the measurement and the run's own record, and puts the
model folder where the package looks for it.
"""

import dataclasses
import json
import shutil
import sys
from dataclasses import field
from itertools import pairwise
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from tergan_core import weights
from tergan_core.errors import TerganError
from training.evaluate import EvaluateConfig, evaluate, table

SHIPPED = Path(weights.__file__).parent / "shipped"
CARD = Path(__file__).with_name("model_card.md")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShipConfig:
    """What is shipped, as what."""

    run: Positional[Path]
    """Folder of a run."""

    name: str
    """Name in the catalogue."""

    version: str
    """Version of the weights."""

    hardware: str = "two CPU cores that were shared with other work"
    """What the run ran on."""

    pretrained: str = "no pretrained weights"
    """What the card says of weights that came from elsewhere."""

    notes: str = ""
    """What else the card has to say of this run."""

    folder: Path = SHIPPED
    """Where model folders are kept."""

    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)
    """How it is measured; the model is set by this command."""


def ship(config: ShipConfig) -> Path:
    """Writes the model folder and returns its path."""
    model = weights.load(config.run / "checkpoint" / "model")
    target, work = config.folder / config.name, Path(config.evaluation.out) / config.name
    weights.save(model, work, version=config.version)
    result = evaluate(dataclasses.replace(config.evaluation, model=str(work)))
    record = json.loads((config.run / "config.json").read_text(encoding="utf-8"))
    rows = [json.loads(line) for line in (config.run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    card = _card(config, record["config"], [row for row in rows if "images_per_s" in row], parameters, table(result))
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(config.evaluation.out) / "extremes.jpg", target)
    shutil.copy(config.run / "metrics.jsonl", target)
    (target / "training.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return weights.save(model, target, version=config.version, card=card, metrics=result)


def _card(config: ShipConfig, run: dict[str, Any], reports: list[dict], parameters: int, figures: str) -> str:
    model, faces = run["model"], run["faces"]
    seen = [0, *(row["images_seen"] for row in reports)]
    seconds = sum(
        (after - before) / row["images_per_s"] for (before, after), row in zip(pairwise(seen), reports, strict=True)
    )
    return CARD.read_text(encoding="utf-8").format(
        name=config.name,
        version=config.version,
        size=model["image_size"],
        expressions=", ".join(model["expressions"]),
        parameters=parameters / 1e6,
        identity_backbone=model["identity_backbone"],
        expression_backbone=model["expression_backbone"],
        narrow=" (narrow)" if model["expression_backbone_options"] else "",
        units=len(model["units"]),
        decoder=model["decoder"],
        people=faces["people"],
        scenes=faces["scenes"],
        pool=faces["pool"],
        images=reports[-1]["images_seen"],
        hours=seconds / 3600,
        refine=100 * run["refine_from"],
        hardware=config.hardware,
        pretrained=config.pretrained,
        notes=config.notes,
        transfers=config.evaluation.transfers,
        table=figures,
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    try:
        print(ship(tyro.cli(ShipConfig, args=arguments, description=__doc__)))
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

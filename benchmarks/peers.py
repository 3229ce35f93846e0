"""Recognition of face crops, ours against bundled classifiers: `python -m benchmarks.peers`.

The same rendered people of the test split for all. Ours reads the aligned crop, the others (`fer`, `facex`) what
`training.judges` cuts out by the landmarks that mediapipe finds; finding them is not counted, cutting and scaling is.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from tqdm import tqdm

from benchmarks.latency import timed
from benchmarks.rows import Row, row, write
from tergan_core import FaceEditor, weights
from tergan_core.engine import EngineName
from tergan_core.errors import TerganError
from training import judges
from training.faces import EXPRESSIONS, FaceSet, peak_expression


@dataclass(frozen=True, kw_only=True)
class PeersConfig:
    """What is measured."""

    model: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name."""

    engine: EngineName | None = None
    """What runs our network; by default what the model folder names."""

    people: int = 20
    """People of the test split; each shows all seven expressions at their peak."""

    out: str | None = None
    """File that rows are appended to; by default one in benchmarks/results/."""


def measure(config: PeersConfig) -> list[Row]:
    """One row for each reader: CPU time per face and accuracy."""
    torch.set_num_threads(1)
    editor = FaceEditor.load(config.model, device="cpu", engine=config.engine)
    face_set = FaceSet("test", people=config.people, size_px=192)
    faces = []
    for person in tqdm(range(config.people), desc="rendering"):
        for name in EXPRESSIONS:
            image = face_set.sample(person, 0, peak_expression(name)).image
            if (found := judges.find_face(image)) is not None:
                faces.append((image, found, name))
    images = [image for image, _, _ in faces]
    readers: dict[str, Callable[[int], str]] = {"ours, one by one": lambda i: editor.recognize(images[i]).label}
    for reader in ("fer", "facex"):
        if reason := judges.missing(reader):
            print(f"left out: {reader}: {reason}", file=sys.stderr)
            continue
        readers[reader] = lambda i, reader=reader: EXPRESSIONS[
            int(judges.expression_probabilities(reader, images[i], faces[i][1]).argmax())
        ]
    rows = []
    cpu = torch.device("cpu")
    case: dict[str, Any] = {
        "model": weights.describe(config.model)["name"],
        "task": "recognize",
        "people": config.people,
        "engine": config.engine or "as packed",
    }
    for name, read in readers.items():
        right = [read(i) == label for i, (_, _, label) in enumerate(faces)]
        costs = [timed(lambda i=i, read=read: read(i), cpu, 0, 2)[1][-1] for i in range(min(len(faces), 50))]
        rows.append(_row({**case, "reader": name}, costs, right))
    right = [r.label == label for r, (_, _, label) in zip(editor.recognize(images), faces, strict=True)]
    chunk = images[:16]
    costs = [cost / len(chunk) for cost in timed(lambda: editor.recognize(chunk), cpu, 1, 5)[1]]
    rows.append(_row({**case, "reader": "ours, 16 at once"}, costs, right))
    return rows


def _row(case: dict[str, Any], costs: list[float], right: list[bool]) -> Row:
    figures = {"cpu_ms_per_image": float(np.percentile(costs, 25)), "accuracy": float(np.mean(right))}
    return row("peers", case, {**figures, "faces": float(len(right))}, {"threads": 1}, "cpu")


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    from benchmarks.report import table

    config = tyro.cli(PeersConfig, args=arguments, description=__doc__)
    if reason := judges.missing("landmarker"):
        print(f"error [missing_judge]: {reason}", file=sys.stderr)
        return 1
    try:
        rows = measure(config)
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    print(f"wrote {write(rows, Path(config.out) if config.out else None)}", file=sys.stderr)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

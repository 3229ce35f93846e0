"""An independent reading of the rendered people: `python -m training.faces.audit`.

Models that no one here trained (`training.judges`) look at people of one split: is a face found, which expression is
read at its peak, are two pictures of one person told from pictures of two people, and how do the landmarker's
blendshapes follow the face units that were rendered. `--photographs FOLDER` prints what the same models say of real
photographs named `<person>_<expression>.<ending>`: what can be expected of them at best.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from PIL import Image
from tqdm import tqdm

from tergan_core.errors import TerganError
from training import judges
from training.faces.expression import EXPRESSIONS, UNITS, sample_expression
from training.faces.face_set import FaceSet
from training.faces.head import load_head
from training.faces.identity import sample_identity
from training.faces.renderer import render
from training.faces.scene import STANDARD_CROP
from training.faces.variety import FULL, PLAIN

Picture = tuple[str, str, np.ndarray, np.ndarray | None]
"""Person, expression, image [h, w, 3] uint8, and the face units [52] if they are known."""


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Who is read, and how it is reported."""

    split: str = "validation"
    """Whose people. Look at `validation` while you work on looks; report `test`, once."""

    people: int = 40
    """Number of people; each shows every expression once, at its peak, in a scene and a recording of its own."""

    first: int = 0
    """Number of the first of them within the split."""

    seed: int = 0
    """Chooses scenes and expressions."""

    variety: Literal["full", "plain"] = "full"
    """How much pictures vary: as in training, or frontal and in good light, as in a studio."""

    one_recording: bool = False
    """Show each person with the hair and clothes of one occasion, as photographs of one sitting do."""

    size_px: int = 192
    """Edge of the pictures, which show the whole head, as photographs do."""

    photographs: Path | None = None
    """Folder of photographs to read in place of renders."""

    sheet: Path | None = None
    """Write the pictures with what was read, as one PNG."""

    as_json: bool = False
    """Print JSON in place of tables."""


def rendered(config: AuditConfig) -> Iterator[Picture]:
    """People of the split with every expression at its peak, the whole head in the picture."""
    variety = {"full": FULL, "plain": PLAIN}[config.variety]
    faces = FaceSet(config.split, seed=config.seed, variety=variety)
    for number in range(config.first, config.first + config.people):
        seed = faces.identity_seed(number)
        for recording, label in enumerate(EXPRESSIONS):
            rng = np.random.default_rng([config.seed, seed, recording, 79])
            expression = sample_expression(rng, label, 1.0)
            scene = faces.scene(seed, recording, 0)
            scene = replace(scene, scale=scene.scale / STANDARD_CROP)
            head = load_head()
            worn = 0 if config.one_recording else recording
            made = render(head, sample_identity(head, seed, worn, variety), expression.units, scene, config.size_px)
            yield str(seed), label, made.image, made.units


def photographed(folder: Path) -> Iterator[Picture]:
    """The photographs of a folder; their names tell person and expression.

    Raises:
        ValueError: the folder has none.
    """
    files = sorted(path for path in folder.glob("*_*.*") if path.stem.rpartition("_")[2] in EXPRESSIONS)
    if not files:
        raise ValueError(f"{str(folder)!r} has no photographs; accepted: files named <person>_<expression>.jpg")
    for path in files:
        person, _, label = path.stem.rpartition("_")
        with Image.open(path) as image:
            yield person, label, np.asarray(image.convert("RGB")), None


def audit(pictures: list[Picture] | Iterator[Picture], total: int | None = None) -> dict[str, Any]:
    """All figures, as plain values. Readers that are not installed are left out and named under `missing`.

    Raises:
        MissingJudgeError: the landmarker is not installed; nothing can be read without it.
    """
    absent = {name: judges.missing(name) for name in (*judges.EXPRESSION_READERS, *judges.PERSON_READERS)}
    absent = {name: reason for name, reason in absent.items() if reason}
    expression_readers = [name for name in judges.EXPRESSION_READERS if name not in absent]
    person_readers = [name for name in judges.PERSON_READERS if name not in absent]
    persons, labels, units, blendshapes = [], [], [], []
    read: dict[str, list[np.ndarray]] = {name: [] for name in (*expression_readers, *person_readers)}
    seen = 0
    for person, label, image, shown in tqdm(pictures, total=total, desc="audit", unit="picture"):
        seen += 1
        face = judges.find_face(image)
        if face is None:
            continue
        persons.append(person)
        labels.append(EXPRESSIONS.index(label))
        blendshapes.append(face.blendshapes)
        units.append(np.full(len(UNITS), np.nan) if shown is None else shown)
        for name in expression_readers:
            read[name].append(judges.expression_probabilities(name, image, face))
        for name in person_readers:
            read[name].append(judges.person_embedding(name, image, face))
    return {
        "pictures": seen,
        "people": len(set(persons)),
        "detected": len(persons) / max(1, seen),
        "expression": {name: _confusion(np.array(labels), np.stack(read[name])) for name in expression_readers},
        "person": {name: _separation(np.array(persons), np.stack(read[name])) for name in person_readers},
        "units": correlations(np.stack(units), np.stack(blendshapes)),
        "missing": absent,
    }


def _confusion(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    """Accuracy over seven classes, the share read right of each expression that is there, and the counts."""
    counts = np.zeros((len(EXPRESSIONS), len(EXPRESSIONS)), int)
    np.add.at(counts, (labels, probabilities.argmax(1)), 1)
    shown = counts.sum(1) > 0
    share = counts.diagonal()[shown] / counts.sum(1)[shown]
    return {
        "accuracy": float(counts.trace() / counts.sum()),
        "share": dict(zip(np.array(EXPRESSIONS)[shown].tolist(), share.tolist(), strict=True)),
        "confusion": counts.tolist(),
    }


def _separation(persons: np.ndarray, embeddings: np.ndarray) -> dict[str, float]:
    """Area under the curve over all pairs, and how often the nearest other picture is of the same person."""
    similarity = embeddings @ embeddings.T
    same = persons[:, None] == persons[None]
    first, second = np.triu_indices(len(persons), 1)
    scores, labels = similarity[first, second], same[first, second]
    nearest = (similarity - 2 * np.eye(len(persons))).argmax(1)
    return {
        "auc": area_under_curve(scores, labels),
        "rank_1": float((persons[nearest] == persons).mean()),
        "same_person": float(scores[labels].mean()) if labels.any() else float("nan"),
        "other_person": float(scores[~labels].mean()) if (~labels).any() else float("nan"),
    }


def area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of (positive, negative) pairs in which the positive has the larger score (Mann and Whitney 1947).

    >>> area_under_curve(np.array([0.9, 0.8, 0.1]), np.array([True, False, False]))
    1.0
    """
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = np.empty(len(scores))
    ranks[scores.argsort()] = np.arange(1, len(scores) + 1)
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def correlations(units: np.ndarray, blendshapes: np.ndarray) -> dict[str, float]:
    """Pearson's correlation of each face unit with the landmarker's blendshape of its name, where both vary.

    The landmarker's cheek and nose blendshapes never leave 0: on 102 photographs, half of them smiling, none of
    `cheekSquint` and `noseSneer` passes 0.0001, and `cheekPuff` not 0.001.
    """
    correlations = {}
    for number, name in enumerate(UNITS):
        pair = np.stack([units[:, number], blendshapes[:, number]])
        if np.isfinite(pair).all() and (pair.std(1) > 1e-3).all():
            correlations[name] = float(np.corrcoef(pair)[0, 1])
    return correlations


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        f"{result['pictures']} pictures of {result['people']} people; a face is found in {result['detected']:.1%}.",
        "",
        "| reader | accuracy | " + " | ".join(EXPRESSIONS) + " |",
        "|---" * (len(EXPRESSIONS) + 2) + "|",
    ]
    for name, row in result["expression"].items():
        cells = (f"{row['share'][label]:.2f}" if label in row["share"] else "-" for label in EXPRESSIONS)
        lines.append(f"| {name} | {row['accuracy']:.3f} | " + " | ".join(cells) + " |")
    lines += ["", "| reader | AUC | rank 1 | same person | other person |", "|---|---|---|---|---|"]
    for name, row in result["person"].items():
        cells = (f"{row[key]:.3f}" for key in ("auc", "rank_1", "same_person", "other_person"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if result["units"]:
        values = np.array([*result["units"].values()])
        worst = sorted(result["units"], key=result["units"].get)[:5]
        lines += [
            "",
            f"Blendshapes against face units: median correlation {np.median(values):.2f} over {len(values)} units; "
            "least " + ", ".join(f"{name} {result['units'][name]:.2f}" for name in worst) + ".",
        ]
    lines += [f"\nNot read by {name}: {reason}" for name, reason in result["missing"].items()]
    return "\n".join(lines) + "\n"


def contact_sheet(pictures: list[Picture], size_px: int = 128) -> Image.Image:
    """All pictures, a row for each person."""
    columns = len(EXPRESSIONS)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * size_px, rows * size_px), "white")
    for number, (_, _, image, _) in enumerate(pictures):
        place = (number % columns * size_px, number // columns * size_px)
        sheet.paste(Image.fromarray(image).resize((size_px, size_px), Image.Resampling.LANCZOS), place)
    return sheet


def main(arguments: list[str] | None = None) -> int:
    """The command line; the tables go to stdout."""
    config = tyro.cli(AuditConfig, args=arguments, description=__doc__)
    try:
        pictures = list(photographed(config.photographs) if config.photographs else rendered(config))
        if config.sheet:
            contact_sheet(pictures).save(config.sheet)
        result = audit(pictures)
        print(json.dumps(result, indent=2) if config.as_json else table(result))
    except (TerganError, ValueError) as error:
        print(f"error [{getattr(error, 'code', 'invalid_request')}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

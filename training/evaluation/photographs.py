"""All three tasks on photographs named `<person>_<expression>.<ending>`, of people who appear in at least two of them.

None of them was trained on, and there is no true transfer: an edit or a transfer of a person's photograph is judged
against that person's own photograph of the wanted expression, beside handing back the photograph that went in.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from tergan_core.align import align_face
from tergan_core.model import TERGAN
from training import judges
from training.evaluation.readers import Readers, Readings, mean, unit_error
from training.faces import EXPRESSIONS, UNITS
from training.faces.audit import correlations, photographed

_SMILE = [UNITS.index("mouthSmileLeft"), UNITS.index("mouthSmileRight")]


def measure(model: TERGAN, folder: Path, readers: Readers) -> tuple[dict[str, Any], Image.Image]:
    """The figures, and a grid of the best, the middle and the worst edits towards a smile.

    Those of `recognize`, and a table for each direction, neutral to happiness and back: see `_direction`.

    Raises:
        MissingJudgeError: the landmarker is not installed.
        ValueError: the folder has no such photographs.
    """
    result, faces = recognize(model, folder, readers.expression)
    people = _in_both(faces)
    grids = []
    for start, goal in (("neutral", "happiness"), ("happiness", "neutral")):
        rows, images, gain = _direction(model, faces, people, start, goal, readers)
        result[f"{start} to {goal}"] = rows
        order = np.argsort(-gain)
        middle = len(order) // 2
        shown = [*order[:4], *order[middle - 2 : middle + 2], *order[-4:]]
        grids.append({name: image[shown] for name, image in images.items()})
    return result, _grid(grids[0])


def recognize(
    model: TERGAN, folder: Path, others: Sequence[str] = ()
) -> tuple[dict[str, Any], dict[tuple[str, str], Tensor]]:
    """What the model recognizes in photographs, and the aligned faces by person and label.

    `recognition`: argmax over the model's expressions, of the aligned face; `others` (`fer`, `facex`) read the whole
    photograph. `smile`: people whose smiling photograph the model gives more smile than their neutral one, and
    the mean difference. `units`: correlation of the model's face units with the landmarker's blendshapes. Both are None
    for a model whose code has no face units.

    Raises:
        MissingJudgeError: the landmarker is not installed.
        ValueError: the folder has no such photographs.
    """
    faces, codes, shapes, read = _read(model, folder, others)
    keys = list(faces)
    names = model.config.expressions
    probabilities = model.classify(torch.stack([codes[key] for key in keys])).softmax(1).numpy()
    truth = np.array([names.index(label) for _, label in keys])
    people = _in_both(faces)
    result: dict[str, Any] = {
        "photographs": len(keys),
        "people": len({person for person, _ in keys}),
        "recognition": {
            "model": _shares(truth, probabilities.argmax(1), names),
            **{name: _shares(truth, np.array([read[name][key] for key in keys]), names) for name in others},
        },
        "units": None,
        "smile": None,
    }
    if model.config.units == UNITS:
        units = torch.stack([codes[key] for key in keys]).numpy()[:, : len(UNITS)]
        found = correlations(units, np.stack([shapes[key] for key in keys]))
        result["units"] = {name: round(value, 3) for name, value in found.items()}
        smile = torch.stack([codes[p, "happiness"] - codes[p, "neutral"] for p in people])[:, _SMILE].mean(1)
        result["smile"] = {
            "people": len(people),
            "higher": int((smile > 0).sum()),
            "mean_difference": round(float(smile.mean()), 4),
        }
    return result, faces


def _in_both(faces: dict[tuple[str, str], Tensor]) -> list[str]:
    """The people of whom there is a neutral and a happy photograph."""
    return sorted({p for p, _ in faces if (p, "neutral") in faces and (p, "happiness") in faces})


def _read(model: TERGAN, folder: Path, others: Sequence[str]):
    """Aligned faces, codes, blendshapes, and what others read of the photographs, by person and label."""
    faces: dict[tuple[str, str], Tensor] = {}
    codes: dict[tuple[str, str], Tensor] = {}
    shapes: dict[tuple[str, str], np.ndarray] = {}
    read: dict[str, dict[tuple[str, str], int]] = {name: {} for name in others}
    for person, label, image, _ in tqdm(list(photographed(folder)), desc="photographs", unit="photograph"):
        face = judges.find_face(image)
        if face is None:
            continue
        key = person, label
        faces[key] = align_face(image, face.five, model.config.image_size)
        codes[key] = model.encode_expression(faces[key][None])[0]
        shapes[key] = face.blendshapes
        for name in others:
            read[name][key] = int(judges.expression_probabilities(name, image, face).argmax())
    return faces, codes, shapes, read


def _shares(truth: np.ndarray, predicted: np.ndarray, names: tuple[str, ...]) -> dict[str, Any]:
    shares = {names[i]: round(float((predicted == i)[truth == i].mean()), 4) for i in np.unique(truth)}
    read_as = {names[i]: dict(Counter(names[j] for j in predicted[truth == i]).most_common()) for i in np.unique(truth)}
    return {"accuracy": round(float((predicted == truth).mean()), 4), "share": shares, "read_as": read_as}


def _direction(
    model: TERGAN, faces: dict[tuple[str, str], Tensor], people: list[str], start: str, goal: str, readers: Readers
) -> tuple[dict[str, dict[str, float | None]], dict[str, Tensor], np.ndarray]:
    """Rows, images, and by how much each edit is nearer to the person's own photograph than the start was.

    Rows: `copy` (the photograph that goes in), `edit` (by name), `transfer` (from the next person's photograph of the
    goal), `own photograph` (the ceiling). `aed`: mean absolute difference of blendshapes to the own photograph;
    `smile`: mean of the two smile blendshapes; for each reader of expressions the share read as the goal; for
    each reader of persons the similarity to the photograph that went in.
    """
    before, own = (torch.stack([faces[p, label] for p in people]) for label in (start, goal))
    images = {
        "copy": before,
        "edit": torch.cat(
            [
                model.edit(part, torch.full((len(part),), model.config.expressions.index(goal)))
                for part in before.split(32)
            ]
        ),
        "transfer": torch.cat(
            [
                model.transfer(identity=a, expression=b)
                for a, b in zip(before.split(32), own.roll(-1, 0).split(32), strict=True)
            ]
        ),
        "own photograph": own,
    }
    read = {name: readers.read(image) for name, image in tqdm(images.items(), desc=f"{start} to {goal}")}
    truth = read["own photograph"].blendshapes
    rows = {name: _row(readings, read["copy"], truth, EXPRESSIONS.index(goal)) for name, readings in read.items()}
    gain = unit_error(read["copy"].blendshapes, truth) - unit_error(read["edit"].blendshapes, truth)
    return rows, images, np.nan_to_num(gain)


def _row(readings: Readings, before: Readings, truth: np.ndarray, goal: int) -> dict[str, float | None]:
    return {
        "found": mean(readings.found),
        "aed": mean(unit_error(readings.blendshapes, truth)),
        "smile": mean(readings.blendshapes[:, _SMILE]),
        **{name: mean(labels == goal) for name, labels in readings.labels.items()},
        **{
            name: mean((embeddings * before.embeddings[name]).sum(1))
            for name, embeddings in readings.embeddings.items()
        },
    }


def _grid(images: dict[str, Tensor], size_px: int = 128) -> Image.Image:
    """A column per person, a row per kind of image, large enough to look at."""
    count = len(next(iter(images.values())))
    left, top = 96, 14
    sheet = Image.new("RGB", (left + count * size_px, top + len(images) * size_px), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in ((0, "best"), (count // 2 - 2, "middle"), (count - 4, "worst")):
        draw.text((left + column * size_px, 1), title, fill="black")
    for row, (name, batch) in enumerate(images.items()):
        draw.text((2, top + row * size_px + size_px // 2), name, fill="black")
        for column, image in enumerate(batch):
            picture = Image.fromarray(_pixels(image)).resize((size_px, size_px), Image.Resampling.LANCZOS)
            sheet.paste(picture, (left + column * size_px, top + row * size_px))
    return sheet


def _pixels(image: Tensor) -> np.ndarray:
    return (image.permute(1, 2, 0).clamp(0, 1).numpy() * 255 + 0.5).astype(np.uint8)

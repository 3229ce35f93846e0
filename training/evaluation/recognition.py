"""Recognition of rendered people: varied pictures, and the last frames of sequences as Oulu-CASIA has them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from tqdm import tqdm

from tergan_core.model import TERGAN
from training.data import Pairs
from training.evaluation.measures import confusion, linear_probe, macro_f1, reliability
from training.faces.export import Export, Recording
from training.faces.face_set import SPLITS
from training.faces.head import load_head
from training.faces.identity import sample_identity
from training.faces.renderer import render


def measure(model: TERGAN, pairs: Pairs) -> dict[str, Any]:
    """All test images: accuracy, macro-F1, counts, and how far confidence can be trusted (ECE)."""
    sides = np.arange(2 * len(pairs))
    chunks = np.array_split(sides, max(1, len(sides) // 64))
    images = (pairs.images_at(chunk // 2, chunk % 2) for chunk in chunks)
    probabilities = torch.cat([model.recognize(image) for image in images]).numpy()
    truth = pairs.labels.numpy()[pairs.expressions[sides // 2, sides % 2]]
    counts = confusion(truth, probabilities.argmax(1), len(model.config.expressions))
    error, bins = reliability(probabilities.max(1), probabilities.argmax(1) == truth)
    return {
        "accuracy": round(float(counts.trace() / counts.sum()), 4),
        "macro_f1": round(macro_f1(counts), 4),
        "ece": round(error, 4),
        "reliability": bins,
        "images": int(counts.sum()),
        "expressions": list(model.config.expressions),
        "confusion": counts.tolist(),
    }


def in_folds(model: TERGAN, people: int, folds: int = 10) -> dict[str, Any]:
    """The protocol of Oulu-CASIA on rendered people: six expressions, the last three frames, no person in two folds.

    `as it is`: the network, which saw none of these people, is trained on no fold; argmax over the six. `probe`: a
    linear classifier on its frozen expression code, fitted on nine folds, tells how much the code itself holds.
    """
    names = [name for name in model.config.expressions if name not in ("neutral", "contempt")]
    indices = [model.config.expressions.index(name) for name in names]
    codes, logits, labels, persons = [], [], [], []
    for person, label, image in tqdm(last_frames(people, names, model.config.image_size), total=people * len(names) * 3,
                                     desc="sequences", unit="image"):  # fmt: skip
        code = model.encode_expression(image[None])
        codes.append(code[0].numpy())
        logits.append(model.classify(code)[0, indices].numpy())
        labels.append(names.index(label))
        persons.append(person)
    truth, fold = np.array(labels), np.array(persons) % folds
    predicted = np.stack(logits).argmax(1)
    counts = confusion(truth, predicted, len(names))
    as_it_is = [float((predicted == truth)[fold == i].mean()) for i in range(folds)]
    probe = [linear_probe(np.stack(codes), truth, fold != i) for i in range(folds)]
    return {
        "people": people,
        "images": len(truth),
        "as_it_is": {"accuracy": round(float(np.mean(as_it_is)), 4), "sd": round(float(np.std(as_it_is)), 4)},
        "probe": {"accuracy": round(float(np.mean(probe)), 4), "sd": round(float(np.std(probe)), 4)},
        "macro_f1": round(macro_f1(counts), 4),
        "expressions": names,
        "confusion": counts.tolist(),
    }


def last_frames(people: int, expressions: list[str], size_px: int) -> Iterator[tuple[int, str, torch.Tensor]]:
    """Person, expression and picture [3, s, s] of the last three of twenty frames of each sequence of test people."""
    export = Export(out=Path(), people=people, frames=20, expressions=tuple(expressions), size_px=size_px, split="test")
    for person in range(people):
        recording = Recording(export, person, export.cameras[0], export.illuminations[0])
        identity = sample_identity(load_head(), SPLITS["test"][person], variety=export.variety)
        for label in expressions:
            for expression in recording.sequence(label)[-3:]:
                made = render(load_head(), identity, expression.units, recording.scene(), size_px)
                yield person, label, rearrange(torch.tensor(made.image), "h w c -> c h w").float() / 255

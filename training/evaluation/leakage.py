"""What a code gives away that it should not: linear probes on frozen codes."""

import numpy as np
import torch

from tergan_core.model import TERGAN
from training.data import Pairs
from training.evaluation.measures import linear_probe


def measure(model: TERGAN, pairs: Pairs) -> dict[str, dict[str, float]]:
    """Accuracy of linear classifiers on either code, beside chance.

    Expression: fitted on two thirds of the people, tested on the others. Person: fitted on all scenes but the last
    third of each person's, tested on those; each scene has other hair, clothes and light.
    """
    sides = np.arange(2 * len(pairs))
    expression, identity = [], []
    for chunk in np.array_split(sides, max(1, len(sides) // 64)):
        person = model.encode_identity(pairs.images_at(chunk // 2, chunk % 2))
        expression.append(person.expression)
        identity.append(person.embedding)
    codes = {"expression code": torch.cat(expression).numpy(), "identity embedding": torch.cat(identity).numpy()}
    labels = pairs.labels.numpy()[pairs.expressions[sides // 2, sides % 2]]
    persons = pairs.person[sides // 2]
    known_people = persons % 3 != 2
    scene = np.array([(pairs.person[:i] == pairs.person[i]).sum() for i in range(len(pairs))]).repeat(2)
    known_scenes = scene < np.ceil(2 / 3 * (scene.max() + 1))
    return {
        name: {
            "expression": round(linear_probe(code, labels, known_people), 4),
            "person": round(linear_probe(code, persons, known_scenes), 4),
        }
        for name, code in codes.items()
    } | {
        "chance": {
            "expression": round(float(np.bincount(labels[~known_people]).max() / (~known_people).sum()), 4),
            "person": round(1 / len(np.unique(persons)), 4),
        }
    }

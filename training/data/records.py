"""Records: what a data set says about each of its pictures, in one form for all sets."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tergan_core.errors import TerganError

EXPRESSIONS = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
"""The eight names to which the labels of every set are mapped."""

Apex = Literal["still", "last", "middle", "throughout"]
"""Where a sequence shows its expression: `still` pictures have none; `last` runs neutral -> peak; `middle` runs neutral
-> peak -> neutral; `throughout` shows it from beginning to end."""

Frames = Literal["peak", "neutral+peak", "all"]
"""Which frames of a sequence are taken: those of the peak; also the neutral one at the beginning; or all."""

PEAK_FRAMES = 3
"""Frames of a peak: the last three, as the protocols of Oulu-CASIA and CK+ count them; elsewhere our own choice."""


class DataLayoutError(TerganError, ValueError):
    """A folder is not laid out as its data set is, or has labels without a name among the eight."""

    code = "data_layout"


OWNERS_WORDS = ("illumination", "camera", "view")
"""Fields of `Record` that hold a word of the owner's, in lower case."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture.

    Attributes:
        path: the file.
        expression: one of `EXPRESSIONS`; in a layout's raw records, the owner's own word.
        identity: who, unique within the set; None if the set does not say, and then recognition alone can use it.
        intensity: 0 = neutral, 1 = peak: the owner's level, or the place in a sequence; None if unknown.
        sequence: name of the sequence, unique within the set; None for single pictures. frame: place in it.
        illumination, camera, view: as the owner calls them, lower case; None if there is but one.
        split: the owner's split, if there is one.
    """

    path: Path
    expression: str
    identity: str | None = None
    intensity: float | None = None
    sequence: str | None = None
    frame: int | None = None
    illumination: str | None = None
    camera: str | None = None
    view: str | None = None
    split: str | None = None


def take_frames(records: Iterable[Record], apex: Apex, frames: Frames) -> list[Record]:
    """The wanted frames of every sequence, with their intensities; records without a sequence as they are.

    Along a sequence, intensity is the linear place between the neutral beginning and the peak: an approximation of
    ours, since real onsets are not linear. A frame of intensity 0 is neutral.
    """
    sequences: dict[str, list[Record]] = defaultdict(list)
    taken = []
    for record in records:
        if record.sequence is None or apex == "still":
            taken.append(record)
        else:
            sequences[record.sequence].append(record)
    for sequence in sequences.values():
        sequence.sort(key=lambda record: (record.frame or 0, record.path))
        taken += _take(sequence, apex, frames)
    return taken


def _take(sequence: list[Record], apex: Apex, frames: Frames) -> list[Record]:
    count = len(sequence)
    if apex == "throughout":
        if frames == "all":
            return sequence
        places = np.linspace(0, count - 1, PEAK_FRAMES + 2)[1:-1].round().astype(int)
        return [sequence[i] for i in sorted(set(places.tolist()))]
    peak = count - 1 if apex == "last" else (count - 1) // 2
    graded = [_graded(record, 1 - abs(i - peak) / max(peak, 1)) for i, record in enumerate(sequence)]
    if frames == "all":
        return graded
    first = max(0, peak - (PEAK_FRAMES - 1 if apex == "last" else PEAK_FRAMES // 2))
    chosen = graded[first : first + PEAK_FRAMES]
    if frames == "neutral+peak" and first > 0:
        chosen = [graded[0], *chosen]
    return chosen


def _graded(record: Record, intensity: float) -> Record:
    if record.expression == "neutral" or intensity <= 0:
        return replace(record, expression="neutral", intensity=0.0)
    return replace(record, intensity=intensity)


def only(records: Iterable[Record], **wanted: Sequence[str]) -> list[Record]:
    """The records whose fields have one of the wanted values: `only(records, camera=["vl"], illumination=["strong"])`.

    Raises:
        DataLayoutError: a field is unknown, or no record has the value.
    """
    records = list(records)
    for name, values in wanted.items():
        if name not in Record.__dataclass_fields__:
            raise DataLayoutError(f"records have no field {name!r}; accepted: {', '.join(Record.__dataclass_fields__)}")
        texts = [str(value) for value in values]
        present = Counter(str(getattr(record, name)) for record in records)
        absent = [text for text in texts if text not in present]
        if absent:
            raise DataLayoutError(
                f"no record has {name} {absent[0]!r}; there is: "
                + ", ".join(f"{text} ({count})" for text, count in sorted(present.items()))
            )
        records = [record for record in records if str(getattr(record, name)) in texts]
    return records


def parse_wanted(pairs: Sequence[str]) -> dict[str, list[str]]:
    """What `only` takes, from `field=value` or `field=value,value` as command lines have it.

    Raises:
        DataLayoutError: one of them is not of this form.
    """
    wanted = {}
    for pair in pairs:
        name, equals, values = pair.partition("=")
        if not equals or not values:
            raise DataLayoutError(f"--only got {pair!r}; accepted: field=value or field=value,value")
        in_lower_case = name in ("expression", *OWNERS_WORDS)
        wanted[name] = (values.lower() if in_lower_case else values).split(",")
    return wanted


def with_identity(records: Iterable[Record]) -> list[Record]:
    """The records that say who is shown: those that transfer can use."""
    return [record for record in records if record.identity is not None]


def folds(records: Iterable[Record], count: int = 10) -> list[list[Record]]:
    """Subject-independent folds: nobody is in two of them; deterministic, and independent of the records' order.

    People in the order of their names go to the folds in turn: of 80 people, 8 to each of 10 folds, as the published
    Oulu-CASIA and CK+ protocols have it. Those do not print who is in which fold; this assignment is our own choice.

    Raises:
        DataLayoutError: a record has no identity, or there are fewer people than folds.
    """
    records = sorted(records, key=lambda record: record.path)
    anonymous = [record for record in records if record.identity is None]
    if anonymous:
        raise DataLayoutError(
            f"{len(anonymous)} records have no identity ({anonymous[0].path}); folds that keep people apart need one. "
            "Use the owner's split (`only(records, split=[...])`)."
        )
    people = sorted({record.identity for record in records if record.identity is not None})
    if not 2 <= count <= len(people):
        raise DataLayoutError(f"{count} folds of {len(people)} people; accepted: 2 to the number of people.")
    place = {person: number % count for number, person in enumerate(people)}
    made: list[list[Record]] = [[] for _ in range(count)]
    for record in records:
        made[place[str(record.identity)]].append(record)
    return made

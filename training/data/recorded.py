"""Records as training material: faces with their labels, and pairs of real pictures for the consistency losses."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from tergan_core.images import face_tensor
from training.data.pairs import Batch
from training.data.reader import read
from training.data.records import DataLayoutError, Record, folds, only, with_identity
from training.faces.expression import UNITS


class FaceImages(Dataset[tuple[Float[Tensor, "3 s s"], int, int]]):
    """Faces with the number of their expression and of their person, for `torch.utils.data.DataLoader`.

    Args:
        records: crops, as `training.data.prepare` makes them: eyes level, brows to chin filling the picture. Of what is
            not square, the middle is taken.
        size_px: height and width of the faces.
        expressions: the names that labels count; those of the model.

    Raises:
        DataLayoutError: there is no record, or one shows an expression that is not listed.
    """

    def __init__(self, records: Sequence[Record], size_px: int, expressions: Sequence[str]):
        self.records, self.size_px, self.names = list(records), size_px, tuple(expressions)
        strange = sorted({record.expression for record in records} - set(expressions))
        if strange or not self.records:
            raise DataLayoutError(
                f"{len(self.records)} records show {', '.join(strange) or 'nothing'}; the model has "
                f"{', '.join(expressions)}. Leave the others out, or list them with --model.expressions."
            )
        self.people = tuple(sorted({record.identity for record in records if record.identity is not None}))
        number = {person: i for i, person in enumerate(self.people)}
        self.label = np.array([self.names.index(record.expression) for record in self.records])
        self.person = np.array([-1 if r.identity is None else number[r.identity] for r in self.records])

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "3 s s"], int, int]:
        """The face in [0, 1], the number of its expression, and of its person: -1 if the set does not say who it is."""
        return self.face(index), int(self.label[index]), int(self.person[index])

    def face(self, index: int) -> Float[Tensor, "3 s s"]:
        """The face in [0, 1].

        Raises:
            InvalidImageError: the file cannot be read; `python -m training.data.inspect` lists all such files.
        """
        return face_tensor(self.records[index].path, self.size_px)


class Partners(NamedTuple):
    """Numbers of three pictures: a person, someone who shows another expression, and the person showing it too."""

    identity: int
    expression: int
    same_person: int


class RecordedPairs(FaceImages):
    """Batches of real pictures: as `Pairs`, but without true transfers and face units.

    `Batch.truth` is another picture of the same person, showing the wanted expression: real to the critic, and no
    pixel-wise truth. Units are zero. Pictures of unknown people serve as expression images alone.

    Args:
        records, size_px, expressions: as in `FaceImages`.

    Raises:
        DataLayoutError: nobody is named, or as in `FaceImages`.
    """

    true_transfers = False

    def __init__(self, records: Sequence[Record], size_px: int, expressions: Sequence[str]):
        super().__init__(records, size_px, expressions)
        if not self.people:
            raise DataLayoutError(f"none of the {len(self)} records says who is shown; transfer needs some that do.")
        cells: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for index, (person, label) in enumerate(zip(self.person.tolist(), self.label.tolist(), strict=True)):
            cells[person][label].append(index)
        self._cells = {person: dict(row) for person, row in cells.items()}
        self._shown_by = {int(label): np.flatnonzero(self.label == label) for label in np.unique(self.label)}

    def partners(self, rng: np.random.Generator, *, reconstruct: bool = False) -> Partners:
        """Draws three pictures: people and their expressions are equally likely, however many pictures there are.

        Args:
            reconstruct: the three are one and the same.
        """
        row = self._cells[int(rng.integers(len(self.people)))]
        shown = int(rng.choice(list(row)))
        identity = int(rng.choice(row[shown]))
        if reconstruct:
            return Partners(identity, identity, identity)
        wanted = int(rng.choice([label for label in row if label != shown] or [shown]))
        alike = [i for i in row[wanted] if _light(self.records[i]) == _light(self.records[identity])]
        everyone = self._shown_by[wanted]
        strangers = everyone[self.person[everyone] != self.person[identity]]
        expression = int(rng.choice(strangers if len(strangers) else everyone))
        return Partners(identity, expression, int(rng.choice(alike or row[wanted])))

    def draw(self, rng: np.random.Generator, size: int, reconstructions: int = 0) -> Batch:
        """A batch by chance, without augmentation; the first items may be reconstructions, as in `Pairs.draw`."""
        drawn = [self.partners(rng, reconstruct=i < reconstructions) for i in range(size)]
        identity, expression, same_person = (np.array(column) for column in zip(*drawn, strict=True))
        units = torch.zeros(size, len(UNITS))
        return Batch(
            identity=self._faces(identity),
            expression=self._faces(expression),
            truth=self._faces(same_person),
            identity_units=units,
            expression_units=units,
            truth_units=units,
            identity_label=torch.from_numpy(self.label[identity]),
            label=torch.from_numpy(self.label[expression]),
            person=torch.from_numpy(self.person[identity]),
            reconstructions=reconstructions,
        )

    def draw_items(self, rngs: Sequence[np.random.Generator], reconstructions: int, device: torch.device) -> Batch:
        """A batch of items as `draw` makes them, each by its own generator."""
        return Batch.join([self.draw(rng, 1, int(i < reconstructions)) for i, rng in enumerate(rngs)]).to(device)

    def strongest(self, label: int, images: int) -> Float[Tensor, "b 3 s s"] | None:
        """The faces that show an expression most; at most a quarter of those that show it; None if none does."""
        showing = self._shown_by.get(label)
        if showing is None:
            return None
        intensity = np.array([-(self.records[i].intensity or 0) for i in showing])
        count = max(1, min(images, len(showing) // 4))
        return self._faces(showing[np.argsort(intensity, kind="stable")][:count])

    def _faces(self, indices: np.ndarray) -> Float[Tensor, "b 3 s s"]:
        return torch.stack([self.face(int(index)) for index in indices])


def _light(record: Record) -> tuple[str | None, ...]:
    return record.camera, record.illumination, record.view


def load_recorded(
    path: str | Path,
    layout: str | None,
    *,
    size_px: int,
    expressions: Sequence[str],
    unmapped: Literal["refuse", "drop"] = "refuse",
    wanted: Mapping[str, Sequence[str]] | None = None,
) -> tuple[RecordedPairs, RecordedPairs]:
    """A real set for training, and every tenth of its people for validation; with the neutral frames of sequences.

    Args:
        path, layout, unmapped: as in `read`.
        size_px, expressions: as in `FaceImages`.
        wanted: fields and their values, as in `only`.

    Raises:
        DataLayoutError: as `read` and `only`; or fewer than ten people.
    """
    data = read(path, layout, frames="neutral+peak", unmapped=unmapped)
    records = only(data.records, **(wanted or {}))
    if not with_identity(records):
        raise DataLayoutError(
            f"none of the {len(records)} pictures of {data.layout.title} says who is shown; recognition can be learned "
            "from them, transfer cannot. Use a set with identities."
        )
    held_out = folds(with_identity(records), 10)[0]
    people = {record.identity for record in held_out}
    rest = [record for record in records if record.identity not in people]
    return RecordedPairs(rest, size_px, expressions), RecordedPairs(held_out, size_px, expressions)

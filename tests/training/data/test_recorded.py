import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tergan_core import weights
from tergan_core.errors import ConfigError
from training import train
from training.config import PAPER, RECORDED, SMOKE, RecordedConfig
from training.data import DataLayoutError, FaceImages, Record, RecordedPairs, load_recorded
from training.faces import EXPRESSIONS, UNITS, export

NAMES = ("neutral", "fear", "happiness")


def shade(person: int, label: int, number: int = 0, light: int = 0) -> int:
    """The grey of a picture in these tests says all about it."""
    return 64 * person + 16 * label + 4 * number + light


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> list[Record]:
    """Three people, of whom the last shows two expressions alone, and one picture of nobody in particular."""
    folder = tmp_path_factory.mktemp("grey")

    def record(value: int, identity: str | None, label: int, light: str | None = None) -> Record:
        Image.fromarray(np.full((20, 12, 3), value, np.uint8)).save(folder / f"{value}.png")
        return Record(
            path=folder / f"{value}.png", identity=identity, expression=NAMES[label], illumination=light,
            intensity=0.0 if label == 0 else value % 16 / 16,
        )  # fmt: skip

    made = [
        record(shade(person, label, number, light), f"P{person}", label, ("strong", "dark")[light])
        for person in range(3)
        for label in range(3 if person < 2 else 2)
        for number in range(2)
        for light in range(2)
    ]
    return [*made, record(255, None, 2)]


def greys(faces: torch.Tensor) -> np.ndarray:
    return (faces.mean((1, 2, 3)) * 255).round().int().numpy()


def test_a_loader_gives_faces_labels_and_people(records):
    images = FaceImages(records, 16, EXPRESSIONS)
    faces, labels, people = next(iter(DataLoader(images, batch_size=len(records))))
    assert faces.shape == (33, 3, 16, 16)
    assert [EXPRESSIONS[label] for label in labels] == [record.expression for record in records]
    assert people.tolist() == [value // 64 for value in greys(faces)[:-1]] + [-1]


def test_expressions_that_the_model_lacks_are_refused(records):
    with pytest.raises(DataLayoutError, match="33 records show fear; the model has neutral, happiness"):
        FaceImages(records, 16, ("neutral", "happiness"))


def test_partners_are_a_stranger_with_the_expression_and_the_person_with_it(records):
    batch = RecordedPairs(records, 8, NAMES).draw(np.random.default_rng(0), 200, reconstructions=8)
    identity, expression, same = (greys(faces) for faces in (batch.identity, batch.expression, batch.truth))
    assert (identity[:8] == expression[:8]).all() and (identity[:8] == same[:8]).all()
    identity, expression, same = identity[8:], expression[8:], same[8:]
    assert (identity // 64 == same // 64).all()
    assert (identity // 64 == batch.person[8:].numpy()).all()
    strangers = expression // 64 != identity // 64
    assert strangers.all()
    anonymous = expression == 255
    assert (expression % 64 // 16 == same % 64 // 16)[~anonymous].all() and (same[anonymous] % 64 // 16 == 2).all()
    assert (batch.label[8:].numpy() == same % 64 // 16).all()
    assert (batch.identity_label[8:].numpy() == identity % 64 // 16).all()
    assert (batch.label != batch.identity_label)[8:].all()
    assert (identity % 4 == same % 4).all(), "the person is seen in the same light"
    assert anonymous.any() and not (identity == 255).any() and not (same == 255).any()
    assert batch.truth_units.shape == (200, len(UNITS)) and not batch.truth_units.any()


def test_people_are_drawn_alike_however_many_pictures_they_have(records):
    pairs = RecordedPairs([*records, *records[:12] * 5], 8, NAMES)
    rng = np.random.default_rng(1)
    drawn = Counter(int(pairs.person[pairs.partners(rng).identity]) for _ in range(600))
    assert min(drawn.values()) > 150


def test_the_strongest_faces_make_the_prototypes(records):
    pairs = RecordedPairs(records, 8, NAMES)
    strongest = greys(pairs.strongest(1, 2))
    assert {value % 16 for value in strongest} == {5} and len(strongest) == 2
    assert RecordedPairs(records[:4], 8, NAMES).strongest(2, 2) is None


def test_pictures_of_nobody_cannot_teach_transfer(records, tmp_path):
    with pytest.raises(DataLayoutError, match="none of the 1 records says who is shown"):
        RecordedPairs(records[-1:], 8, NAMES)
    (tmp_path / "fear").mkdir()
    (tmp_path / "fear" / "a.png").write_bytes(records[0].path.read_bytes())
    with pytest.raises(DataLayoutError, match="recognition can be learned from them, transfer cannot"):
        load_recorded(tmp_path, "folder", size_px=8, expressions=NAMES)


def test_terms_that_need_true_transfers_are_refused_for_real_pictures():
    with pytest.raises(ConfigError, match="--preset recorded"):
        dataclasses.replace(SMOKE, recorded=RecordedConfig(data="faces"))
    for preset in (PAPER, RECORDED):
        dataclasses.replace(preset, recorded=RecordedConfig(data="faces"))


def test_naming_data_chooses_the_preset_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(train, "fit", asked.append)
    assert train.main(["--data", "faces", "--layout", "folder"]) == 0
    assert asked[-1] == dataclasses.replace(RECORDED, recorded=RecordedConfig(data="faces", layout="folder"))
    assert train.main(["--data=faces", "--preset", "paper"]) == 0
    assert asked[-1] == dataclasses.replace(PAPER, recorded=RecordedConfig(data="faces"))


def test_a_folder_of_faces_trains_and_keeps_people_for_validation(tmp_path):
    whole = export.Export(
        out=tmp_path / "set", layout="folder", people=10, frames=4, size_px=32, workers=1,
        expressions=("happiness", "surprise"),
    )  # fmt: skip
    export.write(whole, progress=False)
    model = dataclasses.replace(SMOKE.model, units=(), expression_width=16)
    config = dataclasses.replace(
        SMOKE, model=model, weights=PAPER.weights, true_units_share=0.0, refine_from=0.0, run=str(tmp_path / "run"),
        images=8, recorded=RecordedConfig(data=str(tmp_path / "set" / "faces"), layout="folder"),
    )  # fmt: skip
    teach, check = train.load_data(config)
    assert (set(teach.people), set(check.people)) == ({f"P{i:03d}" for i in range(2, 11)}, {"P001"})
    run = train.fit(config, progress=False)
    rows = [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]
    assert {"expression_consistency", "identity_consistency", "adversarial", "expression_classification"} <= set(
        rows[0]
    )
    assert "validation/recognition" in rows[-1] and "validation/psnr" not in rows[-1]
    prototypes = weights.load(run / "checkpoint" / "model").prototypes
    shown = [EXPRESSIONS.index(name) for name in ("neutral", "happiness", "surprise")]
    assert [bool(row.any()) for row in prototypes] == [i in shown for i in range(len(EXPRESSIONS))]

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from training.data import DataLayoutError, Record, folds, only, with_identity
from training.data.records import take_frames


def recordings(people: int, pictures: int = 3) -> list[Record]:
    return [
        Record(path=Path(f"{person:03d}-{number}.png"), expression="fear", identity=f"P{person:03d}")
        for person in range(people)
        for number in range(pictures)
    ]


def sequence(frames: int) -> list[Record]:
    return [Record(path=Path(f"{i:03d}.png"), expression="fear", sequence="s", frame=i) for i in range(frames)]


def test_nobody_is_in_two_folds_and_nothing_is_lost():
    records = recordings(80)
    made = folds(records, 10)
    people = [{record.identity for record in fold} for fold in made]
    assert [len(group) for group in people] == [8] * 10
    assert len(set.union(*people)) == 80
    assert sorted(r.path for fold in made for r in fold) == sorted(r.path for r in records)


def test_folds_are_as_even_as_people_allow():
    assert sorted(len({r.identity for r in fold}) for fold in folds(recordings(23), 10)) == [2] * 7 + [3] * 3


def test_folds_do_not_depend_on_the_order_of_records():
    records = recordings(12)
    shuffled = [records[i] for i in np.random.default_rng(0).permutation(len(records))]
    assert folds(shuffled, 4) == folds(records, 4)


def test_folds_need_identities_and_enough_people():
    with pytest.raises(DataLayoutError, match=r"1 records have no identity \(x.png\)"):
        folds([*recordings(3), Record(path=Path("x.png"), expression="fear")], 2)
    with pytest.raises(DataLayoutError, match="10 folds of 3 people"):
        folds(recordings(3), 10)


@pytest.mark.parametrize(
    ("apex", "frames", "expected"),
    [
        ("last", "peak", [4, 5, 6]),
        ("last", "neutral+peak", [0, 4, 5, 6]),
        ("middle", "peak", [2, 3, 4]),
        ("middle", "neutral+peak", [0, 2, 3, 4]),
        ("middle", "all", [0, 1, 2, 3, 4, 5, 6]),
        ("throughout", "peak", [2, 3, 4]),
        ("still", "peak", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_frames_are_taken_where_the_apex_is(apex, frames, expected):
    assert [record.frame for record in take_frames(sequence(7), apex, frames)] == expected


def test_intensity_rises_to_the_apex_and_falls_after_it():
    taken = take_frames(sequence(7)[::-1], "middle", "all")
    assert np.allclose([record.intensity for record in taken], [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0])
    assert [record.expression for record in taken] == ["neutral", *["fear"] * 5, "neutral"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("apex", ["last", "middle", "throughout"])
def test_short_sequences_keep_a_peak(count, apex):
    taken = take_frames(sequence(count), apex, "peak")
    assert 1 <= len(taken) <= count
    assert any(record.expression == "fear" for record in taken)


def test_records_are_chosen_by_their_fields():
    records = [
        Record(path=Path(f"{camera}{light}"), expression="fear", camera=camera, illumination=light)
        for camera in ("vl", "ni")
        for light in ("strong", "dark")
    ]
    assert [r.path.name for r in only(records, camera=["vl"], illumination=["dark", "strong"])] == [
        "vlstrong",
        "vldark",
    ]
    with pytest.raises(DataLayoutError, match=r"no record has illumination 'weak'; there is: dark \(2\), strong \(2\)"):
        only(records, illumination=["weak"])
    with pytest.raises(DataLayoutError, match="no field 'lamp'"):
        only(records, lamp=["on"])
    numbered = [Record(path=Path("a"), expression="fear", frame=3), Record(path=Path("b"), expression="fear", frame=30)]
    assert only(numbered, frame=["3"]) == only(numbered, frame=[3]) == numbered[:1]


def test_records_without_identity_are_for_recognition_alone():
    records = [*recordings(2, 1), Record(path=Path("web.jpg"), expression="fear")]
    assert Counter(record.identity for record in with_identity(records)) == {"P000": 1, "P001": 1}

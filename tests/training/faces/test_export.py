import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tergan_core.images import to_tensor
from training.data import only, read
from training.faces import UNITS, export

SMALL = dict(people=3, frames=4, size_px=32, expressions=("happiness", "surprise"), workers=1)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An export in the layout of Oulu-CASIA, written in one go."""
    out = tmp_path_factory.mktemp("export") / "oulu"
    export.write(
        export.Export(out=out, cameras=("vl", "ni"), illuminations=("strong", "dark"), **SMALL), progress=False
    )
    return out


def test_the_oulu_casia_adapter_reads_an_export_as_it_reads_the_set(exported):
    data = read(exported, "oulu-casia")
    assert data.left_out == {}
    assert len(data.records) == 3 * 2 * 2 * 2 * 3
    assert {record.identity for record in data.records} == {"P001", "P002", "P003"}
    assert {record.frame for record in data.records} == {1, 2, 3}
    assert len(only(data.records, camera=["vl"], illumination=["strong"], expression=["surprise"])) == 3 * 3


def test_the_manifest_knows_every_picture(exported):
    found = rows(exported)
    assert len(found) == 3 * 2 * 2 * 2 * 4
    assert {row["file"] for row in found} == {
        str(path.relative_to(exported)) for path in (exported / "B_OriginalImg").rglob("*.jpeg")
    }
    for row in found[::7]:
        assert len(row["units"]) == len(UNITS)
        assert to_tensor(exported / row["file"]).shape == (3, 32, 32)
        mask = np.asarray(Image.open(exported / row["mask"]))
        assert mask.shape == (32, 32) and set(np.unique(mask)) == {0, 255}
        assert all(mask[int(y), int(x)] == 255 for x, y in row["landmarks"])
    assert tuple(json.loads((exported / "plan.json").read_text())["units"]) == UNITS


def test_sequences_run_from_neutral_to_the_peak(exported):
    by_sequence: dict[str, list[dict]] = {}
    for row in rows(exported):
        by_sequence.setdefault(row["sequence"], []).append(row)
    jaw = UNITS.index("jawOpen")
    for sequence, frames in by_sequence.items():
        intensities = [row["intensity"] for row in frames]
        assert intensities[0] == 0 and intensities == sorted(intensities) and intensities[-1] > 0.8
        assert [row["expression"] == "neutral" for row in frames] == [True, False, False, False]
        if sequence.endswith("surprise"):
            assert frames[-1]["units"][jaw] > frames[0]["units"][jaw] + 0.15


def test_both_cameras_see_the_same_performance_and_infrared_is_grey(exported):
    found = {row["key"]: row for row in rows(exported)}
    for key, row in found.items():
        if row["camera"] == "ni":
            seen = found[key.replace("-ni-", "-vl-")]
            assert (seen["units"], seen["landmarks"]) == (row["units"], row["landmarks"])
            grey = to_tensor(exported / row["file"])
            assert (grey.amax(0) - grey.amin(0)).max() < 0.02
    light = {
        name: np.mean([to_tensor(exported / r["file"]).mean() for r in found.values() if name in r["key"]])
        for name in ("vl-strong", "vl-dark")
    }
    assert light["vl-dark"] < 0.7 * light["vl-strong"]


def test_killed_and_resumed_by_other_workers_it_is_the_same(exported, tmp_path):
    command = [
        *(sys.executable, "-m", "training.faces.export", str(tmp_path / "out"), "--people", "3", "--frames", "4"),
        *("--size-px", "32", "--expressions", "happiness", "surprise", "--cameras", "vl", "ni"),
        *("--illuminations", "strong", "dark"),
    ]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.DEVNULL, start_new_session=True)
    parts = tmp_path / "out" / "parts"
    deadline = time.monotonic() + 120
    while not any(parts.glob("*.jsonl")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out" / "manifest.jsonl").exists()
    export.main([*command[3:], "--workers", "1"])
    assert digests(tmp_path / "out") == digests(exported)


def test_a_finished_export_is_left_alone_and_another_is_refused(exported, capsys):
    before = {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    whole = export.Export(out=exported, cameras=("vl", "ni"), illuminations=("strong", "dark"), **SMALL)
    export.write(whole, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in exported.rglob("*")}
    assert export.main([str(exported), "--people", "4"]) == 2
    assert "holds another export of faces: " in capsys.readouterr().err


def test_the_folder_layout_is_read_by_its_adapter(tmp_path):
    export.write(export.Export(out=tmp_path / "own", layout="folder", **SMALL | {"people": 2}), progress=False)
    data = read(tmp_path / "own" / "faces", "folder")
    assert {(r.identity, r.expression, r.frame) for r in data.records} == {
        (person, expression, frame)
        for person in ("P001", "P002")
        for word in ("happiness", "surprise")
        for expression, frame in (("neutral", 0), (word, 1), (word, 2), (word, 3))
    }


def test_webdataset_shards_hold_pictures_masks_and_what_is_known(tmp_path):
    out = tmp_path / "shards"
    export.write(export.Export(out=out, layout="webdataset", **SMALL | {"people": 2}), progress=False)
    assert sorted(path.name for path in out.glob("*.tar")) == ["P001-vl-strong.tar", "P002-vl-strong.tar"]
    with tarfile.open(out / "P002-vl-strong.tar") as shard:
        names = shard.getnames()
        known = json.load(shard.extractfile("P002-vl-strong-surprise-003.json"))
        picture = Image.open(io.BytesIO(shard.extractfile("P002-vl-strong-surprise-003.png").read()))
    assert len(names) == 2 * 4 * 3 and names[1].endswith(".mask.png")
    assert (known["identity"], known["expression"]) == ("P002", "surprise") and known["intensity"] > 0.8
    assert picture.size == (32, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(people=0), "--people is 0; 'train' has 1 to 100000"),
        (dict(split="holdout"), "--split is 'holdout'; accepted: train, validation, test"),
        (dict(frames=1), "--frames is 1"),
        (dict(cameras=("ir",)), r"--cameras has \['ir'\]; accepted: vl, ni"),
        (dict(illuminations=()), "--illuminations has nothing; accepted: strong, weak, dark"),
        (dict(expressions=("joy",)), "no expression is named 'joy'"),
        (dict(workers=0), "workers is 0"),
    ],
)
def test_options_out_of_range_are_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.write(export.Export(out=tmp_path / "out", **options), progress=False)

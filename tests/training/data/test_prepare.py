import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from tergan_core.align import TEMPLATE, align_face
from tergan_core.detect import MediaPipeDetector
from tergan_core.errors import MissingLibraryError
from training.data import prepare
from training.data.reader import read

pytestmark = pytest.mark.photos


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A data set in the layout `folder`: four photos of one person, one without a face, one that is no picture."""
    source = tmp_path_factory.mktemp("photos")
    for expression in ("happiness", "neutral"):
        folder = source / "eileen" / expression
        folder.mkdir(parents=True)
        for number, shift in enumerate((0, 7)):
            Image.fromarray(np.roll(astronaut(), shift, axis=1)).save(folder / f"{number}.jpg", quality=95)
    Image.new("RGB", (200, 200), "grey").save(source / "eileen" / "neutral" / "wall.png")
    (source / "eileen" / "neutral" / "broken.png").write_bytes(b"text")
    (source / "labels.txt").write_text("kept")
    return source


def rows(out):
    return {row["file"]: row for row in map(json.loads, (out / "report.jsonl").read_text().splitlines())}


def test_every_picture_is_a_face_or_has_a_reason_and_nothing_is_lost(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert prepare.main([str(photos), str(out), "--size", "64", "--workers", "1"]) == 1
    assert json.loads(capsys.readouterr().out) == {"face": 4, "no_face": 1, "unreadable": 1}
    assert (out / "labels.txt").read_text() == "kept"
    report = rows(out)
    assert report["eileen/neutral/wall.png"]["status"] == "no_face"
    assert "is not a picture" in report["eileen/neutral/broken.png"]["reason"]
    assert len(read(out, "folder", frames="all").records) == 4
    with Image.open(out / "eileen" / "happiness" / "0.jpg") as face:
        assert face.size == (64, 64)
        expected = align_face(photos / "eileen/happiness/0.jpg", report["eileen/happiness/0.jpg"]["landmarks"], 64)
        assert np.abs(np.asarray(face) / 255 - expected.permute(1, 2, 0).numpy()).mean() < 0.02


def test_faces_land_on_the_template(photos, tmp_path):
    prepare.main([str(photos), str(tmp_path / "out"), "--size-px", "256", "--workers", "1"])
    with Image.open(tmp_path / "out" / "eileen" / "happiness" / "1.jpg") as face:
        (found,) = MediaPipeDetector().detect(np.asarray(face))
    # Eyes and nose: the template's mouth is at rest, the astronaut's is not.
    assert np.abs(found.landmarks[:3] / 256 - TEMPLATE[:3]).max() < 0.05


def test_a_killed_run_goes_on_where_it_was(photos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    prepare.main([str(photos), str(whole), "--workers", "1"])
    command = [sys.executable, "-m", "training.data.prepare", str(photos), str(killed), "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not ((killed / "report.jsonl").exists() and (killed / "report.jsonl").stat().st_size):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with (killed / "report.jsonl").open("a") as torn:
        torn.write('{"file": "eileen/neu')
    assert prepare.main([str(photos), str(killed), "--workers", "1"]) == 1
    assert rows(killed) == rows(whole)
    for path in (path for path in whole.rglob("*.jpg")):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size-px", "4"], "at least 8"),
        (["--faces", "smallest"], "'largest' or a number"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(photos, tmp_path, capsys, options, message):
    assert prepare.main([str(photos), str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_folders_are_not_written_into(photos, tmp_path, capsys):
    assert prepare.main([str(photos), str(photos / "out")]) == 2
    assert "lie in each other" in capsys.readouterr().err
    shutil.copytree(photos, tmp_path / "other")
    assert prepare.main([str(photos), str(tmp_path / "other")]) == 2
    assert "is not empty" in capsys.readouterr().err
    os.mkdir(tmp_path / "empty")
    assert prepare.main([str(tmp_path / "empty"), str(tmp_path / "out")]) == 2
    assert "has no pictures" in capsys.readouterr().err


def test_what_is_missing_on_the_machine_ends_the_run_and_marks_no_picture(photos, tmp_path, capsys, monkeypatch):
    def detect(*_):
        raise MissingLibraryError("libGL.so.1 is missing")

    monkeypatch.setattr(prepare.MediaPipeDetector, "detect", detect)
    assert prepare.main([str(photos), str(tmp_path / "out"), "--workers", "1"]) == 2
    assert "libGL" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.jsonl").read_text() == ""


def test_a_prepared_set_can_be_prepared_again(photos, tmp_path):
    assert prepare.main([str(photos), str(tmp_path / "first"), "--workers", "1"]) == 1
    assert prepare.main([str(tmp_path / "first"), str(tmp_path / "again"), "--workers", "1", "--size-px", "64"]) <= 1
    assert [path for path in (tmp_path / "again").rglob("*.jpg")]

"""A folder through Ray: nothing is lost when a worker or the whole run is killed; the local editor is the oracle."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import psutil
import pytest

from tergan_core import batch
from tergan_core.errors import ConfigError, InvalidRequestError, WeightsNotFoundError
from tergan_core.pipeline import FaceEditor

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
COUNT = 20


@pytest.fixture
def photos(tmp_path, face_images):
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(COUNT):
        picture = PIL.Image.fromarray(np.roll(face_images[number % 8], number, axis=1))
        picture.save(folder / ("deep" if number % 2 else ".") / f"{number:02d}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def config(photos, out, tiny_folder, **options):
    values = {"task": "recognize", "workers": 2, "part": 4, "progress": False, "weights": str(tiny_folder)}
    return batch.BatchConfig(source=photos, out=out, **{**values, **options})


def rows(out):
    return {row["picture"]: row for row in map(json.loads, (out / "results.jsonl").read_text().splitlines())}


def start(*words):
    """The command in a process of its own: Ray leaves threads and files behind."""
    command = [sys.executable, "-m", "tergan_core.batch", *map(str, words), "--workers", "2", "--no-progress"]
    environment = {**os.environ, "PYTHONPATH": str(Path(batch.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(process):
    """Exit status and last line."""
    _, said = process.communicate(timeout=200)
    return process.returncode, said.strip().splitlines()[-1]


@needs_ray
@pytest.mark.slow
def test_a_folder_is_recognized_and_what_is_missing_is_done_again(photos, tiny_folder, tmp_path):
    out = tmp_path / "out"
    command = ["recognize", photos, out, "--weights", tiny_folder, "--part", "4"]
    status, said = finish(start(*command))
    assert status == 1 and said.startswith(f"{COUNT + 1} pictures, {COUNT} answered, 1 failed"), said
    found, editor = rows(out), FaceEditor.load(tiny_folder, device="cpu")
    assert found["broken.jpg"]["error"]["code"] == "invalid_image"
    for name in ("00.png", "deep/13.png"):
        known = editor.recognize(photos / name)
        assert found[name]["label"] == known.label
        assert found[name]["probabilities"] == pytest.approx(known.probabilities, abs=1e-4)
    parts = sorted((out / "parts").iterdir())
    times = [part.stat().st_mtime_ns for part in parts]
    parts[1].unlink()
    assert finish(start(*command))[0] == 1 and rows(out) == found
    assert [part.stat().st_mtime_ns == before for part, before in zip(parts, times, strict=True)] == [
        True, False, *[True] * (len(parts) - 2)
    ]  # fmt: skip


@needs_ray
@pytest.mark.slow
def test_nothing_is_lost_when_a_worker_and_then_the_run_itself_are_killed(photos, tiny_folder, tmp_path):
    out = tmp_path / "out"
    command = ["edit", photos, out, "--expression", "fear", "--weights", tiny_folder, "--part", "1"]

    def wait_for_parts(process, count):
        while len(list((out / "parts").glob("*.jsonl"))) < count:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.005)

    first = start(*command)
    wait_for_parts(first, 2)
    workers = [p for p in psutil.Process(first.pid).children(recursive=True) if "_Worker" in "".join(p.cmdline())]
    workers[0].kill()
    wait_for_parts(first, 4)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    status, said = finish(start(*command))
    assert status == 1 and said.startswith(f"{COUNT + 1} pictures, {COUNT} answered, 1 failed"), said
    made = rows(out)
    assert len(made) == COUNT + 1
    drawn = np.asarray(PIL.Image.open(out / made["deep/13.png"]["result"]))
    expected = FaceEditor.load(tiny_folder, device="cpu").edit(photos / "deep" / "13.png", "fear").image
    assert np.abs(drawn.astype(int) - expected).max() <= 1


def test_a_folder_of_another_command_is_left_alone(photos, tiny_folder, tmp_path):
    out = tmp_path / "out"
    settings = config(photos, out, tiny_folder)
    names = ["00.png"]
    batch._claim(settings, names)
    batch._claim(settings, names)
    with pytest.raises(ConfigError, match=r"intensity '1\.0', not '0\.5'"):
        batch._claim(config(photos, out, tiny_folder, intensity=0.5), names)
    with pytest.raises(ConfigError, match="pictures"):
        batch._claim(settings, ["00.png", "01.png"])
    with pytest.raises(ConfigError, match="not empty"):
        batch._claim(config(photos, photos, tiny_folder), names)


@needs_ray
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "edit"}, "--expression NAME"),
        ({"expression": "fear"}, "recognize none"),
        ({}, "no pictures"),
        ({"task": "transfer", "expression": "nobody.png"}, "'nobody.png'; accepted for a transfer: a picture file"),
        ({"workers": 0}, "--workers is 0"),
        ({"part": 0}, "--part 0"),
    ],
)
def test_a_command_that_cannot_work_says_why(options, message, tiny_folder, tmp_path):
    with pytest.raises(InvalidRequestError, match=message):
        batch.run(config(tmp_path, tmp_path / "out", tiny_folder, **options))


@needs_ray
def test_a_wrong_model_is_refused_before_the_folder_is_claimed(photos, tmp_path):
    with pytest.raises(WeightsNotFoundError):
        batch.run(config(photos, tmp_path / "out", "nothing"))
    assert not (tmp_path / "out").exists()


def test_results_among_the_photos_are_no_photos(photos, tiny_folder):
    settings = config(photos, photos / "out", tiny_folder)
    assert batch._ours(settings, photos / "out" / "pictures" / "00.png.png")
    assert not batch._ours(settings, photos / "00.png")

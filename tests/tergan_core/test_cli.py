import json
import os
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import pytest
import torch

from tergan_core import FaceEditor, cli
from tergan_core.images import encode, frames, save_frames
from tergan_core.provenance import Notice, inspect
from tergan_core.weights import SHIPPED


@pytest.fixture
def folder(tmp_path, monkeypatch, face_images, png_claiming) -> Path:
    """The current folder, with two faces and some files that are none."""
    for name, image in zip("ab", face_images, strict=False):
        (tmp_path / f"{name}.png").write_bytes(encode(image))
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    (tmp_path / "truncated.png").write_bytes((tmp_path / "a.png").read_bytes()[:2000])
    (tmp_path / "huge.png").write_bytes(png_claiming(40_000, 40_000))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(tiny_folder, capsys):
    """Runs a command with the tiny model: exit status, stdout, stderr."""

    def run(*arguments: str, weights: Path | str | None = tiny_folder) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([*arguments, *(["--weights", str(weights)] if weights else [])])
        return status, *capsys.readouterr()

    return run


def pixels(path: Path | str) -> np.ndarray:
    with PIL.Image.open(path) as picture:
        return np.asarray(picture)


def test_transfer_writes_what_the_library_draws(run, folder, tiny_editor):
    status, out, err = run(
        "transfer", "--identity", "a.png", "--expression", "b.png", "--intensity", "0.5", "--out", "c.png",
        "--no-align",
    )  # fmt: skip
    assert (status, out, err) == (0, "", "wrote c.png\n")
    assert np.array_equal(
        pixels("c.png"), tiny_editor.transfer(identity="a.png", expression="b.png", intensity=0.5).image
    )


def test_edit_writes_what_the_library_draws(run, folder, tiny_editor):
    status, out, err = run("edit", "a.png", "--to", "happiness", "--intensity", ".8", "--out", "c.webp", "--no-align")
    assert (status, out, err) == (0, "", "wrote c.webp\n")
    status, _, err = run("edit", "a.png", "--units", "mouthSmile=.6", "jawOpen=0.2", "--no-align")
    assert status == 0 and "wrote a-units.png" in err
    status, _, err = run("edit", "a.png", "--units", "mouthSmile", "--no-align")
    assert status == 1 and "UNIT=WEIGHT" in err
    status, _, err = run("edit", "a.png")
    assert status == 2 and "--to or --units" in err
    status, out, err = run("edit", "a.png", "--to", "happiness", "--no-align")
    assert (status, out, err) == (0, "", "wrote a-happiness.png\n")
    assert np.array_equal(pixels("a-happiness.png"), tiny_editor.edit("a.png", "happiness").image)


def test_recognize_prints_one_line_for_each_face(run, folder, tiny_editor):
    status, out, err = run("recognize", "a.png", "b.png", "--no-align")
    assert (status, err) == (0, "")
    rows = [line.split("\t") for line in out.splitlines()]
    for (_, _, label, probability), result in zip(rows, tiny_editor.recognize(["a.png", "b.png"]), strict=True):
        assert label == result.label and float(probability) == pytest.approx(result.probabilities[label], abs=1e-3)
    assert [row[0] for row in rows] == ["a.png", "b.png"]


def test_recognize_goes_on_after_a_bad_face_and_says_so_by_its_status(run, folder):
    status, out, err = run("recognize", "a.png", "text.png", "b.png", "--no-align")
    assert status == 1 and len(out.splitlines()) == 2
    assert err.startswith("error [invalid_image]: photo[1] 'text.png' is not a picture") and len(err.splitlines()) == 1


def test_recognize_prints_json(run, folder, tiny_editor):
    status, out, _ = run("recognize", "a.png", "empty.png", "--json", "--no-align")
    good, bad = json.loads(out)
    assert status == 1
    assert good == {"photo": "a.png", "face": 0, **tiny_editor.recognize("a.png").to_dict()}
    assert bad["error"]["code"] == "invalid_image" and "is empty" in bad["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("edit text.png --to fear", "error [invalid_image]: photo 'text.png' is not a picture"),
        ("edit truncated.png --to fear", "error [invalid_image]: photo 'truncated.png' is truncated or damaged"),
        ("edit empty.png --to fear", "error [invalid_image]: photo 'empty.png' is empty (0 bytes)"),
        ("edit none.png --to fear", "error [invalid_image]: photo 'none.png' cannot be read: No such file"),
        ("edit huge.png --to fear", "error [image_too_large]: photo 'huge.png' has far more than 40000000 pixels"),
        ("edit a.png --to joy", "error [unknown_expression]: to is 'joy', which this model does not have. Known"),
        (
            "edit a.png --to fear --intensity 9",
            "error [invalid_intensity]: intensity is 9.0; accepted: a number from 0",
        ),
        ("edit a.png --to fear --intensity nan", "error [invalid_intensity]: intensity is nan; accepted"),
        ("edit a.png --to fear --out c.gif", "error [unsupported_media_type]: cannot save 'c.gif'"),
        ("edit a.png --to fear --out no/c.png", "error [os_error]: [Errno 2] No such file or directory: 'no/c.png'"),
        ("transfer --identity a.png --expression text.png --out c.png", "error [invalid_image]: expression 'text.png'"),
        ("transfer --identity huge.png --expression a.png --out c.png", "error [image_too_large]: identity 'huge.png'"),
    ],
)
def test_bad_input_gives_one_line_and_status_1(run, folder, arguments, error):
    before = sorted(folder.iterdir())
    status, out, err = run(*arguments.split(), "--no-align")
    assert (status, out) == (1, "")
    assert err.startswith(error) and err.count("\n") == 1
    assert sorted(folder.iterdir()) == before


def damage_weights(model: Path) -> None:
    path = model / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


BROKEN_MODELS = {
    "no folder": (shutil.rmtree, "weights_not_found"),
    "no weights": (lambda model: (model / "model.safetensors").unlink(), "weights_not_found"),
    "a flipped bit": (damage_weights, "weights_corrupt"),
    "half the weights": (lambda model: os.truncate(model / "model.safetensors", 1000), "weights_corrupt"),
    "no JSON": (lambda model: (model / "config.json").write_text("{"), "weights_corrupt"),
}


@pytest.mark.parametrize("case", BROKEN_MODELS)
@pytest.mark.parametrize("command", ["edit a.png --to fear", "recognize a.png"])
def test_broken_weights_give_one_line_and_status_1(run, folder, tiny_folder, case, command):
    breakage, code = BROKEN_MODELS[case]
    model = Path(shutil.copytree(tiny_folder, folder / "model"))
    breakage(model)
    status, out, err = run(*command.split(), weights=model)
    assert (status, out) == (1, "")
    assert err.startswith(f"error [{code}]: ") and err.count("\n") == 1


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", ""])
def test_weights_without_permission_give_one_line_and_status_1(run, folder, tiny_folder, file):
    model = Path(shutil.copytree(tiny_folder, folder / "model"))
    (model / file).chmod(0)
    if os.access(model / file, os.R_OK):
        pytest.skip("this user may read everything")
    status, out, err = run("recognize", "a.png", weights=model)
    (model / file).chmod(0o700)
    assert (status, out) == (1, "")
    assert err.startswith("error [weights_not_found]: no permission") and err.count("\n") == 1


def test_permission_is_checked_where_the_user_may_read_everything(run, folder, tiny_folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "model.safetensors")
    status, _, err = run("recognize", "a.png")
    assert status == 1 and err.startswith("error [weights_not_found]: no permission to read")


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "paint",
        "edit",
        "edit a.png --to fear --intensity much",
        "recognize --jsn a.png",
        "pack --task x",
    ],
)
def test_wrong_usage_gives_status_2(folder, arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments.split())
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_recognize_without_a_face_gives_status_2(run):
    assert run("recognize")[:2] == (2, "")


def test_weights_are_understood_before_the_command_too(tiny_folder, folder, capsys):
    assert cli.main(["--weights", str(tiny_folder), "recognize", "a.png", "--no-align"]) == 0


def test_without_weights_the_shipped_ones_are_taken(run, folder, tiny_model, monkeypatch):
    sources = []
    load = lambda source, **_: sources.append(source) or FaceEditor(tiny_model)  # noqa: E731
    monkeypatch.setattr(FaceEditor, "load", load)
    assert run("recognize", "a.png", "--no-align", weights=None)[0] == 0
    assert sources == [SHIPPED]


@pytest.mark.parametrize("task", ["all", "transfer", "edit", "recognize"])
def test_pack_hands_each_task_to_the_packer_and_prints_the_paths(run, folder, tiny_folder, monkeypatch, task):
    from tergan_core import packing

    monkeypatch.setattr(packing, "pack", lambda task, source, out, *, force: f"{out}/{task}.mar {source} {force}")
    status, out, _ = run("pack", "--out", "store", *([] if task == "all" else ["--task", task]))
    tasks = packing.TASKS if task == "all" else [task]
    assert status == 0
    assert out.splitlines() == [f"store/{name}.mar {tiny_folder} False" for name in tasks]


def test_the_command_line_knows_the_tasks_that_can_be_packed():
    from tergan_core import packing

    assert get_args(cli.Task) == packing.TASKS


def test_doctor_reports_versions_device_weights_extras_and_java(run, tiny_folder):
    status, out, _ = run("doctor", "--json")
    report = json.loads(out)
    assert status == 0
    assert report["versions"]["torch"] == torch.__version__.split("+")[0]
    assert report["weights"]["name"] == "tiny" and report["weights"]["parameters"] > 0
    assert set(report) == {"versions", "device", "weights", "extras", "java"}
    status, out, _ = run("doctor")
    assert status == 0 and "versions\n  python" in out


def test_doctor_finds_missing_extras_and_names_the_pip_line(run, monkeypatch):
    from importlib import metadata

    requirements = ["torch>=2.6", "no-such-package>=1; extra == 'serve'", 'numpy>=1; extra == "train"']
    monkeypatch.setattr(metadata, "requires", lambda name: requirements)
    version = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "0.1.0" if name == "tergan-core" else version(name))
    extras = json.loads(run("doctor", "--json")[1])["extras"]
    assert extras == {"serve": "lacks no-such-package; pip install 'tergan-core[serve]'", "train": "complete"}


def test_doctor_fails_when_the_weights_do(run, tmp_path):
    status, out, _ = run("doctor", "--json", weights=tmp_path / "nowhere")
    assert status == 1 and json.loads(out)["weights"]["error"] == "weights_not_found"


@pytest.fixture
def animation(folder) -> Path:
    from skimage.data import astronaut

    frames = [astronaut(), np.full_like(astronaut(), 90), astronaut()[:, ::-1].copy()]
    return save_frames(frames, [40, 80, 120], folder / "film.gif")


@pytest.mark.photos
def test_all_frames_of_an_animation_are_edited_and_faceless_ones_stay(run, animation):
    status, _, err = run("edit", "film.gif", "--to", "happiness", "--all-frames")
    assert status == 1 and "no face in 1 of 3 frames, which stay as they are: [1]" in err
    before, after = frames(animation)[0], frames("film-happiness.gif")
    assert after[1] == [40, 80, 120]
    assert [np.array_equal(one, other) for one, other in zip(before, after[0], strict=True)] == [False, True, False]
    with PIL.Image.open("film-happiness.gif") as film:
        assert b"compositeWithTrainedAlgorithmicMedia task=edit" in film.info["comment"]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_animations_say_that_they_are_generated(tmp_path, face_images, kind):
    path = save_frames(face_images[:2], [40, 80], tmp_path / f"film.{kind}", Notice("edit", composite=True))
    assert inspect(path)["source_type"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert len(frames(path)[0]) == 2


@pytest.mark.photos
def test_of_an_animation_the_first_frame_is_edited(run, animation):
    status, _, err = run("edit", "film.gif", "--to", "happiness")
    assert (status, err) == (0, "wrote film-happiness.png\n")
    assert pixels("film-happiness.png").shape == (512, 512, 3)

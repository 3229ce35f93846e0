"""What docs/photographs.md tells people to type works."""

import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from skimage.data import astronaut

from tergan_core import cli

pytestmark = pytest.mark.photos

PAGE = (Path(__file__).parents[1] / "docs" / "photographs.md").read_text(encoding="utf-8")


@pytest.fixture
def photos(tmp_path, monkeypatch, face_images):
    monkeypatch.chdir(tmp_path)
    photo = PIL.Image.fromarray(astronaut())
    photo.save("photo.jpg")
    photo.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT).save("other.jpg")
    PIL.Image.fromarray(np.full((300, 300, 3), 90, np.uint8)).save("empty.jpg")
    PIL.Image.fromarray(face_images[0]).save("face.png")
    return tmp_path


def blocks(language: str) -> list[str]:
    found = (block.split("\n", 1) for block in PAGE.split("```")[1::2])
    return [code for name, code in found if name == language]


def test_the_python_snippets_run_in_order(photos):
    namespace: dict = {}
    for block in blocks("python"):
        exec(block, namespace)
    with PIL.Image.open(photos / "smile.jpg") as smile:
        assert smile.size == (512, 512)


def test_the_command_lines_run(photos):
    lines = [line for line in "".join(blocks("")).splitlines() if line.startswith("tergan ")]
    assert len(lines) == 5
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line
    assert {"smile.jpg", "photo-surprise.jpg", "crop.png", "driven.jpg"} <= {path.name for path in photos.iterdir()}

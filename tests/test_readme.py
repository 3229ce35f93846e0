import re
import shlex
from pathlib import Path

import PIL.Image
import pytest
from skimage.data import astronaut

from model_archives.server import curl_lines
from tergan_core import cli, weights

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
shipped = pytest.mark.skipif(not weights.catalogue(), reason="no weights are shipped yet")


def blocks(language: str) -> list[str]:
    """The code blocks of a language; those of the empty one name none."""
    found = (block.split("\n", 1) for block in README.split("```")[1::2])
    return [code for name, code in found if name == language]


@pytest.fixture
def pictures(tmp_path, monkeypatch, face_images):
    monkeypatch.chdir(tmp_path)
    for name, face in zip(("face.png", "other.png"), face_images, strict=False):
        PIL.Image.fromarray(face).save(name)
    for name in ("photo.jpg", "other.jpg"):
        PIL.Image.fromarray(astronaut()).save(name)
    return tmp_path


@shipped
def test_the_python_snippets_run_in_order(pictures, capsys):
    namespace: dict = {}
    for block in blocks("python"):
        exec(block, namespace)
    assert (pictures / "smile.png").exists()
    assert capsys.readouterr().out.strip() in namespace["editor"].expressions
    assert len(namespace["faces"]) == len(namespace["editor"].expressions)


@pytest.mark.photos
@shipped
def test_the_command_lines_run(pictures):
    lines = [line for block in blocks("") for line in block.splitlines() if line.startswith("tergan ")]
    assert len(lines) == 4
    for line in lines:
        assert cli.main(shlex.split(line)[1:]) == 0, line


def test_the_curl_lines_are_those_that_the_server_prints():
    printed = curl_lines("http://127.0.0.1:8080", "model_archives/store/key_file.json")
    assert printed in README


def test_every_page_that_is_linked_exists():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target

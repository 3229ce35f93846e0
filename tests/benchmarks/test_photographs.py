import json

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from benchmarks import photographs

pytestmark = pytest.mark.photos


def test_photographs_are_found_aligned_and_timed(tmp_path, capsys):
    """The same photograph moved and scaled: its points fall on the same places."""
    Image.fromarray(astronaut()).save(tmp_path / "eileen_happiness.png")
    moved = Image.fromarray(np.roll(astronaut(), 40, axis=1)).resize((700, 700))
    moved.save(tmp_path / "eileen_neutral.png")
    assert photographs.main([str(tmp_path), "--sheet", str(tmp_path / "sheet.png")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["photographs"], figures["found"], figures["pairs"]) == (2, 2, 1)
    assert max(figures["apart_of_eye_distance"].values()) < 0.05
    assert min(figures["cpu_ms"].values()) > 0
    assert (figures["found_of"]["width 0.1"], figures["found_of"]["turn 45"]) == (1, 1)
    assert 0 < figures["intensity_0"]["largest_levels_of_255"] < 10
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 500


@pytest.mark.parametrize("content", [None, "notes.txt"])
def test_a_folder_without_photographs_is_refused(tmp_path, capsys, content):
    if content:
        (tmp_path / content).write_text("x")
    assert photographs.main([str(tmp_path)]) == 1
    assert "has no photographs" in capsys.readouterr().err

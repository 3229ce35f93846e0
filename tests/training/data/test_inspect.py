import json
import shutil

import numpy as np
import pytest
from PIL import Image

from training.data import inspect


def face(path, value: int, format: str = "PNG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path, format)
    return path


@pytest.fixture
def folder(tmp_path):
    for number, (person, expression) in enumerate(
        [("ada", "neutral"), ("ada", "fear"), ("ben", "neutral"), ("ben", "neutral")]
    ):
        face(tmp_path / "set" / person / expression / f"{number}.png", 50 * number)
    return tmp_path / "set"


def run(arguments, capsys) -> tuple[int, dict]:
    code = inspect.main([str(argument) for argument in arguments] + ["--json"])
    return code, json.loads(capsys.readouterr().out)


def test_people_expressions_and_cells_are_counted(folder, capsys):
    code, found = run([folder], capsys)
    assert code == 0
    assert (found["layout"], found["pictures"], found["people"]) == ("folder", 4, 2)
    assert found["expressions"] == {"neutral": 3, "fear": 1}
    assert found["pictures_by_person"] == {"ada": {"neutral": 1, "fear": 1}, "ben": {"neutral": 2, "fear": 0}}
    assert found["empty_cells"] == [["ben", "fear"]]


def test_light_and_camera_have_cells_of_their_own(tmp_path, capsys):
    for camera in ("VL", "NI"):
        for light in ("Strong", "Dark"):
            face(tmp_path / camera / light / "P001" / "Anger" / "000.jpeg", 90, "JPEG")
    code, found = run([tmp_path, "--only", "camera=vl", "illumination=strong,dark"], capsys)
    assert code == 0
    assert found["pictures_by_light"] == {"vl dark": {"anger": 1}, "vl strong": {"anger": 1}}


def test_pictures_that_cannot_be_read_are_named_and_the_exit_code_says_so(folder, capsys):
    broken = folder / "ben" / "fear" / "broken.png"
    broken.parent.mkdir()
    whole = (folder / "ada" / "fear" / "1.png").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    code, found = run([folder], capsys)
    assert code == 1
    assert list(found["unreadable"]) == [str(broken)]
    assert inspect.main([str(folder)]) == 1
    assert f"unreadable: {found['unreadable'][str(broken)]}" in capsys.readouterr().out


def test_the_same_file_twice_is_found(folder, capsys):
    copy = folder / "ben" / "fear" / "copy.png"
    copy.parent.mkdir()
    shutil.copy(folder / "ada" / "fear" / "1.png", copy)
    assert run([folder], capsys)[1]["duplicates"] == [[str(folder / "ada" / "fear" / "1.png"), str(copy)]]


def test_the_grid_shows_each_person_with_each_expression(folder, tmp_path, capsys):
    assert inspect.main([str(folder), "--grid", str(tmp_path / "out" / "grid.png")]) == 0
    sheet = np.asarray(Image.open(tmp_path / "out" / "grid.png"))
    size, middle = inspect.CELL_PX, inspect.CELL_PX // 2
    cell = {
        (row, column): sheet[14 + row * size + middle, column * size + middle, 0] for row in (0, 1) for column in (1, 2)
    }
    assert (cell[0, 1], cell[0, 2]) == (0, 50)
    assert cell[1, 1] in (100, 150) and cell[1, 2] == 255


def test_a_folder_of_another_layout_is_a_usage_error(folder, capsys):
    assert inspect.main([str(folder), "--layout", "ck+"]) == 2
    assert "error [data_layout]: CK+: no folder like 'cohn-kanade-images'" in capsys.readouterr().err
    assert inspect.main([str(folder), "--only", "fear"]) == 2
    assert "--only got 'fear'" in capsys.readouterr().err

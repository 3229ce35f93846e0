import json

import numpy as np
import pytest
from PIL import Image

from training import judges
from training.faces import EXPRESSIONS, audit

needs_landmarker = pytest.mark.skipif(
    judges.missing("landmarker") is not None, reason=str(judges.missing("landmarker"))
)


def test_area_under_the_curve_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=40), rng.random(40) < 0.3
    pairs = [(p > n) for p in scores[labels] for n in scores[~labels]]
    assert audit.area_under_curve(scores, labels) == pytest.approx(np.mean(pairs))


def test_confusion_counts_rows_by_truth():
    labels = np.array([0, 0, 4])
    read = np.eye(len(EXPRESSIONS))[[0, 1, 4]]
    figures = audit._confusion(labels, read)
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["share"] == {"neutral": 0.5, "happiness": 1.0}
    assert figures["confusion"][0][1] == 1


@needs_landmarker
def test_rendered_people_are_found_and_read(capsys):
    assert audit.main(["--people", "1", "--split", "validation", "--as-json"]) == 0
    out = capsys.readouterr().out
    figures = json.loads(out)
    assert figures["pictures"] == 7 and figures["detected"] >= 6 / 7
    for row in figures["expression"].values():
        assert np.sum(row["confusion"]) == round(7 * figures["detected"])


@needs_landmarker
def test_photographs_are_read_by_their_names(tmp_path, capsys):
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(tmp_path / "eileen_happiness.jpg")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "nobody_neutral.png")
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "other_file.png")
    assert audit.main(["--photographs", str(tmp_path)]) == 0
    assert "2 pictures of 1 people; a face is found in 50.0%" in capsys.readouterr().out


def test_a_folder_without_photographs_is_refused(tmp_path, capsys):
    assert audit.main(["--photographs", str(tmp_path)]) == 1
    assert "accepted: files named <person>_<expression>.jpg" in capsys.readouterr().err

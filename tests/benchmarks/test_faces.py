import json

from benchmarks.faces import STAGES, FacesConfig, main, measure
from training.faces import renderer


def test_rows_tell_pictures_a_second_and_stages_that_add_up():
    draw = renderer.shading.shade_pixels
    rows = measure(FacesConfig(sizes_px=(32,), pictures=2, repeats=1, workers=()))
    assert renderer.shading.shade_pixels is draw
    assert [row["case"] for row in rows] == [{"size_px": 32}, {"new": "person"}, {"new": "recording"}, {"new": "scene"}]
    picture = rows[0]["figures"]
    assert picture["images_per_s_per_core"] > 5 and rows[0]["settings"]["renderer_version"] == renderer.RENDERER_VERSION
    assert {f"{stage}_ms" for stage in STAGES} < set(picture) and all(spent >= 0 for spent in picture.values())


def test_the_command_appends_rows_and_prints_a_table(tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    arguments = ["--sizes-px", "32", "--pictures", "1", "--repeats", "1", "--workers", "1", "--out", str(out)]
    assert main(arguments) == 0
    assert [json.loads(line)["suite"] for line in out.read_text().splitlines()] == ["faces"] * 5
    assert "| 32 |" in capsys.readouterr().out

import importlib.util
import shutil
from collections import Counter
from pathlib import Path

import pytest

from training.data import EXPRESSIONS, LAYOUTS, DataLayoutError, detect, only, parse_wanted, read

spec = importlib.util.spec_from_file_location("trees", Path(__file__).with_name("trees.py"))
trees = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trees)

BUILDERS = {
    "oulu-casia": trees.oulu_casia,
    "ck+": trees.ck_plus,
    "mmi": trees.mmi,
    "bu-3dfe": trees.bu_3dfe,
    "bu-4dfe": trees.bu_4dfe,
    "mug": trees.mug,
    "kdef": trees.kdef,
    "rafd": trees.rafd,
    "jaffe": trees.jaffe,
    "mead": trees.mead,
    "raf-db": trees.raf_db,
    "affectnet": trees.affectnet,
    "affectnet-csv": trees.affectnet_csv,
    "folder": trees.own_folder,
}
LESS_NEUTRAL = set(EXPRESSIONS) - {"neutral", "contempt"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Builds the tree of a set when it is first asked for."""
    built: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in built:
            built[name] = BUILDERS[name](tmp_path_factory.mktemp(name))
        return built[name]

    return get


def counts(data) -> Counter:
    return Counter(record.expression for record in data.records)


def people(data) -> set:
    return {record.identity for record in data.records}


def test_every_layout_but_csv_has_a_tree_in_these_tests():
    assert set(BUILDERS) | {"csv"} == set(LAYOUTS)


def test_oulu_casia_gives_the_last_three_frames_of_every_sequence(tree):
    data = read(tree("oulu-casia"), "oulu-casia")
    assert len(data.records) == 2 * 3 * 2 * 6 * 3
    assert {record.frame for record in data.records} == {2, 3, 4}
    assert people(data) == {"P001", "P002"}
    assert set(counts(data)) == LESS_NEUTRAL
    assert {(record.camera, record.illumination) for record in data.records} == {
        (camera, light) for camera in ("vl", "ni") for light in ("strong", "weak", "dark")
    }


def test_oulu_casia_frames_run_from_neutral_to_the_peak(tree):
    frames = [
        r for r in read(tree("oulu-casia"), "oulu-casia", frames="all").records if "VL/Strong/P001/Fear" in str(r.path)
    ]
    assert [(r.frame, r.intensity, r.expression) for r in frames] == [
        (0, 0.0, "neutral"), (1, 0.25, "fear"), (2, 0.5, "fear"), (3, 0.75, "fear"), (4, 1.0, "fear"),
    ]  # fmt: skip


@pytest.mark.parametrize("top", ["B_OriginalImg/OriginalImg", ".", "PreProcess Img"])
def test_oulu_casia_is_found_where_copies_have_it(top, tmp_path):
    trees.oulu_casia(tmp_path, people=1, top=top, crop="_Acropped" if top.startswith("Pre") else "")
    assert len(read(tmp_path, "oulu-casia").records) == 2 * 3 * 6 * 3


def test_two_copies_of_a_set_are_not_mixed(tmp_path):
    trees.oulu_casia(tmp_path, people=1)
    trees.oulu_casia(tmp_path, people=1, top="PreProcess_Img", crop="_Acropped")
    with pytest.raises(DataLayoutError, match=r"more than one Oulu-CASIA: 'B_OriginalImg', 'PreProcess_Img'. Name one"):
        read(tmp_path, "oulu-casia")


def test_ck_plus_takes_labelled_sequences_with_their_neutral_beginning(tree):
    data = read(tree("ck+"), "ck+")
    assert counts(data) == {"disgust": 3, "surprise": 3, "contempt": 3, "neutral": 3}
    assert {(r.identity, r.frame) for r in data.records if r.expression == "neutral"} == {
        ("S005", 1), ("S010", 1), ("S138", 1),
    }  # fmt: skip
    assert data.left_out == {"picture without a label": 6}


def test_mmi_reads_the_label_and_the_view_of_each_session(tree):
    data = read(tree("mmi"), "mmi")
    assert {(r.identity, r.expression, r.view) for r in data.records} == {
        ("S001", "anger", "frontal"), ("S002", "happiness", "both"), ("S002", "surprise", "profile"),
    }  # fmt: skip
    assert {r.frame for r in data.records} == {4, 5, 6}


def test_bu_3dfe_has_four_levels_and_neutral(tree):
    data = read(tree("bu-3dfe"), "bu-3dfe")
    assert counts(data) == dict.fromkeys(LESS_NEUTRAL, 8) | {"neutral": 2}
    assert Counter(r.intensity for r in data.records) == {0.25: 12, 0.5: 12, 0.75: 12, 1.0: 12, 0.0: 2}
    assert people(data) == {"F0001", "M0044"}


@pytest.mark.parametrize("name", ["bu-4dfe", "mug"])
def test_sequences_that_return_to_neutral_peak_in_the_middle(name, tree):
    data = read(tree(name), name, frames="neutral+peak")
    fear = [r for r in data.records if "fear" in str(r.path).lower()]
    assert {(r.frame, r.expression) for r in fear} == {(0, "neutral"), (3, "fear"), (4, "fear"), (5, "fear")}
    assert len(people(data)) == 2


@pytest.mark.parametrize("name", ["mug", "mead", "bu-3dfe", "kdef"])
def test_neutral_faces_have_intensity_0_whatever_the_owner_calls_their_level(name, tree):
    neutral = [r for r in read(tree(name), name).records if r.expression == "neutral"]
    assert neutral and {r.intensity for r in neutral} == {0.0}


def test_kdef_knows_people_across_sessions_and_views(tree):
    data = read(tree("kdef"), "kdef")
    assert people(data) == {"F01", "M05"}
    assert counts(data) == dict.fromkeys(LESS_NEUTRAL | {"neutral"}, 15)
    assert {r.view for r in data.records} == {"fl", "hl", "s", "hr", "fr"}
    assert {r.expression for r in data.records if r.path.name[4:6] == "AF"} == {"fear"}


def test_misnamed_files_are_left_out_and_counted(tree, tmp_path):
    shutil.copytree(tree("kdef"), tmp_path / "copy")
    trees.picture(tmp_path / "copy" / "KDEF_and_AKDEF" / "KDEF" / "AF01" / "AF01H.JPG")
    assert read(tmp_path / "copy", "kdef").left_out == {"not named like AF01ANS.JPG": 1}


def test_rafd_has_all_eight_expressions(tree):
    data = read(tree("rafd"), "rafd")
    assert counts(data) == dict.fromkeys(EXPRESSIONS, 12)
    assert people(data) == {"01", "66"}
    assert {r.view for r in data.records} == {"045", "090"}


def test_jaffe_reads_person_and_expression_from_the_name(tree):
    data = read(tree("jaffe"), "jaffe")
    assert counts(data) == dict.fromkeys(LESS_NEUTRAL | {"neutral"}, 6)
    assert people(data) == {"KA", "YM"}


def test_mead_takes_three_frames_of_every_clip_with_its_level(tree):
    data = read(tree("mead"), "mead")
    assert len(data.records) == 2 * 2 * (7 * 3 + 1) * 3
    assert {r.intensity for r in data.records if r.expression == "contempt"} == {1 / 3, 2 / 3, 1.0}
    assert {r.view for r in data.records} == {"front", "left_30"}


def test_raf_db_has_splits_and_no_people(tree):
    data = read(tree("raf-db"), "raf-db")
    assert [r.expression for r in data.records if r.split == "train"] == [
        "surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral", "happiness",
    ]  # fmt: skip
    assert [r.expression for r in data.records if r.split == "test"] == ["happiness", "neutral"]
    assert people(data) == {None} and not data.layout.identities


def test_affectnet_reads_annotations_without_pickles(tree):
    data = read(tree("affectnet"), "affectnet")
    assert [r.expression for r in data.records if r.split == "train"] == [
        "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt",
    ]  # fmt: skip
    assert Counter(r.split for r in data.records) == {"train": 8, "val": 8}


def test_unmapped_labels_are_refused_or_dropped_as_one_chooses(tree):
    with pytest.raises(DataLayoutError, match=r"'8' \(2 pictures\).*unmapped='drop'"):
        read(tree("affectnet-csv"), "affectnet-csv")
    data = read(tree("affectnet-csv"), "affectnet-csv", unmapped="drop")
    assert counts(data) == dict.fromkeys(EXPRESSIONS, 2)
    assert data.left_out == {f"label {code!r} is not mapped": 2 for code in ("8", "9", "10")}
    assert Counter(r.split for r in data.records) == {"train": 8, "val": 8}


def test_a_folder_of_ones_own_has_people_or_not(tree, tmp_path):
    data = read(tree("folder"), "folder")
    assert people(data) == {"ada", "ben"} and counts(data) == {"neutral": 4, "happiness": 4, "sadness": 4}
    trees.picture(tmp_path / "happiness" / "a.png")
    trees.picture(tmp_path / "fear" / "b.png")
    data = read(tmp_path, "folder")
    assert people(data) == {None} and counts(data) == {"happiness": 1, "fear": 1}


def test_folders_below_an_expression_are_sequences(tmp_path):
    for frame in range(5):
        trees.picture(tmp_path / "ada" / "fear" / "monday" / f"{frame}.png")
    data = read(tmp_path, "folder")
    assert [(r.frame, r.expression) for r in data.records] == [(0, "neutral"), (2, "fear"), (3, "fear"), (4, "fear")]


def test_a_csv_file_names_pictures_people_and_expressions(tmp_path):
    trees.picture(tmp_path / "a.png")
    table = trees.words(
        tmp_path / "faces.csv", "identity,expression,path,intensity\nada,Fear,a.png,0.5\n,happiness,b.png,\n,,c.png,\n"
    )
    data = read(table)
    assert [(r.path.name, r.identity, r.expression, r.intensity) for r in data.records] == [
        ("a.png", "ada", "fear", 0.5), ("b.png", None, "happiness", None),
    ]  # fmt: skip
    assert data.left_out == {"row without path or expression": 1}
    table = trees.words(tmp_path / "cameras.csv", "path,expression,identity,camera\na.png,fear,Ada,Front\n")
    (record,) = only(read(table).records, **parse_wanted(["camera=Front", "identity=Ada"]))
    assert (record.identity, record.camera) == ("Ada", "front")
    with pytest.raises(DataLayoutError, match="no column 'expression'; its columns are: path, emotion"):
        read(trees.words(tmp_path / "other.csv", "path,emotion\na.png,fear\n"))
    with pytest.raises(DataLayoutError, match=r"other.csv', line 2: could not convert string to float: 'much'"):
        read(trees.words(tmp_path / "other.csv", "path,expression,intensity\na.png,fear,much\n"))


@pytest.mark.parametrize("name", BUILDERS)
def test_a_tree_is_recognised(name, tree):
    assert detect(tree(name)) == name


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "folder"])
def test_a_wrong_folder_names_what_is_missing_and_what_was_expected(name, tmp_path):
    trees.picture(tmp_path / "holiday" / "beach.gif.png")
    with pytest.raises(DataLayoutError) as caught:
        read(tmp_path, name)
    layout = LAYOUTS[name]
    assert f"like {layout.levels[0].example!r}" in str(caught.value)
    assert f"there is: holiday. Expected: {layout.example}." in str(caught.value)
    with pytest.raises(DataLayoutError, match=r"there is no folder|is no folder"):
        read(tmp_path / "nowhere", name)


def test_the_first_missing_folder_is_named_however_deep(tmp_path):
    (tmp_path / "B_OriginalImg" / "VL" / "Strong" / "P001").mkdir(parents=True)
    with pytest.raises(DataLayoutError, match=r"no folder like 'Anger' in .*P001'; there is: nothing"):
        read(tmp_path, "oulu-casia")
    (tmp_path / "cohn-kanade-images" / "S005" / "001").mkdir(parents=True)
    trees.picture(tmp_path / "cohn-kanade-images" / "S005" / "001" / "S005_001_00000001.png")
    with pytest.raises(DataLayoutError, match=r"CK\+: no folder 'Emotion'"):
        read(tmp_path, "ck+")


def test_videos_that_are_not_unpacked_come_with_the_command(tmp_path):
    trees.words(tmp_path / "M003" / "video" / "front" / "angry" / "level_1" / "001.mp4", "video")
    with pytest.raises(DataLayoutError, match=r"no folder like '001'.*ffmpeg -i 001.mp4 001/%04d.png"):
        read(tmp_path, "mead")


def test_a_video_without_frames_among_others_is_counted(tree, tmp_path):
    copy = shutil.copytree(tree("mmi"), tmp_path / "copy")
    assert read(copy, "mmi").left_out == {}
    shutil.rmtree(copy / "Sessions" / "22" / "S002-106")
    assert read(copy, "mmi").left_out == {"video without a folder of its frames": 1}


def test_a_label_that_cannot_be_read_is_named(tree, tmp_path):
    copy = shutil.copytree(tree("mmi"), tmp_path / "copy")
    trees.words(copy / "Sessions" / "22" / "S002-106.xml", "<Metadata>")
    with pytest.raises(DataLayoutError, match=r"MMI: the label of .*S002-106/0001.png' cannot be read: ParseError"):
        read(copy, "mmi")
    copy = shutil.copytree(tree("ck+"), tmp_path / "other")
    trees.words(next((copy / "Emotion").rglob("*.txt")), "happy\n")
    with pytest.raises(DataLayoutError, match=r"CK\+: the label of .* cannot be read"):
        read(copy, "ck+")


def test_an_unknown_or_unclear_layout_is_refused(tmp_path, tree):
    with pytest.raises(DataLayoutError, match=r"no layout 'oulu'. Close names: oulu-casia"):
        read(tmp_path, "oulu")
    with pytest.raises(DataLayoutError, match="fits no layout"):
        detect(tmp_path)
    shutil.copytree(tree("jaffe"), tmp_path / "both" / "a")
    shutil.copytree(tree("rafd"), tmp_path / "both" / "b")
    with pytest.raises(DataLayoutError, match="fits rafd and jaffe"):
        detect(tmp_path / "both")

"""The data sets, each as its owners lay it out.

Every layout is a value: the levels of its tree, what the owner's labels mean, where a sequence shows its expression.
The sets are behind agreements; the trees are those that public readers of the sets expect, their counts those of the
papers. Where readers differ, the layout's note says so.
"""

import csv
import xml.etree.ElementTree as ElementTree
from functools import lru_cache
from pathlib import Path

import numpy as np

from training.data.records import EXPRESSIONS, DataLayoutError
from training.data.tree import Fields, Layout, Level

# What names do not hold.


def _ckplus(file: Path, fields: Fields) -> Fields | None:
    """Emotion/S005/001/S005_001_00000011_emotion.txt holds `   3.0000000e+00`; most sequences have no such file."""
    above = file.parents[3:5]
    tops = [top / name for top in above for name in ("Emotion", "Emotion_labels/Emotion") if (top / name).is_dir()]
    if not tops:
        raise DataLayoutError(
            f"CK+: no folder 'Emotion' in {str(above[0])!r}; expected beside cohn-kanade-images: "
            "Emotion/S005/001/S005_001_00000011_emotion.txt."
        )
    files = sorted((tops[0] / fields["identity"] / fields["take"]).glob("*_emotion.txt"))
    return {"expression": str(int(float(files[0].read_text(encoding="ascii"))))} if files else None


def _mmi(file: Path, fields: Fields) -> Fields | None:
    """The session's S001-001.xml has a Metatag 'Emotion', its session.xml a track with a view."""
    session = file.parents[1]
    described: Fields = {}
    for tag in _xml(session / f"{fields['clip']}.xml").iter("Metatag"):
        if tag.get("Name") == "Emotion":
            described["expression"] = tag.get("Value", "")
    for track in _xml(session / "session.xml").iter("track"):
        described["view"] = {"0": "frontal", "1": "profile", "2": "both"}.get(track.get("view", ""), "unknown")
    return described if "expression" in described else None


def _xml(file: Path) -> ElementTree.Element:
    if not file.exists():
        raise DataLayoutError(f"MMI: no file {str(file)!r}; every session has one.")
    return ElementTree.parse(file).getroot()


def _raf_db(file: Path, fields: Fields) -> Fields | None:
    table = file.parents[2] / "EmoLabel" / "list_patition_label.txt"
    if not table.exists():
        raise DataLayoutError(f"RAF-DB: no file {str(table)!r}; it has a line 'train_00001.jpg 5' for every picture.")
    label = _raf_db_labels(table, table.stat().st_mtime_ns).get(fields["number"])
    return {"expression": label} if label else None


@lru_cache(maxsize=2)
def _raf_db_labels(table: Path, _changed: int) -> Fields:
    rows = (line.split() for line in table.read_text(encoding="ascii").splitlines())
    return {Path(row[0]).stem: row[1] for row in rows if len(row) == 2}


def _affectnet(file: Path, fields: Fields) -> Fields | None:
    notes = file.parents[1] / "annotations"
    if not notes.is_dir():
        raise DataLayoutError(f"AffectNet: no folder {str(notes)!r}; expected in it: {file.stem}_exp.npy.")
    note = notes / f"{file.stem}_exp.npy"
    return {"expression": str(int(np.load(note, allow_pickle=False)))} if note.exists() else None


def _affectnet_csv(file: Path, fields: Fields) -> Fields | None:
    top = file.parents[2]
    places = [folder / name for folder in (top, top.parent) for name in (".", "Manually_Annotated_file_lists")]
    tables = [place / name for name in _AFFECTNET_SPLITS for place in places if (place / name).exists()]
    if not tables:
        raise DataLayoutError(
            f"AffectNet: no file 'training.csv' or 'validation.csv' in {str(top)!r} or its "
            "Manually_Annotated_file_lists; they have the columns subDirectory_filePath and expression."
        )
    for table in tables:
        label = _affectnet_labels(table, table.stat().st_mtime_ns).get(f"{file.parent.name}/{file.name}")
        if label is not None:
            return {"expression": label, "split": _AFFECTNET_SPLITS[table.name]}
    return None


_AFFECTNET_SPLITS = {"training.csv": "train", "validation.csv": "val"}


@lru_cache(maxsize=4)
def _affectnet_labels(table: Path, _changed: int) -> Fields:
    with table.open(encoding="utf-8", newline="") as lines:
        return {row["subDirectory_filePath"]: row["expression"] for row in csv.DictReader(lines)}


# The sets.

_SIX = {name: name for name in ("anger", "disgust", "fear", "happiness", "sadness", "surprise")}
_OWN = {name: name for name in EXPRESSIONS}
_TWO_LETTERS = {
    "ne": "neutral", "an": "anger", "di": "disgust", "fe": "fear", "ha": "happiness", "sa": "sadness", "su": "surprise",
}  # fmt: skip
_AFFECTNET = {
    "0": "neutral", "1": "happiness", "2": "sadness", "3": "surprise", "4": "fear", "5": "disgust", "6": "anger",
    "7": "contempt",
}  # fmt: skip
_PICTURE = r"\.(?:jpe?g|png|bmp|tiff?)"

OULU_CASIA = Layout(
    name="oulu-casia",
    title="Oulu-CASIA",
    levels=(
        Level("VL", r"(?P<camera>VL|NI)(?:_\w+)?"),
        Level("Strong", r"(?P<illumination>Strong|Weak|Dark)"),
        Level("P001", r"(?P<identity>P\d{3})"),
        Level("Anger", r"(?P<expression>[A-Za-z]+)"),
        Level("000.jpeg", r"(?P<frame>\d+)" + _PICTURE),
    ),
    labels=_SIX,
    apex="last",
    sequence=("camera", "illumination", "identity", "expression"),
    note="B_OriginalImg (some copies: B_OriginalImg/OriginalImg), and the preprocessed faces (PreProcess_Img, spelled "
    "in several ways) with VL_Acropped and NI_Acropped, as public readers have it (paper: Zhao et al. 2011). 80 "
    "people, six expressions, neutral -> peak, two cameras, three illuminations. Protocol: VL, Strong, last three "
    "frames of 480 sequences, 10 folds that keep people apart.",
    licence="research only, by agreement with the University of Oulu",
)

CK_PLUS = Layout(
    name="ck+",
    title="CK+",
    levels=(
        Level("cohn-kanade-images", r"cohn-kanade-images"),
        Level("S005", r"(?P<identity>S\d{3})"),
        Level("001", r"(?P<take>\d{3})"),
        Level("S005_001_00000001.png", r"S\d{3}_\d{3}_(?P<frame>\d{8})" + _PICTURE),
    ),
    labels={
        "0": "neutral", "1": "anger", "2": "contempt", "3": "disgust", "4": "fear", "5": "happiness", "6": "sadness",
        "7": "surprise",
    },
    describe=_ckplus,
    apex="last",
    protocol="neutral+peak",
    sequence=("identity", "take"),
    note="cohn-kanade-images beside Emotion/S005/001/S005_001_00000011_emotion.txt, as public readers have it (paper: "
    "Lucey et al. 2010). 593 sequences of 123 people, 327 of them labelled; the others are left out.",
    licence="research only, by agreement",
)  # fmt: skip

MMI = Layout(
    name="mmi",
    title="MMI",
    levels=(
        Level("Sessions", r"Sessions"),
        Level("1", r"\d+"),
        Level("S001-001", r"(?P<clip>(?P<identity>S\d+)-\d+)"),
        Level("0001.png", r"\D*(?P<frame>\d+)" + _PICTURE),
    ),
    labels={"1": "anger", "2": "disgust", "3": "fear", "4": "happiness", "5": "sadness", "6": "surprise"},
    describe=_mmi,
    apex="middle",
    sequence=("clip",),
    note="Sessions/<number> with a video S001-001.avi and S001-001.xml, whose Metatag 'Emotion' is a number, as public "
    "readers have it (paper: Pantic et al. 2005); they agree on 1 to 6 and leave out 7 to 9. The videos' frames "
    "belong in a folder of their name. Clips start and end neutral; the peak is taken in the middle, for lack of "
    "the frame numbers. The view (frontal, profile, or both side by side) is that of session.xml.",
    licence="research only, by agreement",
)

BU_3DFE = Layout(
    name="bu-3dfe",
    title="BU-3DFE",
    levels=(
        Level("F0001", r"(?P<identity>[FM]\d{4})"),
        Level("F0001_AN01WH_F2D.bmp", r"[FM]\d{4}_(?P<expression>[A-Z]{2})0(?P<level>\d)[A-Z]{2}_F2D" + _PICTURE),
    ),
    labels=_TWO_LETTERS,
    max_level=4,
    note="The frontal renders (F2D) of 100 people, six expressions in four strengths and neutral (NE00), as public "
    "readers have it (paper: Yin et al. 2006). Scans (wrl), textures (F3D) and landmarks are not read.",
    licence="research only, by agreement with Binghamton University",
)

BU_4DFE = Layout(
    name="bu-4dfe",
    title="BU-4DFE",
    levels=(
        Level("F001", r"(?P<identity>[FM]\d{3})"),
        Level("Angry", r"(?P<expression>[A-Za-z]+)"),
        Level("000.jpg", r"(?P<frame>\d+)" + _PICTURE),
    ),
    labels={
        "angry": "anger", "disgust": "disgust", "fear": "fear", "happy": "happiness", "sad": "sadness",
        "surprise": "surprise",
    },
    apex="middle",
    sequence=("identity", "expression"),
    note="The texture of every scan, about 100 a sequence, neutral -> peak -> neutral, 101 people, as public readers "
    "have it (paper: Yin et al. 2008). The peak is taken in the middle, for lack of its frame number.",
    licence="research only, by agreement with Binghamton University",
)  # fmt: skip

MUG = Layout(
    name="mug",
    title="MUG",
    levels=(
        Level("001", r"(?P<identity>\d{3})"),
        Level("anger", r"(?P<expression>[A-Za-z]+)"),
        Level("take000", r"(?P<take>take\d+)"),
        Level("img_0000.jpg", r"img_(?P<frame>\d+)" + _PICTURE),
    ),
    labels=_SIX | {"neutral": "neutral"},
    apex="middle",
    sequence=("identity", "expression", "take"),
    note="subjects3/001/anger/take000 (some copies: 001/001), as public readers have it (paper: Aifanti et al. 2010). "
    "52 people; takes start and end neutral, the peak is taken in the middle. Labels beside the seven, such as "
    "mixed recordings, are not mapped.",
    licence="research only, by agreement",
)

KDEF = Layout(
    name="kdef",
    title="KDEF",
    levels=(
        Level("AF01", r"[AB][FM]\d{2}"),
        Level("AF01ANS.JPG", r"[AB](?P<identity>[FM]\d{2})(?P<expression>[A-Z]{2})(?P<view>FL|HL|S|HR|FR)" + _PICTURE),
    ),
    labels={name: label for name, label in _TWO_LETTERS.items() if name != "fe"} | {"af": "fear"},
    note="Session A or B, sex and number (the person), two letters for the expression, the view (S is straight, HL and "
    "HR half, FL and FR full profile), as public readers have it (set: Lundqvist et al. 1998). 70 people. A few "
    "files are misnamed by the owner; they are left out and counted.",
    licence="research only; registration",
)

RAFD = Layout(
    name="rafd",
    title="RaFD",
    levels=(
        Level(
            "Rafd090_01_Caucasian_female_angry_frontal.jpg",
            r"Rafd(?P<view>\d{3})_(?P<identity>\d{2})_\w+?_(?:female|male)_(?P<expression>[a-z]+)_(?:frontal|left|right)"
            + _PICTURE,
        ),
    ),
    labels={
        "neutral": "neutral", "angry": "anger", "contemptuous": "contempt", "disgusted": "disgust", "fearful": "fear",
        "happy": "happiness", "sad": "sadness", "surprised": "surprise",
    },
    note="All files in one folder; camera angle (090 is frontal), person, origin, sex, expression and gaze in the "
    "name, as public readers have it (paper: Langner et al. 2010). 67 people, all eight expressions.",
    licence="research only, by agreement with Radboud University",
)  # fmt: skip

JAFFE = Layout(
    name="jaffe",
    title="JAFFE",
    levels=(Level("KA.AN1.39.tiff", r"(?P<identity>[A-Z]{2})\.(?P<expression>[A-Z]{2})\d\.\d+" + _PICTURE),),
    labels=_TWO_LETTERS,
    note="All files in one folder; person, expression and take, running number, as public readers have it (set: Lyons "
    "et al. 1998). 213 pictures of 10 people.",
    licence="non-commercial research",
)

_MEAD_VIEWS = "front|down|top|left_30|left_60|right_30|right_60"
MEAD = Layout(
    name="mead",
    title="MEAD",
    levels=(
        Level("M003", r"(?P<identity>[MW]\d{3})"),
        Level("video", r"video", unless=_MEAD_VIEWS),
        Level("front", f"(?P<view>{_MEAD_VIEWS})"),
        Level("angry", r"(?P<expression>[a-z]+)"),
        Level("level_1", r"level_(?P<level>\d)"),
        Level("001", r"(?P<take>\d+)"),
        Level("0001.png", r"\D*(?P<frame>\d+)" + _PICTURE),
    ),
    labels={
        "neutral": "neutral", "angry": "anger", "contempt": "contempt", "disgusted": "disgust", "fear": "fear",
        "happy": "happiness", "sad": "sadness", "surprised": "surprise",
    },
    apex="throughout",
    max_level=3,
    sequence=("identity", "view", "expression", "level", "take"),
    note="M003/video/front/angry/level_1/001.mp4 (some copies lack the folder video), as public readers have it "
    "(paper: Wang et al. 2020). The videos' frames belong in a folder of their name. People speak with an "
    "expression of strength 1 to 3; three frames spread over a clip are taken.",
    licence="research only",
)  # fmt: skip

RAF_DB = Layout(
    name="raf-db",
    title="RAF-DB",
    levels=(
        Level("Image", r"Image"),
        Level("aligned", r"aligned"),
        Level("train_00001_aligned.jpg", r"(?P<number>(?P<split>train|test)_\d+)_aligned" + _PICTURE),
    ),
    labels={
        "1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral",
    },
    describe=_raf_db,
    note="basic/Image/aligned beside basic/EmoLabel/list_patition_label.txt (the owner's spelling), as public readers "
    "have it (paper: Li et al. 2017). About 15,000 photographs from the web, the owner's train and test; no "
    "identities.",
    licence="non-commercial research, by agreement",
)  # fmt: skip

AFFECTNET = Layout(
    name="affectnet",
    title="AffectNet",
    levels=(
        Level("train_set", r"(?P<split>train|val|test)_set"),
        Level("images", r"images"),
        Level("0.jpg", r"\d+" + _PICTURE),
    ),
    labels=_AFFECTNET,
    describe=_affectnet,
    note="train_set/images/0.jpg beside train_set/annotations/0_exp.npy, as public readers of the cropped faces have "
    "it (paper: Mollahosseini et al. 2017). No identities.",
    licence="research only, by agreement",
)

AFFECTNET_CSV = Layout(
    name="affectnet-csv",
    title="AffectNet (CSV)",
    levels=(
        Level("Manually_Annotated_Images", r"Manually_Annotated_Images"),
        Level("1", r"\d+"),
        Level("0a1b2c.jpg", r"[0-9a-f]+" + _PICTURE),
    ),
    labels=_AFFECTNET,
    describe=_affectnet_csv,
    note="Manually_Annotated_Images/<number> with training.csv and validation.csv beside it or in "
    "Manually_Annotated_file_lists; the older form of the same set. 8 none, 9 uncertain and 10 no face are not "
    "mapped. Whole photographs: cut the faces out first. No identities.",
    licence="research only, by agreement",
)

OWN_FOLDER = Layout(
    name="folder",
    title="a folder of your own",
    levels=(
        Level("person", r"(?P<identity>.+)", unless="|".join(EXPRESSIONS)),
        Level("happiness", r"(?P<expression>.+)"),
        Level("sequence", r"(?P<take>.+)", unless=".+" + _PICTURE),
        Level("1.png", r"(?:.*?(?P<frame>\d+)|.*)" + _PICTURE),
    ),
    labels=_OWN,
    apex="last",
    protocol="neutral+peak",
    sequence=("identity", "expression", "take"),
    note="person/happiness/1.png, or happiness/1.png if it is not known who is shown. Folders below an expression are "
    "sequences, neutral -> peak. Folders are named by the eight names.",
    licence="yours",
)

OWN_CSV = Layout(
    name="csv",
    title="a CSV file of your own",
    levels=(Level("faces.csv", r".*\.csv"),),
    labels=_OWN,
    note="A header and a row per picture: path (relative to the file) and expression, one of the eight names; "
    "identity, intensity, sequence, frame, illumination, camera, view and split if known.",
    licence="yours",
)

LAYOUTS = {
    layout.name: layout
    for layout in (
        OULU_CASIA, CK_PLUS, MMI, BU_3DFE, BU_4DFE, MUG, KDEF, RAFD, JAFFE, MEAD, RAF_DB, AFFECTNET, AFFECTNET_CSV,
        OWN_FOLDER, OWN_CSV,
    )
}  # fmt: skip
"""All layouts by name."""

"""Builds small trees of noise, each laid out exactly as the owners of a data set lay theirs out."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

SIX = ("Anger", "Disgust", "Fear", "Happiness", "Sadness", "Surprise")


def picture(path: Path) -> Path:
    """A small picture of noise, other than that of any other path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(str(path).encode())).integers(0, 256, (8, 8, 3), np.uint8)
    formats = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".tiff": "TIFF"}
    content = io.BytesIO()
    Image.fromarray(noise).save(content, formats[path.suffix.lower()])
    path.write_bytes(content.getvalue())
    return path


def words(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="ascii")
    return path


def oulu_casia(root: Path, people: int = 2, top: str = "B_OriginalImg", crop: str = "") -> Path:
    for camera in ("VL", "NI"):
        for light in ("Strong", "Weak", "Dark"):
            for person in range(1, people + 1):
                for expression in SIX:
                    folder = root / top / (camera + crop) / light / f"P{person:03d}" / expression
                    for frame in range(5):
                        picture(folder / f"{frame:03d}.jpeg")
    return root


def ck_plus(root: Path) -> Path:
    labels = {("S005", "001"): 3, ("S010", "002"): 7, ("S138", "008"): 2, ("S010", "005"): None}
    for (person, take), label in labels.items():
        name = f"{person}_{take}"
        for frame in range(1, 7):
            picture(root / "cohn-kanade-images" / person / take / f"{name}_{frame:08d}.png")
        if label is None:
            (root / "Emotion" / person / take).mkdir(parents=True)
        else:
            words(root / "Emotion" / person / take / f"{name}_00000006_emotion.txt", f"   {label}.0000000e+00\n")
    return root


def mmi(root: Path) -> Path:
    clips = {"1": ("S001-001", "1", "0"), "22": ("S002-106", "4", "2"), "23": ("S002-107", "6", "1")}
    for session, (clip, emotion, view) in clips.items():
        folder = root / "Sessions" / session
        words(
            folder / "session.xml", f'<session><subject id="1"/><track filename="{clip}.avi" view="{view}"/></session>'
        )
        words(
            folder / f"{clip}.xml",
            f'<Metadata><Metatag Name="Age" Value="30"/><Metatag Name="Emotion" Value="{emotion}"/></Metadata>',
        )
        words(folder / f"{clip}-oao_aucs.xml", "<ActionUnits/>")
        words(folder / f"{clip}.avi", "video")
        for frame in range(1, 10):
            picture(folder / clip / f"{frame:04d}.png")
    return root


def bu_3dfe(root: Path) -> Path:
    for person, origin in (("F0001", "WH"), ("M0044", "LA")):
        picture(root / person / f"{person}_NE00{origin}_F2D.bmp")
        for code in ("AN", "DI", "FE", "HA", "SA", "SU"):
            for level in range(1, 5):
                picture(root / person / f"{person}_{code}0{level}{origin}_F2D.bmp")
                words(root / person / f"{person}_{code}0{level}{origin}_F3D.wrl", "#VRML")
    return root


def bu_4dfe(root: Path) -> Path:
    for person in ("F001", "M034"):
        for expression in ("Angry", "Disgust", "Fear", "Happy", "Sad", "Surprise"):
            for frame in range(9):
                picture(root / person / expression / f"{frame:03d}.jpg")
                words(root / person / expression / f"{frame:03d}.wrl", "#VRML")
    return root


def mug(root: Path) -> Path:
    for person in ("001", "012"):
        # The archives of some people were unpacked into a folder of their own name.
        folder = root / "subjects3" / person / person if person == "012" else root / "subjects3" / person
        for expression in ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"):
            for frame in range(9):
                picture(folder / expression / "take000" / f"img_{frame:04d}.jpg")
    return root


def kdef(root: Path) -> Path:
    for folder in ("AF01", "BF01", "AM05"):
        for code in ("AF", "AN", "DI", "HA", "NE", "SA", "SU"):
            for view in ("FL", "HL", "S", "HR", "FR"):
                picture(root / "KDEF_and_AKDEF" / "KDEF" / folder / f"{folder}{code}{view}.JPG")
    return root


def rafd(root: Path) -> Path:
    words_of_owner = ("neutral", "angry", "contemptuous", "disgusted", "fearful", "happy", "sad", "surprised")
    for number, kind in (("01", "Caucasian_female"), ("66", "Moroccan_male")):
        for word in words_of_owner:
            for gaze in ("frontal", "left", "right"):
                for angle in ("045", "090"):
                    picture(root / f"Rafd{angle}_{number}_{kind}_{word}_{gaze}.jpg")
    return root


def jaffe(root: Path) -> Path:
    number = 0
    for person in ("KA", "YM"):
        for code in ("NE", "HA", "SA", "SU", "AN", "DI", "FE"):
            for take in (1, 2, 3):
                number += 1
                picture(root / f"{person}.{code}{take}.{number}.tiff")
    return root


def mead(root: Path) -> Path:
    words_of_owner = ("neutral", "angry", "contempt", "disgusted", "fear", "happy", "sad", "surprised")
    for person in ("M003", "W009"):
        for view in ("front", "left_30"):
            for word in words_of_owner:
                for level in (1,) if word == "neutral" else (1, 2, 3):
                    clip = root / person / "video" / view / word / f"level_{level}" / "001"
                    words(clip.with_suffix(".mp4"), "video")
                    for frame in range(1, 7):
                        picture(clip / f"{frame:04d}.png")
    return root


def raf_db(root: Path) -> Path:
    rows = [("train", number, label) for number, label in enumerate((1, 2, 3, 4, 5, 6, 7, 4), start=1)]
    rows += [("test", 1, 4), ("test", 2, 7)]
    for split, number, _ in rows:
        digits = 5 if split == "train" else 4
        picture(root / "basic" / "Image" / "aligned" / f"{split}_{number:0{digits}d}_aligned.jpg")
    lines = (f"{split}_{number:0{5 if split == 'train' else 4}d}.jpg {label}\n" for split, number, label in rows)
    words(root / "basic" / "EmoLabel" / "list_patition_label.txt", "".join(lines))
    return root


def affectnet(root: Path, codes: tuple[int, ...] = tuple(range(8))) -> Path:
    for split, shift in (("train_set", 0), ("val_set", 100)):
        for code in codes:
            picture(root / split / "images" / f"{shift + code}.jpg")
            notes = root / split / "annotations"
            notes.mkdir(exist_ok=True)
            np.save(notes / f"{shift + code}_exp.npy", np.array(str(code)))
            np.save(notes / f"{shift + code}_val.npy", np.array("0.5"))
    return root


def affectnet_csv(root: Path, codes: tuple[int, ...] = tuple(range(11))) -> Path:
    head = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    for name, folder in (("training.csv", "103"), ("validation.csv", "7")):
        lines = [head]
        for code in codes:
            file = f"{folder}/{code:02x}f3.jpg"
            picture(root / "Manually_Annotated_Images" / file)
            lines.append(f"{file},1,1,6,6,1.0;2.0,{code},0.1,-0.2\n")
        words(root / "Manually_Annotated_file_lists" / name, "".join(lines))
    return root


def own_folder(root: Path) -> Path:
    for person in ("ada", "ben"):
        for expression in ("neutral", "happiness", "sadness"):
            for number in range(2):
                picture(root / person / expression / f"{number}.png")
    return root

"""Measures the way of a photograph: faces found, alignment, paste, times. `python -m benchmarks.photographs FOLDER`

FOLDER holds photographs named `<person>_<expression>.<ending>`, two or more of each person. After alignment, the points
of a person's photographs should fall on the same places; what is left is expression, pose and error together.
"""

import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from tqdm import tqdm

from tergan_core.align import TEMPLATE, Alignment
from tergan_core.detect import DetectedFace
from tergan_core.errors import TerganError
from tergan_core.images import to_pixels
from tergan_core.photo import PhotoEditor
from training.faces.audit import photographed

SIZE_PX = 128

CANVAS_PX = (2000, 1500)
"""Width and height of the grey pictures into which photographs are put, to see how narrow a face may be."""

WIDTHS = (0.1, 0.07, 0.05, 0.04)
"""Of a face, in widths of the canvas."""

TURNS = (45, 90, 180)
"""Of a photograph, in degrees."""


@dataclass(frozen=True, kw_only=True)
class PhotographsConfig:
    """What is measured."""

    folder: Annotated[Path, tyro.conf.Positional]
    """Folder of photographs named `<person>_<expression>.<ending>`."""

    to: str = "surprise"
    """Expression of the edits that are timed."""

    sheet: Path | None = None
    """Write photographs and their edits side by side, as one PNG, to look for seams."""


def measure(config: PhotographsConfig) -> dict[str, Any]:
    """All figures as plain values; times are medians of CPU milliseconds of one thread."""
    torch.set_num_threads(1)
    editor = PhotoEditor.load()
    points, times, hits, shown = defaultdict(list), defaultdict(list), defaultdict(list), []
    levels, changed = [], []
    pictures = list(photographed(config.folder))
    found_in = 0
    for person, _, photo, _ in tqdm(pictures, unit="photo"):
        began = time.process_time()
        photo = to_pixels(photo)
        times["read"].append(time.process_time() - began)
        began = time.process_time()
        found = editor.detector.detect(photo)
        times["detect"].append(time.process_time() - began)
        if not found:
            continue
        found_in += 1
        face = max(found, key=lambda face: face.area)
        began = time.process_time()
        alignment = Alignment.of(face.landmarks)
        alignment.crop(photo, SIZE_PX)
        times["align"].append(time.process_time() - began)
        placed = alignment.turn * (face.landmarks @ [1, 1j]) + alignment.shift
        points[person].append(np.stack([placed.real, placed.imag], axis=1))
        began = time.process_time()
        edited = editor.edit(photo, config.to)
        times["edit, everything"].append(time.process_time() - began)
        unchanged = editor.edit(photo, config.to, 0.0).image
        levels.append(int(np.abs(unchanged.astype(int) - photo).max()))
        changed.append(float((unchanged != photo).any(axis=2).mean()))
        for name, (variant, expected) in _variants(photo, face).items():
            reach = 0.15 * np.linalg.norm(expected[1] - expected[0])
            again = [np.linalg.norm(one.landmarks - expected, axis=1).mean() for one in editor.detector.detect(variant)]
            hits[name].append(any(apart < reach for apart in again))
        if len(shown) < 24:
            left, top, right, bottom = (int(v) for v in face.box)
            margin = (right - left) // 2
            window = np.s_[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
            shown.append(np.concatenate([photo[window], edited.image[window]], axis=1))
    eye_distance = TEMPLATE[1][0] - TEMPLATE[0][0]
    apart = np.array(  # [pairs, 5]
        [np.linalg.norm(a - b, axis=1) for row in points.values() for a, b in combinations(row, 2)]
    )
    if config.sheet:
        _sheet(shown).save(config.sheet)
    names = ("left eye", "right eye", "nose tip", "left mouth corner", "right mouth corner")
    return {
        "photographs": len(pictures),
        "found": found_in,
        "found_of": {name: round(float(np.mean(found)), 3) for name, found in hits.items()},
        "intensity_0": {
            "largest_levels_of_255": max(levels),
            "median_changed_share": round(float(np.median(changed)), 4),
        },
        "pairs": len(apart),
        f"apart_px_of_{SIZE_PX}": dict(zip(names, (SIZE_PX * np.median(apart, axis=0)).round(2).tolist(), strict=True)),
        "apart_of_eye_distance": dict(
            zip(names, np.median(apart / eye_distance, axis=0).round(4).tolist(), strict=True)
        ),
        "cpu_ms": {name: round(1e3 * float(np.median(values)), 1) for name, values in times.items()},
    }


def _variants(photo: np.ndarray, face: DetectedFace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The photograph with a narrow face in a large picture, and turned; with each, where its points are then."""
    made = {}
    picture = Image.fromarray(photo)
    for width in WIDTHS:
        scale = width * CANVAS_PX[0] / (face.box[2] - face.box[0])
        canvas = Image.new("RGB", CANVAS_PX, "grey")
        canvas.paste(picture.resize((round(picture.width * scale), round(picture.height * scale))), (300, 200))
        made[f"width {width:g}"] = np.asarray(canvas), face.landmarks * scale + [300, 200]
    middle = np.array([picture.width, picture.height]) / 2
    for degrees in TURNS:
        turned = (face.landmarks - middle) @ [1, 1j] * np.exp(-1j * np.deg2rad(degrees))
        variant = np.asarray(picture.rotate(degrees, fillcolor="grey"))
        made[f"turn {degrees}"] = variant, np.stack([turned.real, turned.imag], axis=1) + middle
    return made


def _sheet(pairs: list[np.ndarray], height: int = 260, columns: int = 4) -> Image.Image:
    pictures = [Image.fromarray(pair) for pair in pairs]
    pictures = [picture.resize((round(picture.width * height / picture.height), height)) for picture in pictures]
    width = max(picture.width for picture in pictures)
    sheet = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * width, number // columns * height))
    return sheet


def main(arguments: list[str] | None = None) -> int:
    """The command line; JSON on stdout."""
    config = tyro.cli(PhotographsConfig, args=arguments, description=__doc__)
    try:
        print(json.dumps(measure(config), indent=1))
    except (TerganError, ValueError) as error:
        print(f"error [{getattr(error, 'code', 'invalid_request')}]: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

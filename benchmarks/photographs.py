"""Measures the way of a photograph: faces found, alignment, time of stages. `python -m benchmarks.photographs FOLDER`

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
from tergan_core.errors import TerganError
from tergan_core.images import to_pixels
from tergan_core.photo import PhotoEditor
from training.faces.audit import photographed

SIZE_PX = 128


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
    points, times, shown = defaultdict(list), defaultdict(list), []
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
        "pairs": len(apart),
        f"apart_px_of_{SIZE_PX}": dict(zip(names, (SIZE_PX * np.median(apart, axis=0)).round(2).tolist(), strict=True)),
        "apart_of_eye_distance": dict(
            zip(names, np.median(apart / eye_distance, axis=0).round(4).tolist(), strict=True)
        ),
        "cpu_ms": {name: round(1e3 * float(np.median(values)), 1) for name, values in times.items()},
    }


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

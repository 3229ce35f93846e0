"""Looks at a data set before it is trained on: `python -m training.data.inspect PATH --layout oulu-casia`.

Prints people, expressions and the pictures of each cell, opens every picture, finds duplicates, and draws a grid.
"""

import hashlib
import json
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from PIL import Image, ImageDraw
from tqdm import tqdm

from tergan_core.errors import TerganError
from tergan_core.images import face_tensor, to_pil, to_tensor
from training.data.reader import DataSet, read
from training.data.records import EXPRESSIONS, DataLayoutError, Frames, Record, only, parse_wanted

CELL_PX = 72
ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to look at."""

    path: Annotated[Path, tyro.conf.Positional]
    """The folder as unpacked, or a CSV file."""

    layout: str | None = None
    """One of the layouts of docs/data.md; recognised if only one fits."""

    frames: Frames | None = None
    """Which frames of sequences; those of the set's protocol if not given."""

    unmapped: Literal["refuse", "drop"] = "refuse"
    """What to do with labels that none of the eight names means."""

    only: tuple[str, ...] = ()
    """Fields and their wanted values: `camera=vl illumination=strong,weak`."""

    grid: Path | None = None
    """PNG file for a grid of people and expressions."""

    json: bool = False
    """Print everything as JSON."""


def report(data: DataSet, records: list[Record], *, progress: bool = True) -> dict[str, Any]:
    """What there is, as plain values; opens every picture."""
    unreadable: dict[str, str] = {}
    same: dict[str, list[str]] = defaultdict(list)
    for record in tqdm(records, unit="picture", disable=not progress):
        try:
            content = record.path.read_bytes()
            to_tensor(content, name=str(record.path))
        except (OSError, TerganError) as error:
            unreadable[str(record.path)] = str(error)
        else:
            same[hashlib.sha256(content).hexdigest()].append(str(record.path))
    people = sorted({record.identity for record in records if record.identity is not None})
    expressions = [name for name in EXPRESSIONS if any(record.expression == name for record in records)]
    cells = {name: dict.fromkeys(expressions, 0) for name in (*people, *([] if people else ["unknown"]))}
    lights: dict[str, dict[str, int]] = {}
    for record in records:
        cells[record.identity or "unknown"][record.expression] += 1
        lights.setdefault(_light(record), dict.fromkeys(expressions, 0))[record.expression] += 1
    return {
        "layout": data.layout.name,
        "path": str(data.path),
        "pictures": len(records),
        "people": len(people),
        "sequences": len({record.sequence for record in records if record.sequence is not None}),
        "expressions": dict(Counter(record.expression for record in records)),
        "splits": dict(Counter(record.split for record in records if record.split is not None)),
        "pictures_by_person": cells,
        "pictures_by_light": lights,
        "empty_cells": [[name, word] for name, row in cells.items() for word, count in row.items() if count == 0],
        "left_out": data.left_out,
        "unreadable": unreadable,
        "duplicates": [paths for paths in same.values() if len(paths) > 1],
    }


def draw_grid(records: list[Record]) -> Image.Image:
    """A row per person (or eight rows of pictures, if nobody is named), a column per expression, at its strongest."""
    expressions = [name for name in EXPRESSIONS if any(record.expression == name for record in records)]
    cells: dict[tuple[str, str], Record] = {}
    anonymous: Counter[str] = Counter()
    for record in sorted(records, key=lambda record: -(record.intensity or 0)):
        row = record.identity
        if row is None:
            row = f"{anonymous[record.expression]:02d}"
            anonymous[record.expression] += 1
        cells.setdefault((row, record.expression), record)
    rows = sorted({row for row, _ in cells})
    rows = [rows[i * len(rows) // min(ROWS, len(rows))] for i in range(min(ROWS, len(rows)))]
    sheet = Image.new("RGB", (CELL_PX * (len(expressions) + 1), 14 + CELL_PX * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, expression in enumerate(expressions, start=1):
        draw.text(((column + 0.5) * CELL_PX, 7), expression, fill="black", anchor="mm")
    for line, row in enumerate(rows):
        draw.text((4, 14 + (line + 0.5) * CELL_PX), row[:11], fill="black", anchor="lm")
        for column, expression in enumerate(expressions, start=1):
            if (row, expression) not in cells:
                continue
            try:
                face = to_pil(face_tensor(cells[row, expression].path, CELL_PX))
            except TerganError:
                continue  # counted as unreadable in the report
            sheet.paste(face, (column * CELL_PX, 14 + line * CELL_PX))
    return sheet


def text(found: dict[str, Any], people_rows: int = 20) -> str:
    """The report for a terminal; people in full are in the JSON form."""
    lines = [
        f"{found['layout']}: {found['pictures']} pictures, {found['people']} people, {found['sequences']} sequences",
        "",
        *_table(found["pictures_by_light"], "light"),
    ]
    if found["people"]:
        rows = list(found["pictures_by_person"].items())
        lines += ["", *_table(dict(rows[:people_rows]), "person")]
        if len(rows) > people_rows:
            lines.append(f"... and {len(rows) - people_rows} people more (--json has all)")
    for name, empty in found["empty_cells"][:10]:
        lines.append(f"no picture of {name} with {empty}")
    lines += [f"{name}: {count} pictures" for name, count in found["splits"].items()]
    lines += [f"left out, {reason}: {count}" for reason, count in found["left_out"].items()]
    lines += [f"the same file: {', '.join(paths)}" for paths in found["duplicates"][:10]]
    if len(found["duplicates"]) > 10:
        lines.append(f"... and {len(found['duplicates']) - 10} duplicates more")
    lines += [f"unreadable: {message}" for message in found["unreadable"].values()]
    return "\n".join(lines)


def _table(rows: dict[str, dict[str, int]], title: str) -> list[str]:
    columns = list(next(iter(rows.values())))
    width = max(len(title), *(len(name) for name in rows))
    head = f"{title:{width}}  " + "  ".join(f"{name:>9}" for name in columns)
    return [head, *(f"{n:{width}}  " + "  ".join(f"{row[c]:>9}" for c in columns) for n, row in rows.items())]


def _light(record: Record) -> str:
    return " ".join(word for word in (record.camera, record.illumination, record.view) if word) or "any"


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 all is readable, 1 some pictures are not, 2 the folder is laid out otherwise."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    torch.set_num_threads(1)  # pictures are small: threads would only wait for each other
    try:
        data = read(options.path, options.layout, frames=options.frames, unmapped=options.unmapped)
        records = only(data.records, **parse_wanted(options.only))
    except DataLayoutError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 2
    found = report(data, records)
    if options.grid is not None:
        options.grid.parent.mkdir(parents=True, exist_ok=True)
        draw_grid(records).save(options.grid)
        print(options.grid, file=sys.stderr)
    print(json.dumps(found, indent=1) if options.json else text(found))
    return 1 if found["unreadable"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Reads data sets: from a folder as its owners lay it out to records. No picture is opened."""

import csv
import os
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tergan_core.errors import close_names
from training.data.layouts import LAYOUTS, OWN_CSV, OWN_FOLDER
from training.data.records import EXPRESSIONS, OWNERS_WORDS, DataLayoutError, Frames, Record, take_frames
from training.data.tree import Fields, Layout, Level, entries

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
VIDEOS = {".avi", ".mp4", ".mov", ".mkv"}
SEARCH_DEPTH = 3
"""How many folders below the given one the top of a tree is looked for."""
_TEXT_COLUMNS = ("identity", "sequence", "split")


@dataclass(frozen=True)
class DataSet:
    """A data set that was read.

    Attributes:
        layout: its layout.
        path: the folder that was named.
        records: its pictures.
        left_out: what was there and is not among the records: reason -> number of files or folders.
    """

    layout: Layout
    path: Path
    records: list[Record]
    left_out: dict[str, int] = field(default_factory=dict)


def read(
    path: str | Path,
    layout: str | None = None,
    *,
    frames: Frames | None = None,
    unmapped: Literal["refuse", "drop"] = "refuse",
) -> DataSet:
    """Reads what a folder says about its pictures; no picture is opened.

    Args:
        path: the folder as unpacked, or a CSV file.
        layout: one of `LAYOUTS`; None recognises it, if only one fits.
        frames: which frames of sequences; None takes those of the set's protocol.
        unmapped: what to do with labels that none of the eight names means.

    Raises:
        DataLayoutError: the folder is laid out otherwise (the first missing level is named), the layout is unknown or
            not clear, or labels are unmapped and are to be refused.
    """
    path = Path(path)
    if not path.exists():
        raise DataLayoutError(f"there is no folder {str(path)!r}; pass the one into which the data set was unpacked.")
    chosen = LAYOUTS[detect(path)] if layout is None else _named(layout)
    left_out: Counter[str] = Counter()
    raw = list(_rows(path, left_out) if chosen is OWN_CSV else _raw_records(_top(path, chosen), chosen, left_out))
    records = _map_labels(raw, chosen, unmapped, left_out)
    records = take_frames(records, chosen.apex, frames or chosen.protocol)
    if not records:
        raise DataLayoutError(f"{str(path)!r} has no labelled picture of {chosen.title}; left out: {dict(left_out)}")
    return DataSet(chosen, path, sorted(records, key=lambda record: record.path), dict(left_out))


def detect(path: str | Path) -> str:
    """The name of the one layout that fits a folder.

    Raises:
        DataLayoutError: none fits, or several do.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        return OWN_CSV.name
    own = (OWN_FOLDER.name, OWN_CSV.name)
    fitting = [layout.name for layout in LAYOUTS.values() if layout.name not in own and _fits(path, layout)]
    if not fitting and _fits(path, OWN_FOLDER):
        fitting = [OWN_FOLDER.name]
    if len(fitting) != 1:
        what = f"fits {' and '.join(fitting)}" if fitting else "fits no layout"
        raise DataLayoutError(f"{str(path)!r} {what}; name one with --layout: {', '.join(LAYOUTS)}.")
    return fitting[0]


def _fits(path: Path, layout: Layout) -> bool:
    try:
        return next(_raw_records(_top(path, layout), layout, Counter()), None) is not None
    except DataLayoutError:
        return False


def _named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise DataLayoutError(f"there is no layout {name!r}. {close_names(name, LAYOUTS)} All: {', '.join(LAYOUTS)}.")
    return LAYOUTS[name]


def _top(path: Path, layout: Layout) -> Path:
    """The folder whose content is the first level: the one that was named, or the only one not far below it."""
    if not path.is_dir():
        raise DataLayoutError(f"{str(path)!r} is no folder; {layout.title} is one, with {layout.example} in it.")
    tops: list[Path] = []
    generation = [path]
    for _ in range(SEARCH_DEPTH + 1):
        found = [folder for folder in generation if _begins(folder, layout.levels)]
        tops += found
        generation = [Path(e.path) for f in generation if f not in found for e in entries(f) if e.is_dir()]
    if len(tops) > 1:
        places = ", ".join(repr(str(top.relative_to(path))) for top in tops[:4])
        raise DataLayoutError(f"{str(path)!r} holds more than one {layout.title}: {places}. Name one of these folders.")
    if not tops:
        raise _missing(path, layout, 0)
    return tops[0]


def _begins(folder: Path, levels: tuple[Level, ...]) -> bool:
    return levels[0].passed_over(folder) or any(levels[0].match(entry.name) for entry in entries(folder))


def _raw_records(top: Path, layout: Layout, left_out: Counter[str]) -> Iterator[Record]:
    """The pictures with the owner's labels.

    Raises:
        DataLayoutError: a level is missing everywhere; the first one that is, is named.
    """
    folders: list[tuple[Path, Fields]] = [(top, {})]
    for depth, level in enumerate(layout.levels[:-1]):
        below = [found for folder in folders for found in _below(*folder, level, left_out)]
        if not below:
            raise _missing(folders[0][0], layout, depth)
        folders = below
    last, found_any = layout.levels[-1], False
    for folder, fields in folders:
        for entry in entries(folder):
            match = last.match(entry.name)
            if match is not None and entry.is_file():
                found_any = True
                record = _record(Path(entry.path), fields | match.groupdict(), layout)
                if record is not None:
                    yield record
                else:
                    left_out["picture without a label"] += 1
            elif _counts(entry):
                left_out[f"not named like {last.example}"] += 1
    if not found_any:
        raise _missing(folders[0][0], layout, len(layout.levels) - 1)


def _below(folder: Path, fields: Fields, level: Level, left_out: Counter[str]) -> Iterator[tuple[Path, Fields]]:
    if level.passed_over(folder):
        yield folder, fields
        return
    for entry in entries(folder):
        match = level.match(entry.name)
        if match is not None and entry.is_dir():
            below = Path(entry.path)
            again = below / entry.name  # some copies were unpacked into a folder of the same name
            yield (again if again.is_dir() else below), fields | match.groupdict()
        elif level.named and _counts(entry):
            left_out[f"not named like {level.example}"] += 1
        elif Path(entry.name).suffix.lower() in VIDEOS and not Path(entry.path).with_suffix("").is_dir():
            left_out["video without a folder of its frames"] += 1


def _counts(entry: os.DirEntry[str]) -> bool:
    """Whether somebody would miss it: folders and pictures, but not read-me files."""
    return entry.is_dir() or Path(entry.name).suffix.lower() in PICTURES


def _record(file: Path, groups: Mapping[str, str | None], layout: Layout) -> Record | None:
    fields = {name: value for name, value in groups.items() if value is not None}
    if layout.describe:
        try:
            described = layout.describe(file, fields)
        except (ElementTree.ParseError, KeyError, OSError, ValueError) as error:
            if isinstance(error, DataLayoutError):
                raise
            raise DataLayoutError(f"{layout.title}: the label of {str(file)!r} cannot be read: {error!r}") from error
        if described is None:
            return None
        fields |= described
    in_sequence = bool(layout.sequence) and layout.sequence[-1] in fields
    level = fields.get("level")
    kept = {name: fields[name].lower() for name in ("illumination", "camera", "view", "split") if name in fields}
    return Record(
        path=file,
        expression=fields["expression"].strip().lower(),
        identity=fields.get("identity"),
        intensity=int(level) / layout.max_level if level else None,
        sequence="/".join(fields[name] for name in layout.sequence if name in fields) if in_sequence else None,
        frame=int(fields["frame"]) if "frame" in fields else None,
        **kept,
    )


def _rows(file: Path, left_out: Counter[str]) -> Iterator[Record]:
    """The rows of a CSV file of one's own."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines)
        columns = table.fieldnames or []
        missing = [name for name in ("path", "expression") if name not in columns]
        if missing:
            raise DataLayoutError(
                f"{str(file)!r} has no column {missing[0]!r}; its columns are: {', '.join(columns) or 'none'}. "
                "Needed: path and expression; used if there: identity, intensity, sequence, frame, illumination, "
                "camera, view, split."
            )
        for row in table:
            given = {name: value for name, value in row.items() if value}
            if "path" not in given or "expression" not in given:
                left_out["row without path or expression"] += 1
                continue
            try:
                yield Record(
                    path=file.parent / given["path"],
                    expression=given["expression"].strip().lower(),
                    intensity=float(given["intensity"]) if "intensity" in given else None,
                    frame=int(given["frame"]) if "frame" in given else None,
                    **{name: given[name] for name in _TEXT_COLUMNS if name in given},
                    **{name: given[name].lower() for name in OWNERS_WORDS if name in given},
                )
            except ValueError as error:
                raise DataLayoutError(f"{str(file)!r}, line {table.line_num}: {error}") from error


def _map_labels(records: list[Record], layout: Layout, unmapped: str, left_out: Counter[str]) -> list[Record]:
    strange = Counter(record.expression for record in records if record.expression not in layout.labels)
    if strange and unmapped == "refuse":
        listed = ", ".join(f"{label!r} ({count} pictures)" for label, count in strange.most_common(12))
        raise DataLayoutError(
            f"{layout.title} has labels that mean none of {', '.join(EXPRESSIONS)}: {listed}. "
            "Leave these pictures out with unmapped='drop' (--unmapped drop), or rename the labels."
        )
    for label, count in strange.items():
        left_out[f"label {label!r} is not mapped"] += count
    mapped = [replace(r, expression=layout.labels[r.expression]) for r in records if r.expression in layout.labels]
    return [replace(r, intensity=0.0) if r.expression == "neutral" else r for r in mapped]


def _missing(folder: Path, layout: Layout, depth: int) -> DataLayoutError:
    level = layout.levels[depth]
    kind = "file" if depth == len(layout.levels) - 1 else "folder"
    present = entries(folder)
    there = ", ".join(entry.name for entry in present[:8]) + (" ..." if len(present) > 8 else "") or "nothing"
    video = next((name for name in map(Path, (entry.name for entry in present)) if name.suffix.lower() in VIDEOS), None)
    hint = (
        f" Videos are read as frames in a folder of their name: "
        f"mkdir {video.stem} && ffmpeg -i {video.name} {video.stem}/%04d.png"
        if video
        else ""
    )
    return DataLayoutError(
        f"{layout.title}: no {kind} like {level.example!r} in {str(folder)!r}; there is: {there}. "
        f"Expected: {layout.example}.{hint}"
    )

"""How quickly faces are rendered: `python -m benchmarks.faces`.

Everything runs on one core and is timed by the processor time of this process, so that others on the machine hardly
matter; rows of workers are by the clock as well. Pictures are those of training: fresh people, expressions and
scenes of the full variety, 2x2 samples a pixel, shadows. One JSON row per case goes to `--out`, whose default is named
after date, commit and device; the table goes to stdout.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from tqdm import tqdm

from benchmarks.rows import Row, row, write
from training.faces import (
    RENDERER_VERSION,
    FaceSet,
    load_head,
    render,
    sample_expression,
    sample_identity,
    sample_scene,
)
from training.faces import renderer as renderer_module

STAGES = {
    "vertices": ("rasterizer.move_vertices", "rasterizer.project", "rasterizer.vertex_normals"),
    "visibility": ("rasterizer.draw_triangles", "rasterizer.draw_veil"),
    "hair": ("rasterizer.draw_strands", "shading.light_strands"),
    "shadows": ("_shadow_map", "rasterizer.open_sky"),
    "shading": ("shading.shade_pixels", "shading.add_lenses"),
    "camera": ("develop",),
}
"""Which functions of the renderer make up which stage."""


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """What is measured."""

    sizes_px: tuple[int, ...] = (64, 96, 128, 256)
    """Edges of the pictures."""

    pictures: int = 32
    """Pictures of each size, of as many people."""

    repeats: int = 20
    """How often each is rendered; its quickest counts, since others on the machine slow processor time as well."""

    workers: tuple[int, ...] = (1, 2)
    """Processes that render pairs as for a cache, people and scenes included."""

    out: str | None = None
    """File that rows are appended to; the default is benchmarks/results/DATE-COMMIT-cpu.jsonl, `-` is none."""


def measure(config: FacesConfig) -> list[Row]:
    """One row per size, one for what is made anew for a picture, one per number of workers."""
    settings = {"renderer_version": RENDERER_VERSION, "pictures": config.pictures, "repeats": config.repeats}
    head = load_head()
    jobs = [
        (
            sample_identity(head, seed, 0),
            sample_expression(np.random.default_rng(seed)).units,
            sample_scene(np.random.default_rng(seed)),
        )
        for seed in range(config.pictures)
    ]
    rows = []
    for size_px in tqdm(config.sizes_px, desc="faces"):

        def draw(size_px: int = size_px) -> None:
            for identity, units, scene in jobs:
                render(head, identity, units, scene, size_px)

        draw()
        seconds = sum(
            min(_cpu_seconds(partial(render, head, *job, size_px)) for _ in range(config.repeats)) for job in jobs
        )
        figures = {"images_per_s_per_core": len(jobs) / seconds, "picture_ms": 1000 * seconds / len(jobs)}
        stages = _stage_seconds(draw, min(config.repeats, 5))
        figures |= {f"{name}_ms": 1000 * spent / len(jobs) for name, spent in stages.items()}
        rows.append(row("faces", {"size_px": size_px}, figures, settings, "cpu"))
    anew = {
        "person": lambda k: sample_identity(head, 1000 + k, 0),
        "recording": lambda k: sample_identity(head, 2000, k),
        "scene": lambda k: sample_scene(np.random.default_rng(k)),
    }
    for name, make in anew.items():
        make(config.pictures)
        seconds = _cpu_seconds(lambda make=make: [make(k) for k in range(config.pictures)])
        rows.append(row("faces", {"new": name}, {"made_ms": 1000 * seconds / config.pictures}, settings, "cpu"))
    for workers in config.workers:
        rows.append(row("faces", {"pairs_by_workers": workers}, _pairs_per_s(workers), settings, "cpu"))
    return rows


def table(rows: list[Row]) -> str:
    """The rows as Markdown: one table of sizes, and a line for each other row."""
    sizes = [entry for entry in rows if "size_px" in entry["case"]]
    lines = []
    if sizes:
        columns = list(sizes[0]["figures"])
        lines += ["| size_px | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
        lines += [f"| {e['case']['size_px']} | " + " | ".join(map(str, e["figures"].values())) + " |" for e in sizes]
    for entry in rows:
        if entry not in sizes:
            (kind, value), figures = next(iter(entry["case"].items())), entry["figures"]
            lines.append(f"{kind} {value}: " + ", ".join(f"{name} {figure}" for name, figure in figures.items()))
    return "\n".join([*lines, "", f"{rows[0]['hardware']['cpu']}, commit {rows[0]['commit']}"])


def _cpu_seconds(call: Callable[[], Any]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def _stage_seconds(draw: Callable[[], None], repeats: int) -> dict[str, float]:
    """Processor time of each stage in one call of `draw`, the quickest of some, and of what is in no stage."""
    spent: dict[str, float] = {}
    replaced = []

    def timed(stage, function):
        def call(*arguments):
            began = time.process_time()
            result = function(*arguments)
            spent[stage] += time.process_time() - began
            return result

        return call

    for stage, names in STAGES.items():
        for name in names:
            owner, _, attribute = name.rpartition(".")
            place = getattr(renderer_module, owner) if owner else renderer_module
            replaced.append((place, attribute, getattr(place, attribute)))
            setattr(place, attribute, timed(stage, getattr(place, attribute)))
    quickest: dict[str, float] = {}
    try:
        for _ in range(repeats):
            spent.update({stage: 0.0 for stage in STAGES})
            total = _cpu_seconds(draw)
            found = {**spent, "other": total - sum(spent.values())}
            quickest = {name: min(value, quickest.get(name, value)) for name, value in found.items()}
    finally:
        for place, attribute, function in replaced:
            setattr(place, attribute, function)
    return quickest


def _render_pairs(task: tuple[int, int]) -> float:
    """Renders pairs of one person and returns the processor time."""
    person, scenes = task
    began = time.process_time()
    faces = FaceSet("train", size_px=128)
    for scene in range(scenes):
        first, second = (sample_expression(np.random.default_rng([person, scene, k])) for k in range(2))
        faces.pair(person, scene, first, second)
    return time.process_time() - began


def _pairs_per_s(workers: int, people: int = 8, scenes: int = 8) -> dict[str, float]:
    """Images a second that processes render of new people in new recordings, with flows, at 128 px."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(_render_pairs, [(person, 1) for person in range(4 * workers)], chunksize=1)
        began = time.perf_counter()
        spent = sum(pool.map(_render_pairs, [(100 + person, scenes) for person in range(people)], chunksize=1))
        seconds = time.perf_counter() - began
    images = 2 * scenes * people
    return {"images_per_s": images / seconds, "images_per_s_per_core": images / spent}


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    config = tyro.cli(FacesConfig, args=arguments, description=__doc__)
    rows = measure(config)
    if config.out != "-":
        write(rows, Path(config.out) if config.out else None)
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

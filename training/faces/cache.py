"""Renders a training cache of pairs: in parallel, resumable, loaded memory-mapped.

`python -m training.faces.cache OUT --split train --people 300 --scenes 16 --pool 700 --size-px 128 --workers 2`
"""

import argparse
import hashlib
import json
import os
import shutil
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm

from training.faces.expression import EXPRESSIONS, UNITS, WEAKEST, sample_pool
from training.faces.face_set import SPLITS, FaceSet
from training.faces.renderer import RENDERER_VERSION
from training.faces.resumable import claim, run_tasks, write_text
from training.faces.variety import FULL, Variety

FORMAT_VERSION = 3
PEOPLE_PER_SHARD = 4
CANDIDATES = 20
"""The most alike of so many is 0.8 off (median of the distance in units), two random ones 2.1; the first quarter of an
edit is 0.7."""


def write_pairs(
    path: str | Path,
    split: str = "train",
    people: int = 300,
    scenes_per_person: int = 16,
    pool_size: int = 700,
    size_px: int = 128,
    seed: int = 0,
    workers: int = 1,
    flows: bool = False,
    variety: Variety = FULL,
    weakest: float = WEAKEST,
    alike: float = 0.0,
) -> Path:
    """Renders pairs (one person, one scene, two expressions) into a folder; the same call again resumes.

    Every scene of a person is a recording of its own (other hair and clothes) and takes two different expressions of a
    pool that all people share. The result does not depend on `workers` or on interruptions.

    Args:
        path: the folder. It must be new, or hold the same cache.
        split: whose people.
        people: how many.
        scenes_per_person: pairs of each person.
        pool_size: expressions in the pool, labels balanced.
        size_px: edge of the pictures.
        seed: chooses scenes, pool and pairing.
        workers: processes; 1 renders in this one.
        flows: also keep the flow both ways (float16, four times the size of the images).
        variety: how much everything beside person and expression varies.
        weakest: least intensity of the pool's expressions that are not neutral.
        alike: share of the pairs whose second expression is the one most like the first of `CANDIDATES` drawn ones.

    Raises:
        ValueError: an argument is out of range, or the folder holds another cache, or one of an older renderer.
    """
    path = Path(path)
    FaceSet(split, people, size_px, seed)
    for name, value, least in (("scenes_per_person", scenes_per_person, 1), ("pool_size", pool_size, 2)):
        if value < least:
            raise ValueError(f"{name} is {value}; at least {least} needed")
    if not 0 < weakest <= 1:
        raise ValueError(f"weakest is {weakest}; accepted: an intensity above 0, at most 1")
    if not 0 <= alike <= 1:
        raise ValueError(f"alike is {alike}; accepted: a share from 0 to 1")
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 needed")
    plan = dict(
        format_version=FORMAT_VERSION,
        split=split,
        people=people,
        scenes_per_person=scenes_per_person,
        pool_size=pool_size,
        size_px=size_px,
        seed=seed,
        flows=flows,
        renderer_version=RENDERER_VERSION,
        variety={**asdict(variety), "illuminations": list(variety.illuminations)},
        weakest=weakest,
        **({"alike": alike} if alike else {}),
    )
    claim(path, plan, "face cache")
    if (path / "finished").exists():
        return path
    shards = path / "shards"
    shards.mkdir(exist_ok=True)
    chunks = [range(first, min(first + PEOPLE_PER_SHARD, people)) for first in range(0, people, PEOPLE_PER_SHARD)]
    missing = [(shards, plan, variety, chunk) for chunk in chunks if not _shard_path(shards, chunk).exists()]
    done = people - sum(len(chunk) for *_, chunk in missing)
    with tqdm(total=people, initial=done, unit="person", desc=f"faces {split}") as progress:
        for count in run_tasks(_write_shard, missing, workers):
            progress.update(count)
    _merge(path, [_shard_path(shards, chunk) for chunk in chunks], plan)
    shutil.rmtree(shards)
    sums = {file.name: _sha256(file) for file in sorted(path.glob("*.npy"))}
    write_text(path / "finished", json.dumps(sums, indent=1) + "\n")
    return path


def load_pairs(path: str | Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a finished cache, memory-mapped and read-only, after a look at their checksums.

    n pairs, m expressions in the pool: images [n, 2, h, w, 3] uint8; identities [n] int64 (seeds); expressions [n, 2]
    int64 (rows of the pool); units [n, 2, 52] float32, as shown; masks [n, 2, h, w] uint8; landmarks [n, 2, 5, 2]
    float32 pixels; poses [n, 3] float32 degrees (yaw, pitch, roll); pool_units [m, 52] float32, as intended;
    pool_labels [m] int64 (index into `EXPRESSIONS`); pool_intensities [m] float32; and with `flows`: flows
    [n, 2, h, w, 2] float16, visible [n, 2, h, w] uint8 (see `FacePair`).

    Raises:
        FileNotFoundError: there is no finished cache.
        OSError: a file is not what was written.
    """
    path = Path(path)
    if not (path / "finished").exists():
        raise FileNotFoundError(f"no finished face cache in {str(path)!r}; run: python -m training.faces.cache {path}")
    for name, expected in json.loads((path / "finished").read_text(encoding="utf-8")).items():
        if not (path / name).exists() or _sha256(path / name) != expected:
            raise OSError(f"{str(path / name)!r} is damaged. Delete the folder {str(path)!r}: it is rendered again.")
    return {file.stem: np.load(file, mmap_mode="r") for file in sorted(path.glob("*.npy"))}


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _shard_path(shards, chunk):
    return shards / f"{chunk.start:06d}.npz"


def pool_seed(split: str, seed: int) -> int:
    """Returns the seed of a split's pool of expressions: no split meets the expressions of another."""
    return seed * len(SPLITS) + list(SPLITS).index(split)


def _pool(plan):
    return _sampled(plan["pool_size"], pool_seed(plan["split"], plan["seed"]), plan["weakest"])


_sampled = lru_cache(maxsize=1)(sample_pool)  # once in each process: a large pool takes seconds


def _write_shard(task):
    """Renders the pairs of some people and returns how many people."""
    shards, plan, variety, chunk = task
    faces = FaceSet(plan["split"], plan["people"], plan["size_px"], plan["seed"], variety)
    pool = _pool(plan)
    scenes, alike = range(plan["scenes_per_person"]), plan.get("alike", 0.0)
    rows = [_pair_row(faces, pool, person, scene, alike, plan["flows"]) for person in chunk for scene in scenes]
    target = _shard_path(shards, chunk)
    temporary = target.with_name(f"{target.stem}.{os.getpid()}.part")
    with temporary.open("wb") as file:
        np.savez(file, **{name: np.stack([row[name] for row in rows]) for name in rows[0]})
    os.replace(temporary, target)
    return len(chunk)


def _pair_row(faces, pool, person, scene, alike, with_flows):
    rng = np.random.default_rng([faces.seed, faces.identity_seed(person), scene, 78])
    chosen = rng.choice(len(pool), 2, replace=False)
    if rng.random() < alike:
        others = np.setdiff1d(rng.choice(len(pool), min(CANDIDATES, len(pool)), replace=False), chosen[:1])
        chosen[1] = min(others, key=lambda k: np.linalg.norm(pool[k].units - pool[chosen[0]].units))
    pair = faces.pair(person, scene, pool[chosen[0]], pool[chosen[1]])
    one, other = pair.samples
    return dict(
        images=np.stack([one.image, other.image]),
        identities=np.int64(one.identity),
        expressions=chosen.astype(np.int64),
        units=np.stack([one.units, other.units]),
        masks=np.stack([one.mask, other.mask]),
        landmarks=np.stack([one.landmarks, other.landmarks]),
        poses=one.pose,
        **(dict(flows=pair.flows.astype(np.float16), visible=pair.visible) if with_flows else {}),
    )


def _merge(path, shards, plan):
    """Joins the shards into one file per array, each under a temporary name first."""
    with np.load(shards[0]) as first:
        shapes = {name: (first[name].shape[1:], first[name].dtype) for name in first.files}
    count = plan["people"] * plan["scenes_per_person"]
    arrays = {
        name: open_memmap(path / f"{name}.npy.part", "w+", dtype, (count, *shape))
        for name, (shape, dtype) in shapes.items()
    }
    start = 0
    for shard in shards:
        with np.load(shard) as data:
            for name, array in arrays.items():
                rows = data[name]
                array[start : start + len(rows)] = rows
        start += len(rows)
    pool = _pool(plan)
    small = dict(
        pool_units=np.stack([expression.units for expression in pool]),
        pool_labels=np.array([EXPRESSIONS.index(expression.label) for expression in pool], np.int64),
        pool_intensities=np.array([expression.intensity for expression in pool], np.float32),
    )
    assert start == count and small["pool_units"].shape == (len(pool), len(UNITS))
    for array in arrays.values():
        array.flush()
    for name, array in small.items():
        with (path / f"{name}.npy.part").open("wb") as file:
            np.save(file, array)
    for name in (*arrays, *small):
        os.replace(path / f"{name}.npy.part", path / f"{name}.npy")


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    summary = "Renders pairs (one person, one scene, two expressions); the same command again resumes."
    parser = argparse.ArgumentParser(prog="python -m training.faces.cache", description=summary)
    parser.add_argument("out", help="folder of the cache")
    parser.add_argument("--split", default="train", choices=list(SPLITS))
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--scenes", type=int, default=16, help="pairs of each person")
    parser.add_argument("--pool", type=int, default=700, help="expressions, shared by all people")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--weakest", type=float, default=WEAKEST, help="least intensity of an expression")
    parser.add_argument("--alike", type=float, default=0.0, help="share of pairs of two expressions that are alike")
    parser.add_argument("--flows", action="store_true", help="also keep the dense flow both ways")
    options = parser.parse_args(arguments)
    try:
        path = write_pairs(
            options.out, options.split, options.people, options.scenes, options.pool, options.size_px, options.seed,
            options.workers, options.flows, weakest=options.weakest, alike=options.alike,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    print(path)


if __name__ == "__main__":
    main()

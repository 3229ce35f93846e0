"""A folder of pictures through one task, on all cores or machines of a Ray cluster. Needs the extra `ray`.

    python -m tergan_core.batch recognize PHOTOS RESULTS
    python -m tergan_core.batch edit PHOTOS RESULTS --expression happiness --workers 4

The work is `serving.Service`'s, as behind a server: a picture that cannot be read is an error of its own. RESULTS gets
`results.jsonl`, one line per picture, and for `edit` and `transfer` the pictures themselves. The same command resumes
where it was stopped; a worker that dies is started anew and its part done again.
"""

import hashlib
import importlib.util
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from . import weights
from .errors import ConfigError, InvalidRequestError, MissingExtraError, TerganError
from .images import Limits
from .serving import Request, Service

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What is done with which pictures."""

    task: Positional[Literal["recognize", "edit", "transfer"]]
    """The task. Pictures are aligned faces, as for the servers."""

    source: Positional[Annotated[Path, arg(metavar="PHOTOS")]]
    """Folder of pictures, at any depth."""

    out: Positional[Annotated[Path, arg(metavar="RESULTS")]]
    """Folder for the results; that of an unfinished run of the same command is finished."""

    expression: str | None = None
    """`edit`: name of the expression. `transfer`: file of the face whose expression is taken."""

    intensity: float = 1.0
    """0 leaves the faces unchanged, 1 is the peak."""

    weights: str = weights.SHIPPED
    """Catalogue name, model folder, or hf:owner/name; every machine needs it."""

    workers: int = 2
    """Processes, each with the model and one CPU."""

    part: int = 64
    """Pictures that a worker gets at a time; a dead worker's part is done again."""

    address: str | None = None
    """Address of a running Ray cluster; by default one is started here for this run."""

    progress: bool = True
    """Show a progress bar."""

    def __post_init__(self):
        if self.workers < 1 or self.part < 1:
            raise InvalidRequestError(f"--workers is {self.workers}, --part {self.part}; accepted: at least 1.")


def run(config: BatchConfig) -> dict[str, int]:
    """Does what is not done yet and returns how many pictures came in, were answered, and failed.

    Raises:
        MissingExtraError: ray is not installed.
        InvalidRequestError: there are no pictures, or the task lacks its expression.
        ConfigError: RESULTS holds those of another command.
        WeightsNotFoundError: there is no such model.
    """
    for package in ("ray", "tqdm"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "ray", "tergan_core.batch")
    if (config.expression is None) != (config.task == "recognize"):
        raise InvalidRequestError("edit needs --expression NAME, transfer --expression FILE, recognize none.")
    if config.task == "transfer" and not Path(config.expression or "").is_file():
        raise InvalidRequestError(f"--expression is {config.expression!r}; accepted for a transfer: a picture file.")
    weights.locate(config.weights)
    files = sorted(config.source.rglob("*"))
    paths = [path for path in files if path.suffix.lower() in SUFFIXES and path.is_file() and not _ours(config, path)]
    names = [path.relative_to(config.source).as_posix() for path in paths]
    if not names:
        raise InvalidRequestError(f"{str(config.source)!r} has no pictures; accepted: {', '.join(SUFFIXES)}.")
    _claim(config, names)
    parts = [names[start : start + config.part] for start in range(0, len(names), config.part)]
    missing = [number for number in range(len(parts)) if not _part(config, number).exists()]

    if missing:
        from tqdm import tqdm

        ray = start_ray(config.workers, config.address)
        try:
            worker = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)(_Worker)
            pool = ray.util.ActorPool([worker.remote(config) for _ in range(min(config.workers, len(missing)))])
            bar = tqdm(total=len(names), desc=config.task, unit="picture", disable=not config.progress)
            bar.update(len(names) - sum(len(parts[number]) for number in missing))
            work = [(number, parts[number]) for number in missing]
            for done in pool.map_unordered(lambda actor, job: actor.do.remote(*job), work):
                bar.update(done)
            bar.close()
        finally:
            ray.shutdown()
    return _join(config, names, len(parts))


def _ours(config: BatchConfig, path: Path) -> bool:
    """Whether a picture is one of the results, whose folder may lie in that of the photos."""
    return path.resolve().is_relative_to(config.out.resolve())


class _Worker:
    """Holds the model; one per process. What it finished is in files, so that it may die at any time."""

    def __init__(self, config: BatchConfig):
        self.config = config
        self.service = Service.load(config.weights, config.task, "cpu", threads=1, limits=Limits())
        self.driver = Path(config.expression or "").read_bytes() if config.task == "transfer" else None

    def do(self, number: int, names: list[str]) -> int:
        """Works on one part and writes its lines at the end; returns its number of pictures."""
        responses = self.service.handle([self._request(name) for name in names])
        lines = []
        for name, response in zip(names, responses, strict=True):
            line: dict[str, Any] = {"picture": name}
            if response.status != 200:
                line["error"] = json.loads(response.body)
            elif self.config.task == "recognize":
                line |= json.loads(response.body)
            else:
                line["result"] = f"pictures/{name}.png"
                _write(self.config.out / line["result"], response.body)
            lines.append(json.dumps(line) + "\n")
        _write(_part(self.config, number), "".join(lines).encode())
        return len(names)

    def _request(self, name: str) -> Request:
        config, fields = self.config, {"intensity": self.config.intensity}
        try:
            picture = (config.source / name).read_bytes()
        except OSError:
            picture = b""  # the service says that there is no picture
        if config.task == "recognize":
            return Request({"image": picture})
        if config.task == "edit":
            return Request({"image": picture, "expression": config.expression, **fields})
        return Request({"identity": picture, "expression": self.driver, **fields})


def start_ray(cpus: int, address: str | None = None) -> Any:
    """Ray, connected to a cluster, or to one that is started here, as small and as silent as it can be.

    Ray's own servers listen on all interfaces, at ports by chance; a token that only this run knows keeps others out.

    Args:
        cpus: of the cluster that is started.
        address: of a running cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None and "ray" not in sys.modules:  # which reads the environment when it is imported
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address:
        ray.init(address=address, **quiet)
    else:
        memory = 128 * 2**20  # nothing large is sent by Ray
        ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=memory, **quiet)
    return ray


def _claim(config: BatchConfig, names: list[str]) -> None:
    """Makes the folder this command's, or sees that it is already."""
    asked = {key: str(getattr(config, key)) for key in ("task", "source", "expression", "intensity", "weights", "part")}
    asked["pictures"] = hashlib.sha256("\n".join(names).encode()).hexdigest()
    plan = config.out / "plan.json"
    if not plan.exists():
        if config.out.exists() and any(config.out.iterdir()):
            raise ConfigError(f"{str(config.out)!r} is not empty and no run of this command; choose another folder.")
        _write(plan, json.dumps(asked, indent=2).encode())
    found = json.loads(plan.read_text(encoding="utf-8"))
    if found != asked:
        key = next(key for key in asked if found.get(key) != asked[key])
        raise ConfigError(
            f"{str(config.out)!r} holds a run with {key} {found.get(key)!r}, not {asked[key]!r}; choose another folder."
        )


def _part(config: BatchConfig, number: int) -> Path:
    return config.out / "parts" / f"{number:06d}.jsonl"


def _join(config: BatchConfig, names: list[str], parts: int) -> dict[str, int]:
    """Writes `results.jsonl` and counts; every picture has to be there once."""

    def lines() -> Iterator[str]:
        for number in range(parts):
            yield from _part(config, number).read_text(encoding="utf-8").splitlines(keepends=True)

    found = list(lines())
    rows = [json.loads(line) for line in found]
    if [row["picture"] for row in rows] != names:
        raise ConfigError(f"{str(config.out)!r} lacks pictures or has them twice; remove it and run again.")
    _write(config.out / "results.jsonl", "".join(found).encode())
    failed = sum("error" in row for row in rows)
    return {"pictures": len(names), "answered": len(rows) - failed, "failed": failed}


def _write(path: Path, content: bytes) -> None:
    """Writes a whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """The command line: exit status 0 all answered, 1 some failed or nothing could be done."""
    config = tyro.cli(BatchConfig, args=arguments, description=__doc__)
    began = time.perf_counter()
    try:
        counts = run(config)
    except TerganError as error:
        print(f"error [{error.code}]: {error}", file=sys.stderr)
        return 1
    facts = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{facts}, {time.perf_counter() - began:.1f} s: {config.out / 'results.jsonl'}", file=sys.stderr)
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main())

"""Long work into a folder: claimed by its plan, done in parts by processes, the same call again goes on."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

Task = TypeVar("Task")

PLAN = "plan.json"
"""File of what a folder is being filled with."""


def claim(path: Path, plan: dict[str, Any], kind: str) -> None:
    """Writes the plan into a new folder, or checks that the folder was begun with the same plan.

    Args:
        path: the folder; made if it is not there.
        plan: all that the result depends on, as JSON holds it.
        kind: what messages call the folder.

    Raises:
        ValueError: the folder holds something else.
    """
    path.mkdir(parents=True, exist_ok=True)
    file = path / PLAN
    if file.exists():
        found = json.loads(file.read_text())
        if found != plan:
            other = [f"{k}={found.get(k)!r} (asked: {plan[k]!r})" for k in plan if found.get(k) != plan[k]]
            raise ValueError(f"{str(path)!r} holds another {kind}: {', '.join(other)}. Choose a new folder.")
        return
    if any(entry.suffix != ".part" for entry in path.iterdir()):
        raise ValueError(f"{str(path)!r} is not empty and holds no {kind}. Choose a new folder.")
    write_text(file, json.dumps(plan, indent=1) + "\n")


def write_text(file: Path, text: str) -> None:
    """Writes a file that is there whole or not at all."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)


def run_tasks(function: Callable[[Task], int], tasks: Sequence[Task], workers: int) -> Iterator[int]:
    """What the function returns for each task, as they end; one worker is this process.

    Raises:
        ValueError: fewer than one worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}; at least 1 needed")
    if workers == 1 or len(tasks) < 2:
        yield from map(function, tasks)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(tasks))) as pool:
        yield from pool.imap_unordered(function, tasks)

"""Builds the three archives into `model_archives/store/`: `python -m model_archives.build [--model NAME_OR_FOLDER]`.

With `--triton OUT` it writes a Triton model repository in their place.
"""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from model_archives import checksums
from tergan_core import packing, weights
from tergan_core.engine import ENGINES, EngineName, export, quickest
from tergan_core.errors import TerganError

STORE = Path(__file__).parent / "store"


def build(source: str | Path = weights.SHIPPED, store: Path = STORE, engine: EngineName | None = None) -> list[Path]:
    """The archives of all tasks, with the engine that the source has or with another one; those that are right stay."""
    source = _with_engine(source, engine, store) if engine else source
    archives = [packing.pack(task, source, store, force=True) for task in packing.TASKS]
    checksums.write(store)
    return archives


def usual_engine(source: str | Path) -> EngineName | None:
    """The engine of archives for which none is named: None for that of the source, if it names one."""
    return None if weights.describe(source).get("engine") else quickest()


def _with_engine(source: str | Path, engine: EngineName, store: Path) -> Path:
    """The model folder with its compiled functions, which is kept in the store: compiling takes half a minute."""
    folder = store / f".{engine}-{weights.describe(source)['sha256'][:12]}-torch-{version('torch')}"
    if not (folder / "config.json").exists():  # it is written last
        export(source, engine, folder)
    return folder


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default=weights.SHIPPED, help="a shipped model's name, a model folder or hf:owner/name"
    )
    parser.add_argument("--store", type=Path, default=STORE, help="folder for the archives")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help=f"what runs the network; by default what the model folder names, else {quickest()}, the quickest here",
    )
    parser.add_argument(
        "--triton", type=Path, metavar="OUT", help="write a Triton model repository in place of archives"
    )
    arguments = parser.parse_args()
    try:
        engine = arguments.engine or usual_engine(arguments.model)
        if arguments.triton:
            source = _with_engine(arguments.model, engine, arguments.store) if engine else arguments.model
            print(*packing.triton_repository(source, arguments.triton), sep="\n")
        else:
            print(*build(arguments.model, arguments.store, engine), sep="\n")
    except TerganError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

"""Builds the three archives into `model_archives/store/`: `python -m model_archives.build [--model NAME_OR_FOLDER]`.

With `--triton OUT` it writes a Triton model repository in their place.
"""

import argparse
import hashlib
import shutil
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
    """The model folder with its compiled functions. Compiling takes half a minute, so the store keeps it until the
    model, this package or PyTorch is another one."""
    made_of = hashlib.sha256(version("torch").encode())
    for path in [*weights.files(weights.locate(source)), *sorted(Path(weights.__file__).parent.glob("*.py"))]:
        made_of.update(path.read_bytes())
    folder = store / f".{engine}-{made_of.hexdigest()[:16]}"
    if not (folder / weights.DESCRIPTION).exists():  # it is written last
        for old in store.glob(f".{engine}-{'[0-9a-f]' * 16}"):
            shutil.rmtree(old)
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

"""Builds the three archives into `model_archives/store/`: `python -m model_archives.build [--model NAME_OR_FOLDER]`."""

import argparse
import sys
from pathlib import Path

from tergan_core import packing, weights
from tergan_core.errors import TerganError

STORE = Path(__file__).parent / "store"


def build(source: str | Path = weights.SHIPPED, store: Path = STORE) -> list[Path]:
    """The archives of all tasks; those whose content is right already stay untouched."""
    return [packing.pack(task, source, store, force=True) for task in packing.TASKS]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default=weights.SHIPPED, help="a shipped model's name, a model folder or hf:owner/name"
    )
    parser.add_argument("--store", type=Path, default=STORE, help="folder for the archives")
    arguments = parser.parse_args()
    try:
        print(*build(arguments.model, arguments.store), sep="\n")
    except TerganError as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

"""SHA-256 of the archives of a store, as `sha256sum` writes them: finds damage and mix-ups, proves no author."""

from pathlib import Path

from tergan_core.errors import WeightsCorruptError
from tergan_core.weights import sha256

NAME = "SHA256SUMS"


def write(store: Path) -> Path:
    """Writes the sums of all archives in the store."""
    lines = [f"{sha256(archive)}  {archive.name}\n" for archive in sorted(store.glob("*.mar"))]
    path = store / NAME
    path.write_text("".join(lines))
    return path


def verify(store: Path) -> None:
    """Compares the archives with the sums. A store without sums, as `tergan pack` makes it, is taken as it is.

    Raises:
        WeightsCorruptError: an archive is changed, missing, or not listed.
    """
    path = store / NAME
    if not path.exists():
        return
    expected = {name: digest for digest, name in (line.split("  ", 1) for line in path.read_text().splitlines())}
    found = {archive.name: sha256(archive) for archive in store.glob("*.mar")}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise WeightsCorruptError(
            f"{', '.join(wrong)} in {str(store)!r} is not what {NAME} lists (changed, missing or unlisted). "
            "Build the archives again: python -m model_archives.build"
        )

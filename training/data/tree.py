"""What a layout is: the levels of a data set's tree, and what is found at them."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from training.data.records import Apex, Frames

Fields = dict[str, str]


@dataclass(frozen=True)
class Level:
    """One level of a tree: folders, or files at the last one.

    Attributes:
        example: a name as it occurs.
        pattern: what the whole name matches, case ignored; its named groups are fields of the record, or `level`.
        unless: some copies lack this level; it is passed over in a folder that has an entry which matches this.
    """

    example: str
    pattern: str
    unless: str | None = None

    @property
    def named(self) -> bool:
        """Whether names say something here; beside a folder with a fixed name, others are nothing to wonder at."""
        return "(?P<" in self.pattern

    def match(self, name: str) -> re.Match[str] | None:
        """The match of a whole name, or None."""
        return re.fullmatch(self.pattern, name, re.IGNORECASE)

    def passed_over(self, folder: Path) -> bool:
        """Whether a copy lacks this level here."""
        unless = self.unless
        return unless is not None and any(re.fullmatch(unless, e.name, re.IGNORECASE) for e in entries(folder))


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one data set is laid out.

    Attributes:
        name: what commands call it. title: what its owners call it.
        levels: the tree below its top; the named groups that they find make up the record.
        labels: the owner's labels, lower case, and what they are called here.
        note: where its description comes from, and what is uncertain.
        licence: a reminder, not advice: what the owner's agreement allows in a few words.
        apex: where its sequences show the expression.
        protocol: which frames its usual recognition protocol takes.
        sequence: the fields that tell one sequence from another.
        describe: finds what names do not hold, `expression` above all; None if the picture has no label.
        max_level: the owner's highest level of intensity.
    """

    name: str
    title: str
    levels: tuple[Level, ...]
    labels: Mapping[str, str]
    note: str
    licence: str
    apex: Apex = "still"
    protocol: Frames = "peak"
    sequence: tuple[str, ...] = ()
    describe: Callable[[Path, Fields], Fields | None] | None = None
    max_level: int = 0

    @property
    def identities(self) -> bool:
        """Whether the set says who is shown."""
        return any("(?P<identity>" in level.pattern for level in self.levels)

    @property
    def example(self) -> str:
        """A path below the top, as it occurs."""
        return "/".join(level.example for level in self.levels)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; hidden files are left out."""
    with os.scandir(folder) as found:
        return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)

"""A contact sheet: blocks of pictures with labels, one under the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

CELL, GAP, MARGIN = 128, 6, 16
LABEL_WIDTH = 90
INK, BAR, PALE = "#222222", "#3b6ea5", "#dddddd"


class Sheet:
    """Blocks are added from top to bottom; `save` writes the sheet."""

    def __init__(self, width: int = 2 * MARGIN + LABEL_WIDTH + 10 * (CELL + GAP) + 3 * GAP):
        self.canvas = PIL.Image.new("RGB", (width, 4000), "white")
        self.draw = PIL.ImageDraw.Draw(self.canvas)
        self.top = MARGIN

    def title(self, text: str) -> None:
        """A line in large letters."""
        self.draw.text((MARGIN, self.top), text, INK, PIL.ImageFont.load_default(20))
        self.top += 34

    def rows(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[np.ndarray]],
        labels: Sequence[str] = (),
        *,
        group: int,
    ) -> None:
        """A table of pictures with names above its columns and before its rows; columns stand in groups."""
        left = MARGIN + (LABEL_WIDTH if labels else 0)
        places = [left + index * (CELL + GAP) + index // group * 3 * GAP for index in range(len(columns))]
        for x, name in zip(places, columns, strict=True):
            self._text(x + CELL // 2, self.top, name, "ma")
        self.top += 20
        for index, row in enumerate(rows):
            if labels:
                self._text(left - GAP, self.top + CELL // 2, labels[index], "rm")
            for x, picture in zip(places, row, strict=True):
                self._picture(x, self.top, picture)
            self.top += CELL + GAP
        self.top += MARGIN

    def bars(
        self, names: Sequence[str], pictures: Sequence[np.ndarray], probabilities: Sequence[dict[str, float]]
    ) -> None:
        """Pictures side by side with a bar for each probability beneath."""
        step = (self.canvas.width - 2 * MARGIN) // len(pictures)
        for index, (name, picture, chances) in enumerate(zip(names, pictures, probabilities, strict=True)):
            left = MARGIN + index * step
            self._text(left + LABEL_WIDTH + CELL // 2, self.top, name, "ma")
            self._picture(left + LABEL_WIDTH, self.top + 20, picture)
            for line, (expression, chance) in enumerate(chances.items()):
                y = self.top + 20 + CELL + GAP + line * 18
                best = chance == max(chances.values())
                self._text(left + LABEL_WIDTH - GAP, y, expression, "ra")
                self.draw.rectangle((left + LABEL_WIDTH, y + 2, left + LABEL_WIDTH + CELL, y + 14), PALE)
                self.draw.rectangle(
                    (left + LABEL_WIDTH, y + 2, left + LABEL_WIDTH + CELL * chance, y + 14), BAR if best else "#9db8d3"
                )
        self.top += 20 + CELL + GAP + max(map(len, probabilities)) * 18 + MARGIN

    def save(self, path: Path) -> None:
        """Writes the sheet as PNG, cut to its content."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.canvas.crop((0, 0, self.canvas.width, self.top)).save(path)

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self.draw.text((x, y), text, INK, PIL.ImageFont.load_default(14), anchor)

    def _picture(self, x: int, y: int, picture: np.ndarray) -> None:
        self.canvas.paste(PIL.Image.fromarray(picture).resize((CELL, CELL), PIL.Image.Resampling.LANCZOS), (x, y))

"""Smooth random pictures."""

from functools import lru_cache

import numpy as np


def value_noise(rng: np.random.Generator, height: int, width: int, cells: int, octaves: int) -> np.ndarray:
    """Returns smooth noise [height, width], about unit variance: interpolated random grids of doubling density."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        grid = rng.standard_normal((count + 3, count + 3)).astype(np.float32)
        down = np.linspace(0, count, height, dtype=np.float32)
        across = np.linspace(0, count, width, dtype=np.float32)
        row, column = down.astype(int), across.astype(int)
        v, u = (down - row)[:, None], (across - column)[None]
        v, u = v * v * (3 - 2 * v), u * u * (3 - 2 * u)
        rows = grid[row] * (1 - v) + grid[row + 1] * v
        total += 0.5**octave * (rows[:, column] * (1 - u) + rows[:, column + 1] * u)
    return total


def noise_window(rng: np.random.Generator, height: int, width: int, cells: int, octaves: int) -> np.ndarray:
    """Returns a random window [height, width] of a noise picture that is drawn once per process.

    Much quicker than `value_noise`, and as good where the pictures only have to look alike: skin, cloth, walls.
    """
    sheet = _sheet(height, width, cells, octaves)
    top, left = rng.integers(height + 1), rng.integers(width + 1)
    window = sheet[top : top + height, left : left + width]
    return window[:: 1 - 2 * int(rng.integers(2)), :: 1 - 2 * int(rng.integers(2))]


@lru_cache(maxsize=32)
def _sheet(height, width, cells, octaves):
    rng = np.random.default_rng([height, width, cells, octaves])
    sheet = value_noise(rng, 2 * height, 2 * width, 2 * cells, octaves)
    sheet.setflags(write=False)
    return sheet

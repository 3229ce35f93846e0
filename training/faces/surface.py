"""The surface of a person: colours, and the drawn maps of skin, brows, beard and make-up (own drawing)."""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from training.faces.head import MAP_LEFT, MAP_LEVELS, MAP_TOP, PIXELS_PER_UNIT, Head, halved, linear_rgb, smoothstep
from training.faces.noise import noise_window
from training.faces.variety import Variety

SKIN_TONES = np.array(
    [[0.97, 0.83, 0.76], [0.92, 0.74, 0.65], [0.86, 0.67, 0.55], [0.77, 0.57, 0.44], [0.63, 0.44, 0.33],
     [0.47, 0.31, 0.23], [0.35, 0.23, 0.17]]
)  # fmt: skip
HAIR_COLOURS = np.array(
    [[0.09, 0.075, 0.07], [0.15, 0.11, 0.085], [0.26, 0.18, 0.12], [0.42, 0.30, 0.19], [0.68, 0.55, 0.37],
     [0.45, 0.22, 0.13], [0.66, 0.65, 0.64]]
)  # fmt: skip
IRIS_COLOURS = np.array(
    [[0.24, 0.15, 0.10], [0.36, 0.24, 0.14], [0.42, 0.40, 0.26], [0.36, 0.46, 0.36], [0.40, 0.52, 0.64],
     [0.50, 0.57, 0.61]]
)  # fmt: skip
LIPSTICKS = np.array([[0.62, 0.20, 0.24], [0.58, 0.27, 0.33], [0.70, 0.38, 0.37]])
RED, BROW, BEARD, HEIGHT, OIL = 0, 3, 4, 5, 6
"""Channels of a surface map: factors on red, green and blue, cover of brows and beard, height of the relief (mesh
units), factor on the shine; the last channel is empty."""
CHANNELS = 8
BROW_HEIGHT = 7.685
BEARDS = {
    "stubble": (0.30, 0.30, 0.30),
    "moustache": (0.08, 0.95, 0.0),
    "goatee": (0.10, 0.85, 0.9),
    "beard": (0.85, 0.80, 0.9),
    "full": (1.0, 0.95, 1.0),
}
"""Cover of cheeks and jaw, of the upper lip, and of the chin."""


@dataclass(frozen=True, eq=False)
class Look:
    """Colours (linear light) and habits of a person.

    Attributes:
        tone: of the skin, 0 = light to 6 = dark.
        curly: whether hair is tightly curled. beard: a name in `BEARDS`, or None.
        lipstick, makeup: strengths in [0, 1].
    """

    tone: float
    curly: bool
    skin: np.ndarray
    lips: np.ndarray
    hair: np.ndarray
    brows: np.ndarray
    iris: np.ndarray
    beard: str | None
    makeup: float


def sample_look(rng: np.random.Generator, male: bool, ancestry: np.ndarray, age: float, variety: Variety) -> Look:
    """Draws the colours and habits of a person; `ancestry` and `age` as in `sample_shape`."""
    tone = float(np.clip(ancestry @ np.array([5.0, 2.0, 0.9]) + rng.normal(0, 0.5), 0, 6))
    lower = int(min(tone, 5))
    shade = SKIN_TONES[lower] + (SKIN_TONES[lower + 1] - SKIN_TONES[lower]) * (tone - lower)
    skin = linear_rgb(np.clip(shade + rng.normal(0, 0.012, 3), 0.05, 1))
    dark = ancestry[0] + ancestry[1] > 0.55
    grey = age > 0.5 and rng.random() < 0.75
    hair_choice = rng.integers(3 if dark else 6)
    hair = linear_rgb(np.clip(HAIR_COLOURS[6 if grey else hair_choice] * (1 + rng.normal(0, 0.06)), 0, 1))
    beard = str(rng.choice(list(BEARDS), p=(0.42, 0.1, 0.16, 0.2, 0.12)))
    bearded, painted = rng.random(2)
    lipstick = rng.random() ** 1.5 * 0.55 if not male and painted < variety.makeup else 0.0
    redder = linear_rgb([0.86, 0.66, 0.66] if tone < 3.5 else [0.88, 0.72, 0.74])
    lips = skin * redder * (1 - lipstick) + lipstick * linear_rgb(LIPSTICKS[rng.integers(3)])
    return Look(
        tone=tone,
        curly=bool(ancestry[0] > 0.6),
        skin=skin,
        lips=lips.astype(np.float32),
        hair=hair,
        brows=np.minimum(hair * 0.7, skin * 0.45).astype(np.float32),
        iris=linear_rgb(IRIS_COLOURS[rng.integers(2) if dark else rng.integers(6)]),
        beard=beard if male and bearded < variety.facial_hair else None,
        makeup=float(rng.random()) if not male and painted < variety.makeup else 0.0,
    )


def paint_surface(
    rng: np.random.Generator, head: Head, male: bool, age: float, look: Look, variety: Variety
) -> tuple[np.ndarray, ...]:
    """Returns the surface map [h, w, 8] in the canonical window at `MAP_LEVELS` resolutions, largest first.

    Skin varies in melanin and in blood: each is an absorption of red, green and blue that is multiplied by a picture.
    """
    x, y, side = head.map_x, head.map_y, np.abs(head.map_x)
    height, width = x.shape
    marks = variety.skin_marks
    blood, melanin = np.array([0.05, 0.32, 0.27], np.float32), np.array([0.55, 0.95, 1.15], np.float32)

    def noise(cells, octaves):
        return noise_window(rng, height, width, cells, octaves)

    def spot(centre_x, centre_y, radius_x, radius_y, power=1):
        return np.exp(-((((x - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2) ** power))

    def both(centre_x, centre_y, radius_x, radius_y, power=1):
        return np.exp(-((((side - centre_x) / radius_x) ** 2 + ((y - centre_y) / radius_y) ** 2) ** power))

    redness = 0.55 * both(0.38, 7.12, 0.2, 0.17) + 0.5 * spot(0, 7.14, 0.13, 0.12) + 0.15 * spot(0, 6.6, 0.2, 0.12)
    redness = redness * (0.5 + 0.9 * rng.random()) + 0.30 * both(0.29, 7.40, 0.16, 0.06)
    redness += marks * (0.14 * noise(4, 3) + 0.09 * noise(18, 2))
    brown = marks * (0.03 * noise(6, 3) + 0.018 * noise(40, 2))
    brown += both(0.29, 7.46, 0.19, 0.13) * (0.06 + 0.14 * rng.random()) + 0.10 * both(0.30, 7.385, 0.15, 0.04)
    pores = noise(110, 1)
    porous = 0.35 + 0.8 * both(0.26, 7.1, 0.2, 0.2) + 0.8 * spot(0, 7.15, 0.14, 0.14) + 0.4 * spot(0, 8.0, 0.4, 0.2)
    relief = marks * porous * (0.0010 * pores + 0.0008 * noise(55, 2)) + 0.0009 * noise(12, 2)
    brown += 0.03 * marks * porous * np.maximum(-pores, 0)
    if rng.random() < 0.3 and look.tone < 2.6:
        cheeks = np.exp(-((side / 0.55) ** 4) - ((y - 7.2) / 0.25) ** 4)
        brown += marks * smoothstep(0.9, 1.6, noise(80, 1)) * cheeks * 0.3
    for _ in range(rng.poisson(1.5 * marks)):
        _add_mark(brown, rng.uniform((-0.6, 6.55), (0.6, 8.1)), rng.uniform(0.008, 0.016), 0.9)
    for _ in range(rng.poisson(marks * (4 if age < 0.35 else 1.5))):
        place, radius = rng.uniform((-0.55, 6.6), (0.55, 8.05)), rng.uniform(0.010, 0.022)
        _add_mark(redness, place, radius, rng.uniform(0.3, 0.9))
        _add_mark(relief, place, radius, 0.004)
    for _ in range(rng.poisson(marks * 9 * max(0.0, age - 0.4))):
        _add_mark(brown, rng.uniform((-0.65, 6.7), (0.65, 8.1)), rng.uniform(0.015, 0.04), 0.18)
    beard = _paint_beard(x, y, side, look.beard, noise)
    if male:
        jaw = _jaw(y, side) + _moustache(y, side)
        brown += 0.10 * np.clip(jaw, 0, 1) * (1.2 - 0.15 * look.tone)
    absorbed = redness[..., None] * blood + brown[..., None] * melanin
    if look.makeup:
        lids = np.exp(-(((side - 0.29) / 0.17) ** 2) - ((y - 7.60) / 0.05) ** 2)
        absorbed += (look.makeup * 0.7 * lids)[..., None] * rng.uniform(0.4, 1.1, 3).astype(np.float32)
        absorbed += (look.makeup * 0.25 * both(0.45, 7.15, 0.15, 0.12))[..., None] * blood
    oil = 0.7 + 0.5 * spot(0, 7.3, 0.10, 0.35) + 0.4 * spot(0, 7.98, 0.3, 0.14) + 0.25 * both(0.36, 7.22, 0.14, 0.1)
    surface = np.zeros((height, width, CHANNELS), np.float32)
    surface[..., :3] = np.exp(-absorbed)
    surface[..., BROW] = _paint_brows(rng, male, age, height, width)
    surface[..., BEARD] = beard
    surface[..., HEIGHT] = relief + 0.004 * beard
    surface[..., OIL] = oil * np.clip(1 + 0.15 * noise(40, 2), 0.4, 1.6)
    return halved(surface, MAP_LEVELS)


def _add_mark(picture, place, radius, amount):
    """Adds a round soft mark to a map, about a place (x, y) in mesh units."""
    column, row = (place[0] - MAP_LEFT) * PIXELS_PER_UNIT, (MAP_TOP - place[1]) * PIXELS_PER_UNIT
    reach = int(2.5 * radius * PIXELS_PER_UNIT) + 1
    rows = slice(max(int(row) - reach, 0), int(row) + reach + 1)
    columns = slice(max(int(column) - reach, 0), int(column) + reach + 1)
    window = picture[rows, columns]
    j, i = np.ogrid[rows.start : rows.start + window.shape[0], columns.start : columns.start + window.shape[1]]
    window += amount * np.exp(-((i - column) ** 2 + (j - row) ** 2) / (radius * PIXELS_PER_UNIT) ** 2)


def _paint_brows(rng, male, age, height, width):
    """Draws the hairs of both brows, one by one, at twice the resolution."""
    outer, arch = 0.51 + rng.normal(0, 0.025), rng.uniform(0.015, 0.085)
    middle, thickness = (
        BROW_HEIGHT + rng.normal(0, 0.014),
        rng.uniform(0.034, 0.058) if male else rng.uniform(0.022, 0.042),
    )
    hairs = int(rng.uniform(170, 300) * (thickness / 0.04))
    top, bottom = int((MAP_TOP - 7.95) * PIXELS_PER_UNIT), int((MAP_TOP - 7.50) * PIXELS_PER_UNIT)
    scale = 2
    sheet = Image.new("L", (width * scale, (bottom - top) * scale))
    draw = ImageDraw.Draw(sheet)
    for sign in (-1, 1):
        along = np.clip(rng.beta(1.15, 1.35, hairs), 0, 1)
        across = rng.uniform(-1, 1, hairs) * np.sqrt(rng.random(hairs))
        spread = thickness * (1 - 0.72 * along**1.4) * smoothstep(-0.12, 0.12, along)
        x = 0.095 + along * (outer - 0.095)
        curve = arch * np.sin(along * np.pi * 0.85) - 0.03 * np.clip(along - 0.6, 0, 1)
        y = middle + curve + across * spread
        angle = np.deg2rad(np.interp(along, [0, 0.2, 0.6, 1], [78, 50, 18, -22]) + rng.normal(0, 13, hairs))
        angle -= across * 0.4 * (along > 0.2)
        length = rng.uniform(0.030, 0.055, hairs) * (1 - 0.25 * along)
        ends = np.stack([x + np.cos(angle) * length, y + np.sin(angle) * length], 1)
        for start, end in zip(np.stack([x, y], 1), ends, strict=True):
            columns = (sign * np.array([start[0], end[0]]) - MAP_LEFT) * PIXELS_PER_UNIT
            rows = (MAP_TOP - np.array([start[1], end[1]])) * PIXELS_PER_UNIT - top
            draw.line(list(zip(columns * scale, rows * scale, strict=True)), fill=255, width=2)
    strokes = np.asarray(sheet.resize((width, bottom - top), Image.Resampling.BOX), np.float32) / 255
    soft = np.asarray(sheet.resize((width // 6, (bottom - top) // 6), Image.Resampling.BOX).resize(
        (width, bottom - top), Image.Resampling.BICUBIC), np.float32) / 255  # fmt: skip
    cover = np.zeros((height, width), np.float32)
    strength = rng.uniform(0.78, 1.0) * (1 - 0.2 * max(0.0, age - 0.5))
    cover[top:bottom] = np.clip(0.75 * strokes + 0.55 * soft, 0, 1) * strength
    return cover


def _jaw(y, side):
    jaw = smoothstep(6.98, 6.74, y - 0.8 * np.clip(side - 0.35, 0, 1)) * smoothstep(0.0, 0.2, side + (6.74 - y) * 2.0)
    around_lips = np.exp(-((side / 0.26) ** 4) - ((y - 6.86) / 0.115) ** 4)
    return jaw * (1 - around_lips) * smoothstep(6.2, 6.45, y)


def _moustache(y, side):
    return np.exp(-((side / 0.29) ** 6) - ((y - 6.99 + 0.16 * side) / 0.050) ** 4)


def _paint_beard(x, y, side, beard, noise):
    if beard is None:
        return np.zeros_like(y)
    jaw_cover, lip_cover, chin_cover = BEARDS[beard]
    chin = np.exp(-((side / 0.24) ** 4) - ((y - 6.58) / 0.17) ** 4)
    chin = np.maximum(chin, np.exp(-(((side - 0.29) / 0.06) ** 2) - ((y - 6.85) / 0.16) ** 4) * (chin_cover > 0.5))
    chin *= 1 - np.exp(-((side / 0.24) ** 4) - ((y - 6.84) / 0.10) ** 4)
    cover = np.maximum(jaw_cover * _jaw(y, side), np.maximum(lip_cover * _moustache(y, side), chin_cover * chin))
    edge = cover + 0.22 * noise(60, 2) * (cover > 0.02) * (1 - cover)
    grain = 0.82 + 0.22 * noise(110, 1) + 0.08 * noise(8, 2)
    return np.clip(edge * np.clip(grain, 0, 1.15), 0, 1)

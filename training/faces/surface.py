"""The surface of a person: colours, and the drawn maps of skin, brows, beard and make-up."""

import numpy as np

from training.faces.head import Head, linear_rgb, smoothstep
from training.faces.noise import value_noise

SKIN_TONES = np.array(
    [[0.98, 0.84, 0.76], [0.93, 0.74, 0.63], [0.87, 0.67, 0.53], [0.78, 0.57, 0.43], [0.64, 0.44, 0.32],
     [0.46, 0.30, 0.21], [0.33, 0.21, 0.15]]
)  # fmt: skip
HAIR_COLOURS = np.array(
    [[0.07, 0.055, 0.05], [0.14, 0.09, 0.06], [0.26, 0.16, 0.09], [0.42, 0.27, 0.15], [0.66, 0.50, 0.30],
     [0.45, 0.20, 0.10], [0.62, 0.61, 0.60]]
)  # fmt: skip
IRIS_COLOURS = np.array(
    [[0.20, 0.11, 0.06], [0.30, 0.18, 0.09], [0.36, 0.34, 0.18], [0.30, 0.42, 0.30], [0.33, 0.47, 0.62],
     [0.45, 0.52, 0.56]]
)  # fmt: skip
LIPSTICKS = np.array([[0.62, 0.16, 0.20], [0.55, 0.20, 0.28], [0.70, 0.30, 0.30]])


def sample_look(rng: np.random.Generator, male: bool, ancestry: np.ndarray, age: float) -> dict:
    """Returns the colours and habits of a person."""
    tone = float(np.clip(ancestry @ np.array([5.0, 2.0, 0.9]) + rng.normal(0, 0.5), 0, 6))
    lower = int(min(tone, 5))
    shade = SKIN_TONES[lower] + (SKIN_TONES[lower + 1] - SKIN_TONES[lower]) * (tone - lower)
    skin = linear_rgb(np.clip(shade + rng.normal(0, 0.012, 3), 0.05, 1))
    dark = ancestry[0] + ancestry[1] > 0.55
    grey = age > 0.5 and rng.random() < 0.75
    hair_choice = rng.integers(3 if dark else 6)
    hair = linear_rgb(np.clip(HAIR_COLOURS[6 if grey else hair_choice] * (1 + rng.normal(0, 0.06)), 0, 1))
    beard = float(rng.choice([0, 0, 0.25, 0.5, 0.9])) if male else 0.0
    moustache = float(beard if rng.random() < 0.7 else rng.choice([0, 0.8])) if beard > 0 else 0.0
    lipstick = 0.0 if male else rng.random() ** 1.5 * 0.5
    lips = skin * linear_rgb([0.93, 0.74, 0.74]) * (1 - lipstick) + lipstick * linear_rgb(LIPSTICKS[rng.integers(3)])
    return dict(
        tone=tone,
        skin=skin,
        hair=hair,
        brows=(hair * (0.55 if grey else 0.6)).astype(np.float32),
        iris=linear_rgb(IRIS_COLOURS[rng.integers(2) if dark else rng.integers(6)]),
        lips=lips.astype(np.float32),
        beard=beard,
        moustache=moustache,
        makeup=0.0 if male else float(rng.random() * 0.8),
    )


def paint_surface(rng: np.random.Generator, head: Head, male: bool, look: dict) -> np.ndarray:
    """Returns the surface map [h, w, 5]: albedo factor, brow cover, beard cover (own drawing)."""
    x, y, side = head.map_x, head.map_y, np.abs(head.map_x)
    height, width = x.shape

    def tint(albedo, amount, absorption):
        albedo *= np.exp(-amount[..., None] * np.asarray(absorption, np.float32))

    def noise(cells, octaves):
        return value_noise(rng, height, width, cells, octaves)

    albedo = np.ones((height, width, 3), np.float32)
    redness = 0.5 * np.exp(-(((side - 0.38) / 0.2) ** 2) - ((y - 7.12) / 0.17) ** 2)
    redness += 0.5 * np.exp(-((x / 0.13) ** 2) - ((y - 7.14) / 0.12) ** 2)
    tint(albedo, (redness + 0.12 * noise(4, 3)) * (0.6 + 0.8 * rng.random()), [0.04, 0.30, 0.26])
    pores = 0.03 * noise(24, 4) + 0.02 * noise(100, 1)
    tint(albedo, -pores, [1, 1, 1])
    sockets = np.exp(-(((side - 0.29) / 0.19) ** 2) - ((y - 7.46) / 0.13) ** 2)
    tint(albedo, sockets * (0.12 + 0.25 * rng.random()), [0.8, 1.1, 1.0])
    if rng.random() < 0.3 and look["tone"] < 2.6:
        cheeks = np.exp(-((side / 0.55) ** 4) - ((y - 7.2) / 0.25) ** 4)
        tint(albedo, smoothstep(0.9, 1.5, noise(90, 1)) * cheeks * 0.35, [0.5, 1.0, 1.2])
    for _ in range(rng.integers(0, 4)):
        mole_x, mole_y = rng.uniform(-0.6, 0.6), rng.uniform(6.55, 8.1)
        radius = 0.012 + 0.01 * rng.random()
        tint(albedo, np.exp(-((x - mole_x) ** 2 + (y - mole_y) ** 2) / radius**2), [0.9, 0.9, 0.9])
    if look["makeup"]:
        lids = np.exp(-(((side - 0.29) / 0.17) ** 2) - ((y - 7.60) / 0.055) ** 2)
        tint(albedo, look["makeup"] * 0.9 * lids, rng.uniform(0.4, 1.2, 3))
    brows = _paint_brows(rng, side, y, male, noise)
    beard = _paint_beard(x, y, side, look, noise)
    layers = [albedo, brows[..., None], beard[..., None]]
    return np.ascontiguousarray(np.concatenate(layers, -1).astype(np.float32))


def _paint_brows(rng, side, y, male, noise):
    along = (side - 0.10) / (0.52 + rng.normal(0, 0.03) - 0.10)
    arch = rng.uniform(0.02, 0.10) * np.sin(np.clip(along, 0, 1) * np.pi * 0.85)
    middle = 7.685 + rng.normal(0, 0.015) + arch - 0.03 * np.clip(along - 0.6, 0, 1)
    thickness = rng.uniform(0.030, 0.054) if male else rng.uniform(0.020, 0.038)
    thickness = thickness * (1 - 0.65 * np.clip(along, 0, 1) ** 1.5)
    stroke = np.exp(-(((y - middle) / thickness) ** 4)) * smoothstep(-0.05, 0.06, along)
    stroke = stroke * (1 - smoothstep(0.85, 1.05, along))
    return np.clip(stroke * (0.95 + 0.14 * noise(90, 1)) * rng.uniform(0.75, 1.0), 0, 1)


def _paint_beard(x, y, side, look, noise):
    jaw = smoothstep(6.95, 6.75, y - 0.8 * np.clip(side - 0.35, 0, 1)) * smoothstep(0.0, 0.2, side + (6.74 - y) * 2.0)
    around_lips = np.exp(-((x / 0.26) ** 4) - ((y - 6.86) / 0.115) ** 4)
    sideburns = smoothstep(0.52, 0.66, side) * smoothstep(7.5, 7.3, y)
    beard = np.clip(jaw + sideburns, 0, 1) * (1 - around_lips) * smoothstep(6.25, 6.5, y)
    moustache = np.exp(-((side / 0.30) ** 6) - ((y - 6.985 + 0.12 * side) / 0.042) ** 4)
    cover = np.clip(look["beard"] * beard + look["moustache"] * moustache, 0, 1)
    return np.clip(cover * np.clip(0.8 + 0.2 * noise(110, 1) + 0.05 * noise(8, 2), 0, 1.1), 0, 1)

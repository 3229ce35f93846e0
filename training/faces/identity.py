"""Identities: the shape and the surface of a person, and what changes between recordings (hair style, clothes)."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from training.faces.head import EYES, SKIN, Head, linear_rgb, smoothstep

SHAPE_SPREAD = 0.62
"""How far the detail axes of identity reach; at 1, many faces leave the human range (own choice)."""
REGION_DEVIATION = {
    "head": 0.16, "forehead": 0.24, "eyebrows": 0.40, "eyes": 0.32, "nose": 0.40,
    "mouth": 0.36, "cheek": 0.42, "chin": 0.38, "ears": 0.28, "neck": 0.16,
}  # fmt: skip
SKULL_AXES = ("head-scale-vert", "head-angle", "head-scale-horiz", "forehead-scale-vert", "head-back-scale-depth")
"""Axes that give impossible skulls where they reach far: they get half the spread."""
FIXED_AXES = ("head-trans", "neck-trans", "head-age")
"""Axes that move the head or repeat the age targets: never used. Matched as whole beginnings of a target's name."""

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
MALE_STYLES = ("buzz", "short", "short", "short", "quiff", "fringe")
FEMALE_STYLES = ("short", "fringe", "bob", "bob", "long", "long", "bun")
STYLE_THICKNESS = {"short": 0.10, "quiff": 0.16, "fringe": 0.15, "bob": 0.16, "long": 0.13, "bun": 0.07}
"""How far hair stands off the scalp, in mesh units; bald and buzz have none."""
STYLE_LENGTH = {"bob": 6.75, "long": 5.2}
"""Where hanging hair ends (y in mesh units)."""


@dataclass(frozen=True, eq=False)
class Identity:
    """A person in one recording. Shape, skin, eyes and brows depend on `seed`; hair style and clothes on both seeds.

    Colours are linear light. Maps lie in the canonical window of the head model.

    Attributes:
        seed: the person. recording: the occasion.
        vertices: [n, 3] float32, the neutral face.
        surface_map: [h, w, 5] float32: albedo factor (3), brow cover, beard cover.
        creases: [8] float32, depth of the creases at rest.
        hair_mask: [n] float32, how much a vertex belongs to the hair-covered scalp.
        hair_thickness: [n] float32, mesh units. hair_drop: [n, 3] float32, how far hair falls over the forehead.
        hair_noise: [256, 256] float32 in [0, 1], strands.
    """

    seed: int
    recording: int
    male: bool
    age: float
    vertices: np.ndarray
    skin: np.ndarray
    lips: np.ndarray
    brows: np.ndarray
    iris: np.ndarray
    surface_map: np.ndarray
    creases: np.ndarray
    hair: np.ndarray
    clothes: np.ndarray
    hair_style: str
    hair_mask: np.ndarray
    hair_thickness: np.ndarray
    hair_drop: np.ndarray
    hair_noise: np.ndarray
    hair_end: float
    parting: float
    left_eye: np.ndarray
    right_eye: np.ndarray
    mouth: np.ndarray


def sample_identity(head: Head, seed: int, recording: int = 0) -> Identity:
    """Draws a person, wearing the hair and clothes of one recording.

    Args:
        head: the head model.
        seed: the person: shape, skin, eyes, brows and beard, the usual hair.
        recording: the occasion: hair style, hairline and clothes; the hair's colour keeps its family.
    """
    if seed < 0 or recording < 0:
        raise ValueError(f"seed is {seed} and recording is {recording}; both must be 0 or more")
    return _dress(head, _sample_person(head, int(seed)), int(recording))


@lru_cache(maxsize=4)
def _sample_person(head, seed):
    rng = np.random.default_rng([seed, 1])
    male = seed % 2 == 0
    ancestry = rng.dirichlet([0.45] * 3)
    age = float(np.clip(rng.beta(1.1, 2.2), 0, 0.9))
    vertices = _sample_shape(rng, head, male, ancestry, age)
    look = _sample_look(rng, male, ancestry, age)
    surface_map = _paint_surface(rng, head, male, look)
    creases = np.array([0.35, 0.2, 0, 0.25, 0.45, 0.4, 0.25, 0.1]) * max(0.0, age - 0.15) * 1.2
    creases = np.clip(creases + rng.normal(0, 0.03, 8), 0, 0.6)
    eyes = [vertices[side].mean(0) for side in (head.left_eye, head.right_eye)]
    nothing = np.zeros(len(vertices), np.float32)
    person = Identity(
        seed=seed,
        recording=0,
        male=male,
        age=age,
        vertices=vertices,
        skin=look["skin"],
        lips=look["lips"],
        brows=look["brows"],
        iris=look["iris"],
        surface_map=surface_map,
        creases=creases.astype(np.float32),
        hair=look["hair"],
        clothes=np.zeros(3, np.float32),
        hair_style="bald",
        hair_mask=nothing,
        hair_thickness=nothing,
        hair_drop=np.zeros_like(vertices),
        hair_noise=np.clip(0.5 + 0.3 * value_noise(rng, 256, 256, 48, 2), 0, 1).astype(np.float32),
        hair_end=0.0,
        parting=0.0,
        left_eye=eyes[0],
        right_eye=eyes[1],
        mouth=vertices[head.lips].mean(0),
    )
    for array in (vertices, surface_map, person.hair_noise):
        array.setflags(write=False)
    return person


def _sample_shape(rng, head, male, ancestry, age):
    """Returns vertices [n, 3]: MakeHuman's macro targets, then detail axes, then a few asymmetries."""
    femininity = np.clip((0.1 if male else 0.9) + rng.normal(0, 0.12), 0, 1)
    muscle, weight = np.clip(rng.normal(0.5, (0.25, 0.26)), 0, 1)
    sexes = (("male", 1 - femininity), ("female", femininity))
    ages = (("old", age), ("young", 1 - age))
    vertices = head.vertices.copy()
    for sex, sex_share in sexes:
        for era, age_share in ages:
            for race, share in zip(("african", "asian", "caucasian"), ancestry, strict=True):
                vertices += np.float32(share * sex_share * age_share) * head.target(f"macro/{race}-{sex}-{era}")
            for muscle_name, muscle_share in _three_levels(muscle):
                for weight_name, weight_share in _three_levels(weight):
                    name = f"macro/universal-{sex}-{era}-{muscle_name}muscle-{weight_name}weight"
                    share = sex_share * age_share * muscle_share * weight_share
                    if share > 0 and name in head.target_index:
                        vertices += np.float32(share) * head.target(name)
    for axis in head.axes:
        stem = axis.name.split("/")[1]
        draw = rng.normal()
        if stem.startswith(FIXED_AXES):
            continue
        deviation = REGION_DEVIATION[axis.region] * SHAPE_SPREAD * (0.5 if stem.startswith(SKULL_AXES) else 1)
        step = float(np.clip(draw * deviation, -0.8, 0.8))
        if "eye-scale" in stem:
            step = float(np.clip(step + (0.30 if stem.endswith("incr") else -0.30), -0.6, 0.85))
        if not axis.negative:
            step = abs(step) * 0.6
        for number in axis.positive if step > 0 else axis.negative:
            vertices += np.float32(abs(step)) * head.targets[number]
    for number in rng.choice(head.asymmetries, 8, replace=False):
        vertices += np.float32(abs(rng.normal(0, 0.13))) * head.targets[number]
    return vertices


def _three_levels(value):
    return (("min", max(0, 1 - 2 * value)), ("average", 1 - abs(2 * value - 1)), ("max", max(0, 2 * value - 1)))


def _sample_look(rng, male, ancestry, age):
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


def _paint_surface(rng, head, male, look):
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


def _dress(head, person, recording):
    """Returns the person with the hair and the clothes of a recording."""
    habits = np.random.default_rng([person.seed, 2])
    balding = person.male and habits.random() < 0.10 + 0.25 * person.age
    usual = habits.integers(1 << 20)
    rng = np.random.default_rng([person.seed, recording, 3])
    styles = MALE_STYLES if person.male else FEMALE_STYLES
    choice = usual if rng.random() < 0.25 else rng.integers(1 << 20)
    style = ("bald", "buzz")[choice % 2] if balding else styles[choice % len(styles)]
    hairline = rng.uniform(-0.06, 0.09) - (0.10 * habits.random() if person.male and person.age > 0.45 else 0)
    widow_peak, parting = rng.uniform(-0.03, 0.12), rng.uniform(-0.3, 0.3)
    mask = hair_mask(head, person, hairline, widow_peak) if style != "bald" else np.zeros(len(person.vertices))
    thickness, drop = _hair_shape(head, style, mask, rng.uniform(0.8, 1.2))
    return replace(
        person,
        recording=recording,
        hair=np.clip(person.hair * rng.uniform(0.85, 1.2), 0, 1).astype(np.float32),
        clothes=linear_rgb(np.clip(rng.uniform(0.05, 0.9) + rng.normal(0, 0.15, 3), 0.02, 0.95)),
        hair_style=style,
        hair_mask=mask.astype(np.float32),
        hair_thickness=thickness.astype(np.float32),
        hair_drop=drop.astype(np.float32),
        hair_end=STYLE_LENGTH.get(style, 99.0) + rng.uniform(-0.2, 0.25),
        parting=float(parting),
    )


def hair_mask(head: Head, person: Identity, hairline: float, widow_peak: float) -> np.ndarray:
    """Returns [n] in [0, 1]: 1 where hair grows on the scalp (own drawing in canonical coordinates)."""
    x, y, z = head.mean.T
    side = np.abs(x)
    depth = np.array([-1.0, -0.6, -0.2, 0.15, 0.35, 0.6, 0.8, 1.0, 1.2, 1.35, 1.6])
    lowest = np.array([6.75, 6.75, 6.9, 7.35, 7.45, 7.75, 7.95, 8.05, 8.10, 8.14, 8.2])
    line = np.interp(z, depth, lowest) - hairline * smoothstep(0.5, 1.1, z)
    line += widow_peak * np.exp(-(((side - 0.33) / 0.16) ** 2)) * smoothstep(0.7, 1.0, z)
    if person.male and person.age > 0.4:
        line += 0.10 * smoothstep(0.9, 1.15, z) * smoothstep(0.2, 0.5, side)
    mask = np.clip((y - line) / 0.16 + 0.5, 0, 1) * (1 - np.clip(head.masks["ears"] * 2, 0, 1))
    scalp = np.zeros(len(y), bool)
    scalp[np.unique(head.triangles[head.parts == SKIN])] = True
    scalp[np.unique(head.triangles[head.parts == EYES])] = False
    return mask * scalp


def _hair_shape(head, style, mask, volume):
    """Returns how far hair stands off [n] and how far it falls over the forehead [n, 3], in mesh units."""
    _, y, z = head.mean.T
    thickness = STYLE_THICKNESS.get(style, 0.0) * volume * np.sqrt(mask) * (0.55 + 0.45 * smoothstep(7.6, 8.3, y))
    if style == "quiff":
        thickness = thickness * (1 + 1.6 * smoothstep(0.6, 1.15, z) * smoothstep(7.9, 8.25, y))
    drop = np.zeros((len(mask), 3))
    if style == "fringe":
        front = smoothstep(0.85, 1.2, z) * smoothstep(8.45, 8.05, y) * (mask > 0.02)
        drop[:, 1], drop[:, 2] = -0.22 * front, 0.05 * front
    return thickness, drop


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

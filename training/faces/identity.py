"""Identities: shape and surface of a person, and what changes between recordings: hair, clothes, things worn."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from training.faces.expression import Style, sample_style
from training.faces.hair import FEMALE_STYLES, MALE_STYLES, TIGHT_CURLS, Hair, eye_shift, grow_hair
from training.faces.head import Head, linear_rgb
from training.faces.shape import sample_shape
from training.faces.surface import Look, paint_surface, sample_look
from training.faces.variety import FULL, Variety
from training.faces.wear import HEADWEAR, NOTHING, Mesh, join, make_glasses, make_headwear

FRAME_COLOURS = ((0.08, 0.07, 0.07), (0.5, 0.45, 0.38), (0.08, 0.07, 0.07), (0.30, 0.17, 0.10), (0.15, 0.18, 0.28))
HAT_LINE = {"cap": 8.0, "knitted": 7.95}
"""Strands that grow above this height (mesh units, with the eyes of the mean face) are under the hat."""


@dataclass(frozen=True, eq=False)
class Identity:
    """A person in one recording. Shape, skin, eyes and brows depend on `seed`; hair, clothes and glasses on both seeds.

    Colours are linear light. Maps lie in the canonical window of the head model.

    Attributes:
        seed: the person. recording: the occasion.
        male: sex. age: 0 = young adult, 1 = old.
        vertices: [n, 3] float32, the neutral face.
        style: the person's own way to show an expression.
        look: colours and habits.
        surface: maps [h, w, 8] float32, largest first (channels: see `surface`).
        creases: [8] float32, depth of the creases at rest.
        hair: the hair as it is worn. hair_colour: [3].
        worn: glasses and headwear. cloth, frame: [3], their colours. glasses, headwear: what kind, or None.
        clothes: [2, 3], colours of the stripes. stripes: [3], their direction and frequency (0 = plain).
        left_eye, right_eye, mouth: [3], middles, which frame the picture.
    """

    seed: int
    recording: int
    male: bool
    age: float
    vertices: np.ndarray
    style: Style
    look: Look
    surface: tuple[np.ndarray, ...]
    creases: np.ndarray
    left_eye: np.ndarray
    right_eye: np.ndarray
    mouth: np.ndarray
    hair: Hair
    hair_colour: np.ndarray
    worn: Mesh
    glasses: bool
    headwear: str | None
    cloth: np.ndarray
    frame: np.ndarray
    clothes: np.ndarray
    stripes: np.ndarray


def sample_identity(head: Head, seed: int, recording: int = 0, variety: Variety = FULL) -> Identity:
    """Draws a person, wearing the hair and clothes of one recording.

    Args:
        head: the head model.
        seed: the person: shape, skin, eyes, brows and beard, the usual hair, style of expression, glasses.
        recording: the occasion: hair style, hairline, clothes, headwear; the hair's colour keeps its family.
        variety: shares of glasses, headwear, facial hair and the like; the shape does not depend on it.
    """
    if seed < 0 or recording < 0:
        raise ValueError(f"seed is {seed} and recording is {recording}; both must be 0 or more")
    return _dress(head, _sample_person(head, int(seed), variety), int(recording), variety)


@lru_cache(maxsize=4)
def _sample_person(head, seed, variety):
    """Returns what stays the same between recordings, as fields of an `Identity`."""
    rng = np.random.default_rng([seed, 1])
    male = seed % 2 == 0
    ancestry = rng.dirichlet([0.45] * 3)
    age = float(np.clip(rng.beta(1.1, 2.2), 0, 0.9))
    vertices = sample_shape(rng, head, male, ancestry, age)
    vertices.setflags(write=False)
    rng = np.random.default_rng([seed, 4])
    look = sample_look(rng, male, ancestry, age, variety)
    creases = np.array([0.5, 0.3, 0, 0.4, 0.75, 0.6, 0.4, 0.15]) * max(0.0, age - 0.1) * 1.3
    creases += np.array([0, 0, 0, 0, 0.22, 0.22, 0.05, 0]) + rng.normal(0, 0.05, 8)
    return dict(
        seed=seed,
        male=male,
        age=age,
        vertices=vertices,
        style=sample_style(seed, variety.style),
        look=look,
        surface=paint_surface(rng, head, male, age, look, variety),
        creases=np.clip(creases, 0, 0.9).astype(np.float32),
        left_eye=vertices[head.left_eye].mean(0),
        right_eye=vertices[head.right_eye].mean(0),
        mouth=vertices[head.lips].mean(0),
    )


def _dress(head, person, recording, variety):
    """Returns the person with the hair, the clothes and the things worn in a recording."""
    male, age, look, vertices = person["male"], person["age"], person["look"], person["vertices"]
    habits = np.random.default_rng([person["seed"], 2])
    balding = male and habits.random() < 0.08 + 0.30 * age
    receding = habits.uniform(0.3, 1.0) if male and habits.random() < age else 0.0
    owns_glasses, shows_no_hair = habits.random() < variety.glasses, habits.random() < 0.25
    usual, frames = habits.integers(1 << 20, size=2)
    rng = np.random.default_rng([person["seed"], recording, 3])
    styles = TIGHT_CURLS if look.curly else MALE_STYLES if male else FEMALE_STYLES
    choice = rng.integers(1 << 20) if rng.random() < variety.hair_changes else usual
    style = ("bald", "buzz")[choice % 2] if balding else styles[choice % len(styles)]
    hairline = rng.uniform(-0.02, 0.12)
    headwear = None
    if rng.random() < variety.headwear:
        scarf = shows_no_hair and not male
        headwear = "headscarf" if scarf else HEADWEAR[rng.integers(2)]
    if headwear == "headscarf":
        style = "bald"
    hair = grow_hair(rng, head, vertices, style, hairline, receding)
    if headwear in HAT_LINE:
        below = hair.strands[:, 0, 1] - eye_shift(head, vertices)[1] < HAT_LINE[headwear]
        hair = replace(hair, strands=hair.strands[below], shades=hair.shades[below])
    glasses = owns_glasses and rng.random() < 0.75
    worn = [NOTHING]
    if glasses:
        worn.append(make_glasses(np.random.default_rng(frames), head, vertices))
    if headwear:
        worn.append(make_headwear(rng, head, vertices, headwear))
    turn = rng.uniform(0, np.pi)
    frequency = rng.uniform(15, 60) if rng.random() < 0.4 else 0.0
    return Identity(
        **person,
        recording=recording,
        hair=hair,
        hair_colour=np.clip(look.hair * rng.uniform(0.85, 1.2), 0, 1).astype(np.float32),
        worn=join(*worn),
        glasses=glasses,
        headwear=headwear,
        cloth=_dye(rng),
        frame=linear_rgb(FRAME_COLOURS[frames % len(FRAME_COLOURS)]),
        clothes=np.stack([_dye(rng), _dye(rng)]),
        stripes=np.array([np.cos(turn) * frequency, np.sin(turn) * frequency, frequency], np.float32),
    )


def _dye(rng):
    return linear_rgb(np.clip(rng.uniform(0.08, 0.85) + rng.normal(0, 0.12, 3), 0.03, 0.92))

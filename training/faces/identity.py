"""Identities: the shape and the surface of a person, and what changes between recordings (hair style, clothes)."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from training.faces.hair import FEMALE_STYLES, MALE_STYLES, STYLE_LENGTH, hair_mask, hair_shape
from training.faces.head import Head, linear_rgb
from training.faces.noise import value_noise
from training.faces.shape import sample_shape
from training.faces.surface import paint_surface, sample_look


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
    vertices = sample_shape(rng, head, male, ancestry, age)
    look = sample_look(rng, male, ancestry, age)
    surface_map = paint_surface(rng, head, male, look)
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
    mask = (
        hair_mask(head, person.male, person.age, hairline, widow_peak)
        if style != "bald"
        else np.zeros(len(person.vertices))
    )
    thickness, drop = hair_shape(head, style, mask, rng.uniform(0.8, 1.2))
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

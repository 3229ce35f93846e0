"""The neutral shape of a person: MakeHuman's targets, mixed by chance."""

import numpy as np

from training.faces.head import Head

SHAPE_SPREAD = 0.85
"""How far the detail axes of identity reach (own choice). At 0.62 an embedder of photographs took many people for
others (area under the curve 0.93; 0.96 at 0.85); at 1.05 it told them apart still better (0.97), but some look odd."""
LARGEST_DRAW, LARGEST_REGION = 1.8, 1.2
"""Bounds of the standard-normal draws: of each axis, and of their root mean square in each region of the head. A region
in which many axes are far out at once is what makes an impossible skull or chin."""
REGION_DEVIATION = {
    "head": 0.16, "forehead": 0.24, "eyebrows": 0.40, "eyes": 0.32, "nose": 0.46,
    "mouth": 0.36, "cheek": 0.42, "chin": 0.42, "ears": 0.28, "neck": 0.16,
}  # fmt: skip
SKULL_AXES = ("head-scale-vert", "head-angle", "head-scale-horiz", "forehead-scale-vert", "head-back-scale-depth")
"""Axes that give impossible skulls where they reach far: they get half the spread."""
RESTING_AXES = ("eyebrows-angle", "mouth-angles", "mouth-lowerlip-ext", "mouth-upperlip-ext")
"""Axes that make a face look angry, sad or content at rest: they get half the spread."""
FIXED_AXES = ("head-trans", "neck-trans", "head-age")
"""Axes that move the head or repeat the age targets: never used. Matched as whole beginnings of a target's name."""


def sample_shape(rng: np.random.Generator, head: Head, male: bool, ancestry: np.ndarray, age: float) -> np.ndarray:
    """Returns vertices [n, 3]: MakeHuman's macro targets, then detail axes, then a few asymmetries.

    Args:
        rng: the only source of chance.
        head: the head model.
        male: which side of the sexes; the share of the other is drawn.
        ancestry: [3] shares of the African, Asian and Caucasian targets, sum 1.
        age: 0 = young adult, 1 = old.
    """
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
    for axis, draw in zip(head.axes, _bounded_draws(rng, head), strict=True):
        stem = axis.name.split("/")[1]
        if stem.startswith(FIXED_AXES):
            continue
        bounded = stem.startswith((*SKULL_AXES, *RESTING_AXES))
        deviation = REGION_DEVIATION[axis.region] * SHAPE_SPREAD * (0.5 if bounded else 1)
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


def _bounded_draws(rng, head):
    """Returns a draw for each axis, within `LARGEST_DRAW` and `LARGEST_REGION`."""
    draws = np.clip(rng.normal(size=len(head.axes)), -LARGEST_DRAW, LARGEST_DRAW)
    regions = np.array([axis.region for axis in head.axes])
    for region in REGION_DEVIATION:
        part = regions == region
        draws[part] *= min(1.0, LARGEST_REGION / np.sqrt(np.mean(draws[part] ** 2)))
    return draws


def _three_levels(value):
    return (("min", max(0, 1 - 2 * value)), ("average", 1 - abs(2 * value - 1)), ("max", max(0, 2 * value - 1)))

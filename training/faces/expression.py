"""Expressions: face-unit weights, the same for all people, so that they transfer exactly."""

import difflib
from dataclasses import dataclass

import numpy as np

EXPRESSIONS = ("neutral", "anger", "disgust", "fear", "happiness", "sadness", "surprise")

_BOTH_SIDES = (
    "browDown browOuterUp cheekSquint eyeBlink eyeLookDown eyeLookIn eyeLookOut eyeLookUp eyeSquint eyeWide "
    "mouthDimple mouthFrown mouthLowerDown mouthPress mouthSmile mouthStretch mouthUpperUp noseSneer"
).split()
_SINGLE = (
    "browInnerUp cheekPuff jawForward jawLeft jawOpen jawRight mouthClose mouthFunnel mouthLeft mouthPucker mouthRight "
    "mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper tongueOut"
).split()
UNITS = tuple(sorted(_SINGLE + [stem + side for stem in _BOTH_SIDES for side in ("Left", "Right")]))
"""The 52 face units (ARKit's names; Left and Right are the person's own)."""
UNIT_INDEX = {name: number for number, name in enumerate(UNITS)}
MAX_UNIT = 1.45
"""Face-unit weights lie in [0, MAX_UNIT]; above 1 the linear targets exaggerate, which brows and frowns need."""
WEAKEST = 0.45
"""Least intensity of an expression drawn by chance, unless said otherwise: plain enough to be named by who sees it."""

RECIPES = {
    "neutral": (
        {},
        dict(mouthSmile=0.15, mouthFrown=0.2, browInnerUp=0.08, browOuterUp=0.08, eyeBlink=0.18, mouthDimple=0.08),
    ),
    "anger": (
        dict(browDown=1.45, eyeWide=0.7, eyeSquint=0.45, noseSneer=0.75, mouthPress=0.8, mouthRollLower=0.5,
             mouthFrown=1.15, mouthShrugLower=1.2, jawForward=0.1, mouthLowerDown=0.1),
        dict(browDown=1.1, eyeWide=0.5, cheekSquint=0.25, noseSneer=0.75, mouthFrown=0.9, jawForward=0.15,
             mouthLowerDown=1.3, jawOpen=0.1, mouthPucker=0.45),
        dict(browDown=1.4, eyeWide=0.35, cheekSquint=0.15, noseSneer=0.45, mouthPress=0.3, mouthRollUpper=0.25,
             jawForward=0.25, mouthUpperUp=0.2, mouthLowerDown=0.6, mouthStretch=0.2, jawOpen=0.7, mouthFunnel=0.25),
    ),
    "disgust": (
        dict(noseSneer=1.25, browDown=1.0, mouthUpperUp=0.6, mouthFrown=0.6, eyeSquint=0.25, cheekSquint=0.6,
             mouthShrugLower=0.25, mouthShrugUpper=0.2, jawOpen=0.1),
        dict(noseSneer=1.0, browDown=0.3, mouthUpperUp=0.6, mouthFrown=0.4, eyeSquint=0.3, cheekSquint=0.4,
             mouthShrugLower=0.6, mouthShrugUpper=0.25, jawOpen=0.05),
        dict(noseSneer=1.3, mouthUpperUp=0.35, mouthFrown=0.4, eyeSquint=0.1, cheekSquint=0.9, mouthShrugLower=0.25,
             mouthShrugUpper=0.3, mouthLowerDown=0.6, mouthRollLower=0.35),
    ),
    "fear": (
        dict(browInnerUp=1.1, browDown=0.7, eyeWide=1.45, mouthStretch=1.45, jawOpen=0.45, mouthLowerDown=0.75,
             mouthFrown=0.8, mouthUpperUp=1.1),
        dict(browInnerUp=1.05, browOuterUp=0.05, browDown=0.55, eyeWide=1.25, mouthStretch=1.45, jawOpen=0.35,
             mouthLowerDown=0.7, mouthUpperUp=0.45),
        dict(browInnerUp=1.2, browOuterUp=0.5, browDown=0.95, eyeWide=1.45, mouthStretch=1.45, jawOpen=0.3,
             mouthLowerDown=0.4, mouthFrown=0.6, mouthUpperUp=0.5),
    ),
    "happiness": (
        dict(mouthSmile=1.35, cheekSquint=0.9, eyeSquint=0.1, mouthUpperUp=0.35, mouthDimple=0.15, jawOpen=0.12),
        dict(mouthSmile=1.25, cheekSquint=0.9, eyeSquint=0.1, mouthUpperUp=0.5, mouthLowerDown=0.2, jawOpen=0.2),
        dict(mouthSmile=1.2, cheekSquint=0.7, mouthDimple=0.35),
        dict(mouthSmile=1.35, cheekSquint=1.0, eyeSquint=0.2, mouthUpperUp=0.4, mouthLowerDown=0.3, jawOpen=0.35),
    ),
    "sadness": (
        dict(browInnerUp=1.4, browDown=1.3, mouthFrown=1.4, mouthShrugLower=1.0, mouthShrugUpper=0.25,
             mouthStretch=0.3, eyeSquint=0.15, eyeLookDown=0.4, eyeBlink=0.15, cheekSquint=0.3, mouthRollLower=0.5,
             jawOpen=0.2),
        dict(browInnerUp=1.35, browDown=0.85, browOuterUp=0.4, mouthFrown=1.45, mouthShrugLower=1.0,
             mouthStretch=0.7, eyeSquint=0.2, eyeBlink=0.2),
        dict(browInnerUp=1.4, browDown=1.0, mouthFrown=1.4, mouthShrugLower=0.8, mouthShrugUpper=0.2, eyeSquint=0.15,
             eyeLookDown=0.35, eyeBlink=0.15, cheekSquint=0.25),
    ),
    "surprise": (
        dict(browInnerUp=0.9, browOuterUp=1.0, eyeWide=0.9, jawOpen=0.6, mouthFunnel=0.15),
        dict(browInnerUp=0.8, browOuterUp=1.0, eyeWide=1.0, jawOpen=0.4, mouthFunnel=0.3),
        dict(browInnerUp=1.1, browOuterUp=1.1, eyeWide=0.7, jawOpen=0.25, mouthFunnel=0.1),
    ),
}  # fmt: skip
"""Peaks of the basic expressions after FACS prototypes; names without a side mean both.

The weights are our own choice: found by a search, within the units that FACS names for each expression, for what two
classifiers of photographs read best (`training.judges`) on 14 people of the validation split; then lids were opened
again, since the classifiers like them shut in disgust and sadness and people do not keep them so.
"""

STYLE_GROUPS = ("brow", "eye", "cheek", "nose", "jaw", "mouth")
"""Beginnings of the names of units that a person shows more or less strongly than others, all together."""
REST_UNITS = ("browDown", "browInnerUp", "eyeSquint", "eyeBlink", "mouthFrown", "mouthSmile", "mouthPress")
"""Units that a face may show a little at rest."""


@dataclass(frozen=True, eq=False)
class Expression:
    """What a face does.

    Attributes:
        label: one of `EXPRESSIONS`; for a blend, the dominant one.
        intensity: 0 = neutral, 1 = peak.
        units: [52] float32 in [0, `MAX_UNIT`], in the order of `UNITS`.
    """

    label: str
    intensity: float
    units: np.ndarray


@dataclass(frozen=True, eq=False)
class Style:
    """A person's own way to show what is intended.

    Attributes:
        gains: [52] float32, factors of the intended weights.
        rest: [52] float32, weights that are always there.
    """

    gains: np.ndarray
    rest: np.ndarray

    def show(self, units: np.ndarray) -> np.ndarray:
        """Returns the weights [52] that the face shows when these are intended, in [0, `MAX_UNIT`]."""
        return np.clip(self.gains * units + self.rest, 0, MAX_UNIT).astype(np.float32)


def sample_style(seed: int, strength: float = 1.0) -> Style:
    """Draws the style of a person.

    Groups of units are stronger or weaker as a whole (deviation 0.12), each unit by itself (0.08), one side of the face
    (0.06), and one or two units are there at rest (up to 0.2).

    Args:
        seed: the person.
        strength: factor of all deviations; at 0 the face shows what is intended.

    >>> style = sample_style(7, strength=0.0)
    >>> bool((style.show(np.full(52, 0.5, np.float32)) == 0.5).all())
    True
    """
    rng = np.random.default_rng([seed, 5])
    groups = dict(zip(STYLE_GROUPS, rng.normal(0, 0.12, len(STYLE_GROUPS)), strict=True))
    side = rng.normal(0, 0.06)
    own = rng.normal(0, 0.08, len(UNITS))
    gains = np.ones(len(UNITS))
    for number, name in enumerate(UNITS):
        group = next((groups[start] for start in STYLE_GROUPS if name.startswith(start)), 0.0)
        lean = side if name.endswith("Left") else -side if name.endswith("Right") else 0.0
        gains[number] += strength * np.clip(group + lean + own[number], -0.4, 0.4)
    chosen = rng.choice(REST_UNITS, rng.integers(1, 3), replace=False)
    rest = strength * recipe_units({str(name): float(rng.uniform(0, 0.2)) for name in chosen})
    return Style(gains.astype(np.float32), rest.astype(np.float32))


def check_label(label: str) -> str:
    """Returns the label.

    Raises:
        ValueError: it is not one of `EXPRESSIONS`.
    """
    if label not in EXPRESSIONS:
        close = difflib.get_close_matches(str(label), EXPRESSIONS, n=2)
        hint = f" Close names: {', '.join(close)}." if close else ""
        raise ValueError(f"no expression is named {label!r}; accepted: {', '.join(EXPRESSIONS)}.{hint}")
    return label


def recipe_units(recipe: dict[str, float]) -> np.ndarray:
    """Returns the weights [52] of a recipe, both sides where the recipe names none."""
    units = np.zeros(len(UNITS), np.float32)
    for name, weight in recipe.items():
        for unit in (name,) if name in UNIT_INDEX else (name + "Left", name + "Right"):
            units[UNIT_INDEX[unit]] = weight
    return units


def peak_expression(label: str) -> Expression:
    """Returns the canonical form of a named expression, at intensity 1 and without any variation.

    >>> peak_expression("happiness").units.shape
    (52,)
    """
    units = recipe_units(RECIPES[check_label(label)][0])
    return Expression(label, 0.0 if label == "neutral" else 1.0, units)


def _varied_units(rng, label, intensity):
    """Returns one person's way of showing an expression: a mix of two variants, gains per region, unit and side."""
    variants = RECIPES[label]
    one, other = (recipe_units(variants[k]) for k in rng.integers(len(variants), size=2))
    share = rng.beta(0.6, 0.6)
    units = (share * one + (1 - share) * other) * intensity
    upper, lower = np.clip(rng.normal(1, 0.12, 2), 0.7, 1.3)
    left, right = np.clip(rng.normal(1, 0.07, 2), 0.8, 1.2)
    own = np.clip(rng.normal(1, 0.12, len(UNITS)), 0.6, 1.4)
    for number, name in enumerate(UNITS):
        side = left if name.endswith("Left") else right if name.endswith("Right") else 1.0
        units[number] *= own[number] * side * (upper if name.startswith(("brow", "eye")) else lower)
    return units


def _add_gaze_and_rest(rng, units):
    """Adds what a face does beside its expression: where it looks, half-closed lids, a slightly shifted mouth."""
    across, up = rng.normal(0, 0.22, 2)
    outward, inward = ("Left", "Right") if across > 0 else ("Right", "Left")
    vertical = "eyeLookUp" if up > 0 else "eyeLookDown"
    rest = {
        "eyeLookOut" + outward: abs(across),
        "eyeLookIn" + inward: abs(across),
        vertical + "Left": 0.7 * abs(up),
        vertical + "Right": 0.7 * abs(up),
        "eyeBlinkLeft": 0.0,
        "jawOpen": rng.uniform(0, 0.04),
        "mouthLeft" if rng.random() < 0.5 else "mouthRight": rng.uniform(0, 0.12),
    }
    rest["eyeBlinkLeft"] = rest["eyeBlinkRight"] = max(0.0, rng.normal(0, 0.06))
    for name, weight in rest.items():
        units[UNIT_INDEX[name]] += weight


def sample_expression(
    rng: np.random.Generator, label: str | None = None, intensity: float | None = None, weakest: float = WEAKEST
) -> Expression:
    """Draws an expression.

    Args:
        rng: the only source of chance.
        label: one of `EXPRESSIONS`; None draws one, and in 30 % of the cases blends a second, weaker one in.
        intensity: None draws from [`weakest`, 1.1]. A neutral face always has intensity 0; it keeps its gaze and small
            movements.
        weakest: least intensity that is drawn.
    """
    blended = label is None and rng.random() < 0.3
    label = EXPRESSIONS[rng.integers(len(EXPRESSIONS))] if label is None else check_label(label)
    drawn = rng.uniform(weakest, 1.1)
    intensity = 0.0 if label == "neutral" else float(drawn if intensity is None else intensity)
    if not 0 <= intensity <= 2:
        raise ValueError(f"intensity is {intensity}; accepted: 0 (neutral) to 2, where 1 is the peak")
    units = _varied_units(rng, label, intensity)
    if blended and label != "neutral":
        second = EXPRESSIONS[1 + rng.integers(len(EXPRESSIONS) - 1)]
        units += _varied_units(rng, second, rng.uniform(0.15, 0.4) * intensity)
    _add_gaze_and_rest(rng, units)
    return Expression(label, intensity, np.clip(units, 0, MAX_UNIT).astype(np.float32))


def sample_pool(size: int, seed: int, weakest: float = WEAKEST) -> list[Expression]:
    """Returns `size` expressions with balanced labels; the same arguments give the same pool.

    As in `sample_expression(rng)`, 30 % of the non-neutral ones carry a weak second expression.
    """
    pool = []
    for number in range(size):
        rng = np.random.default_rng([seed, number, 52])
        label = EXPRESSIONS[number % len(EXPRESSIONS)]
        expression = sample_expression(rng, label, weakest=weakest)
        if label != "neutral" and rng.random() < 0.3:
            second = EXPRESSIONS[1 + rng.integers(len(EXPRESSIONS) - 1)]
            units = expression.units + _varied_units(rng, second, rng.uniform(0.15, 0.4) * expression.intensity)
            expression = Expression(label, expression.intensity, np.clip(units, 0, MAX_UNIT).astype(np.float32))
        pool.append(expression)
    return pool

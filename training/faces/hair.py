"""Hair styles: where hair grows, how far it stands off and how it falls."""

import numpy as np

from training.faces.head import EYES, SKIN, Head, smoothstep

MALE_STYLES = ("buzz", "short", "short", "short", "quiff", "fringe")
FEMALE_STYLES = ("short", "fringe", "bob", "bob", "long", "long", "bun")
STYLE_THICKNESS = {"short": 0.10, "quiff": 0.16, "fringe": 0.15, "bob": 0.16, "long": 0.13, "bun": 0.07}
"""How far hair stands off the scalp, in mesh units; bald and buzz have none."""
STYLE_LENGTH = {"bob": 6.75, "long": 5.2}
"""Where hanging hair ends (y in mesh units)."""


def hair_mask(head: Head, male: bool, age: float, hairline: float, widow_peak: float) -> np.ndarray:
    """Returns [n] in [0, 1]: 1 where hair grows on the scalp (own drawing in canonical coordinates)."""
    x, y, z = head.mean.T
    side = np.abs(x)
    depth = np.array([-1.0, -0.6, -0.2, 0.15, 0.35, 0.6, 0.8, 1.0, 1.2, 1.35, 1.6])
    lowest = np.array([6.75, 6.75, 6.9, 7.35, 7.45, 7.75, 7.95, 8.05, 8.10, 8.14, 8.2])
    line = np.interp(z, depth, lowest) - hairline * smoothstep(0.5, 1.1, z)
    line += widow_peak * np.exp(-(((side - 0.33) / 0.16) ** 2)) * smoothstep(0.7, 1.0, z)
    if male and age > 0.4:
        line += 0.10 * smoothstep(0.9, 1.15, z) * smoothstep(0.2, 0.5, side)
    mask = np.clip((y - line) / 0.16 + 0.5, 0, 1) * (1 - np.clip(head.masks["ears"] * 2, 0, 1))
    scalp = np.zeros(len(y), bool)
    scalp[np.unique(head.triangles[head.parts == SKIN])] = True
    scalp[np.unique(head.triangles[head.parts == EYES])] = False
    return mask * scalp


def hair_shape(head: Head, style: str, mask: np.ndarray, volume: float) -> tuple[np.ndarray, np.ndarray]:
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

"""Scenes: where the head is, how it is lit, and what is behind it."""

from dataclasses import dataclass

import numpy as np

from training.faces.head import linear_rgb

STANDARD_CROP = 1.25
"""Magnification of the standard framing: the face fills the picture, chin and forehead visible. Where landmarks fall
in it on average is `tergan_core.align.TEMPLATE`, to which photographs are aligned."""
BACKGROUND_GRID = 17


@dataclass(frozen=True, eq=False)
class Scene:
    """One shot.

    Attributes:
        yaw: turn to the side, radians; positive turns the face to the viewer's right.
        pitch: nod, radians; positive looks down.
        roll: tilt in the picture plane, radians; positive is counter-clockwise.
        offset_x: shift to the right, fraction of the picture. offset_y: shift down.
        scale: size of the head; `STANDARD_CROP` is the usual one, 1 shows all of the hair and the shoulders.
        key_direction: [3] unit vector towards the main light (x right, y up, z towards the viewer).
        key_colour: [3] linear light. ambient_colour: [3] linear light from all around.
        background: [17, 17, 3] linear light on a coarse grid, interpolated.
    """

    yaw: float
    pitch: float
    roll: float
    offset_x: float
    offset_y: float
    scale: float
    key_direction: np.ndarray
    key_colour: np.ndarray
    ambient_colour: np.ndarray
    background: np.ndarray


def sample_background(rng: np.random.Generator) -> np.ndarray:
    """Returns a background [17, 17, 3] of linear light: a gradient and a few soft blobs."""
    x, y = np.meshgrid(np.linspace(-1, 1, BACKGROUND_GRID), np.linspace(-1, 1, BACKGROUND_GRID))
    base = linear_rgb(np.clip(rng.uniform(0.12, 0.88) + rng.normal(0, 0.06, 3), 0.02, 1))
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.normal(0, 0.35) * (np.cos(angle) * x + np.sin(angle) * y)
    background = base * np.exp(gradient)[..., None]
    for _ in range(rng.integers(0, 6)):
        centre_x, centre_y = rng.uniform(-1.2, 1.2, 2)
        radius = rng.uniform(0.15, 0.8)
        colour = linear_rgb(rng.uniform(0.05, 0.95) * np.ones(3) * np.clip(1 + rng.normal(0, 0.12, 3), 0.5, 1.05))
        cover = rng.uniform(0.2, 0.9) * np.exp(-((((x - centre_x) ** 2 + (y - centre_y) ** 2) / radius**2) ** 2))
        background = background * (1 - cover[..., None]) + colour * cover[..., None]
    return np.clip(background, 0, 1).astype(np.float32)


def sample_scene(rng: np.random.Generator, pose: float = 1.0) -> Scene:
    """Draws a scene.

    Args:
        rng: the only source of chance.
        pose: how much head and camera move; 0 is exactly frontal and centred, at 1 the yaw has a deviation of 0.13.
    """
    yaw, pitch, roll = rng.normal(0, (0.13, 0.07, 0.04)) * pose
    offset_x, offset_y = rng.normal(0, 0.02, 2) * pose
    scale = STANDARD_CROP * (1 + np.clip(rng.normal(0, 0.025), -0.07, 0.07) * pose)
    azimuth, elevation = rng.uniform(-1.1, 1.1), rng.uniform(0.0, 0.85)
    key_direction = (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    warmth = rng.uniform(-1, 1)
    key_colour = rng.uniform(1.15, 2.0) * np.array([1 + 0.05 * warmth, 0.96 + 0.01 * warmth, 0.93 - 0.14 * warmth])
    coolness = rng.uniform(-1, 1)
    ambient_colour = rng.uniform(0.26, 0.56) * np.array([1 - 0.05 * coolness, 1.0, 1 + 0.07 * coolness])
    return Scene(
        float(yaw),
        float(pitch),
        float(roll),
        float(offset_x),
        float(offset_y),
        float(scale),
        np.array(key_direction, np.float32),
        key_colour.astype(np.float32),
        ambient_colour.astype(np.float32),
        sample_background(rng),
    )

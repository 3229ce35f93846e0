"""Scenes: where the head is, how it is lit, what is behind it, and which camera looks at it."""

from dataclasses import dataclass, field

import numpy as np

from training.faces.camera import Camera, sample_camera
from training.faces.head import linear_rgb, smoothstep
from training.faces.noise import noise_window
from training.faces.variety import FULL, ILLUMINATIONS, Variety

STANDARD_CROP = 1.25
"""Magnification of the standard framing: the face fills the picture, chin and forehead visible. Where landmarks fall
in it on average is `tergan_core.align.TEMPLATE`, to which photographs are aligned."""
BACKGROUND_GRID = 49
BACKGROUNDS = ("room", "shelves", "stripes", "lamps", "mottled")


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
        background: [49, 49, 3] linear light on a coarse grid, interpolated.
        illumination: one of `ILLUMINATIONS`.
        camera: what the picture is taken with.
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
    illumination: str = "free"
    camera: Camera = field(default_factory=Camera)


def sample_scene(rng: np.random.Generator, pose: float = 1.0, variety: Variety = FULL) -> Scene:
    """Draws a scene.

    Args:
        rng: the only source of chance.
        pose: factor on how much head and camera move; 0 is exactly frontal and centred.
        variety: limits of the pose, shares of illuminations and backgrounds, strength of the camera's faults.
    """
    limits = np.deg2rad([variety.yaw_degrees, variety.pitch_degrees, variety.roll_degrees])
    yaw, pitch, roll = limits * np.clip(rng.normal(0, (0.45, 0.40, 0.40)), -1, 1) * pose
    offset_x, offset_y = rng.normal(0, variety.framing, 2) * pose
    scale = STANDARD_CROP * (1 + np.clip(rng.normal(0, variety.framing), -0.09, 0.09) * pose)
    illumination = ILLUMINATIONS[rng.choice(len(ILLUMINATIONS), p=variety.illuminations)]
    background = sample_background(rng, variety.structured_backgrounds)
    key_direction, key_colour, ambient_colour, exposure, noise = _sample_light(rng, illumination)
    return Scene(
        yaw=float(yaw),
        pitch=float(pitch),
        roll=float(roll),
        offset_x=float(offset_x),
        offset_y=float(offset_y),
        scale=float(scale),
        key_direction=key_direction,
        key_colour=key_colour,
        ambient_colour=ambient_colour,
        background=background * (0.5 * ambient_colour + 0.22 * key_colour) / 0.55
        if illumination != "free"
        else background,
        illumination=illumination,
        camera=sample_camera(rng, variety.camera, exposure, noise, illumination == "nir"),
    )


def _sample_light(rng, illumination):
    """Returns direction and colour of the key light, colour of the ambient light, exposure and noise factors."""
    warmth, coolness = rng.uniform(-1, 1, 2)
    if illumination == "free":
        azimuth, elevation = np.clip(rng.normal(0, 0.6), -1.1, 1.1), rng.uniform(0.0, 0.85)
        key, ambient = rng.uniform(1.0, 1.8), rng.uniform(0.35, 0.7)
        exposure, noise = 1.2, 1.0
    elif illumination == "strong":
        azimuth, elevation = rng.normal(0, 0.25), rng.uniform(0.35, 0.8)
        key, ambient = rng.uniform(1.2, 1.6), rng.uniform(0.55, 0.75)
        exposure, noise = 1.2, 0.7
    elif illumination == "weak":
        azimuth, elevation, coolness, warmth = rng.normal(0, 0.2), rng.uniform(-0.25, 0.1), 1.0, -0.8
        key, ambient = rng.uniform(0.30, 0.55), rng.uniform(0.10, 0.2)
        exposure, noise = 1.15, 2.0
    elif illumination == "dark":
        azimuth, elevation = rng.normal(0, 0.6), rng.uniform(-0.1, 0.6)
        key, ambient = rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.10)
        exposure, noise = 1.6, 2.2
    else:
        azimuth, elevation, coolness, warmth = rng.normal(0, 0.08), rng.uniform(-0.05, 0.15), 0.0, 0.0
        key, ambient = rng.uniform(1.1, 1.5), rng.uniform(0.25, 0.4)
        exposure, noise = 1.0, 1.2
    direction = (np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation))
    key_colour = key * np.array([1 + 0.05 * warmth, 0.96 + 0.01 * warmth, 0.92 - 0.12 * warmth])
    ambient_colour = ambient * np.array([1 - 0.05 * coolness, 0.98, 1 + 0.06 * coolness])
    return (
        np.array(direction, np.float32),
        key_colour.astype(np.float32),
        ambient_colour.astype(np.float32),
        exposure,
        noise,
    )


def sample_background(rng: np.random.Generator, structured: float) -> np.ndarray:
    """Returns a background [49, 49, 3] of linear light: gradient and blobs, with the share `structured` more than that.

    Backgrounds are out of focus, so that a coarse grid holds them.
    """
    axis = np.linspace(-1, 1, BACKGROUND_GRID, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    angle = rng.uniform(0, 2 * np.pi)
    gradient = rng.normal(0, 0.35) * (np.cos(angle) * x + np.sin(angle) * y)
    background = _colour(rng) * np.exp(gradient)[..., None]

    def lay(cover, colour):
        nonlocal background
        background = background * (1 - cover[..., None]) + colour * cover[..., None]

    def rectangle(left, right, top, bottom, soft):
        across = smoothstep(left - soft, left + soft, axis) * smoothstep(right + soft, right - soft, axis)
        down = smoothstep(top - soft, top + soft, axis) * smoothstep(bottom + soft, bottom - soft, axis)
        return down[:, None] * across

    kind = BACKGROUNDS[rng.integers(len(BACKGROUNDS))] if rng.random() < structured else "plain"
    soft = rng.uniform(0.03, 0.15)
    if kind == "room":
        corner = rng.uniform(-0.9, 0.9)
        lay(smoothstep(corner - 0.03, corner + 0.03, x), background * rng.uniform(0.55, 0.9))
        left, top = rng.uniform(-1.3, 0.6), rng.uniform(-1.2, -0.2)
        window = rectangle(left, left + rng.uniform(0.4, 1), top, top + rng.uniform(0.5, 1.4), soft)
        lay(window, _colour(rng) * rng.uniform(0.3, 2.2))
        floor = rng.uniform(0.5, 1.1)
        lay(smoothstep(floor - soft, floor + soft, y), _colour(rng) * 0.7)
    elif kind == "shelves":
        for level in np.arange(rng.uniform(-1.2, -0.8), 1, rng.uniform(0.55, 0.8)):
            lay(rectangle(-2, 2, level, level + 0.05, 0.03), _colour(rng) * 0.4)
            for left in np.arange(-1, 1, 0.3):
                height = rng.uniform(0.1, 0.35)
                lay(rectangle(left, left + rng.uniform(0.08, 0.2), level - height, level, 0.03), _colour(rng))
    elif kind == "stripes":
        turn, period = rng.uniform(0, np.pi), rng.uniform(2.0, 9.0)
        wave = np.sin((np.cos(turn) * x + np.sin(turn) * y) * period + rng.uniform(0, 6))
        lay(smoothstep(-soft * 4, soft * 4, wave), _colour(rng))
    elif kind == "lamps":
        for _ in range(rng.integers(4, 12)):
            centre_x, centre_y, radius = rng.uniform(-1, 1), rng.uniform(-1, 0.6), rng.uniform(0.06, 0.25)
            disc = smoothstep(radius * 1.15, radius * 0.85, np.hypot(x - centre_x, y - centre_y))
            lay(disc * rng.uniform(0.3, 0.9), _colour(rng) * rng.uniform(0.5, 2.0))
    elif kind == "mottled":
        noise = noise_window(rng, BACKGROUND_GRID, BACKGROUND_GRID, int(rng.choice([2, 4, 8])), 3)
        lay(smoothstep(-1, 1, noise), _colour(rng))
    for _ in range(rng.integers(0, 5)):
        centre_x, centre_y, radius = *rng.uniform(-1.2, 1.2, 2), rng.uniform(0.15, 0.8)
        blob = np.exp(-((((x - centre_x) ** 2 + (y - centre_y) ** 2) / radius**2) ** 2))
        lay(rng.uniform(0.2, 0.8) * blob, _colour(rng))
    return np.clip(background, 0, 2).astype(np.float32)


def _colour(rng):
    return linear_rgb(np.clip(rng.uniform(0.08, 0.9) * (1 + rng.normal(0, 0.10, 3)), 0.02, 1))

"""The camera: from linear light to the picture that a file holds, after the scene and before the network.

The order is that of a real camera: optics (blur, vignetting), sensor (exposure, noise), processing (white balance, tone
curve, gamma), file (JPEG). All strengths are our own choice.
"""

import io
from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np
from PIL import Image

TONE_STEPS = 4096
BRIGHTEST = 4.0
"""Linear light above this clips."""


def _tone_table():
    light = (np.arange(TONE_STEPS) + 0.5) / TONE_STEPS * BRIGHTEST
    display = (light / (1 + 0.18 * light)) ** (1 / 2.2)
    return (255 * np.clip(display, 0, 1) + 0.5).astype(np.uint8)


TONE_TABLE = _tone_table()
"""Linear light in [0, `BRIGHTEST`) as display values: a soft shoulder, then gamma 2.2."""


@dataclass(frozen=True)
class Camera:
    """What a camera does to a picture; without arguments a perfect one.

    Attributes:
        exposure: factor on all light. white_balance: factors on red, green and blue.
        defocus: deviation of the blur as a share of the picture's width.
        motion: deviation of the additional blur along `motion_angle` (radians), same unit.
        noise: deviation of the sensor's noise at mid grey, in linear light.
        vignetting: share of light that is lost in the corners.
        monochrome: a near-infrared camera: grey, seeing what is red.
        jpeg_quality: 1 to 95, or 0 for none.
        seed: of the noise.
    """

    exposure: float = 1.0
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    defocus: float = 0.0
    motion: float = 0.0
    motion_angle: float = 0.0
    noise: float = 0.0
    vignetting: float = 0.0
    monochrome: bool = False
    jpeg_quality: int = 0
    seed: int = 0


def sample_camera(rng: np.random.Generator, strength: float, exposure: float, noise: float, nir: bool) -> Camera:
    """Draws a camera.

    Args:
        rng: the only source of chance.
        strength: 0 = perfect, 1 = the usual faults of webcams and phones.
        exposure: factor that the illumination asks for. noise: factor on the sensor's noise, likewise.
        nir: near-infrared, hence monochrome.
    """
    stops, warmth, tint = rng.normal(0, (0.22, 0.045, 0.015)) * strength
    defocus = 0.0055 * rng.random() ** 2 * strength
    motion = (0.008 * rng.random() if rng.random() < 0.15 else 0.0) * strength
    quality = int(rng.integers(55, 96))
    return Camera(
        exposure=float(exposure * 2**stops),
        white_balance=(float(np.exp(warmth)), float(np.exp(tint)), float(np.exp(-warmth))),
        defocus=float(defocus),
        motion=float(motion),
        motion_angle=float(rng.uniform(0, np.pi)),
        noise=float(0.011 * rng.random() ** 1.5 * noise * strength),
        vignetting=float(rng.uniform(0, 0.3) * strength),
        monochrome=nir,
        jpeg_quality=quality if rng.random() < 0.7 * min(strength, 1) else 0,
        seed=int(rng.integers(1 << 31)),
    )


def develop(light: np.ndarray, camera: Camera) -> np.ndarray:
    """Returns the picture [h, w, 3] uint8 that the camera makes of linear light [h, w, 3] float32."""
    height, width, _ = light.shape
    spread = point_spread(camera.defocus * width, camera.motion * width, camera.motion_angle)
    if len(spread) > 1:
        light = _blur(light, spread)
    if camera.noise:
        grain = _grain(height, width, camera.seed)
    else:
        grain = _grain_sheet(1, 1)
    gains = np.array(camera.white_balance, np.float32) * np.float32(camera.exposure)
    picture = _expose(
        light, gains, np.float32(camera.vignetting), np.float32(camera.noise), grain, camera.monochrome, TONE_TABLE
    )
    if not camera.jpeg_quality:
        return picture
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=camera.jpeg_quality)
    return np.asarray(Image.open(file))


def _grain(height, width, seed):
    """Returns a window [h, w, 2] of a sheet of independent standard normal numbers, drawn once per process."""
    sheet = _grain_sheet(height, width)
    left, top = seed % (width + 1), seed // (width + 1) % (height + 1)
    return sheet[top : top + height, left : left + width]


@lru_cache(maxsize=4)
def _grain_sheet(height, width):
    return np.random.default_rng(8).standard_normal((2 * height, 2 * width, 2), np.float32)


def point_spread(defocus_px: float, motion_px: float, angle: float) -> np.ndarray:
    """Returns a blur kernel [k, k] with sum 1: a Gaussian, longer along `angle`; [1, 1] where it would not be seen."""
    if max(defocus_px, motion_px) < 0.3:
        return np.ones((1, 1), np.float32)
    along, across = np.hypot(defocus_px, motion_px) ** 2, max(defocus_px, 0.2) ** 2
    radius = int(np.ceil(2 * np.sqrt(along)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    u, v = np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y
    kernel = np.exp(-0.5 * (u * u / along + v * v / across))
    return (kernel / kernel.sum()).astype(np.float32)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _blur(light, kernel):
    """Returns `light` convolved with a kernel; edges are repeated."""
    height, width, _ = light.shape
    radius = kernel.shape[0] // 2
    padded = np.empty((height + 2 * radius, 3 * (width + 2 * radius)), np.float32)
    for row in range(height + 2 * radius):
        source = min(max(row - radius, 0), height - 1)
        for column in range(width + 2 * radius):
            beside = min(max(column - radius, 0), width - 1)
            for q in range(3):
                padded[row, 3 * column + q] = light[source, beside, q]
    result = np.zeros((height, 3 * width), np.float32)
    for row in range(height):
        for j in range(kernel.shape[0]):
            for i in range(kernel.shape[1]):
                weight = kernel[j, i]
                if weight < 1e-3:
                    continue
                for column in range(3 * width):
                    result[row, column] += weight * padded[row + j, column + 3 * i]
    return result.reshape((height, width, 3))


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _expose(light, gains, vignetting, noise, grain, monochrome, table):
    height, width, _ = light.shape
    picture = np.empty((height, width, 3), np.uint8)
    value = np.empty(3, np.float32)
    steps = np.float32(TONE_STEPS / BRIGHTEST)
    for row in range(height):
        y = (np.float32(row) + np.float32(0.5)) / np.float32(height) * 2 - 1
        for column in range(width):
            x = (np.float32(column) + np.float32(0.5)) / np.float32(width) * 2 - 1
            kept = np.float32(1) - vignetting * (x * x + y * y) * np.float32(0.5)
            for q in range(3):
                value[q] = light[row, column, q] * kept * gains[q]
            if monochrome:
                value[0] = np.float32(0.62) * value[0] + np.float32(0.28) * value[1] + np.float32(0.10) * value[2]
                value[1] = value[0]
                value[2] = value[0]
            if noise > 0:
                chroma = np.float32(0) if monochrome else np.float32(0.5) * grain[row, column, 1]
                for q in range(3):
                    # less light, less noise, but relatively more; blue and red drift apart
                    deviation = noise * np.sqrt(np.float32(0.15) + max(value[q], np.float32(0)) * np.float32(4))
                    value[q] += deviation * (grain[row, column, 0] + chroma * np.float32(1 - q))
            for q in range(3):
                picture[row, column, q] = table[min(int(max(value[q], np.float32(0)) * steps), TONE_STEPS - 1)]
    return picture

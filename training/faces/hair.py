"""Hair: strands that grow on the scalp, lie over the skull, and fall, in one of several styles."""

from dataclasses import dataclass
from functools import lru_cache

import numba
import numpy as np

from training.faces.head import SKIN, Head, smoothstep

STRANDS, KNOTS = 4400, 8
"""How many strands a full head has, and points on each. Small pictures draw fewer and thicker ones."""
SKULL_CENTRE = np.array([0.0, 7.55, 0.25])
"""The middle of the skull in mesh units; hair and hats are kept outside the skin as seen from there."""
SKULL_GRID = (32, 40)
"""Directions in which that distance is known: rows even in the sine of the elevation, columns in the azimuth."""


FACE_EDGE = 0.64
"""Parted hair stays so far from the middle of the face, mesh units."""


@dataclass(frozen=True)
class HairStyle:
    """A way to wear hair. Lengths are in mesh units (decimetres).

    Attributes:
        length: of the strands on top. fringe_length: of those above the forehead. side_length: of those at the sides.
        lift: how steeply strands leave the skin, 0 to 1. weight: how much they fall.
        comb: where they are combed to: x away from the parting, y up, z forward.
        fringe: whether the front is combed over the forehead whatever the rest does.
        curl: radius of the waves. frizz: how much strands differ.
        thickness: of the layer of hair over the skull.
    """

    length: float
    fringe_length: float
    side_length: float
    lift: float
    weight: float
    comb: tuple[float, float, float]
    fringe: bool = False
    curl: float = 0.0
    frizz: float = 0.15
    thickness: float = 0.08


STYLES = {
    "buzz": HairStyle(0.05, 0.05, 0.04, 0.9, 0.0, (0.0, 0.0, 0.3), frizz=0.3, thickness=0.02),
    "crew": HairStyle(0.22, 0.20, 0.08, 0.75, 0.1, (0.2, 0.2, 0.7), frizz=0.25, thickness=0.06),
    "short": HairStyle(0.42, 0.36, 0.22, 0.45, 0.35, (0.5, 0.0, 0.7), frizz=0.25, thickness=0.09),
    "side_part": HairStyle(0.75, 0.80, 0.35, 0.45, 0.45, (1.0, 0.15, 0.05), frizz=0.14, thickness=0.12),
    "slick": HairStyle(0.75, 0.80, 0.40, 0.30, 0.15, (0.1, 0.3, -1.0), frizz=0.10, thickness=0.08),
    "quiff": HairStyle(0.55, 0.70, 0.14, 0.85, 0.10, (0.25, 0.7, -0.2), frizz=0.2, thickness=0.12),
    "fringe": HairStyle(0.55, 0.46, 0.35, 0.25, 0.75, (0.1, 0.0, 1.0), frizz=0.12, thickness=0.10),
    "curly": HairStyle(0.55, 0.45, 0.36, 0.90, 0.20, (0.3, 0.2, 0.0), curl=0.085, frizz=0.5, thickness=0.20),
    "afro": HairStyle(0.38, 0.30, 0.30, 1.00, 0.0, (0.0, 0.1, 0.0), curl=0.06, frizz=0.5, thickness=0.30),
    "bob": HairStyle(1.90, 1.50, 1.50, 0.30, 1.0, (0.9, 0.0, -0.05), frizz=0.10, thickness=0.14),
    "fringe_bob": HairStyle(1.80, 0.50, 1.45, 0.25, 1.0, (0.9, 0.0, -0.05), fringe=True, frizz=0.10, thickness=0.13),
    "long": HairStyle(3.60, 3.30, 3.00, 0.30, 1.0, (0.9, 0.0, -0.1), frizz=0.12, thickness=0.13),
    "wavy": HairStyle(3.20, 2.90, 2.70, 0.40, 0.9, (0.9, 0.0, -0.1), curl=0.05, frizz=0.25, thickness=0.18),
    "tied": HairStyle(0.95, 1.05, 0.90, 0.15, 0.0, (0.05, 0.15, -1.0), frizz=0.07, thickness=0.05),
}
MALE_STYLES = ("buzz", "crew", "crew", "short", "short", "side_part", "side_part", "slick", "quiff", "fringe", "curly")
FEMALE_STYLES = (
    "short",
    "side_part",
    "bob",
    "bob",
    "fringe_bob",
    "long",
    "long",
    "wavy",
    "wavy",
    "tied",
    "tied",
    "curly",
)
TIGHT_CURLS = ("buzz", "crew", "afro", "afro", "curly", "tied")
"""Styles of people with tightly curled hair."""


@dataclass(frozen=True, eq=False)
class Hair:
    """Hair as it is worn in one recording.

    Attributes:
        style: a name in `STYLES`, or "bald".
        strands: [s, 8, 3] float32, mesh units, in random order: any first few cover the head evenly.
        shades: [s, 8] float32, how bright the hair is there: dark at the roots and inside.
        cover: [n] float32 in [0, 1], how much of the skin of a vertex is scalp below hair.
    """

    style: str
    strands: np.ndarray
    shades: np.ndarray
    cover: np.ndarray


def grow_hair(
    rng: np.random.Generator, head: Head, vertices: np.ndarray, style: str, hairline: float, receding: float
) -> Hair:
    """Grows a head of hair.

    Args:
        rng: the only source of chance.
        head: the head model.
        vertices: [n, 3] the person's neutral face.
        style: a name in `STYLES`, or "bald".
        hairline: how much lower than usual hair begins, mesh units.
        receding: how far the temples and the crown are bald, 0 to 1.
    """
    if style == "bald":
        nothing = np.zeros((0, KNOTS), np.float32)
        return Hair(style, np.zeros((0, KNOTS, 3), np.float32), nothing, np.zeros(len(vertices), np.float32))
    look = STYLES[style]
    triangles, weights, order = _roots(head)
    widow_peak, parting = rng.uniform(-0.02, 0.08), rng.choice([-1, 1]) * rng.uniform(0.05, 0.4)
    cover = scalp_cover(head, hairline, widow_peak, receding)
    corners = head.triangles[triangles]
    grows = (cover[corners] * weights).sum(1) > 0.15 + 0.7 * order
    corners, weights = corners[grows], weights[grows]
    shift = eye_shift(head, vertices)
    roots = np.einsum("sc,scd->sd", weights, vertices[corners] - shift)
    canonical = np.einsum("sc,scd->sd", weights, head.mean[corners])
    strands, shades = _grow(rng, look, Skull(head, vertices - shift), roots, canonical, parting)
    return Hair(style, strands + shift, shades, cover)


def _grow(rng, look, skull, roots, canonical, parting):
    """Returns strands [s, k, 3] and their brightness [s, k], grown from the roots knot by knot."""
    count = len(roots)
    x, y, z = canonical.T
    out = skull.normals(roots)
    front = smoothstep(0.75, 1.15, z) * smoothstep(7.8, 8.05, y)
    if look.fringe:
        front = (front > 0.4).astype(float)
    sides = smoothstep(8.2, 7.8, y) * (1 - front)
    lift = np.full(count, look.lift)
    length = look.length + (look.fringe_length - look.length) * front + (look.side_length - look.length) * sides
    length *= np.clip(rng.normal(1, 0.10 + 0.3 * look.frizz, count), 0.5, 1.6)
    if not look.curl:
        lift = lift * (1 - 0.75 * sides)
    parted = look.comb[0] > 0.6
    away = np.where(x > parting, 1.0, -1.0) if parted else np.full(count, np.sign(parting))
    comb = np.stack([look.comb[0] * away, np.full(count, look.comb[1]), np.full(count, look.comb[2])], 1)
    comb = comb + rng.normal(0, look.frizz, (count, 3))
    if look.fringe:
        comb = comb + front[:, None] * (np.array([0.1, 0.0, 1.0]) - comb)
    layer = rng.random(count)
    free = 1 - front if look.fringe else np.ones(count)
    clump = rng.integers(0, 160, count)
    phases, spins = rng.uniform(0, 6.28, (160, 2)), rng.uniform(0.8, 1.3, 160)
    direction = comb - out * (comb * out).sum(1, keepdims=True)
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True).clip(1e-6) * (1.05 - lift[:, None])
    direction = direction + out * lift[:, None]
    thickness = look.thickness * (0.25 + 0.75 * layer)
    strands = _lay(
        roots, direction, comb * (0.15 * (1 - lift[:, None])), 5 * look.weight, length / (KNOTS - 1), thickness,
        0.9 * lift**3 * length, away, (FACE_EDGE + 0.1 * layer) * free * parted, skull.grid,
    )  # fmt: skip
    if look.curl:
        along = np.arange(KNOTS) * 2.1
        wave = np.sin(along[None] * spins[clump][:, None] + phases[clump, :1]) * np.minimum(np.arange(KNOTS) / 2, 1)
        other = np.cos(along[None] * spins[clump][:, None] * 0.9 + phases[clump, 1:]) * np.minimum(
            np.arange(KNOTS) / 2, 1
        )
        strands[..., 0] += look.curl * wave
        strands[..., 1] += 0.6 * look.curl * other
        strands[..., 2] += 0.5 * look.curl * wave * other
    tone = np.exp(rng.normal(0, 0.16, count)) * (0.85 + 0.3 * np.sin(phases[clump, 0]) ** 2)
    shades = tone[:, None] * (0.45 + 0.55 * layer[:, None]) * np.linspace(0.5, 1.1, KNOTS) ** 0.7
    return strands, shades.astype(np.float32)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _lay(roots, directions, comb, weight, steps, thickness, loose, away, face_edge, skull):
    """Returns strands [s, k, 3] that run on from knot to knot, pulled by comb and weight, outside the skull.

    Args:
        roots, directions, comb: [s, 3]. weight: pull per mesh unit. steps: [s], from knot to knot.
        thickness: [s], how far off the skin strands lie at least. loose: [s], how much farther they may stand off.
        away: [s], -1 or 1, the side of the face to which hair goes, which stays `face_edge` [s] from its middle
            (0: it may cover the face).
        skull: see `Skull`.
    """
    strands = np.empty((roots.shape[0], KNOTS, 3), np.float32)
    for s in range(roots.shape[0]):
        x, y, z = roots[s, 0], roots[s, 1], roots[s, 2]
        dx, dy, dz = directions[s, 0], directions[s, 1], directions[s, 2]
        strands[s, 0, 0], strands[s, 0, 1], strands[s, 0, 2] = x, y, z
        for knot in range(1, KNOTS):
            dx, dy, dz = dx + comb[s, 0], dy + comb[s, 1] - weight * steps[s], dz + comb[s, 2]
            stretch = steps[s] / np.sqrt(dx * dx + dy * dy + dz * dz)
            px, py, pz = x + dx * stretch, y + dy * stretch, z + dz * stretch
            ox, oy, oz = px - SKULL_CENTRE[0], py - SKULL_CENTRE[1], pz - SKULL_CENTRE[2]
            distance = np.sqrt(ox * ox + oy * oy + oz * oz)
            radius = _skull_radius(skull, ox, oy, oz)
            on_skull = _fade(6.9, 7.3, py)
            lowest = (radius + thickness[s] * min(1.0, knot / 2)) * on_skull
            pushed = max(distance, lowest)
            if on_skull > 0.5:
                pushed = min(pushed, max(radius + thickness[s] + loose[s], lowest))
            px, py, pz = (
                SKULL_CENTRE[0] + ox * pushed / distance,
                SKULL_CENTRE[1] + oy * pushed / distance,
                SKULL_CENTRE[2] + oz * pushed / distance,
            )
            if face_edge[s] > 0:
                edge = face_edge[s] * _fade(8.2, 7.75, py) * _fade(0.45, 0.75, pz)
                px = away[s] * max(away[s] * px, edge)
            dx, dy, dz = px - x, py - y, pz - z
            inverse = 1 / np.sqrt(dx * dx + dy * dy + dz * dz + 1e-12)
            dx, dy, dz = dx * inverse, dy * inverse, dz * inverse
            x, y, z = px, py, pz
            strands[s, knot, 0], strands[s, knot, 1], strands[s, knot, 2] = x, y, z
    return strands


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _fade(low, high, x):
    t = min(max((x - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _skull_radius(grid, x, y, z):
    """Returns the distance of the skin in a direction, interpolated."""
    rows, columns = grid.shape
    distance = np.sqrt(x * x + y * y + z * z)
    row = min(max((0.5 * y / distance + 0.5) * (rows - 1), 0.0), rows - 1.001)
    column = (np.arctan2(x, z) / (2 * np.pi) + 0.5) * columns
    i, j = int(row), int(column)
    t, s = row - i, column - j
    j, k = j % columns, (j + 1) % columns
    lower = grid[i, j] * (1 - s) + grid[i, k] * s
    return lower * (1 - t) + (grid[i + 1, j] * (1 - s) + grid[i + 1, k] * s) * t


def eye_shift(head: Head, vertices: np.ndarray) -> np.ndarray:
    """Returns [3] float32, how far the eyes of a face lie from those of the mean face: bodies differ in height."""
    eyes = np.concatenate([head.left_eye, head.right_eye])
    return (vertices[eyes].mean(0) - head.mean[eyes].mean(0)).astype(np.float32)


def scalp_cover(head: Head, hairline: float, widow_peak: float, receding: float) -> np.ndarray:
    """Returns [n] in [0, 1]: 1 where hair grows on the scalp (own drawing in canonical coordinates)."""
    x, y, z = head.mean.T
    side = np.abs(x)
    depth = np.array([-1.0, -0.6, -0.2, 0.15, 0.35, 0.6, 0.8, 1.0, 1.2, 1.35, 1.6])
    lowest = np.array([6.75, 6.75, 6.9, 7.35, 7.42, 7.72, 7.95, 8.06, 8.12, 8.16, 8.2])
    line = np.interp(z, depth, lowest) - hairline * smoothstep(0.5, 1.1, z)
    line += widow_peak * np.exp(-(((side - 0.33) / 0.16) ** 2)) * smoothstep(0.7, 1.0, z)
    line += receding * (0.25 * smoothstep(0.8, 1.15, z) * smoothstep(0.1, 0.4, side) + 0.12 * smoothstep(0.8, 1.1, z))
    cover = np.clip((y - line) / 0.16 + 0.5, 0, 1) * (1 - np.clip(head.masks["ears"] * 2, 0, 1))
    crown = np.exp(-(((x / 0.45) ** 2 + ((z - 0.2) / 0.5) ** 2) ** 2)) * smoothstep(8.2, 8.45, y)
    cover *= 1 - np.clip(2 * receding - 0.8, 0, 1) * crown
    scalp = np.zeros(len(y), bool)
    scalp[head.skin_vertices] = True
    return (cover * scalp).astype(np.float32)


@lru_cache(maxsize=1)
def _roots(head):
    """Returns where hair may grow: triangle numbers [s], corner weights [s, 3], and a random order [s] in [0, 1]."""
    rng = np.random.default_rng(20)
    widest = scalp_cover(head, 0.15, -0.05, 0.0)
    skin = np.flatnonzero(head.parts == SKIN)
    skin = skin[widest[head.triangles[skin]].max(1) > 0.1]
    a, b, c = head.mean[head.triangles[skin]].transpose(1, 0, 2)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    visible = smoothstep(-0.75, 0.5, head.mean[head.triangles[skin]][..., 2].mean(1)) * 0.85 + 0.15
    share = area * visible
    chosen = rng.choice(len(skin), STRANDS, p=share / share.sum())
    return skin[chosen], rng.dirichlet([1, 1, 1], STRANDS), rng.random(STRANDS)


class Skull:
    """How far a person's skin lies from the middle of the skull, smoothly, in every direction.

    The face's eyes must be where those of the mean face are (see `eye_shift`).
    """

    def __init__(self, head: Head, vertices: np.ndarray):
        numbers, smoothing = _skull_smoothing(head)
        distance = np.linalg.norm(vertices[numbers] - SKULL_CENTRE, axis=1)
        self.grid = (smoothing @ distance).reshape(SKULL_GRID)

    def radius(self, points: np.ndarray) -> np.ndarray:
        """Returns [s], the distance of the skin in the direction of each point [s, 3]."""
        return np.array([_skull_radius(self.grid, *(point - SKULL_CENTRE)) for point in points])

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Returns the outward directions [s, 3] at points on the skull."""
        offset = (points - SKULL_CENTRE) / np.array([0.85, 1.0, 0.95]) ** 2
        return offset / np.linalg.norm(offset, axis=1, keepdims=True)


@lru_cache(maxsize=1)
def _skull_smoothing(head):
    """Returns vertex numbers [m] and the weights [directions, m] that average their distances in each direction."""
    rows, columns = SKULL_GRID
    skin = head.skin_vertices[head.masks["ears"][head.skin_vertices] < 0.2]
    skin = skin[(head.mean[skin, 1] > 6.0) & (np.abs(head.mean[skin, 0]) < 0.95)][::4]
    offset = head.mean[skin] - SKULL_CENTRE
    towards = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    elevation = np.arcsin(np.linspace(-1, 1, rows))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, columns, endpoint=False)[None]
    directions = np.stack(
        np.broadcast_arrays(
            np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)
        ),
        -1,
    ).reshape(-1, 3)
    closeness = np.exp((directions @ towards.T - 1) / 0.012)
    return skin, (closeness / closeness.sum(1, keepdims=True)).astype(np.float32)

"""What people wear on their heads: glasses, caps, knitted hats and headscarves, as meshes that sit on the skull."""

from dataclasses import dataclass, replace

import numpy as np

from training.faces.hair import SKULL_CENTRE, Skull, eye_shift
from training.faces.head import CLOTH, FRAME, Head, smoothstep

GLASSES = ("rectangular", "round", "browline", "rimless", "thick")
HEADWEAR = ("cap", "knitted", "headscarf")

SCARF_RINGS = (
    (0.90, 1.0, 1.0, 0.72, 1.22, 1.28), (0.99, 1.10, 1.05, 0.78, 1.16, 1.30), (1.06, 1.36, 1.22, 0.60, 1.05, 1.18),
    (1.12, 1.80, 1.7, 0.25, 0.45, 1.0), (1.14, 1.9, 2.4, -0.2, -0.1, 0.95), (1.1, 1.5, 3.2, -0.7, -0.6, 0.9),
)  # fmt: skip
"""From the edge of the face outwards: growth sideways, upwards and downwards, and depth (mesh units) at the sides, at
the top and at the chin."""


@dataclass(frozen=True, eq=False)
class Mesh:
    """Things worn, in mesh units; they do not move with the face.

    Attributes:
        vertices: [m, 3] float32. triangles: [t, 3] int32. parts: [t] int8, `CLOTH` or `FRAME`.
        texture: [m, 2] float32, where on ribbed cloth or on the lens a vertex lies, in mesh units; 0 on smooth cloth.
        lenses: [l, 3] int32, the triangles of the lenses (transparent).
    """

    vertices: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    texture: np.ndarray
    lenses: np.ndarray


NOTHING = Mesh(
    np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.int8), np.zeros((0, 2), np.float32),
    np.zeros((0, 3), np.int32),
)  # fmt: skip


def join(*meshes: Mesh) -> Mesh:
    """Returns one mesh of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + start for mesh, start in zip(meshes, starts, strict=False)]).astype(np.int32),
        np.concatenate([mesh.parts for mesh in meshes]),
        np.concatenate([mesh.texture for mesh in meshes]),
        np.concatenate([mesh.lenses + start for mesh, start in zip(meshes, starts, strict=False)]).astype(np.int32),
    )


def _sheet(points, part, closed=False):
    """Returns a mesh through a grid of points [rows, columns, 3]; `closed` joins the last column to the first."""
    rows, columns, _ = points.shape
    around = columns if closed else columns - 1
    i, j = (grid.ravel() for grid in np.mgrid[: rows - 1, :around])
    k = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + k, (i + 1) * columns + j, (i + 1) * columns + k
    triangles = np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])
    across = np.linalg.norm(np.diff(points, axis=1, prepend=points[:, :1]), axis=2).cumsum(1)
    down = np.linalg.norm(np.diff(points, axis=0, prepend=points[:1]), axis=2).cumsum(0)
    return Mesh(
        points.reshape(-1, 3).astype(np.float32),
        triangles.astype(np.int32),
        np.full(len(triangles), part, np.int8),
        np.stack([across, down], -1).reshape(-1, 2).astype(np.float32),
        np.zeros((0, 3), np.int32),
    )


def _tube(path, radius_x, radius_y, closed):
    """Returns a tube with four edges about a path [n, 3] that runs in the plane of the picture or backwards."""
    neighbours = np.roll(path, -1, 0) - np.roll(path, 1, 0) if closed else np.gradient(path, axis=0)
    tangent = neighbours / np.linalg.norm(neighbours, axis=1, keepdims=True)
    depth = np.where(np.abs(tangent[:, 2:]) > 0.7, [[1.0, 0.0, 0.0]], [[0.0, 0.0, 1.0]])
    across = np.cross(tangent, depth)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    ring = [across * radius_x, depth * radius_y, -across * radius_x, -depth * radius_y]
    points = np.stack([path + offset for offset in ring], 1)
    if closed:
        points = np.concatenate([points, points[:1]])
    return _sheet(points, FRAME, closed=True)


def make_glasses(rng: np.random.Generator, head: Head, vertices: np.ndarray) -> Mesh:
    """Returns glasses that fit a face [n, 3]: rims, bridge, temples to the ears, and lenses."""
    kind = GLASSES[rng.integers(len(GLASSES))]
    eyes = [vertices[side].mean(0) for side in (head.left_eye, head.right_eye)]
    reach = (eyes[1][0] - eyes[0][0]) / 2
    half_width = reach * rng.uniform(0.74, 0.84)
    half_height = half_width * {"round": rng.uniform(0.85, 0.98)}.get(kind, rng.uniform(0.58, 0.80))
    exponent = {"round": 2.0}.get(kind, rng.uniform(2.6, 4.0))
    rim = {"thick": 0.024, "rimless": 0.004}.get(kind, rng.uniform(0.009, 0.016))
    canonical = head.mean[head.skin_vertices]
    near = (np.abs(canonical[:, 0]) < 0.5) & (np.abs(canonical[:, 0]) > 0.12) & (np.abs(canonical[:, 1] - 7.55) < 0.15)
    front = vertices[head.skin_vertices[near], 2].max() + 0.07
    level = (eyes[0][1] + eyes[1][1]) / 2 - 0.03
    beside = (np.abs(canonical[:, 1] - 7.5) < 0.12) & (head.masks["ears"][head.skin_vertices] < 0.2)
    wide = np.abs(vertices[head.skin_vertices[beside], 0]).max() + 0.03

    def at(x, y):
        return np.stack([x, y, front - 0.16 * x * x / reach], -1)

    meshes = []
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    bulge_x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** (2 / exponent)
    bulge_y = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** (2 / exponent)
    for sign in (-1, 1):
        centre = sign * reach * 1.05
        loop = at(centre + half_width * bulge_x, level + half_height * bulge_y * (1 + 0.08 * sign * bulge_x))
        thickness = np.where(bulge_y > 0.3, rim * 2.2, rim * 0.45)[:, None] if kind == "browline" else rim
        meshes.append(_tube(loop, thickness, rim, closed=True))
        middle = np.concatenate([loop, loop.mean(0, keepdims=True)])
        fan = np.stack([np.arange(28), (np.arange(28) + 1) % 28, np.full(28, 28)], 1)
        lens = Mesh(
            middle.astype(np.float32), np.zeros((0, 3), np.int32), np.zeros(0, np.int8),
            (middle[:, :2] - [centre, level]).astype(np.float32), fan.astype(np.int32),
        )  # fmt: skip
        meshes.append(lens)
        hinge_x = centre + sign * half_width
        hinge = at(np.array(hinge_x), np.array(level + 0.55 * half_height))
        bar = np.linspace(0, 1, 7)[:, None]
        ear = np.array([sign * wide, level + 0.4 * half_height, 0.30])
        path = hinge + (ear - hinge) * bar + np.array([0.04 * sign, 0, 0]) * np.sin(np.pi * bar)
        meshes.append(_tube(path, max(rim, 0.010), 0.008, closed=False))
    inner = reach * 1.05 - half_width
    bridge_x = np.linspace(-inner, inner, 7)
    arch = at(bridge_x, level + half_height * (0.25 + 0.18 * (1 - (bridge_x / inner) ** 2)))
    meshes.append(_tube(arch, max(rim, 0.010), max(rim, 0.010), closed=False))
    return join(*meshes)


def make_headwear(rng: np.random.Generator, head: Head, vertices: np.ndarray, kind: str) -> Mesh:
    """Returns a "cap", a "knitted" hat or a "headscarf" that fits a face [n, 3]."""
    shift = eye_shift(head, vertices)
    worn = _headscarf(rng, head, vertices - shift) if kind == "headscarf" else _hat(rng, head, vertices - shift, kind)
    return replace(worn, vertices=worn.vertices + shift)


def _hat(rng, head, vertices, kind):
    """Returns a hat: a grid of directions from the rim to the crown, so far outside the skull; a cap has a brim."""
    skull = Skull(head, vertices)
    azimuth = np.linspace(-np.pi, np.pi, 40, endpoint=False)
    fronting = 0.5 + 0.5 * np.cos(azimuth)
    lowest = rng.uniform(0.33, 0.42) if kind == "cap" else rng.uniform(0.27, 0.42)
    rim = 0.02 + (lowest - 0.02) * fronting
    rows = np.linspace(0, 1, 12)[:, None]
    elevation = rim + (np.pi / 2 - rim) * rows
    towards = np.stack(
        np.broadcast_arrays(
            np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)
        ),
        -1,
    )
    radius = skull.radius((SKULL_CENTRE + towards).reshape(-1, 3)).reshape(towards.shape[:2])
    stands_off = np.full(rows.shape, 0.09)
    if kind == "knitted":
        stands_off = 0.07 + 0.05 * (rows < 0.24) + rng.uniform(0.02, 0.20) * rows**2
    else:
        stands_off = stands_off + 0.07 * np.sin(np.pi * rows)
    crown = _sheet(SKULL_CENTRE + towards * (radius + stands_off)[..., None], CLOTH, closed=True)
    if kind == "knitted":
        return crown
    span = np.linspace(-0.95, 0.95, 15)
    edge_elevation = 0.02 + (lowest - 0.02) * (0.5 + 0.5 * np.cos(span))
    edge = np.stack(
        [np.sin(span) * np.cos(edge_elevation), np.sin(edge_elevation), np.cos(span) * np.cos(edge_elevation)], -1
    )
    root = SKULL_CENTRE + edge * (skull.radius(SKULL_CENTRE + edge) + 0.09)[:, None]
    reach = rng.uniform(0.45, 0.6) * np.sqrt(np.maximum(0.0, 1 - (span / 0.96) ** 2))
    out = np.linspace(0, 1, 5)[:, None, None]
    forward = np.stack([0.15 * np.sin(span), np.full(15, -rng.uniform(0.15, 0.4)), np.ones(15)], -1)
    brim = root + out * reach[:, None] * forward - out**2 * np.array([0, 0.10, 0]) * (span**2)[:, None]
    return join(crown, _sheet(brim, CLOTH))


def _headscarf(rng, head, vertices):
    """Returns a scarf: rings about the face, from its edge outwards, backwards and down to the shoulders."""
    canonical = head.mean[head.skin_vertices]
    smooth_skin = head.masks["ears"][head.skin_vertices] < 0.2
    person = vertices[head.skin_vertices]
    half = np.abs(person[(np.abs(canonical[:, 1] - 7.3) < 0.25) & smooth_skin, 0]).max()
    over_ears = np.abs(person[(canonical[:, 1] > 7.0) & (canonical[:, 1] < 7.7), 0]).max()
    skull = Skull(head, vertices)
    top, chin = person[:, 1].max(), person[(np.abs(canonical[:, 0]) < 0.2) & (canonical[:, 2] > 1.2), 1].min()
    forehead = top - rng.uniform(0.42, 0.52)
    middle = (forehead + chin) / 2
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    across, up = np.sin(angle), np.cos(angle)
    rises, drops = np.maximum(up, 0), np.maximum(-up, 0)
    face_height = np.where(up > 0, forehead - middle, middle - chin + 0.02)
    folds = 0.012 * np.sin(angle * 7 + rng.uniform(0, 6.28)) + 0.008 * np.sin(angle * 13 + rng.uniform(0, 6.28))
    points = []
    for number, (sideways, upwards, downwards, side_z, top_z, chin_z) in enumerate(SCARF_RINGS):
        grown = face_height * np.where(up > 0, upwards, downwards)
        reach = half if number < 2 else over_ears
        x = across * reach * (sideways + 0.45 * drops * (number >= 3)) * (1 + folds * number)
        y = middle + up * np.minimum(grown, np.where(up > 0, top + 0.09 - middle, 9)) * (1 + folds * number)
        z = side_z + (top_z - side_z) * rises**1.3 + (chin_z - side_z) * drops**1.3
        ring = np.stack([x, y, z], -1) - SKULL_CENTRE
        distance = np.linalg.norm(ring, axis=1)
        least = (skull.radius(ring + SKULL_CENTRE) + 0.04 + 0.02 * number) * smoothstep(6.8, 7.2, y)
        points.append(SKULL_CENTRE + ring * (np.maximum(distance, least) / distance)[:, None])
    scarf = _sheet(np.stack(points), CLOTH, closed=True)
    return replace(scarf, texture=np.zeros_like(scarf.texture))

"""The head model: one mesh, its shape targets, and what the renderer must know about its surface."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

HEAD_PATH = Path(__file__).with_name("head.npz")

SKIN, EYES, TEETH, TONGUE, LASHES, LONG_HAIR = range(6)
"""What a triangle of the head belongs to (`Head.parts`)."""
CLOTH, FRAME = 6, 7
"""What a triangle of headwear or glasses belongs to."""

OPPOSITES = (
    ("-decr", "-incr"),
    ("-in", "-out"),
    ("-down", "-up"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)
DETAIL_REGIONS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "cheek", "chin", "ears", "neck")
PIXELS_PER_UNIT = 160
"""Resolution of the canonical feature maps; a unit of the mesh is a decimetre."""
MAP_LEVELS = 4
"""Maps are kept at full resolution, a half, a quarter and an eighth of it."""
MAP_LEFT, MAP_RIGHT, MAP_BOTTOM, MAP_TOP = -0.9, 0.9, 6.2, 8.6
"""The window of the canonical feature maps, in mesh units: x to the viewer's right, y up."""

CREASE_UNITS = {
    "forehead": {"browInnerUp": 0.5, "browOuterUp": 0.6},
    "glabella": {"browDown": 0.9},
    "bunny": {"noseSneer": 1.0},
    "crow": {"cheekSquint": 0.5, "eyeSquint": 0.4, "mouthSmile": 0.3},
    "nasolabial": {"mouthSmile": 0.8, "noseSneer": 0.6, "mouthUpperUp": 0.5, "mouthStretch": 0.3},
    "under_eye": {"cheekSquint": 0.6, "eyeSquint": 0.5, "eyeWide": -0.2},
    "marionette": {"mouthFrown": 0.8, "mouthPress": 0.3},
    "chin": {"mouthShrugLower": 0.9, "mouthPress": 0.4},
}
"""Which face units deepen which crease, and how much (own choice)."""


@dataclass(frozen=True)
class UnitChange:
    """How a face unit differs from MakeHuman's target for it.

    Attributes:
        scale: factors of the target's own offsets (x, y, z).
        others: shares of other units' targets, of the same side, that are added.
        push: offset (x, y, z) of the skin around `middle` (|x|, y), which fades out over `radius`; mesh units.
    """

    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    others: tuple[tuple[str, float], ...] = ()
    push: tuple[float, float, float] = (0.0, 0.0, 0.0)
    middle: tuple[float, float] = (0.0, 0.0)
    radius: float = 0.1


UNIT_CHANGES = {
    "cheekSquint": UnitChange(others=(("eyeSquint", 0.5),), push=(0, 0.03, 0.05), middle=(0.44, 7.2), radius=0.17),
    "noseSneer": UnitChange(others=(("mouthUpperUp", 0.45),), push=(0, 0.045, 0.01), middle=(0.17, 7.08), radius=0.11),
    "mouthPress": UnitChange(scale=(0.35, 0.15, 1), others=(("mouthRollLower", 0.2), ("mouthRollUpper", 0.2))),
}
"""Own choice, after FACS: raised cheeks bulge and lift the lower lid (AU 6), a wrinkled nose lifts its wings and the
upper lip (AU 9), pressed lips roll in (AU 24); MakeHuman's moved a cheek's skin alone, brows alone, and smiled."""


@dataclass(frozen=True)
class Axis:
    """One direction of identity: a pair of opposite targets (left and right halves together)."""

    name: str
    region: str
    positive: tuple[int, ...]
    negative: tuple[int, ...]


def smoothstep(low, high, x):
    """Returns 0 below `low`, 1 above `high`, and a smooth cubic between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def linear_rgb(colour):
    """Returns display colours in [0, 1] as linear light (gamma 2.2)."""
    return np.asarray(colour, np.float32) ** np.float32(2.2)


class Head:
    """The head model, shared by all people.

    Mesh units are decimetres: x to the viewer's right, y up, z towards the viewer.

    Attributes:
        vertices: [n, 3] float32, the base mesh.
        mean: [n, 3] float32, the mesh of a young adult between the sexes: the canonical coordinates of the surface.
        triangles: [t, 3] int32. parts: [t] int8 (`SKIN`, `EYES`, ...).
        targets: [k, n, 3] float32 offsets, named by `target_index`.
        masks: float32 [n] in [0, 1] each: face, lips, ears, eyelids, inside_mouth.
        attributes: [n, 8] float32, what the shader interpolates: canonical position and five masks; that of hair is
            the person's and 0 here.
        axes: the directions of identity. asymmetries: target numbers that break the symmetry of a face.
        units: the 52 names of the face units, sorted.
        crease_maps: [h, w, 8] float32 each, furrows that deepen with face units, in the canonical window at the
            resolutions of the surface maps.
        crease_weights: [8, 52] float32, how much each unit deepens each furrow.
    """

    def __init__(self, path: str | Path = HEAD_PATH):
        with np.load(path) as data:
            self.vertices = data["verts"]
            self.triangles = data["tri"].astype(np.int32)
            self.parts = data["part"]
            names = [str(name) for name in data["names"]]
            self.targets = data["D"].astype(np.float32)
            corner_uv = data["uv"][data["tri_uv"].ravel()]
            self.target_index = {name: number for number, name in enumerate(names)}
            self.mean = self.vertices + 0.5 * (
                self.target("macro/caucasian-male-young") + self.target("macro/caucasian-female-young")
            )
            self.masks = {
                name: self._vertex_mask(data[f"mask_{name}"], corner_uv)
                for name in ("face", "lips", "ears", "eyelids", "inside_mouth")
            }
        self.asymmetries = np.array([number for name, number in self.target_index.items() if name.startswith("asym/")])
        self.axes = self._identity_axes(names)
        self.units = tuple(sorted(name.removeprefix("fu/") for name in names if name.startswith("fu/")))
        self._prepare_units()
        self._prepare_parts()
        self._prepare_landmarks()
        self.attributes = np.concatenate(
            [self.mean, *(self.masks[name][:, None] for name in ("lips", "inside_mouth", "ears")),
             np.zeros((len(self.mean), 1)), self.masks["face"][:, None]], 1
        ).astype(np.float32)  # fmt: skip
        self.map_x, self.map_y = canonical_grid()
        self.crease_names = tuple(CREASE_UNITS)
        self.crease_maps = halved(crease_map(self.map_x, self.map_y), MAP_LEVELS)

    def target(self, name: str) -> np.ndarray:
        """Returns the offsets [n, 3] of a named shape target."""
        return self.targets[self.target_index[name]]

    def _vertex_mask(self, picture, corner_uv):
        """Averages a texture-space mask over the triangle corners that meet in each vertex (skin only)."""
        height, width = picture.shape
        rows = np.clip(((1 - corner_uv[:, 1]) * height).astype(int), 0, height - 1)
        columns = np.clip((corner_uv[:, 0] * width).astype(int), 0, width - 1)
        values = picture[rows, columns].astype(np.float32) / 255 * (np.repeat(self.parts, 3) == SKIN)
        corners = self.triangles.ravel()
        count = np.bincount(corners, minlength=len(self.vertices))
        return (np.bincount(corners, values, len(self.vertices)) / np.maximum(count, 1)).astype(np.float32)

    def _identity_axes(self, names):
        axes, taken = [], set()
        for name in names:
            region = name.split("/")[0]
            if region not in DETAIL_REGIONS or name in taken:
                continue
            positive, negative = both_sides(name), []
            for ending, opposite in (*OPPOSITES, *((b, a) for a, b in OPPOSITES)):
                partner = name.removesuffix(ending) + opposite
                if name.endswith(ending) and partner in self.target_index:
                    negative = both_sides(partner)
            taken |= {*positive, *negative}
            number = self.target_index
            axes.append(
                Axis(
                    name,
                    region,
                    tuple(number[n] for n in positive if n in number),
                    tuple(number[n] for n in negative if n in number),
                )
            )
        return tuple(axes)

    def _prepare_units(self):
        """Keeps the offsets of each face unit for the vertices it moves only, one unit after the other."""
        starts, moved, offsets = [0], [], []
        for name in self.units:
            target = self._unit_target(name)
            vertices = np.flatnonzero(np.abs(target).max(1) > 0)
            moved.append(vertices.astype(np.int32))
            offsets.append(target[vertices])
            starts.append(starts[-1] + len(vertices))
        self.unit_starts = np.array(starts, np.int64)
        self.unit_vertices = np.concatenate(moved)
        self.unit_offsets = np.concatenate(offsets)
        crease_weights = np.zeros((len(CREASE_UNITS), len(self.units)), np.float32)
        for row, weights in enumerate(CREASE_UNITS.values()):
            for stem, weight in weights.items():
                sides = [k for k, unit in enumerate(self.units) if unit in (stem, stem + "Left", stem + "Right")]
                crease_weights[row, sides] = weight / len(sides)
        self.crease_weights = crease_weights

    def _unit_target(self, name: str) -> np.ndarray:
        """Returns the offsets [n, 3] of a face unit of one side or both: MakeHuman's with our `UNIT_CHANGES`."""
        stem = name.removesuffix("Left").removesuffix("Right")
        target = self.target("fu/" + name)
        if (change := UNIT_CHANGES.get(stem)) is None:
            return target
        side = name.removeprefix(stem)
        target = target * np.float32(change.scale)
        for other, share in change.others:
            target += np.float32(share) * self.target("fu/" + (other + side if other + side in self.units else other))
        x, y = change.middle
        away = np.hypot(self.mean[:, 0] - (x if side == "Left" else -x), self.mean[:, 1] - y)
        near = np.exp(-((away / change.radius) ** 2))
        in_front = (self.masks["face"] > 0.5) & (self.masks["inside_mouth"] < 0.5)
        return target + np.float32(change.push) * np.where(in_front & (near > 0.02), near, 0)[:, None].astype(
            np.float32
        )

    def _prepare_parts(self):
        solid = self.parts < LASHES
        self.solid_triangles = np.ascontiguousarray(self.triangles[solid])
        self.solid_parts = np.ascontiguousarray(self.parts[solid]).astype(np.int8)
        outside = (self.parts == SKIN) & (self.masks["inside_mouth"][self.triangles].mean(1) < 0.5)
        above_shoulders = self.mean[self.triangles][..., 1].mean(1) > 5.8
        self.shadow_triangles = np.ascontiguousarray(self.triangles[outside & above_shoulders])
        self.skin_vertices = np.unique(self.triangles[self.parts == SKIN])
        lashes = self.triangles[self.parts == LASHES]
        self.lash_triangles = np.ascontiguousarray(lashes[self.mean[lashes][:, :, 1].mean(1) > 7.53])

    def _prepare_landmarks(self):
        """Finds the vertices whose projections are the five landmarks; left and right are the viewer's."""
        eyes = np.unique(self.triangles[self.parts == EYES])
        side = self.mean[eyes, 0]
        self.left_eye, self.right_eye = eyes[side < 0], eyes[side > 0]
        skin = self.skin_vertices
        middle = skin[(np.abs(self.mean[skin, 0]) < 0.08) & (self.mean[skin, 1] > 7.0) & (self.mean[skin, 1] < 7.5)]
        self.nose_tip = int(middle[self.mean[middle, 2].argmax()])
        lips = np.flatnonzero(self.masks["lips"] > 0.5)
        self.lips = lips
        self.left_mouth_corner = int(lips[self.mean[lips, 0].argmin()])
        self.right_mouth_corner = int(lips[self.mean[lips, 0].argmax()])


def both_sides(name: str) -> list[str]:
    """Returns a target's name, or the names of its left and right halves."""
    region, part = name.split("/")
    return [f"{region}/{side}{part[1:]}" for side in "lr"] if part[:2] in ("l-", "r-") else [name]


def canonical_grid() -> tuple[np.ndarray, np.ndarray]:
    """Returns x [h, w] and y [h, w] of the canonical window, in mesh units."""
    width = round((MAP_RIGHT - MAP_LEFT) * PIXELS_PER_UNIT)
    height = round((MAP_TOP - MAP_BOTTOM) * PIXELS_PER_UNIT)
    across = np.linspace(MAP_LEFT, MAP_RIGHT, width, dtype=np.float32)
    down = np.linspace(MAP_TOP, MAP_BOTTOM, height, dtype=np.float32)
    return np.meshgrid(across, down)


def crease_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns the depth of the furrows [h, w, 8] in [0, ~1], in the order of `CREASE_UNITS` (own drawing).

    A furrow is a soft valley that fades out at both ends; the shader lights its slopes and darkens it a little.
    """
    side = np.abs(x)

    def curve(points, width):
        nearest, where = np.full(x.shape, 9.0, np.float32), np.zeros(x.shape, np.float32)
        for number, ((ax, ay), (bx, by)) in enumerate(pairwise(points)):
            dx, dy = bx - ax, by - ay
            t = np.clip(((side - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0, 1)
            distance = np.hypot(side - ax - t * dx, y - ay - t * dy)
            where = np.where(distance < nearest, (number + t) / (len(points) - 1), where)
            nearest = np.minimum(nearest, distance)
        return np.exp(-((nearest / width) ** 2)) * np.sin(np.pi * np.clip(where, 0.02, 0.98)) ** 0.7

    def row(height, width):
        return np.exp(-((height / width) ** 2))

    forehead = sum(
        row(y - level - 0.02 * np.sin(x * 6 + 2 * k), 0.020) * np.exp(-(((x - 0.05 * np.sin(3 * k)) / reach) ** 2))
        for k, (level, reach) in enumerate(((7.93, 0.28), (8.02, 0.34), (8.12, 0.24)))
    )
    bunny = sum(row(y - level + 0.3 * side, 0.016) * reach for level, reach in ((7.56, 0.5), (7.49, 1.0), (7.42, 0.6)))
    lines = (
        forehead,
        row(side - 0.05 - 0.06 * (y - 7.7), 0.020) * np.exp(-(((y - 7.70) / 0.085) ** 2)),
        bunny * np.exp(-((side / 0.11) ** 2)),
        sum(
            curve([(0.48, 7.50 + k * 0.02), (0.545, 7.50 + k * 0.05), (0.60, 7.50 + k * 0.09)], 0.013)
            for k in (-1, 0, 1)
        ),
        curve([(0.17, 7.22), (0.235, 7.15), (0.30, 7.04), (0.345, 6.94), (0.365, 6.84)], 0.034),
        curve([(0.14, 7.43), (0.22, 7.36), (0.31, 7.335), (0.40, 7.36), (0.46, 7.41)], 0.022),
        curve([(0.285, 6.84), (0.325, 6.76), (0.345, 6.68), (0.345, 6.60)], 0.026),
        row(y - 6.70 + 0.35 * x * x, 0.028) * np.exp(-((x / 0.15) ** 2)),
    )
    return np.ascontiguousarray(np.stack(lines, -1).astype(np.float32))


def halved(picture: np.ndarray, levels: int) -> tuple[np.ndarray, ...]:
    """Returns a picture [h, w, c] and its halvings, each the mean of two by two pixels of the one before."""
    pictures = [np.ascontiguousarray(picture, np.float32)]
    for _ in range(levels - 1):
        last = pictures[-1]
        height, width = last.shape[0] // 2 * 2, last.shape[1] // 2 * 2
        last = last[:height:2, :width] + last[1:height:2, :width]
        pictures.append((last[:, ::2] + last[:, 1::2]) * np.float32(0.25))
    for picture in pictures:
        picture.setflags(write=False)
    return tuple(pictures)


@lru_cache(maxsize=1)
def load_head() -> Head:
    """Returns the packaged head model, loaded once per process."""
    return Head()

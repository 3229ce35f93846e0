"""Renders (identity, expression, scene), and tells where each surface point of one render lies in another."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from training.faces import rasterizer, shading
from training.faces.camera import develop
from training.faces.expression import UNITS
from training.faces.hair import KNOTS
from training.faces.head import MAP_LEVELS, PIXELS_PER_UNIT, SKIN, Head
from training.faces.identity import Identity
from training.faces.scene import Scene

RENDERER_VERSION = 5
"""Grows whenever the same arguments give other pictures than before: caches of older pictures are then refused."""
CAMERA_DISTANCE = 9.0
"""From the middle of the head to the camera, mesh units (0.9 m)."""
FACE_SPAN = 0.275
"""Share of the picture that the mean of half the eye-mouth distance and the eye distance takes at scale 1."""
LANDMARKS = ("left_eye", "right_eye", "nose_tip", "left_mouth_corner", "right_mouth_corner")
"""Order of landmarks; left and right as the viewer sees them."""
VISIBLE_DEPTH = 0.06
"""A point is visible if it lies at most this much behind the z-buffer (mesh units)."""
STRANDS_PER_PIXEL, STRAND_COVER = 20, 27.0
"""Hair strands that are drawn per pixel of the picture's width, and how thick all are together, in pixels per pixel of
width: small pictures have fewer and thicker strands."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The nearest surface point of every output pixel.

    Attributes:
        triangle_ids: [h, w] int32, rows of `Head.solid_triangles`; -1 where the background is.
        barycentrics: [h, w, 3] float32, weights of the triangle's corners; 0 where the background is.
        depth: [h, w] float32, distance from the camera in mesh units; 1e9 where the background is.
    """

    triangle_ids: np.ndarray
    barycentrics: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True, eq=False)
class Render:
    """A picture and what is known about it.

    Attributes:
        image: [h, w, 3] uint8 RGB.
        mask: [h, w] uint8, 1 on the face (skin, eyes, mouth), 0 on hair, ears, neck, frames, hats and background.
        rigid: [h, w] uint8, 1 on what does not move with the expression: hair, hats, frames of glasses.
        units: [52] float32, the face-unit weights that the face shows.
        landmarks: [5, 2] float32 pixels (x, y), in the order of `LANDMARKS`.
        points: [n, 2] float32, projected vertices in output pixels; a pixel's centre is at +0.5.
        point_depth: [n] float32, distance of the vertices from the camera.
    """

    image: np.ndarray
    mask: np.ndarray
    rigid: np.ndarray
    units: np.ndarray
    landmarks: np.ndarray
    points: np.ndarray
    point_depth: np.ndarray
    head: Head = field(repr=False)

    @cached_property
    def surface(self) -> Surface:
        """The surface at output resolution (without hair and things worn), made when first asked for."""
        ids, zbuffer = empty_buffers(self.mask.shape)
        triangles = self.head.solid_triangles
        rasterizer.draw_triangles(self.points, self.point_depth, triangles, self.head.solid_parts == SKIN, ids, zbuffer)
        return Surface(ids, rasterizer.barycentrics_of(self.points, triangles, ids), zbuffer)

    @property
    def triangle_ids(self) -> np.ndarray:
        """[h, w] int32, see `Surface`."""
        return self.surface.triangle_ids

    @property
    def barycentrics(self) -> np.ndarray:
        """[h, w, 3] float32, see `Surface`."""
        return self.surface.barycentrics

    @property
    def depth(self) -> np.ndarray:
        """[h, w] float32, see `Surface`."""
        return self.surface.depth


def empty_buffers(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids (-1) and z-buffer (far) of a picture."""
    return np.full(shape, -1, np.int32), np.full(shape, rasterizer.FAR, np.float32)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Returns the rotation [3, 3] that turns first about y, then x, then z; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


@dataclass(frozen=True, eq=False)
class View:
    """Turns mesh coordinates into posed coordinates, and those into pixels."""

    turn: np.ndarray
    centre: np.ndarray
    zoom: float
    origin: np.ndarray

    def project(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns posed vertices [n, 3] about the middle of the head, pixels [n, 2] (y down), distances [n]."""
        return rasterizer.project(
            vertices, self.turn, self.centre, np.float32(CAMERA_DISTANCE), np.float32(self.zoom), self.origin
        )


def view_of(identity: Identity, scene: Scene, size: int) -> View:
    """Returns the view that frames a person: by the neutral face, so that expressions do not move it."""
    eyes = (identity.left_eye + identity.right_eye) / 2
    face_height = eyes[1] - identity.mouth[1]
    eye_distance = abs(identity.left_eye[0] - identity.right_eye[0])
    zoom = size * FACE_SPAN / (0.5 * face_height + 0.525 * eye_distance) * scene.scale
    centre = np.array([0, 0.56 * eyes[1] + 0.44 * identity.mouth[1], 0.6], np.float32)
    origin = size * (0.5 + np.array([scene.offset_x, scene.offset_y]))
    return View(rotation(scene.yaw, scene.pitch, scene.roll), centre, float(zoom), origin.astype(np.float32))


def render(
    head: Head,
    identity: Identity,
    expression_units: np.ndarray,
    scene: Scene,
    size_px: int = 128,
    supersampling: int = 2,
) -> Render:
    """Renders a person with an expression in a scene. The same arguments give the same bits on one machine.

    Args:
        head: the head model.
        identity: who.
        expression_units: [52] face-unit weights that are intended, in the order of `UNITS`; the person shows them in a
            style of its own.
        scene: pose, light, background and camera.
        size_px: edge of the picture.
        supersampling: samples per pixel edge; 1 is quicker and jagged.

    Raises:
        ValueError: `expression_units` is not a finite [52], or a size is not positive.
    """
    units = np.asarray(expression_units, np.float32)
    if units.shape != (len(UNITS),) or not np.isfinite(units).all():
        raise ValueError(f"expression_units has shape {units.shape}; accepted: {len(UNITS)} finite weights (UNITS)")
    if size_px < 8 or supersampling < 1:
        raise ValueError(f"size_px is {size_px}, supersampling {supersampling}; accepted: at least 8 and at least 1")
    units = identity.style.show(units)
    view = view_of(identity, scene, size_px * supersampling)
    vertices = rasterizer.move_vertices(
        identity.vertices, units, head.unit_starts, head.unit_vertices, head.unit_offsets
    )
    vertices = np.concatenate([vertices, identity.worn.vertices])
    posed, points, distance = view.project(vertices)
    creases = np.clip(identity.creases + head.crease_weights @ units, 0, 1.2).astype(np.float32)
    light, mask, rigid = _paint(head, identity, creases, scene, view, posed, points, distance, size_px, supersampling)
    count = len(identity.vertices)
    landmarks = _landmarks(head, identity, view, points) / supersampling
    return Render(
        image=develop(light, scene.camera),
        mask=mask,
        rigid=rigid,
        units=units,
        landmarks=landmarks.astype(np.float32),
        points=points[:count] / np.float32(supersampling),
        point_depth=distance[:count],
        head=head,
    )


def _paint(head, identity, creases, scene, view, posed, points, distance, size_px, supersampling):
    """Returns linear light [h, w, 3], where the face is [h, w], and where what does not move is [h, w]."""
    size, count, worn = size_px * supersampling, len(identity.vertices), identity.worn
    triangles, parts, casting = head.solid_triangles, head.solid_parts, head.shadow_triangles
    if len(worn.triangles):
        triangles, casting = (np.concatenate([mesh, worn.triangles + np.int32(count)]) for mesh in (triangles, casting))
        parts = np.concatenate([parts, worn.parts])
    ids, zbuffer = empty_buffers((size, size))
    rasterizer.draw_triangles(points, distance, triangles, parts == SKIN, ids, zbuffer)
    lights = np.stack([scene.key_colour, scene.ambient_colour, scene.key_direction, view.turn[:, 0], view.turn[:, 1]])
    strand_colours = _draw_hair(identity, view, lights, size_px, supersampling, len(triangles), ids, zbuffer)
    veil = np.zeros((size, size), bool)
    rasterizer.draw_veil(points, distance, head.lash_triangles, zbuffer, veil)
    normals = rasterizer.vertex_normals(posed, triangles)
    shadow_map, light_axes = _shadow_map(scene.key_direction, posed, casting)
    sky = rasterizer.open_sky(
        zbuffer, supersampling, max(2, size_px // 40), max(4, size_px // 14), np.float32(CAMERA_DISTANCE + 1)
    )
    attributes = head.attributes.copy()
    attributes[:, shading.HAIR] = identity.hair.cover
    level = _map_level(view.zoom / supersampling)
    image = np.empty((size_px, size_px, 3), np.float32)
    face, rigid = np.empty((size_px, size_px), np.uint8), np.empty((size_px, size_px), np.uint8)
    shading.shade_pixels(
        ids, zbuffer, veil, supersampling, points, posed, normals, attributes, triangles, parts, worn.texture, count,
        strand_colours, identity.surface[level], head.crease_maps[level] @ creases, _palette(identity),
        identity.stripes, sky, lights, light_axes, shadow_map, posed[head.lips, 2].max(),
        np.float32(0.55 if identity.male else 0.85), scene.background, image, face, rigid,
    )  # fmt: skip
    if len(worn.lenses):
        phase = np.float32(0.1 * scene.yaw + 0.05)
        shading.add_lenses(
            points, distance, worn.lenses + np.int32(count), worn.texture, count, zbuffer, supersampling, lights, phase,
            image,
        )  # fmt: skip
    return image, face, rigid


def _draw_hair(identity, view, lights, size_px, supersampling, first_id, ids, zbuffer):
    """Draws the strands and returns their colours [p, 3]."""
    hair = identity.hair
    number = min(len(hair.strands), STRANDS_PER_PIXEL * size_px)
    if not number:
        return np.zeros((0, 3), np.float32)
    posed, points, distance = view.project(hair.strands[:number].reshape(-1, 3))
    thickness = np.float32(STRAND_COVER / STRANDS_PER_PIXEL * supersampling)
    rasterizer.draw_strands(points, distance, KNOTS, thickness, first_id, ids, zbuffer)
    middle = (identity.left_eye + identity.right_eye) / 2 + np.array([0, 0.04, -0.96], np.float32)
    skull = view.turn @ (middle - view.centre)
    return shading.light_strands(posed, hair.shades[:number], skull, identity.hair_colour, lights)


def _map_level(pixels_per_unit):
    """Returns which of the halved maps is a little finer than the picture."""
    return int(np.clip(np.log2(PIXELS_PER_UNIT / pixels_per_unit) + 0.2, 0, MAP_LEVELS - 1))


def _palette(identity):
    look = identity.look
    return np.stack(
        [
            look.skin, look.lips, look.brows, identity.hair_colour, look.iris, *identity.clothes, identity.cloth,
            identity.frame,
        ]
    ).astype(np.float32)  # fmt: skip


def _shadow_map(key_direction, posed, triangles):
    """Returns the depth [s, s] seen from the light, and the light's axes [3, 3]."""
    size = shading.SHADOW_SIZE_PX
    forward = key_direction / np.linalg.norm(key_direction)
    x, y, z = forward
    level = np.hypot(x, z)
    right = np.array([z / level, 0, -x / level])
    up = np.array([-x * y / level, level, -y * z / level])
    axes = np.stack([right, up, forward]).astype(np.float32)
    seen = posed @ axes.T
    scale = np.float32(size * 0.5 / shading.SHADOW_REACH)
    points = np.stack([seen[:, 0] * scale + size / 2, size / 2 - seen[:, 1] * scale], 1).astype(np.float32)
    zbuffer = np.full((size, size), rasterizer.FAR, np.float32)
    rasterizer.draw_depth(points, 10 - seen[:, 2], triangles, zbuffer)
    return zbuffer, axes


def _landmarks(head, identity, view, points):
    """Returns the five landmarks [5, 2]: the fronts of the eyeballs, whichever way they look, and three vertices."""
    radius = np.float32(0.15)
    eyes = np.stack([identity.left_eye, identity.right_eye]) + np.array([0, 0, radius], np.float32)
    _, eye_points, _ = view.project(eyes.astype(np.float32))
    return np.concatenate([eye_points, points[[head.nose_tip, head.left_mouth_corner, head.right_mouth_corner]]])


def backward_flow(identity_render: Render, expression_render: Render) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each pixel of one render is to be looked up in another of the same person and scene.

    Args:
        identity_render: the picture that is looked into.
        expression_render: the picture whose pixels ask (same person, recording and scene, another expression).

    Returns:
        flow: [h, w, 2] float32 pixels (dx, dy): pixel (x, y) of the second shows what the first shows at
            (x + dx, y + dy). 0 on the background and on what does not move (hair, hats, frames).
        visible: [h, w] uint8, 1 where that surface point (or the background) can be seen in the first.
    """
    first, second = identity_render.surface, expression_render.surface
    if first.depth.shape != second.depth.shape:
        raise ValueError(f"renders have sizes {first.depth.shape} and {second.depth.shape}; they must be equal")
    return rasterizer.look_back(
        second.triangle_ids, second.barycentrics, expression_render.rigid, identity_render.head.solid_triangles,
        identity_render.points, identity_render.point_depth, first.triangle_ids, first.depth, identity_render.rigid,
        np.float32(VISIBLE_DEPTH),
    )  # fmt: skip

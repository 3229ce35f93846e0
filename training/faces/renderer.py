"""Renders (identity, expression, scene), and tells where each surface point of one render lies in another."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from training.faces import rasterizer, shading
from training.faces.expression import UNITS
from training.faces.head import SKIN, Head
from training.faces.identity import Identity
from training.faces.scene import Scene

CAMERA_DISTANCE = 9.0
"""From the middle of the head to the camera, mesh units (0.9 m)."""
FACE_SPAN = 0.275
"""Share of the picture that the mean of half the eye-mouth distance and the eye distance takes at scale 1."""
HAIR_SHELLS = 5
LANDMARKS = ("left_eye", "right_eye", "nose_tip", "left_mouth_corner", "right_mouth_corner")
"""Order of landmarks; left and right as the viewer sees them."""
GAMMA_TABLE = ((np.arange(8192) + 0.5) / 8192) ** (1 / 2.2) * 255 + 0.5
GAMMA_TABLE = GAMMA_TABLE.clip(0, 255).astype(np.uint8)
VISIBLE_DEPTH = 0.06
"""A point is visible if it lies at most this much behind the z-buffer (mesh units)."""


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
        mask: [h, w] uint8, 1 on the face (skin, eyes, mouth), 0 on hair, ears, neck and background.
        landmarks: [5, 2] float32 pixels (x, y), in the order of `LANDMARKS`.
        points: [n, 2] float32, projected vertices in output pixels; a pixel's centre is at +0.5.
        point_depth: [n] float32, distance of the vertices from the camera.
    """

    image: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    points: np.ndarray
    point_depth: np.ndarray
    head: Head = field(repr=False)

    @cached_property
    def surface(self) -> Surface:
        """The surface at output resolution (without hair), made when first asked for."""
        height, width = self.mask.shape
        ids, barycentrics, zbuffer = empty_buffers(height, width)
        triangles, cull = self.head.solid_triangles, self.head.solid_parts == SKIN
        rasterizer.rasterize(self.points, self.point_depth, triangles, cull, ids, barycentrics, zbuffer)
        return Surface(ids, barycentrics, zbuffer)

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


def empty_buffers(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns triangle ids (-1), barycentrics (0) and z-buffer (far) of a picture."""
    ids = np.full((height, width), -1, np.int32)
    barycentrics = np.zeros((height, width, 3), np.float32)
    return ids, barycentrics, np.full((height, width), rasterizer.FAR, np.float32)


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """Returns the rotation [3, 3] that turns first about y, then x, then z; radians."""
    (cy, cp, cr), (sy, sp, sr) = np.cos([yaw, pitch, roll]), np.sin([yaw, pitch, roll])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Camera:
    """Turns mesh coordinates into posed coordinates, and those into pixels of a picture `size` wide."""

    turn: np.ndarray
    centre: np.ndarray
    zoom: float
    origin: np.ndarray

    def pose(self, vertices: np.ndarray) -> np.ndarray:
        """Returns [n, 3] float32 about the middle of the head, as the camera sees it."""
        return (vertices - self.centre) @ self.turn.T

    def project(self, posed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns pixels [n, 2] (y down) and distances [n], float32."""
        distance = np.float32(CAMERA_DISTANCE) - posed[:, 2]
        factor = np.float32(CAMERA_DISTANCE * self.zoom) / distance
        points = np.empty((len(posed), 2), np.float32)
        points[:, 0] = posed[:, 0] * factor + self.origin[0]
        points[:, 1] = self.origin[1] - posed[:, 1] * factor
        return points, distance


def camera_for(identity: Identity, scene: Scene, size: int) -> Camera:
    """Returns the camera that frames a person: by the neutral face, so that expressions do not move it."""
    eyes = (identity.left_eye + identity.right_eye) / 2
    face_height = eyes[1] - identity.mouth[1]
    eye_distance = abs(identity.left_eye[0] - identity.right_eye[0])
    zoom = size * FACE_SPAN / (0.5 * face_height + 0.525 * eye_distance) * scene.scale
    centre = np.array([0, 0.56 * eyes[1] + 0.44 * identity.mouth[1], 0.6], np.float32)
    origin = size * (0.5 + np.array([scene.offset_x, scene.offset_y]))
    return Camera(rotation(scene.yaw, scene.pitch, scene.roll), centre, float(zoom), origin.astype(np.float32))


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
        expression_units: [52] face-unit weights, in the order of `UNITS`.
        scene: pose, light and background.
        size_px: edge of the picture.
        supersampling: samples per pixel edge; 1 is twice as fast and jagged.

    Raises:
        ValueError: `expression_units` is not a finite [52], or a size is not positive.
    """
    units = np.asarray(expression_units, np.float32)
    if units.shape != (len(UNITS),) or not np.isfinite(units).all():
        raise ValueError(f"expression_units has shape {units.shape}; accepted: {len(UNITS)} finite weights (UNITS)")
    if size_px < 8 or supersampling < 1:
        raise ValueError(f"size_px is {size_px}, supersampling {supersampling}; accepted: at least 8 and at least 1")
    size = size_px * supersampling
    camera = camera_for(identity, scene, size)
    vertices = rasterizer.move_vertices(
        identity.vertices, units, head.unit_starts, head.unit_vertices, head.unit_offsets
    )
    posed = camera.pose(vertices)
    points, distance = camera.project(posed)
    image, face = _paint(head, identity, units, scene, camera, posed, points, distance, size)
    picture, mask = shading.develop(image, face, supersampling, GAMMA_TABLE)
    landmarks = _landmarks(head, identity, camera, points) / supersampling
    return Render(picture, mask, landmarks.astype(np.float32), points / np.float32(supersampling), distance, head)


def _paint(head, identity, units, scene, camera, posed, points, distance, size):
    """Returns linear light [h, w, 3] and face cover [h, w] at supersampled resolution."""
    image = np.empty((size, size, 3), np.float32)
    face = np.zeros((size, size), np.float32)
    shading.paint_background(scene.background, image)
    ids, barycentrics, depth = empty_buffers(size, size)
    triangles, parts = head.solid_triangles, head.solid_parts
    rasterizer.rasterize(points, distance, triangles, parts == SKIN, ids, barycentrics, depth)
    normals = rasterizer.vertex_normals(posed, head.triangles)
    attributes = _vertex_attributes(head, identity, posed, normals)
    shadow_map, light_axes = _shadow_map(scene.key_direction, posed, triangles)
    light = (scene.key_direction, scene.key_colour, scene.ambient_colour)
    creases = np.clip(identity.creases + head.crease_weights @ units, 0, 1.2).astype(np.float32)
    shading.shade_head(
        ids, barycentrics, triangles, parts, attributes, _occlusion(ids, depth), shadow_map, light_axes,
        posed[head.lips, 2].max(), identity.surface_map, head.crease_map, creases,
        identity.skin, identity.lips, identity.brows, identity.hair, identity.iris, identity.clothes,
        identity.hair_noise, np.float32(0.75 if identity.hair_style == "buzz" else 1.0), *light, image, face,
    )  # fmt: skip
    ids, barycentrics, zbuffer = empty_buffers(size, size)
    zbuffer[:] = depth
    no_cull = np.zeros(len(head.lash_triangles), bool)
    rasterizer.rasterize(points, distance, head.lash_triangles, no_cull, ids, barycentrics, zbuffer)
    shading.shade_lashes(ids, np.float32(0.5 if identity.male else 0.75), image)
    _paint_hair(head, identity, camera, posed, normals, attributes, light, image, depth, face)
    return image, face


def _paint_hair(head, identity, camera, posed, normals, attributes, light, image, depth, face):
    if identity.hair_style in ("bald", "buzz"):
        return
    size = len(face)
    triangles = head.skin_triangles
    triangles = triangles[identity.hair_mask[triangles].max(1) > 0.05]
    no_cull = np.zeros(len(triangles), bool)
    thickness, drop = identity.hair_thickness[:, None] * normals, identity.hair_drop @ camera.turn.T
    for shell in range(HAIR_SHELLS):
        level = np.float32((shell + 1) / HAIR_SHELLS)
        points, distance = camera.project(posed + (thickness + drop) * level)
        ids, barycentrics, zbuffer = empty_buffers(size, size)
        zbuffer[:] = depth
        rasterizer.rasterize(points, distance, triangles, no_cull, ids, barycentrics, zbuffer)
        shading.shade_hair_shell(
            ids, barycentrics, zbuffer, triangles, attributes, level, np.float32(identity.parting), identity.hair,
            identity.hair_noise, *light, image, depth, face,
        )  # fmt: skip
    if identity.hair_style in ("bob", "long"):
        points, distance = camera.project(posed)
        ids, barycentrics, zbuffer = empty_buffers(size, size)
        zbuffer[:] = depth
        no_cull = np.zeros(len(head.strip_triangles), bool)
        rasterizer.rasterize(points, distance, head.strip_triangles, no_cull, ids, barycentrics, zbuffer)
        shading.shade_hair_strips(
            ids, barycentrics, head.strip_triangles, attributes, np.float32(identity.hair_end), identity.hair,
            identity.hair_noise, *light, image, face,
        )  # fmt: skip


def _vertex_attributes(head, identity, posed, normals):
    attributes = np.empty((len(posed), shading.ATTRIBUTES), np.float32)
    attributes[:, 0:3], attributes[:, 3:6], attributes[:, 6:9] = posed, normals, head.mean
    attributes[:, shading.LIPS] = head.masks["lips"]
    attributes[:, shading.INSIDE] = head.masks["inside_mouth"]
    attributes[:, shading.EARS] = head.masks["ears"]
    attributes[:, shading.HAIR] = identity.hair_mask
    attributes[:, shading.FACE] = head.masks["face"]
    return attributes


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
    rasterizer.rasterize_depth(points, 10 - seen[:, 2], triangles, zbuffer)
    return zbuffer, axes


def _occlusion(ids, depth):
    """Returns how open the sky is [h, w] in [0, 1]: points behind the mean depth around them are darker."""
    covered = ids >= 0
    farthest = depth[covered].max() if covered.any() else np.float32(CAMERA_DISTANCE)
    filled = np.where(covered, depth, farthest)
    size = len(ids)
    near = rasterizer.box_blur(filled, max(3, size // 40))
    wide = rasterizer.box_blur(filled, max(6, size // 14))
    return (1 - np.clip((filled - near) * 1.6, 0, 0.6)) * (1 - np.clip((filled - wide) * 0.5, 0, 0.4))


def _landmarks(head, identity, camera, points):
    """Returns the five landmarks [5, 2]: the fronts of the eyeballs, whichever way they look, and three vertices."""
    radius = np.float32(0.15)
    eyes = np.stack([identity.left_eye, identity.right_eye]) + np.array([0, 0, radius], np.float32)
    eye_points, _ = camera.project(camera.pose(eyes.astype(np.float32)))
    return np.concatenate([eye_points, points[[head.nose_tip, head.left_mouth_corner, head.right_mouth_corner]]])


def backward_flow(identity_render: Render, expression_render: Render) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each pixel of one render is to be looked up in another of the same person and scene.

    Args:
        identity_render: the picture that is looked into.
        expression_render: the picture whose pixels ask (same person, recording and scene, another expression).

    Returns:
        flow: [h, w, 2] float32 pixels (dx, dy): pixel (x, y) of the second shows what the first shows at
            (x + dx, y + dy). 0 on the background.
        visible: [h, w] uint8, 1 where that surface point (or the background) can be seen in the first.
    """
    first, second = identity_render.surface, expression_render.surface
    if first.depth.shape != second.depth.shape:
        raise ValueError(f"renders have sizes {first.depth.shape} and {second.depth.shape}; they must be equal")
    height, width = second.depth.shape
    flow = np.zeros((height, width, 2), np.float32)
    visible = ((first.triangle_ids < 0) & (second.triangle_ids < 0)).astype(np.uint8)
    rows, columns = np.nonzero(second.triangle_ids >= 0)
    corners = identity_render.head.solid_triangles[second.triangle_ids[rows, columns]]
    weights = second.barycentrics[rows, columns]
    place = (identity_render.points[corners] * weights[..., None]).sum(1)
    distance = (identity_render.point_depth[corners] * weights).sum(1)
    flow[rows, columns] = place - np.stack([columns + 0.5, rows + 0.5], 1)
    at = np.floor(place).astype(int)
    inside = (at >= 0).all(1) & (at[:, 0] < width) & (at[:, 1] < height)
    at = np.clip(at, 0, (width - 1, height - 1))
    visible[rows, columns] = inside & (distance < first.depth[at[:, 1], at[:, 0]] + VISIBLE_DEPTH)
    return flow, visible

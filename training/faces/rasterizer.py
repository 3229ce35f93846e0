"""Loops over vertices, triangles and strands, compiled by numba: deformation, projection, normals, z-buffer."""

import numba
import numpy as np

FAR = np.float32(1e9)
HALF, ONE = np.float32(0.5), np.float32(1)
EDGE = np.float32(1e-4)
"""Triangles reach so far over their edges (barycentric), so that rounding leaves no holes between them."""
HIDDEN = np.float32(0.12)
"""Pieces of hair whose middle lies farther than this (mesh units) behind something are not drawn."""


@numba.njit(cache=True, error_model="numpy")
def move_vertices(vertices, units, starts, moved, offsets):
    """Returns vertices [n, 3] moved by face-unit weights [u]; unit k moves `moved[starts[k]:starts[k + 1]]`."""
    result = vertices.copy()
    for unit in range(units.shape[0]):
        weight = units[unit]
        if weight != 0:
            for k in range(starts[unit], starts[unit + 1]):
                for axis in range(3):
                    result[moved[k], axis] += weight * offsets[k, axis]
    return result


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def project(vertices, turn, centre, reach, zoom, origin):
    """Poses and projects vertices [n, 3].

    Args:
        vertices: mesh units. turn: [3, 3] rotation. centre: [3], the point that it turns about.
        reach: distance of the camera from `centre`. zoom: pixels per mesh unit at that distance.
        origin: [2] pixels, where `centre` is seen.

    Returns:
        posed: [n, 3] float32, mesh units about `centre`. points: [n, 2] float32 pixels, y down. depth: [n] float32,
        distance from the camera.
    """
    count = vertices.shape[0]
    posed, points = np.empty((count, 3), np.float32), np.empty((count, 2), np.float32)
    depth = np.empty(count, np.float32)
    for i in range(count):
        x, y, z = vertices[i, 0] - centre[0], vertices[i, 1] - centre[1], vertices[i, 2] - centre[2]
        for axis in range(3):
            posed[i, axis] = turn[axis, 0] * x + turn[axis, 1] * y + turn[axis, 2] * z
        depth[i] = reach - posed[i, 2]
        factor = reach * zoom / depth[i]
        points[i, 0] = posed[i, 0] * factor + origin[0]
        points[i, 1] = origin[1] - posed[i, 1] * factor
    return posed, points, depth


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def vertex_normals(vertices, triangles):
    """Returns unit normals [n, 3], averaged over the triangles of a vertex by their area; 0 for unused vertices."""
    normals = np.zeros(vertices.shape, np.float32)
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        ax, ay, az = (vertices[j, 0] - vertices[i, 0], vertices[j, 1] - vertices[i, 1], vertices[j, 2] - vertices[i, 2])
        bx, by, bz = (vertices[k, 0] - vertices[i, 0], vertices[k, 1] - vertices[i, 1], vertices[k, 2] - vertices[i, 2])
        nx, ny, nz = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
        for corner in (i, j, k):
            normals[corner, 0] += nx
            normals[corner, 1] += ny
            normals[corner, 2] += nz
    for i in range(normals.shape[0]):
        square = normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2
        if square > 0:
            inverse = np.float32(1) / np.sqrt(square)
            for axis in range(3):
                normals[i, axis] *= inverse
    return normals


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _signed_area(points, i, j, k):
    """Returns twice the area, negative where the triangle is seen from its front."""
    return (points[j, 0] - points[i, 0]) * (points[k, 1] - points[i, 1]) - (points[j, 1] - points[i, 1]) * (
        points[k, 0] - points[i, 0]
    )


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _pixel_box(points, i, j, k, height, width):
    """Returns the first and last column and row whose middles may lie in the triangle."""
    ax, bx, cx, ay, by, cy = points[i, 0], points[j, 0], points[k, 0], points[i, 1], points[j, 1], points[k, 1]
    left = max(np.int32(np.ceil(min(ax, bx, cx) - HALF)), np.int32(0))
    right = min(np.int32(np.floor(max(ax, bx, cx) - HALF)), np.int32(width - 1))
    top = max(np.int32(np.ceil(min(ay, by, cy) - HALF)), np.int32(0))
    bottom = min(np.int32(np.floor(max(ay, by, cy) - HALF)), np.int32(height - 1))
    return left, right, top, bottom


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _barycentric_planes(points, i, j, k, area):
    """Returns value at pixel (0, 0) and steps along x and y of the weights of the first two corners."""
    inverse = np.float32(1) / area
    a_x, a_y = (points[j, 1] - points[k, 1]) * inverse, (points[k, 0] - points[j, 0]) * inverse
    b_x, b_y = (points[k, 1] - points[i, 1]) * inverse, (points[i, 0] - points[k, 0]) * inverse
    right, down = HALF - points[k, 0], HALF - points[k, 1]
    return a_x * right + a_y * down, a_x, a_y, b_x * right + b_y * down, b_x, b_y


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _root_factor(step):
    """Returns what a value is multiplied by to tell after how many steps it is 0; huge if it never is."""
    return -ONE / step if step != 0 else FAR


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _inside(low, high, value, step, root_factor):
    """Narrows a range of columns to those where a weight, `value` in column 0, is not negative."""
    root = (value + EDGE) * root_factor
    return (max(low, root), high) if step > 0 else (low, min(high, root))


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_triangles(points, depth, triangles, culled, ids, zbuffer):
    """Draws triangles into the buffers, where they are nearer than what is there.

    Args:
        points: [n, 2] float32 pixels, y down; a pixel's centre is at +0.5.
        depth: [n] float32, larger is farther.
        triangles: [t, 3]. culled: [t] bool, triangles that are skipped when seen from behind.
        ids: [h, w] int32, written: the triangle's number. zbuffer: [h, w] float32, read and written.
    """
    height, width = zbuffer.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area = _signed_area(points, i, j, k)
        if area == 0 or (culled[t] and area > 0):
            continue
        left, right, top, bottom = _pixel_box(points, i, j, k, height, width)
        if left > right or top > bottom:
            continue
        a_0, a_x, a_y, b_0, b_x, b_y = _barycentric_planes(points, i, j, k, area)
        c_x = -a_x - b_x
        a_i, b_i, c_i = _root_factor(a_x), _root_factor(b_x), _root_factor(c_x)
        z_0, z_a, z_b = depth[k], depth[i] - depth[k], depth[j] - depth[k]
        z_x = a_x * z_a + b_x * z_b
        for row in range(top, bottom + 1):
            a, b = a_0 + a_y * np.float32(row), b_0 + b_y * np.float32(row)
            low, high = _inside(np.float32(left), np.float32(right), a, a_x, a_i)
            low, high = _inside(low, high, b, b_x, b_i)
            low, high = _inside(low, high, ONE - a - b, c_x, c_i)
            first, last = int(np.ceil(low)), int(np.floor(high))
            z = z_0 + a * z_a + b * z_b + z_x * np.float32(first)
            for column in range(first, last + 1):
                if z < zbuffer[row, column]:
                    zbuffer[row, column] = z
                    ids[row, column] = t
                z += z_x


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def barycentrics_of(points, triangles, ids):
    """Returns the weights of the corners of each pixel's triangle, [h, w, 3] float32; 0 where there is none."""
    height, width = ids.shape
    weights = np.zeros((height, width, 3), np.float32)
    for row in range(height):
        for column in range(width):
            t = ids[row, column]
            if t >= 0:
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                a_0, a_x, a_y, b_0, b_x, b_y = _barycentric_planes(points, i, j, k, _signed_area(points, i, j, k))
                weights[row, column, 0] = a_0 + a_y * np.float32(row) + a_x * np.float32(column)
                weights[row, column, 1] = b_0 + b_y * np.float32(row) + b_x * np.float32(column)
                weights[row, column, 2] = 1 - weights[row, column, 0] - weights[row, column, 1]
    return weights


@numba.njit(cache=True, error_model="numpy")
def look_back(ids, weights, rigid, triangles, points, depth, ids_before, depth_before, rigid_before, tolerance):
    """Returns where the surface point of each pixel lies in another picture, and whether it can be seen there.

    Args:
        ids, weights, rigid: [h, w], [h, w, 3], [h, w] triangles and barycentrics of this picture, and what stays put.
        triangles: [t, 3]. points, depth: [n, 2], [n] vertices in the other picture.
        ids_before, depth_before, rigid_before: [h, w] of the other picture.
        tolerance: how far behind `depth_before` a point may lie and still count as seen.

    Returns:
        flow: [h, w, 2] float32 pixels. visible: [h, w] uint8.
    """
    height, width = ids.shape
    flow, visible = np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.uint8)
    for row in range(height):
        for column in range(width):
            t = ids[row, column]
            if rigid[row, column]:
                visible[row, column] = rigid_before[row, column]
                continue
            if t < 0:
                visible[row, column] = ids_before[row, column] < 0 and not rigid_before[row, column]
                continue
            x, y, z = np.float32(0), np.float32(0), np.float32(0)
            for corner in range(3):
                weight, vertex = weights[row, column, corner], triangles[t, corner]
                x += weight * points[vertex, 0]
                y += weight * points[vertex, 1]
                z += weight * depth[vertex]
            flow[row, column, 0] = x - np.float32(column) - HALF
            flow[row, column, 1] = y - np.float32(row) - HALF
            i, j = int(np.floor(x)), int(np.floor(y))
            if 0 <= i < width and 0 <= j < height:
                visible[row, column] = z < depth_before[j, i] + tolerance and not rigid_before[j, i]
    return flow, visible


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_depth(points, depth, triangles, zbuffer):
    """Draws only the depth of the triangles that face the viewer into `zbuffer` [h, w] (for shadows)."""
    height, width = zbuffer.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area = _signed_area(points, i, j, k)
        if area >= 0:
            continue
        left, right, top, bottom = _pixel_box(points, i, j, k, height, width)
        a_0, a_x, a_y, b_0, b_x, b_y = _barycentric_planes(points, i, j, k, area)
        for row in range(top, bottom + 1):
            a_row, b_row = a_0 + a_y * np.float32(row), b_0 + b_y * np.float32(row)
            for column in range(left, right + 1):
                a, b = a_row + a_x * np.float32(column), b_row + b_x * np.float32(column)
                if min(a, b, ONE - a - b) >= -EDGE:
                    z = depth[k] + a * (depth[i] - depth[k]) + b * (depth[j] - depth[k])
                    zbuffer[row, column] = min(zbuffer[row, column], z)


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_veil(points, depth, triangles, zbuffer, veil):
    """Marks in `veil` [h, w] bool where triangles lie in front of `zbuffer` [h, w]; both sides of them are seen."""
    height, width = zbuffer.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area = _signed_area(points, i, j, k)
        if area == 0:
            continue
        left, right, top, bottom = _pixel_box(points, i, j, k, height, width)
        a_0, a_x, a_y, b_0, b_x, b_y = _barycentric_planes(points, i, j, k, area)
        for row in range(top, bottom + 1):
            a_row, b_row = a_0 + a_y * np.float32(row), b_0 + b_y * np.float32(row)
            for column in range(left, right + 1):
                a, b = a_row + a_x * np.float32(column), b_row + b_x * np.float32(column)
                if min(a, b, ONE - a - b) >= -EDGE:
                    z = depth[k] + a * (depth[i] - depth[k]) + b * (depth[j] - depth[k])
                    if z < zbuffer[row, column]:
                        veil[row, column] = True


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def draw_strands(points, depth, knots, thickness_px, first_id, ids, zbuffer):
    """Draws strands as lines that taper to the tip, where they are nearer than what is there.

    Args:
        points: [s * knots, 2] float32 pixels, one strand after the other. depth: [s * knots] float32.
        knots: points of each strand.
        thickness_px: at the root.
        first_id: number of the first segment; segment k of a strand that starts at point p gets `first_id + p + k`.
        ids: [h, w] int32, written. zbuffer: [h, w] float32, read and written.
    """
    height, width = zbuffer.shape
    for start in range(0, points.shape[0], knots):
        for k in range(knots - 1):
            p = start + k
            ax, ay, bx, by = points[p, 0], points[p, 1], points[p + 1, 0], points[p + 1, 1]
            if max(ax, bx) < 0 or max(ay, by) < 0 or min(ax, bx) >= width or min(ay, by) >= height:
                continue
            column, row = int((ax + bx) * HALF), int((ay + by) * HALF)
            inside = 0 <= column < width and 0 <= row < height
            if inside and (depth[p] + depth[p + 1]) * HALF > zbuffer[row, column] + HIDDEN:
                continue
            dx, dy = bx - ax, by - ay
            half = (
                np.float32(0.5) * thickness_px * (np.float32(1.1) - np.float32(0.8) * np.float32(k) / np.float32(knots))
            )
            half = max(half, np.float32(0.5))
            steep = abs(dy) > abs(dx)
            if steep:
                ax, ay, dx, dy = ay, ax, dy, dx
            if abs(dx) < np.float32(1e-3):
                continue
            slope = dy / dx
            rise = (depth[p + 1] - depth[p]) / dx
            half *= np.sqrt(np.float32(1) + slope * slope)
            along, beside = (height, width) if steep else (width, height)
            first = max(int(np.ceil(min(ax, ax + dx) - HALF)), 0)
            last = min(int(np.floor(max(ax, ax + dx) - HALF)), along - 1)
            for u in range(first, last + 1):
                middle = np.float32(u) + HALF - ax
                v = ay + slope * middle
                z = depth[p] + rise * middle
                low, high = max(int(np.ceil(v - half - HALF)), 0), min(int(np.ceil(v + half - HALF)) - 1, beside - 1)
                for w in range(low, high + 1):
                    row, column = (u, w) if steep else (w, u)
                    if z < zbuffer[row, column]:
                        zbuffer[row, column] = z
                        ids[row, column] = first_id + p


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def open_sky(zbuffer, supersampling, nearby, wide, background):
    """Returns how much of the sky each pixel sees [h, w] in [0, 1]: points behind the mean depth around are darker.

    Args:
        zbuffer: [h * s, w * s] float32. supersampling: s.
        nearby, wide: radii in pixels of the two squares that depth is averaged over.
        background: depth that empty pixels count with.
    """
    height, width = zbuffer.shape[0] // supersampling, zbuffer.shape[1] // supersampling
    depth = np.empty((height, width), np.float32)
    share = np.float32(1) / np.float32(supersampling * supersampling)
    for row in range(height):
        for column in range(width):
            total = np.float32(0)
            for j in range(row * supersampling, (row + 1) * supersampling):
                for i in range(column * supersampling, (column + 1) * supersampling):
                    total += min(zbuffer[j, i], background)
            depth[row, column] = total * share
    small, large = _box_blur(depth, nearby), _box_blur(depth, wide)
    for row in range(height):
        for column in range(width):
            z = depth[row, column]
            near = min(max((z - small[row, column]) * np.float32(1.7), np.float32(0)), np.float32(0.6))
            far = min(max((z - large[row, column]) * np.float32(0.55), np.float32(0)), np.float32(0.45))
            small[row, column] = (1 - near) * (1 - far)
    return small


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def _box_blur(picture, radius):
    """Returns [h, w] averaged over squares of 2 radius + 1 pixels; edges are repeated."""
    height, width = picture.shape
    share = np.float32(1) / np.float32(2 * radius + 1)
    across = np.empty_like(picture)
    for row in range(height):
        total = np.float32(0)
        for offset in range(-radius, radius + 1):
            total += picture[row, min(max(offset, 0), width - 1)]
        for column in range(width):
            across[row, column] = total * share
            total += picture[row, min(column + radius + 1, width - 1)] - picture[row, max(column - radius, 0)]
    result = np.empty_like(picture)
    totals = np.zeros(width, np.float32)
    for offset in range(-radius, radius + 1):
        row = min(max(offset, 0), height - 1)
        for column in range(width):
            totals[column] += across[row, column]
    for row in range(height):
        enter, leave = min(row + radius + 1, height - 1), max(row - radius, 0)
        for column in range(width):
            result[row, column] = totals[column] * share
            totals[column] += across[enter, column] - across[leave, column]
    return result

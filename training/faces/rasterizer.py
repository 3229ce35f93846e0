"""Loops over vertices and triangles, compiled by numba: deformation, normals, z-buffer."""

import numba
import numpy as np

FAR = np.float32(1e9)


@numba.njit(cache=True)
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


@numba.njit(cache=True)
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
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2)
        if length > 0:
            for axis in range(3):
                normals[i, axis] /= length
    return normals


@numba.njit(cache=True, fastmath=True, inline="always")
def _triangle_setup(points, i, j, k, height, width):
    """Returns twice the signed area (negative in front), the pixel box, and the planes of two barycentrics."""
    half = np.float32(0.5)
    ax, ay = points[i, 0], points[i, 1]
    bx, by = points[j, 0], points[j, 1]
    cx, cy = points[k, 0], points[k, 1]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    left = max(int(np.ceil(min(ax, bx, cx) - half)), 0)
    right = min(int(np.floor(max(ax, bx, cx) - half)), width - 1)
    top = max(int(np.ceil(min(ay, by, cy) - half)), 0)
    bottom = min(int(np.floor(max(ay, by, cy) - half)), height - 1)
    inverse = np.float32(1) / area if area != 0 else np.float32(0)
    a_x, a_y = (by - cy) * inverse, (cx - bx) * inverse
    b_x, b_y = (cy - ay) * inverse, (ax - cx) * inverse
    a_0 = a_x * (half - cx) + a_y * (half - cy)
    b_0 = b_x * (half - cx) + b_y * (half - cy)
    return area, left, right, top, bottom, a_0, a_x, a_y, b_0, b_x, b_y


@numba.njit(cache=True, fastmath=True)
def rasterize(points, depth, triangles, cull, ids, barycentrics, zbuffer):
    """Draws triangles into the buffers, where they are nearer than what is there.

    Args:
        points: [n, 2] float32 pixels, y down; a pixel's centre is at +0.5.
        depth: [n] float32, larger is farther.
        triangles: [t, 3]. cull: [t] bool, triangles that are skipped when seen from behind.
        ids: [h, w] int32, written. barycentrics: [h, w, 3] float32, written. zbuffer: [h, w] float32, read and written.
    """
    height, width = zbuffer.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area, left, right, top, bottom, a_0, a_x, a_y, b_0, b_x, b_y = _triangle_setup(points, i, j, k, height, width)
        if area == 0 or (cull[t] and area > 0):
            continue
        for row in range(top, bottom + 1):
            a_row, b_row = a_0 + a_y * np.float32(row), b_0 + b_y * np.float32(row)
            for column in range(left, right + 1):
                a, b = a_row + a_x * np.float32(column), b_row + b_x * np.float32(column)
                c = np.float32(1) - a - b
                if min(a, b, c) < 0:
                    continue
                z = a * depth[i] + b * depth[j] + c * depth[k]
                if z < zbuffer[row, column]:
                    zbuffer[row, column] = z
                    ids[row, column] = t
                    barycentrics[row, column, 0] = a
                    barycentrics[row, column, 1] = b
                    barycentrics[row, column, 2] = c


@numba.njit(cache=True, fastmath=True)
def rasterize_depth(points, depth, triangles, zbuffer):
    """Draws only the depth of the triangles that face the viewer into `zbuffer` [h, w] (for shadows)."""
    height, width = zbuffer.shape
    for t in range(triangles.shape[0]):
        i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
        area, left, right, top, bottom, a_0, a_x, a_y, b_0, b_x, b_y = _triangle_setup(points, i, j, k, height, width)
        if area >= 0:
            continue
        for row in range(top, bottom + 1):
            a_row, b_row = a_0 + a_y * np.float32(row), b_0 + b_y * np.float32(row)
            for column in range(left, right + 1):
                a, b = a_row + a_x * np.float32(column), b_row + b_x * np.float32(column)
                c = np.float32(1) - a - b
                if min(a, b, c) >= 0:
                    z = a * depth[i] + b * depth[j] + c * depth[k]
                    zbuffer[row, column] = min(zbuffer[row, column], z)


@numba.njit(cache=True)
def box_blur(picture, radius):
    """Returns [h, w] averaged over squares of 2 radius + 1 pixels; edges are repeated."""
    height, width = picture.shape
    size = np.float32(2 * radius + 1)
    across = np.empty_like(picture)
    for row in range(height):
        total = 0.0
        for offset in range(-radius, radius + 1):
            total += picture[row, min(max(offset, 0), width - 1)]
        for column in range(width):
            across[row, column] = total / size
            total += picture[row, min(column + radius + 1, width - 1)] - picture[row, max(column - radius, 0)]
    result = np.empty_like(picture)
    totals = np.zeros(width, np.float64)
    for offset in range(-radius, radius + 1):
        row = min(max(offset, 0), height - 1)
        for column in range(width):
            totals[column] += across[row, column]
    for row in range(height):
        enter, leave = min(row + radius + 1, height - 1), max(row - radius, 0)
        for column in range(width):
            result[row, column] = totals[column] / size
            totals[column] += across[enter, column] - across[leave, column]
    return result

"""Colour of every pixel, in fused loops compiled by numba. All constants are our own choices of look."""

import numba
import numpy as np

from training.faces.head import EYES, MAP_LEFT, MAP_TOP, PIXELS_PER_UNIT, SKIN, TEETH, TONGUE

POSITION, NORMAL, CANONICAL = 0, 3, 6
LIPS, INSIDE, EARS, HAIR, FACE = 9, 10, 11, 12, 13
ATTRIBUTES = 14
"""Columns of the vertex attributes that the shaders interpolate."""
SHADOW_SIZE_PX = 192
SHADOW_REACH = 1.7
"""The shadow map spans this many mesh units to each side."""


@numba.njit(cache=True, fastmath=True, inline="always")
def _step(low, high, x):
    t = min(max((x - low) / (high - low), np.float32(0)), np.float32(1))
    return t * t * (np.float32(3) - np.float32(2) * t)


@numba.njit(cache=True, fastmath=True, inline="always")
def _strand(noise, u, v):
    """Interpolates the strand noise [256, 256], repeated in both directions."""
    column, row = int(np.floor(u)), int(np.floor(v))
    s, t = np.float32(u - column), np.float32(v - row)
    left, top = column & 255, row & 255
    right, bottom = (left + 1) & 255, (top + 1) & 255
    upper = noise[top, left] * (1 - s) + noise[top, right] * s
    lower = noise[bottom, left] * (1 - s) + noise[bottom, right] * s
    return upper * (1 - t) + lower * t


@numba.njit(cache=True, fastmath=True, inline="always")
def _interpolate(attributes, triangles, t, a, b, c, out):
    i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
    for q in range(ATTRIBUTES):
        out[q] = attributes[i, q] * a + attributes[j, q] * b + attributes[k, q] * c
    length = np.sqrt(out[3] * out[3] + out[4] * out[4] + out[5] * out[5]) + np.float32(1e-9)
    out[3] /= length
    out[4] /= length
    out[5] /= length


@numba.njit(cache=True, fastmath=True)
def paint_background(grid, image):
    """Fills `image` [h, w, 3] from a coarse grid [g, g, 3], interpolated smoothly."""
    height, width, _ = image.shape
    cells = grid.shape[0] - 1
    for row in range(height):
        y = (row + 0.5) / height * cells
        top = min(int(y), cells - 1)
        v = np.float32(y - top)
        for column in range(width):
            x = (column + 0.5) / width * cells
            left = min(int(x), cells - 1)
            u = np.float32(x - left)
            for q in range(3):
                upper = grid[top, left, q] * (1 - u) + grid[top, left + 1, q] * u
                lower = grid[top + 1, left, q] * (1 - u) + grid[top + 1, left + 1, q] * u
                image[row, column, q] = upper * (1 - v) + lower * v


@numba.njit(cache=True, fastmath=True)
def shade_head(
    ids, barycentrics, triangles, parts, attributes, occlusion, shadow_map, light_axes, deepest_lip,
    surface_map, crease_map, crease_depth, skin, lips, brows, hair, iris, clothes, hair_noise, hair_cover,
    key_direction, key_colour, ambient_colour, image, face,
):  # fmt: skip
    """Shades the solid head into `image` [h, w, 3] (linear light) and marks the face in `face` [h, w]."""
    height, width = ids.shape
    map_height, map_width, _ = surface_map.shape
    at = np.empty(ATTRIBUTES, np.float32)
    albedo = np.empty(3, np.float32)
    sample = np.empty(5, np.float32)
    lx, ly, lz = key_direction[0], key_direction[1], key_direction[2]
    half_length = np.sqrt(lx * lx + ly * ly + (lz + 1) * (lz + 1))
    hx, hy, hz = lx / half_length, ly / half_length, (lz + 1) / half_length
    shadow_scale = np.float32(SHADOW_SIZE_PX * 0.5 / SHADOW_REACH)
    for row in range(height):
        for column in range(width):
            t = ids[row, column]
            if t < 0:
                continue
            _interpolate(
                attributes, triangles, t,
                barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2], at,
            )  # fmt: skip
            px, py, pz = at[0], at[1], at[2]
            nx, ny, nz = at[3], at[4], at[5]
            x, y, z = at[6], at[7], at[8]
            part = parts[t]
            specular, gloss, softness = np.float32(0.18), 18, np.float32(0.28)
            inside = False
            if part == SKIN:
                inside = at[INSIDE] > 0.5
                front = _step(np.float32(0.45), np.float32(0.75), z)
                neckline = np.float32(5.95) - np.float32(0.35) * np.exp(-(x * x) * np.float32(2.78))
                face[row, column] = 1.0 if at[FACE] > 0.5 or inside or at[LIPS] > 0.5 else 0.0
                if inside:
                    albedo[0], albedo[1], albedo[2] = 0.074, 0.0047, 0.0039
                elif y < neckline:
                    for q in range(3):
                        albedo[q] = clothes[q]
                    specular = np.float32(0.02)
                else:
                    for q in range(3):
                        albedo[q] = skin[q]
                    beard, brow = np.float32(0), np.float32(0)
                    if front > 0:
                        u = min(max((x - MAP_LEFT) * PIXELS_PER_UNIT, 0.0), map_width - 1.001)
                        v = min(max((MAP_TOP - y) * PIXELS_PER_UNIT, 0.0), map_height - 1.001)
                        i, j = int(u), int(v)
                        s, r = np.float32(u - i), np.float32(v - j)
                        w00, w01, w10, w11 = (1 - s) * (1 - r), s * (1 - r), (1 - s) * r, s * r
                        for q in range(5):
                            sample[q] = (
                                surface_map[j, i, q] * w00 + surface_map[j, i + 1, q] * w01
                                + surface_map[j + 1, i, q] * w10 + surface_map[j + 1, i + 1, q] * w11
                            )  # fmt: skip
                        crease = np.float32(0)
                        for q in range(crease_depth.shape[0]):
                            if crease_depth[q] > 0.01:
                                crease += crease_depth[q] * (
                                    crease_map[j, i, q] * w00 + crease_map[j, i + 1, q] * w01
                                    + crease_map[j + 1, i, q] * w10 + crease_map[j + 1, i + 1, q] * w11
                                )  # fmt: skip
                        crease *= front
                        dark = np.exp(-crease * np.float32(0.32))
                        redder = np.exp(-crease * np.float32(0.12)) * dark
                        albedo[0] *= (1 + (sample[0] - 1) * front) * dark
                        albedo[1] *= (1 + (sample[1] - 1) * front) * redder
                        albedo[2] *= (1 + (sample[2] - 1) * front) * redder
                        brow, beard = sample[3] * front, sample[4] * front
                    albedo[1] *= 1 - np.float32(0.1) * at[EARS]
                    albedo[2] *= 1 - np.float32(0.1) * at[EARS]
                    lip = _step(np.float32(0.25), np.float32(0.75), at[LIPS])
                    beard *= (1 - lip) * np.float32(0.85)
                    if at[LIPS] > 0.5:
                        specular, gloss = np.float32(0.35), 30
                    specular *= (1 - brow) * (1 - beard)
                    cover = np.float32(0)
                    strand = np.float32(0)
                    if at[HAIR] > 0.02:
                        angle = np.arctan2(x, z - np.float32(0.2))
                        strand = _strand(hair_noise, (angle * 40 + 128) * 3, y * 90)
                        cover = _step(np.float32(0.15), np.float32(0.85), at[HAIR] + (strand - np.float32(0.5)) * 0.9)
                        cover *= _step(np.float32(0.02), np.float32(0.3), at[HAIR]) * hair_cover
                        if cover > 0.5:
                            face[row, column] = 0.0
                        specular *= 1 - cover
                    for q in range(3):
                        colour = albedo[q] * (1 - lip) + lips[q] * lip
                        colour = colour * (1 - beard) + hair[q] * np.float32(0.7) * beard
                        colour = colour * (1 - brow) + brows[q] * brow
                        shade = hair[q] * (np.float32(0.6) + np.float32(0.8) * strand)
                        albedo[q] = colour * (1 - cover) + shade * cover
            elif part == EYES:
                face[row, column] = 1.0
                specular, gloss, softness = np.float32(1.2), 90, np.float32(0.056)
                side = 1.0 if x > 0 else -1.0
                ex, ey, ez = x - side * 0.2907, y - 7.509, z - 1.2096
                length = np.sqrt(ex * ex + ey * ey + ez * ez)
                ex, ey = ex / length, ey / length
                radius = np.float32(np.sqrt(ex * ex + ey * ey) + (2 if ez < 0 else 0))
                fibre = 1 + 0.175 * np.sin(np.arctan2(ey, ex) * 23)
                ring = 1 - 0.75 * np.exp(-(((radius - 0.455) / 0.035) ** 2))
                whiteness = 1 - 0.25 * _step(np.float32(0.6), np.float32(1), radius)
                in_iris = 1 - _step(np.float32(0.44), np.float32(0.48), radius)
                pupil = 1 - _step(np.float32(0.17), np.float32(0.21), radius)
                depth = 0.75 + 0.6 * _step(np.float32(0.15), np.float32(0.40), radius)
                for q in range(3):
                    white = (0.793, 0.736, 0.699)[q] * whiteness
                    colour = (iris[q] * fibre * depth * in_iris + white * (1 - in_iris)) * ring
                    albedo[q] = colour * (1 - pupil) + 0.008 * pupil
            elif part == TEETH:
                face[row, column] = 1.0
                specular, gloss = np.float32(0.5), 40
                albedo[0], albedo[1], albedo[2] = 0.755, 0.681, 0.547
            else:
                face[row, column] = 1.0
                albedo[0], albedo[1], albedo[2] = 0.401, 0.0815, 0.076
            # shadow: five taps into the depth seen from the light
            across = (light_axes[0, 0] * px + light_axes[0, 1] * py + light_axes[0, 2] * pz) * shadow_scale
            down = -(light_axes[1, 0] * px + light_axes[1, 1] * py + light_axes[1, 2] * pz) * shadow_scale
            distance = 10 - (light_axes[2, 0] * px + light_axes[2, 1] * py + light_axes[2, 2] * pz)
            across += SHADOW_SIZE_PX / 2
            down += SHADOW_SIZE_PX / 2
            lit = np.float32(0)
            for tap in range(5):
                i = int(across + (0.0, 1.2, -1.2, 0.5, -0.5)[tap])
                j = int(down + (0.0, 0.5, -0.5, -1.2, 1.2)[tap])
                i, j = min(max(i, 0), SHADOW_SIZE_PX - 1), min(max(j, 0), SHADOW_SIZE_PX - 1)
                if distance < shadow_map[j, i] + np.float32(0.045):
                    lit += np.float32(0.2)
            facing = nx * lx + ny * ly + nz * lz
            open_sky = occlusion[row, column]
            fill = min(max(-0.8 * lx * nx + 0.1 * ny + 0.6 * nz, 0.0), 1.0) * 0.22
            highlight = np.float32(0)
            towards = nx * hx + ny * hy + nz * hz
            if specular > 0 and towards > 0.5 and lit > 0:
                highlight = np.float32(0.5) * specular * lit * towards**gloss
            shade = np.float32(0.35) + np.float32(0.65) * open_sky
            for q in range(3):
                wrap = softness * (1.1, 0.55, 0.4)[q]
                diffuse = min(max((facing + wrap) / (1 + wrap), 0.0), 1.0)
                diffuse *= lit * (0.85, 0.92, 0.94)[q] + (0.15, 0.08, 0.06)[q]
                ambient = (ambient_colour[q] * (0.65 + 0.35 * ny) + fill) * open_sky
                colour = albedo[q] * (diffuse * key_colour[q] * 0.62 + ambient) * shade + highlight * key_colour[q]
                if inside or part == TEETH or part == TONGUE:
                    behind = min(max((deepest_lip - pz - 0.10) / 0.35, 0.0), 1.0)
                    colour *= (1 - 0.85 * behind) * 0.8
                image[row, column, q] = colour


@numba.njit(cache=True, fastmath=True)
def shade_hair_shell(
    ids, barycentrics, zbuffer, triangles, attributes, level, parting, hair, hair_noise,
    key_direction, key_colour, ambient_colour, image, depth, face,
):  # fmt: skip
    """Blends one shell of hair, `level` in (0, 1] of its thickness, over `image`, and hides `face` and `depth`."""
    height, width = ids.shape
    at = np.empty(ATTRIBUTES, np.float32)
    lx, ly, lz = key_direction[0], key_direction[1], key_direction[2]
    half_length = np.sqrt(lx * lx + ly * ly + (lz + 1) * (lz + 1))
    hx, hy, hz = lx / half_length, ly / half_length, (lz + 1) / half_length
    for row in range(height):
        for column in range(width):
            t = ids[row, column]
            if t < 0:
                continue
            _interpolate(
                attributes, triangles, t,
                barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2], at,
            )  # fmt: skip
            x, y, z = at[6], at[7], at[8]
            mask = at[HAIR]
            angle = np.arctan2(x, z - np.float32(0.2))
            tuft = _strand(hair_noise, angle * 150, y * 30)
            ragged = mask + (tuft - np.float32(0.5)) * np.float32(0.75) * _step(np.float32(0), np.float32(0.3), mask)
            cover = _step(np.float32(-0.16), np.float32(0.16), ragged - np.float32(0.35) - np.float32(0.1) * level)
            cover *= _step(np.float32(-0.14), np.float32(0.14), tuft - level * np.float32(0.5) + np.float32(0.12))
            if cover < 0.03:
                continue
            nx, ny, nz = at[3], at[4], at[5]
            tx, ty, tz = -0.2 * nx, 1.0, 0.0
            along = tx * nx + ty * ny
            tx, ty, tz = tx - nx * along, ty - ny * along, tz - nz * along
            length = np.sqrt(tx * tx + ty * ty + tz * tz) + 1e-9
            parted = np.arctan2(x - parting * np.float32(0.3), z - np.float32(0.2))
            strand = _strand(hair_noise, parted * 170 + y * 8, y * 25)
            gleam = (tx * hx + ty * hy + tz * hz) / length
            facing = nx * lx + ny * ly + nz * lz
            shine = max(1 - gleam * gleam, 0.0) ** 20 * 0.22 * strand * min(max(facing + 0.2, 0.0), 1.0) * 0.35
            diffuse = min(max((facing + 0.25) / 1.25, 0.0), 1.0) * 0.6
            for q in range(3):
                light = diffuse * key_colour[q] + ambient_colour[q] * (0.6 + 0.4 * ny)
                colour = hair[q] * (0.45 + 1.1 * strand) * light * (0.45 + 0.55 * level) + shine * (hair[q] + 0.15)
                image[row, column, q] = image[row, column, q] * (1 - cover) + colour * cover
            if cover > 0.5:
                depth[row, column] = zbuffer[row, column]
                face[row, column] = 0.0


@numba.njit(cache=True, fastmath=True)
def shade_hair_strips(
    ids, barycentrics, triangles, attributes, end, hair, hair_noise,
    key_direction, key_colour, ambient_colour, image, face,
):  # fmt: skip
    """Blends hanging hair over `image` down to the height `end`, frayed there."""
    height, width = ids.shape
    at = np.empty(ATTRIBUTES, np.float32)
    lx, ly, lz = key_direction[0], key_direction[1], key_direction[2]
    for row in range(height):
        for column in range(width):
            t = ids[row, column]
            if t < 0:
                continue
            _interpolate(
                attributes, triangles, t,
                barycentrics[row, column, 0], barycentrics[row, column, 1], barycentrics[row, column, 2], at,
            )  # fmt: skip
            x, y, z = at[6], at[7], at[8]
            fray = _strand(hair_noise, x * 170, np.float32(10))
            cover = _step(np.float32(-0.05), np.float32(0.05), y - end - np.float32(0.3) * (fray - np.float32(0.5)))
            if cover < 0.03:
                continue
            strand = _strand(hair_noise, x * 130 + z * 70, y * 12)
            flip = 1.0 if at[5] >= 0 else -1.0
            facing = (at[3] * lx + at[4] * ly + at[5] * lz) * flip
            diffuse = min(max((facing + 0.5) / 1.5, 0.0), 1.0) * 0.5
            for q in range(3):
                light = diffuse * key_colour[q] + ambient_colour[q] * 0.7
                colour = hair[q] * (0.4 + 1.1 * strand) * light
                image[row, column, q] = image[row, column, q] * (1 - cover) + colour * cover
            if cover > 0.5:
                face[row, column] = 0.0


@numba.njit(cache=True, fastmath=True)
def shade_lashes(ids, opacity, image):
    """Darkens `image` where eyelashes are."""
    height, width = ids.shape
    for row in range(height):
        for column in range(width):
            if ids[row, column] >= 0:
                for q in range(3):
                    image[row, column, q] = image[row, column, q] * (1 - opacity) + np.float32(0.015) * opacity


@numba.njit(cache=True, fastmath=True)
def develop(image, face, supersampling, gamma_table):
    """Averages supersamples and returns uint8 pictures: colours [h, w, 3] and face [h, w] (1 where most is face)."""
    height, width = face.shape[0] // supersampling, face.shape[1] // supersampling
    picture = np.empty((height, width, 3), np.uint8)
    mask = np.empty((height, width), np.uint8)
    share = np.float32(1.0 / (supersampling * supersampling))
    last = gamma_table.shape[0] - 1
    for row in range(height):
        for column in range(width):
            red, green, blue, covered = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for j in range(row * supersampling, (row + 1) * supersampling):
                for i in range(column * supersampling, (column + 1) * supersampling):
                    r, g, b = max(image[j, i, 0], 0), max(image[j, i, 1], 0), max(image[j, i, 2], 0)
                    red += r / (1 + np.float32(0.12) * r)
                    green += g / (1 + np.float32(0.12) * g)
                    blue += b / (1 + np.float32(0.12) * b)
                    covered += face[j, i]
            picture[row, column, 0] = gamma_table[min(int(red * share * last), last)]
            picture[row, column, 1] = gamma_table[min(int(green * share * last), last)]
            picture[row, column, 2] = gamma_table[min(int(blue * share * last), last)]
            mask[row, column] = 1 if covered * share > 0.5 else 0
    return picture, mask

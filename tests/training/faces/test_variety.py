from dataclasses import replace

import numpy as np
import pytest

from training.faces import (
    FULL,
    ILLUMINATIONS,
    PLAIN,
    Variety,
    backward_flow,
    load_head,
    peak_expression,
    render,
    sample_identity,
    sample_scene,
)
from training.faces.hair import STYLES, grow_hair
from training.faces.wear import GLASSES, make_glasses, make_headwear

SIZE = 64
NEUTRAL, SURPRISE = peak_expression("neutral").units, peak_expression("surprise").units
STILL = sample_scene(np.random.default_rng(0), 0, PLAIN)


def test_shares_out_of_range_are_named():
    with pytest.raises(ValueError, match=r"glasses is 1\.5; accepted: a share from 0 to 1"):
        Variety(glasses=1.5)
    with pytest.raises(ValueError, match="yaw_degrees is -1"):
        Variety(yaw_degrees=-1)
    with pytest.raises(ValueError, match=r"5 shares \(free, strong, weak, dark, nir\) that add up to 1"):
        Variety(illuminations=(1.0,))


def test_poses_fill_the_range_and_stay_in_it():
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(300)]
    yaw, pitch = (np.rad2deg([getattr(scene, name) for scene in scenes]) for name in ("yaw", "pitch"))
    assert 25 < np.abs(yaw).max() <= 30.001 and 12 < np.abs(pitch).max() <= 15.001
    assert np.median(np.abs(yaw)) < 12


def test_things_worn_come_in_the_shares_asked_for_and_change_nothing_else():
    head = load_head()
    everybody = replace(FULL, glasses=1.0, headwear=0.5)
    people = [sample_identity(head, seed, 1, everybody) for seed in range(10)]
    assert 0.3 < np.mean([person.glasses for person in people]) < 1
    assert 0.1 < np.mean([person.headwear is not None for person in people]) < 0.9
    bare = sample_identity(head, 3, 1, PLAIN)
    assert not bare.glasses and bare.headwear is None and not len(bare.worn.vertices)
    assert np.array_equal(bare.vertices, people[3].vertices)


def test_illuminations_darken_in_their_order_and_infrared_is_grey():
    head = load_head()
    identity, brightness = sample_identity(head, 4, 0, PLAIN), {}
    for number, name in enumerate(ILLUMINATIONS):
        only = replace(FULL, camera=0.0, illuminations=tuple(float(k == number) for k in range(len(ILLUMINATIONS))))
        scenes = [sample_scene(np.random.default_rng(seed), 0, only) for seed in range(6)]
        assert {scene.illumination for scene in scenes} == {name}
        made = [render(head, identity, NEUTRAL, scene, SIZE) for scene in scenes]
        brightness[name] = np.mean([picture.image[picture.mask > 0].mean() for picture in made])
        if name == "nir":
            assert all((picture.image[..., 0] == picture.image[..., 2]).all() for picture in made)
    assert brightness["strong"] > brightness["weak"] + 20 > brightness["dark"] + 40


def test_every_hair_style_starts_on_the_scalp_and_leaves_eyes_and_mouth_free():
    head = load_head()
    identity = sample_identity(head, 3, 0, PLAIN)
    skin = identity.vertices[head.skin_vertices]
    for number, style in enumerate(STYLES):
        hair = grow_hair(np.random.default_rng(number), head, identity.vertices, style, 0.0, 0.0)
        roots = hair.strands[::50, 0]
        nearest = np.linalg.norm(roots[:, None] - skin[None], axis=2).min(1)
        assert nearest.max() < 0.2, style
        made = render(head, replace(identity, hair=hair), NEUTRAL, STILL, SIZE)
        places = made.landmarks.astype(int)
        assert made.rigid[places[:, 1], places[:, 0]].sum() == 0, style
        assert made.rigid.sum() > 20, style


def worn_by(seed, *meshes):
    identity = sample_identity(load_head(), seed, 0, PLAIN)
    return replace(identity, worn=meshes[0]) if meshes else identity


def test_glasses_frame_the_eyes_and_leave_them_to_be_seen():
    head = load_head()
    for seed in range(4):
        plain = worn_by(seed)
        glasses = make_glasses(np.random.default_rng(seed), head, plain.vertices)
        bare = render(head, replace(plain, hair=no_hair(plain)), NEUTRAL, STILL, 128)
        with_glasses = render(head, replace(plain, hair=no_hair(plain), worn=glasses), NEUTRAL, STILL, 128)
        rows, columns = np.nonzero(with_glasses.rigid > bare.rigid)
        eyes = bare.landmarks[:2]
        assert len(rows) > 40
        assert columns.min() < eyes[0, 0] - 6 and columns.max() > eyes[1, 0] + 6
        assert abs(rows.mean() - eyes[:, 1].mean()) < 12
        assert all(with_glasses.mask[int(y), int(x)] for x, y in eyes)
    assert len(GLASSES) >= 3


@pytest.mark.parametrize("kind", ["cap", "knitted", "headscarf"])
def test_headwear_covers_the_top_and_leaves_the_face(kind):
    head = load_head()
    for seed in range(3):
        plain = worn_by(seed)
        plain = replace(plain, hair=no_hair(plain))
        hat = make_headwear(np.random.default_rng(seed), head, plain.vertices, kind)
        wide = replace(STILL, scale=0.9)
        bare, made = (render(head, person, NEUTRAL, wide, SIZE) for person in (plain, replace(plain, worn=hat)))
        top = np.nonzero(bare.triangle_ids >= 0)[0].min()
        assert made.rigid[top + 1, SIZE // 2 - 4 : SIZE // 2 + 4].all()
        places = made.landmarks.astype(int)
        assert made.mask[places[:, 1], places[:, 0]].all()


def no_hair(identity):
    return grow_hair(np.random.default_rng(0), load_head(), identity.vertices, "bald", 0.0, 0.0)


def test_flow_is_zero_and_visible_on_what_does_not_move_and_hidden_below_it():
    head = load_head()
    identity = sample_identity(head, 12, 0, replace(PLAIN, glasses=1.0, headwear=1.0))
    first, second = (render(head, identity, units, STILL, SIZE) for units in (NEUTRAL, SURPRISE))
    flow, visible = backward_flow(first, second)
    both = (first.rigid > 0) & (second.rigid > 0)
    assert both.sum() > 100
    assert not flow[both].any() and visible[both].all()
    still, _ = backward_flow(first, first)
    assert np.abs(still).max() < 1e-3


def test_pictures_converge_with_more_samples_though_colour_is_shared_between_them():
    head = load_head()
    for seed in (2, 5):
        identity = sample_identity(head, seed, 0, PLAIN)
        made = {count: render(head, identity, SURPRISE, STILL, SIZE, count) for count in (1, 2, 4, 8)}
        face = made[8].mask > 0
        errors = [np.abs(made[count].image[face] - made[8].image[face].astype(int)).mean() for count in (1, 2, 4)]
        assert errors[0] > 1.3 * errors[1] > 1.5 * errors[2]
        assert errors[1] < 3.5

import shutil

import numpy as np
import pytest

from training.faces import EXPRESSIONS, FaceSet, Variety, cache, load_pairs, sample_pool, write_pairs

PLAN = dict(split="train", people=9, scenes_per_person=2, pool_size=14, size_px=24, seed=3)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs") / "whole", **PLAN, flows=True)


def test_a_cache_holds_what_the_face_set_renders(uninterrupted):
    pairs = load_pairs(uninterrupted)
    pool = sample_pool(14, cache.pool_seed("train", 3))
    assert pairs["images"].shape == (18, 2, 24, 24, 3) and pairs["images"].dtype == np.uint8
    assert pairs["masks"].shape == (18, 2, 24, 24) and pairs["landmarks"].shape == (18, 2, 5, 2)
    assert pairs["poses"].shape == (18, 3) and np.abs(pairs["poses"][:, 0]).max() <= 30
    assert np.array_equal(pairs["identities"], np.repeat(np.arange(9), 2))
    assert pairs["pool_units"].shape == (14, 52) and np.array_equal(np.bincount(pairs["pool_labels"]), [2] * 7)
    assert [EXPRESSIONS[label] for label in pairs["pool_labels"]] == [expression.label for expression in pool]
    assert (pairs["expressions"][:, 0] != pairs["expressions"][:, 1]).all()
    one, other = pairs["expressions"][5]
    pair = FaceSet("train", people=9, size_px=24, seed=3).pair(2, 1, pool[one], pool[other])
    assert np.array_equal(pairs["images"][5], np.stack([sample.image for sample in pair.samples]))
    assert np.array_equal(pairs["visible"][5], pair.visible)
    assert np.allclose(pairs["flows"][5], pair.flows, atol=0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_cache_goes_on_to_the_same_bytes(uninterrupted, tmp_path, monkeypatch, workers):
    write_shard, written = cache._write_shard, []

    def fails_at_the_second(task):
        if written:
            raise KeyboardInterrupt
        written.append(task)
        return write_shard(task)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(cache, "_write_shard", fails_at_the_second)
        write_pairs(tmp_path / "half", **PLAN, flows=True)
    with pytest.raises(FileNotFoundError, match=r"training\.faces\.cache"):
        load_pairs(tmp_path / "half")
    resumed = write_pairs(tmp_path / "half", **PLAN, flows=True, workers=workers)
    names = sorted(file.name for file in uninterrupted.iterdir())
    assert names == sorted(file.name for file in resumed.iterdir())
    assert all((uninterrupted / name).read_bytes() == (resumed / name).read_bytes() for name in names)


def test_a_finished_cache_is_left_alone_and_another_plan_is_refused(uninterrupted):
    before = (uninterrupted / "images.npy").stat().st_mtime_ns
    assert write_pairs(uninterrupted, **PLAN, flows=True) == uninterrupted
    assert (uninterrupted / "images.npy").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"another face cache: seed=3 \(asked: 4\)"):
        write_pairs(uninterrupted, **{**PLAN, "seed": 4}, flows=True)


def test_a_cache_of_an_older_renderer_or_of_another_variety_is_refused(uninterrupted, monkeypatch):
    with pytest.raises(ValueError, match=r"another face cache: variety="):
        write_pairs(uninterrupted, **PLAN, flows=True, variety=Variety(glasses=0.5))
    monkeypatch.setattr(cache, "RENDERER_VERSION", cache.RENDERER_VERSION + 1)
    with pytest.raises(ValueError, match=r"another face cache: renderer_version=\d+ \(asked: \d+\)"):
        write_pairs(uninterrupted, **PLAN, flows=True)


def test_flows_are_kept_only_where_asked_for(tmp_path):
    pairs = load_pairs(write_pairs(tmp_path / "plain", people=1, scenes_per_person=1, pool_size=2, size_px=24))
    assert not {"flows", "visible"} & set(pairs)


def test_alike_pairs_differ_less_and_the_others_stay_what_they_were(tmp_path):
    plan = PLAN | {"pool_size": 70, "size_px": 8}
    plain, some, all_ = (
        load_pairs(write_pairs(tmp_path / str(share), **plan, alike=share)) for share in (0.0, 0.5, 1.0)
    )

    def distances(pairs):
        one, other = (pairs["pool_units"][pairs["expressions"][:, side]] for side in (0, 1))
        return np.linalg.norm(one - other, axis=1)

    assert distances(all_).max() < np.median(distances(plain))
    assert (all_["expressions"][:, 0] != all_["expressions"][:, 1]).all()
    same = (some["expressions"] == plain["expressions"]).all(1)
    assert 0 < same.mean() < 1 and np.array_equal(some["images"][same], plain["images"][same])


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds no face cache"):
        write_pairs(tmp_path, people=1)


def test_bad_numbers_give_clear_errors(tmp_path):
    for change, message in (
        ({"workers": 0}, "workers is 0"),
        ({"pool_size": 1}, "pool_size is 1"),
        ({"scenes_per_person": 0}, "scenes_per_person is 0"),
        ({"alike": 1.5}, "alike is 1.5"),
        ({"split": "all"}, "'all'"),
    ):
        with pytest.raises(ValueError, match=message):
            write_pairs(tmp_path / "new", **{**PLAN, **change})
    assert not (tmp_path / "new").exists()


def test_the_command_line_prints_the_folder(tmp_path, capsys):
    cache.main([str(tmp_path / "out"), "--people", "1", "--scenes", "1", "--pool", "7", "--size-px", "24"])
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    with pytest.raises(SystemExit) as exit_:
        cache.main([str(tmp_path / "out"), "--people", "2"])
    assert exit_.value.code == 2


def test_a_damaged_array_is_named_and_refused(uninterrupted, tmp_path):
    copy = shutil.copytree(uninterrupted, tmp_path / "copy")
    content = bytearray((copy / "images.npy").read_bytes())
    content[-100] ^= 1
    (copy / "images.npy").write_bytes(content)
    with pytest.raises(OSError, match=r"images\.npy' is damaged\. Delete the folder"):
        load_pairs(copy)
    (copy / "images.npy").unlink()
    with pytest.raises(OSError, match=r"images\.npy' is damaged"):
        load_pairs(copy)

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from training.faces.camera import Camera, develop, point_spread

GREY = np.full((64, 64, 3), 0.2, np.float32)
SCENE = np.random.default_rng(0).uniform(0.05, 0.8, (64, 64, 3)).astype(np.float32)


def test_a_perfect_camera_is_monotone_and_keeps_grey_grey():
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None, :, None], 3, 2)
    picture = develop(ramp, Camera())
    assert (np.diff(picture[0].astype(int), axis=0) >= 0).all()
    assert (picture[..., 0] == picture[..., 1]).all() and picture[0, 0, 0] < 15 and picture[0, -1, 0] > 220


def test_exposure_and_white_balance_are_factors_on_light():
    double = Camera(exposure=2.0, white_balance=(1.0, 0.5, 1.0))
    by_hand = SCENE * np.array([2.0, 1.0, 2.0], np.float32)
    assert np.array_equal(develop(SCENE, double), develop(by_hand, Camera()))


def test_blur_is_the_convolution_with_a_kernel_of_sum_one():
    kernel = point_spread(1.0, 2.0, 0.6)
    assert kernel.sum() == pytest.approx(1) and len(kernel) > 3
    blurred = np.stack([ndimage.convolve(SCENE[..., q], kernel, mode="nearest") for q in range(3)], -1)
    camera = Camera(defocus=1.0 / 64, motion=2.0 / 64, motion_angle=0.6)
    difference = np.abs(develop(SCENE, camera).astype(int) - develop(blurred.astype(np.float32), Camera()))
    assert difference.max() <= 2 and np.abs(develop(SCENE, Camera()).astype(int) - develop(SCENE, camera)).mean() > 5


def test_motion_blurs_along_its_angle():
    across = point_spread(0.3, 2.0, 0.0)
    middle = len(across) // 2
    assert across[middle, middle + 1] > 3 * across[middle + 1, middle]


def test_noise_follows_the_seed_has_the_strength_asked_for_and_does_not_brighten():
    camera = Camera(noise=0.02, seed=1)
    noisy, again, other = develop(GREY, camera), develop(GREY, camera), develop(GREY, replace(camera, seed=2))
    assert np.array_equal(noisy, again) and not np.array_equal(noisy, other)
    assert abs(noisy.mean() - develop(GREY, Camera()).mean()) < 1.5
    weak = develop(GREY, replace(camera, noise=0.01))
    assert noisy[..., 0].std() == pytest.approx(2 * weak[..., 0].std(), rel=0.15)


def test_vignetting_darkens_the_corners_and_not_the_middle():
    plain, dark = develop(GREY, Camera()), develop(GREY, Camera(vignetting=0.4))
    assert (dark[0, 0] < plain[0, 0] - 20).all() and np.abs(dark[32, 32].astype(int) - plain[32, 32]).max() <= 1


def test_a_near_infrared_camera_is_grey_and_jpeg_changes_little():
    infrared = develop(SCENE, Camera(monochrome=True, noise=0.01))
    assert (infrared[..., 0] == infrared[..., 2]).all()
    smooth = ndimage.gaussian_filter(SCENE, (4, 4, 0))
    difference = np.abs(develop(smooth, Camera(jpeg_quality=60)).astype(int) - develop(smooth, Camera()))
    assert 0 < difference.mean() < 6

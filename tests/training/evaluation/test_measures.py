import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from training.evaluation import measures


def test_ssim_equals_the_reference_implementation():
    rng = np.random.default_rng(0)
    truth = rng.random((48, 48, 3))
    image = np.clip(truth + 0.2 * rng.standard_normal(truth.shape), 0, 1)
    expected = structural_similarity(
        image, truth, channel_axis=2, data_range=1.0, gaussian_weights=True, sigma=1.5, win_size=11,
        use_sample_covariance=False, full=True,
    )[1][5:-5, 5:-5].mean()  # fmt: skip
    tensors = [torch.from_numpy(a).permute(2, 0, 1)[None] for a in (image, truth)]
    assert measures.ssim(*tensors).item() == pytest.approx(expected, abs=1e-6)


def test_psnr_in_a_mask_sees_nothing_outside_of_it():
    rng = np.random.default_rng(0)
    image, truth = rng.random((2, 8, 8, 3))
    mask = np.zeros((8, 8), bool)
    mask[2:5] = True
    expected = peak_signal_noise_ratio(truth[2:5], image[2:5], data_range=1.0)
    tensors = [torch.from_numpy(a).permute(2, 0, 1)[None] for a in (image, truth)]
    assert measures.masked_psnr(*tensors, torch.from_numpy(mask)[None, None]).item() == pytest.approx(
        expected, abs=1e-4
    )


def test_the_kernel_distance_of_gaussians_is_the_closed_form():
    # In one dimension E[(x y + 1)^3] = 1 + 3 E[x]E[y] + 3 E[x²]E[y²] + E[x³]E[y³]: for N(0, 1) and N(1, 1) these are
    # (0, 1, 0) and (1, 2, 4), so that the squared distance is (1 + 3) + (1 + 3 + 12 + 16) - 2 (1 + 6) = 22.
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 20_000, 1)) + np.array([0.0, 1.0])[:, None, None]
    mean, spread = measures.kernel_distance(first, second, subsets=40, size=2000)
    assert mean == pytest.approx(22, abs=4 * spread / np.sqrt(40) + 1)
    assert abs(measures.kernel_distance(first[:10_000], first[10_000:], subsets=40, size=2000)[0]) < 0.2


def test_the_calibration_error_of_a_coin_that_is_sure_of_itself_is_a_half():
    right = np.array([True, False] * 50)
    error, bins = measures.reliability(np.ones(100), right)
    assert error == pytest.approx(0.5)
    assert bins == [{"confidence": 1.0, "accuracy": 0.5, "share": 1.0}]
    assert measures.reliability(np.full(100, 0.5), right)[0] == pytest.approx(0)


def test_macro_f1_weighs_classes_alike_and_leaves_out_those_that_never_occur():
    counts = measures.confusion(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0]), 3)
    assert counts.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert measures.macro_f1(counts) == pytest.approx((0.75 + 0.5) / 2)


def test_a_linear_probe_finds_what_is_there_and_nothing_in_noise():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    train = np.arange(400) < 300
    told = rng.standard_normal((400, 10))
    told[np.arange(400), labels] += 6
    assert measures.linear_probe(told, labels, train) > 0.97
    assert measures.linear_probe(rng.standard_normal((400, 10)), labels, train) < 0.4


def test_linearity_is_one_on_a_line_of_either_direction_and_less_on_a_step():
    steps = np.linspace(0, 1, 5)
    values = np.stack([3 * steps - 1, -steps, (steps > 0.6).astype(float)])
    expected = np.corrcoef(values[2], steps)[0, 1] ** 2
    assert measures.linearity(values, steps) == pytest.approx([1, 1, expected])

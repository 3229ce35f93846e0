"""Figures by formula, on tensors and arrays."""

import numpy as np
import torch
import torch.nn.functional as F
from einops import reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ssim(image: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
    """Structural similarity with an 11-pixel Gaussian window of sd 1.5 (Wang et al. 2004, eq. 13); images in [0, 1]."""
    offsets = torch.arange(-5, 6, dtype=image.dtype)
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = window / window.sum()
    c = image.shape[1]
    kernel = (window[:, None] * window[None, :]).expand(c, 1, 11, 11)

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, kernel, groups=c)

    mean_x, mean_y = mean(image), mean(truth)
    var_x, var_y = mean(image**2) - mean_x**2, mean(truth**2) - mean_y**2
    covariance = mean(image * truth) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return reduce(value, "b c h w -> b", "mean")


def masked_psnr(
    image: Float[Tensor, "b 3 h w"], truth: Float[Tensor, "b 3 h w"], mask: Bool[Tensor, "b 1 h w"]
) -> Float[Tensor, " b"]:
    """Peak signal-to-noise ratio in dB over the pixels of a mask alone."""
    error = reduce((image - truth) ** 2 * mask, "b c h w -> b", "sum") / (
        3 * reduce(mask.float(), "b 1 h w -> b", "sum")
    )
    return -10 * torch.log10(error + 1e-8)


def kernel_distance(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"], subsets: int = 50, size: int = 128, seed: int = 0
) -> tuple[float, float]:
    """KID: squared maximum mean discrepancy with the kernel (x·y / d + 1)^3, unbiased (Bińkowski et al. 2018, sect. 4).

    Returns:
        mean, and standard deviation over random subsets of both sets. About 0 for two samples of one distribution; the
        estimate may fall below 0.
    """
    rng = np.random.default_rng(seed)
    size = min(size, len(first), len(second))
    estimates = []
    for _ in range(subsets):
        x, y = (features[rng.choice(len(features), size, replace=False)] for features in (first, second))
        xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
        within = sum((k.sum() - k.trace()) / (size * (size - 1)) for k in (xx, yy))
        estimates.append(float(within - 2 * xy.mean()))
    return float(np.mean(estimates)), float(np.std(estimates))


def reliability(
    confidence: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int = 15
) -> tuple[float, list[dict[str, float]]]:
    """Expected calibration error over bins of equal width (Guo et al. 2017, eq. 3), and the bins that hold anything.

    Each bin: `confidence` and `accuracy` are means over it, `share` is its part of all.
    """
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = [
        {
            "confidence": float(confidence[place == i].mean()),
            "accuracy": float(right[place == i].mean()),
            "share": float((place == i).mean()),
        }
        for i in np.unique(place)
    ]
    return sum(row["share"] * abs(row["confidence"] - row["accuracy"]) for row in rows), rows


def confusion(truth: Int[np.ndarray, " n"], predicted: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "k k"]:
    """Counts; rows are the truth, columns what was predicted."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (truth, predicted), 1)
    return counts


def macro_f1(counts: Int[np.ndarray, "k k"]) -> float:
    """Mean over the classes that occur of the harmonic mean of precision and recall."""
    occurs = counts.sum(1) > 0
    f1 = 2 * counts.diagonal() / np.maximum(counts.sum(0) + counts.sum(1), 1)
    return float(f1[occurs].mean())


def linear_probe(
    features: Float[np.ndarray, "n d"], labels: Int[np.ndarray, " n"], train: Bool[np.ndarray, " n"]
) -> float:
    """Accuracy, on the rest, of a linear classifier fitted on the rows of `train`: what a code gives away.

    Ridge regression of the one-hot labels on standardised features, penalty 1 per row; the largest output wins.
    """
    x = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    names, y = np.unique(labels, return_inverse=True)
    a, targets = x[train], np.eye(len(names))[y[train]]
    weights = np.linalg.solve(a.T @ a + np.eye(a.shape[1]), a.T @ targets)
    return float(((x[~train] @ weights).argmax(1) == y[~train]).mean())


def linearity(values: Float[np.ndarray, "n t"], intensities: Float[np.ndarray, " t"]) -> Float[np.ndarray, " n"]:
    """R² of the straight line that fits each row best: squared correlation of values and intensities."""
    centred = values - values.mean(1, keepdims=True)
    steps = intensities - intensities.mean()
    return (centred @ steps) ** 2 / ((centred**2).sum(1) * (steps**2).sum() + 1e-12)

"""Batches of pairs for transfer: one person twice in one scene, and a stranger who shows the wanted expression."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from training.faces import load_pairs


@dataclass(frozen=True)
class Batch:
    """One batch; the first items may be reconstructions, whose expression image is the identity image itself.

    The face units of an image are those that its person shows. Truth and expression image mean the same expression, but
    each shows it in the style of its own person.
    """

    identity: Float[Tensor, "b 3 h w"]
    expression: Float[Tensor, "b 3 h w"]
    truth: Float[Tensor, "b 3 h w"]
    identity_units: Float[Tensor, "b u"]
    expression_units: Float[Tensor, "b u"]
    truth_units: Float[Tensor, "b u"]
    identity_label: Int[Tensor, " b"]
    label: Int[Tensor, " b"]
    person: Int[Tensor, " b"]
    reconstructions: int

    @classmethod
    def join(cls, batches: Sequence["Batch"]) -> "Batch":
        """One batch of several; those with reconstructions come first.

        Raises:
            ValueError: a batch with other items stands before one with reconstructions.
        """
        reconstructs = [i < batch.reconstructions for batch in batches for i in range(len(batch.identity))]
        if reconstructs != sorted(reconstructs, reverse=True):
            raise ValueError("reconstructions are the first items of a batch; sort the batches")
        columns = {field.name: [getattr(batch, field.name) for batch in batches] for field in fields(cls)}
        return cls(**{name: torch.cat(v) if isinstance(v[0], Tensor) else sum(v) for name, v in columns.items()})

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        values = [getattr(self, field.name) for field in fields(self)]
        return Batch(*(v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for v in values))


class Choice(NamedTuple):
    """Which picture is what in a batch: rows of pairs, and sides (0 or 1) of them; arrays of equal length."""

    pair: np.ndarray
    side: np.ndarray
    wanted_side: np.ndarray
    driver_pair: np.ndarray
    driver_side: np.ndarray
    person: np.ndarray
    reconstructions: int


class Pairs:
    """Rendered pairs, from which any batch can be drawn by its seed.

    Args:
        path: folder that `training.faces.write_pairs` made.
    """

    true_transfers = True

    def __init__(self, path: str | Path):
        data = load_pairs(path)
        self.images: np.ndarray = data["images"]  # uint8 [n, 2, h, w, 3]
        self.expressions: np.ndarray = np.array(data["expressions"])
        self.masks: np.ndarray = data["masks"]  # uint8 [n, 2, h, w]
        self.units: np.ndarray = data["units"]  # float32 [n, 2, 52]
        self.poses: np.ndarray = np.array(data["poses"])  # float32 [n, 3]: yaw, pitch, roll in degrees
        self.labels = torch.from_numpy(np.array(data["pool_labels"], np.int64))
        self.intensities: np.ndarray = np.array(data["pool_intensities"])
        self.people, persons = np.unique(data["identities"], return_inverse=True)
        self.person: np.ndarray = persons.astype(np.int64)
        flat = self.expressions.ravel()
        order = np.argsort(flat, kind="stable")
        starts = np.searchsorted(flat[order], np.arange(len(self.labels) + 1))
        self._shown_in = [order[a:b] for a, b in pairwise(starts)]
        by_others = [len(set(self.person[places // 2].tolist())) > 1 for places in self._shown_in]
        self._has_stranger: np.ndarray = np.array(by_others)[self.expressions]  # bool [n, 2]

    def __len__(self) -> int:
        return len(self.images)

    def draw(self, rng: np.random.Generator, size: int, reconstructions: int = 0) -> Batch:
        """A batch by chance, without augmentation: the expression image is of a stranger, or the true image itself in a
        set so small that no two people show the same expression.

        Args:
            reconstructions: how many items, the first ones, are asked for the expression that they show.
        """
        return self.take(self.choose(rng, size, reconstructions))

    def draw_items(self, rngs: Sequence[np.random.Generator], reconstructions: int, device: torch.device) -> Batch:
        """A batch of items as `draw` makes them, each by its own generator; bytes go to the device, floats come to be
        there."""
        chosen = [self.choose(rng, 1, int(i < reconstructions)) for i, rng in enumerate(rngs)]
        *columns, _ = zip(*chosen, strict=True)
        return self.take(Choice(*(np.concatenate(column) for column in columns), reconstructions), device)

    def choose(self, rng: np.random.Generator, size: int, reconstructions: int = 0) -> "Choice":
        """Which pictures `draw` takes."""
        pair, side = rng.integers(0, len(self), size), rng.integers(0, 2, size)
        wanted_side = np.where(np.arange(size) < reconstructions, side, 1 - side)
        transfers = range(reconstructions, size) if self._has_stranger.any() else ()
        for i in transfers:
            while not self._has_stranger[pair[i], wanted_side[i]]:
                pair[i], side[i] = rng.integers(0, len(self)), rng.integers(0, 2)
                wanted_side[i] = 1 - side[i]
        driver_pair, driver_side = pair.copy(), wanted_side.copy()
        for i in transfers:
            places = self._shown_in[self.expressions[pair[i], wanted_side[i]]]
            strangers = places[self.person[places // 2] != self.person[pair[i]]]
            driver_pair[i], driver_side[i] = divmod(int(rng.choice(strangers)), 2)
        return Choice(pair, side, wanted_side, driver_pair, driver_side, self.person[pair], reconstructions)

    def take(self, choice: "Choice", device: torch.device | str = "cpu") -> Batch:
        """The pictures of a choice."""
        pair, side, wanted_side, driver_pair, driver_side, person, reconstructions = choice
        shown, wanted = self.expressions[pair, side], self.expressions[pair, wanted_side]
        return Batch(
            identity=self.images_at(pair, side, device),
            expression=self.images_at(driver_pair, driver_side, device),
            truth=self.images_at(pair, wanted_side, device),
            identity_units=torch.from_numpy(self.units[pair, side]).to(device),
            expression_units=torch.from_numpy(self.units[driver_pair, driver_side]).to(device),
            truth_units=torch.from_numpy(self.units[pair, wanted_side]).to(device),
            identity_label=self.labels[shown].to(device),
            label=self.labels[wanted].to(device),
            person=torch.from_numpy(person).to(device),
            reconstructions=reconstructions,
        )

    def unit_shares(self) -> Float[Tensor, " u"]:
        """For each face unit 1 / deviation (at least 0.03) in these pictures, with mean 1: as much for gaze, which
        moves by 0.1, as for brows, which move by 0.4."""
        shares = 1 / self.units.reshape(-1, self.units.shape[-1]).std(axis=0).clip(0.03)
        return torch.from_numpy(shares / shares.mean())

    def strongest(self, label: int, images: int) -> Float[Tensor, "b 3 h w"] | None:
        """The images that show an expression most; at most a quarter of those that show it; None if none does."""
        shown = self.expressions.ravel()
        sides = np.flatnonzero(self.labels.numpy()[shown] == label)
        if not len(sides):
            return None
        most = sides[np.argsort(-self.intensities[shown[sides]], kind="stable")][: max(1, min(images, len(sides) // 4))]
        return self.images_at(most // 2, most % 2)

    def images_at(
        self, pair: np.ndarray, side: np.ndarray, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "b 3 h w"]:
        """The images of sides (0 or 1) of pairs, in [0, 1]."""
        images = torch.from_numpy(np.ascontiguousarray(self.images[pair, side])).to(device)
        return rearrange(images, "b h w c -> b c h w").float() / 255

    def masks_at(self, pair: np.ndarray, side: np.ndarray) -> Bool[Tensor, "b 1 h w"]:
        """Where the skin of the face is, in sides (0 or 1) of pairs."""
        return rearrange(torch.from_numpy(np.ascontiguousarray(self.masks[pair, side])), "b h w -> b 1 h w") > 0


class Augmentation:
    """Mirrors whole items, changes light and colour of a pair alike, and disturbs the expression image by itself.

    Args:
        units: names of the face units; a mirrored face swaps those that end in `Left` and `Right`.
    """

    def __init__(self, units: tuple[str, ...]):
        index = {name: i for i, name in enumerate(units)}
        self.mirror = torch.tensor([index.get(_other_side(name), i) for name, i in index.items()], dtype=torch.long)

    def __call__(self, batch: Batch, rngs: Sequence[np.random.Generator], textures_share: float = 0.0) -> Batch:
        """An augmented batch, on the device of the batch; the expression images of reconstructions are disturbed too.

        Args:
            rngs: one for each item, which decides all of its changes.
            textures_share: share of the expression images whose textures are made strange (`randomize_textures`).
        """
        images = torch.stack([batch.identity, batch.truth, batch.expression])
        device = images.device
        chances = np.stack([rng.random(4) for rng in rngs])
        mirrored, strange, blurred = chances[:, 0] < 0.5, chances[:, 1] < textures_share, chances[:, 2] < 0.3
        noise = _to(0.04 * chances[:, 3], device)
        amounts = _to(np.stack([rng.standard_normal(12) for rng in rngs]), device)
        seeds = [int(rng.integers(2**62)) for rng in rngs]

        swapped = _places(mirrored, device)
        images[:, swapped] = images[:, swapped].flip(-1)
        mirror = self.mirror.to(device)
        identity_units, expression_units, truth_units = (
            units.index_put((swapped,), units[swapped][:, mirror])
            for units in (batch.identity_units, batch.expression_units, batch.truth_units)
        )
        pair, driver = _recolour(images[:2], amounts[:, 0:4]), _recolour(images[2:], amounts[:, 4:8])[0]
        driver = _move(driver, amounts[:, 8:12])
        for i in np.flatnonzero(strange):
            driver[i] = randomize_textures(driver[i], rngs[i])
        driver = _blur(driver, _places(blurred, device))
        grain = [
            torch.randn(driver.shape[1:], generator=torch.Generator(device).manual_seed(seed), device=device)
            for seed in seeds
        ]
        driver = (driver + rearrange(noise, "b -> b 1 1 1") * torch.stack(grain)).clamp(0, 1)
        return replace(
            batch,
            identity=pair[0],
            truth=pair[1],
            expression=driver,
            identity_units=identity_units,
            expression_units=expression_units,
            truth_units=truth_units,
        )


def _other_side(name: str) -> str:
    for side, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(side):
            return name.removesuffix(side) + other
    return name


def _to(values: np.ndarray, device: torch.device) -> Float[Tensor, "..."]:
    return torch.from_numpy(values.astype(np.float32)).to(device)


def _places(chosen: np.ndarray, device: torch.device) -> Int[Tensor, " n"]:
    """Where a mask is true: how many those are is known here, and need not be asked of a GPU."""
    return torch.from_numpy(np.flatnonzero(chosen)).to(device)


def _recolour(images: Float[Tensor, "s b 3 h w"], amounts: Float[Tensor, "b 4"]) -> Float[Tensor, "s b 3 h w"]:
    """Gamma, and a gain of each colour."""
    gamma = rearrange(torch.exp(0.2 * amounts[:, 0]), "b -> b 1 1 1")
    gain = rearrange(1 + 0.1 * amounts[:, 1:], "b c -> b c 1 1")
    return (images.clamp_min(1e-4) ** gamma * gain).clamp(0, 1)


def _move(images: Float[Tensor, "b 3 h w"], amounts: Float[Tensor, "b 4"]) -> Float[Tensor, "b 3 h w"]:
    """Similarity transforms: some degrees, some per cent."""
    angle, scale, shift = 0.06 * amounts[:, 0], torch.exp(0.05 * amounts[:, 1]), 0.05 * amounts[:, 2:]
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    matrix = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def randomize_textures(image: Float[Tensor, "3 h w"], rng: np.random.Generator) -> Float[Tensor, "3 h w"]:
    """The image mixed with itself after a random convolution of 1 to 7 pixels: shapes stay, textures and colours do not
    (RandConv, arXiv 2007.13003). Mean and spread of the whole picture stay, unlike there."""
    side = 1 + 2 * int(rng.integers(4))
    kernel = _to(rng.standard_normal((3, 3, side, side)), image.device)
    strange = F.conv2d(F.pad(image[None], [side // 2] * 4, mode="reflect"), kernel)[0]
    strange = (strange - strange.mean()) / (strange.std() + 1e-5) * image.std() + image.mean()
    return torch.lerp(image, strange, float(rng.random())).clamp(0, 1)


def _blur(images: Float[Tensor, "b 3 h w"], chosen: Int[Tensor, " n"]) -> Float[Tensor, "b 3 h w"]:
    if len(chosen):
        images[chosen] = F.avg_pool2d(images[chosen], 3, stride=1, padding=1, count_include_pad=False)
    return images

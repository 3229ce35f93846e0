"""The face set: people, recordings and views by number, and the only true answers of a transfer there are."""

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from training.faces.expression import Expression, sample_style
from training.faces.head import load_head
from training.faces.identity import Identity, sample_identity
from training.faces.renderer import Render, backward_flow, render
from training.faces.scene import Scene, sample_scene
from training.faces.variety import FULL, Variety

SPLITS = {"train": range(0, 100_000), "validation": range(100_000, 110_000), "test": range(110_000, 120_000)}
"""Identity seeds of each split: no person is in two of them."""


@dataclass(frozen=True, eq=False)
class FaceSample:
    """One picture and everything that is known about it.

    Attributes:
        image: [h, w, 3] uint8 RGB.
        identity: seed of the person.
        recording: which hair style, clothes and things worn. view: which pose, light, background and camera.
        label, intensity: the expression that is intended (see `Expression`).
        units: [52] float32, the weights that the face shows: the intended ones in the person's own style.
        mask: [h, w] uint8, 1 on the face.
        landmarks: [5, 2] float32 pixels (see `LANDMARKS`).
        pose: [3] float32 yaw, pitch, roll in degrees (see `Scene`).
        illumination: one of `ILLUMINATIONS`.
    """

    image: np.ndarray
    identity: int
    recording: int
    view: int
    label: str
    intensity: float
    units: np.ndarray
    mask: np.ndarray
    landmarks: np.ndarray
    pose: np.ndarray
    illumination: str


@dataclass(frozen=True, eq=False)
class FacePair:
    """Two samples of one person in one scene, with different expressions, and how they were rendered."""

    samples: tuple[FaceSample, FaceSample]
    renders: tuple[Render, Render]

    @property
    def flows(self) -> np.ndarray:
        """[2, h, w, 2] float32 pixels; `flows[k]` tells each pixel of sample k where to look in the other sample."""
        return np.stack([flow for flow, _ in self._ways])

    @property
    def visible(self) -> np.ndarray:
        """[2, h, w] uint8, 1 where that point can be seen in the other sample."""
        return np.stack([seen for _, seen in self._ways])

    @cached_property
    def _ways(self) -> list[tuple[np.ndarray, np.ndarray]]:
        one, other = self.renders
        return [backward_flow(other, one), backward_flow(one, other)]


@dataclass(frozen=True)
class FaceSet:
    """Renders any (person, recording, view, expression) of a split on demand.

    Args:
        split: "train", "validation" or "test".
        people: how many of the split's people to use; None uses all.
        size_px: edge of the pictures.
        seed: chooses the scenes; people do not depend on it.
        variety: how much everything beside person and expression varies; faces' shapes do not depend on it.

    Raises:
        ValueError: the split is unknown, or has fewer people.

    >>> from training.faces import FaceSet, peak_expression
    >>> sample = FaceSet("test", people=1, size_px=32).sample(0, 0, peak_expression("surprise"))
    >>> sample.image.shape, sample.identity, sample.label
    ((32, 32, 3), 110000, 'surprise')
    """

    split: str
    people: int | None = None
    size_px: int = 128
    seed: int = 0
    variety: Variety = FULL

    def __post_init__(self):
        if self.split not in SPLITS:
            raise ValueError(f"no split is named {self.split!r}; accepted: {', '.join(SPLITS)}")
        if self.people is not None and not 1 <= self.people <= len(SPLITS[self.split]):
            raise ValueError(f"people is {self.people}; {self.split!r} has 1 to {len(SPLITS[self.split])}")

    def __len__(self) -> int:
        """Returns the number of people."""
        return len(SPLITS[self.split]) if self.people is None else self.people

    def identity_seed(self, person_index: int) -> int:
        """Returns the seed of a person.

        Raises:
            IndexError: there is no such person in this set.
        """
        if not 0 <= person_index < len(self):
            raise IndexError(f"person_index is {person_index}; this set has {len(self)} people, counted from 0")
        return SPLITS[self.split][person_index]

    def scene(self, identity: int, recording: int, view: int) -> Scene:
        """Returns pose, light and background of one view."""
        return _scene(self.seed, identity, recording, view, self.variety)

    def sample(self, person_index: int, recording: int, expression: Expression, view: int = 0) -> FaceSample:
        """Renders one person.

        Args:
            person_index: 0 to `len(self)` - 1.
            recording: which hair style and clothes, 0 or more.
            expression: what the face does.
            view: which pose, light and background of that recording, 0 or more.
        """
        return self._render(self.identity_seed(person_index), recording, view, expression)[0]

    def pair(self, person_index: int, recording: int, first: Expression, second: Expression, view: int = 0) -> FacePair:
        """Renders one person in one scene with two expressions; the flow both ways is worked out when asked for."""
        identity = self.identity_seed(person_index)
        one, one_render = self._render(identity, recording, view, first)
        other, other_render = self._render(identity, recording, view, second)
        return FacePair((one, other), (one_render, other_render))

    def true_transfer(self, identity_sample: FaceSample, expression: Expression) -> FaceSample:
        """Returns what a perfect transfer gives: the same person and scene, intending another expression.

        The truth is shown in the identity's own style, not in that of whoever lent the expression: what a transfer
        should move to another face is what was meant, not the habits of a face.

        Args:
            identity_sample: a sample of this set.
            expression: what is intended; of a pool that all people share, say.
        """
        if identity_sample.identity not in SPLITS[self.split]:
            raise ValueError(f"person {identity_sample.identity} is not in {self.split!r}; use the set it came from")
        made = self._render(
            identity_sample.identity, identity_sample.recording, identity_sample.view, expression,
            identity_sample.image.shape[0],
        )  # fmt: skip
        return made[0]

    def show(self, person_index: int, recording: int, units: np.ndarray, view: int = 0) -> np.ndarray:
        """Returns a picture [h, w, 3] uint8 of a face that shows just these units [52], whatever its person's style."""
        seed = self.identity_seed(person_index)
        identity = replace(_identity(seed, recording, self.variety), style=sample_style(seed, strength=0.0))
        return render(load_head(), identity, units, self.scene(seed, recording, view), self.size_px).image

    def _render(self, seed, recording, view, expression, size_px=None) -> tuple[FaceSample, Render]:
        head, identity = load_head(), _identity(seed, recording, self.variety)
        scene = self.scene(seed, recording, view)
        made = render(head, identity, expression.units, scene, size_px or self.size_px)
        pose = np.rad2deg([scene.yaw, scene.pitch, scene.roll]).astype(np.float32)
        sample = FaceSample(
            made.image, seed, recording, view, expression.label, expression.intensity, made.units,
            made.mask, made.landmarks, pose, scene.illumination,
        )  # fmt: skip
        return sample, made


@lru_cache(maxsize=8)
def _scene(seed: int, identity: int, recording: int, view: int, variety: Variety) -> Scene:
    return sample_scene(np.random.default_rng([seed, identity, recording, view, 77]), variety=variety)


@lru_cache(maxsize=8)
def _identity(seed: int, recording: int, variety: Variety) -> Identity:
    return sample_identity(load_head(), seed, recording, variety)

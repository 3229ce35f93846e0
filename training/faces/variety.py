"""How much the rendered people and pictures vary: one place for all of it."""

from dataclasses import dataclass

ILLUMINATIONS = ("free", "strong", "weak", "dark", "nir")
"""`free` light from anywhere; the others as in Oulu-CASIA: normal room light, a screen's light, near darkness, and
near-infrared light beside the lens."""


@dataclass(frozen=True, kw_only=True)
class Variety:
    """How much everything beside person and expression varies. Shares are probabilities in [0, 1]."""

    glasses: float = 0.25
    """Share of people who own glasses; they wear them in three of four recordings."""

    headwear: float = 0.12
    """Share of recordings with a cap, a knitted hat or a headscarf."""

    facial_hair: float = 0.6
    """Share of men with more than shaved skin: stubble, moustache, goatee or full beard."""

    makeup: float = 0.6
    """Share of women who wear some."""

    style: float = 1.0
    """Strength of people's own ways to show an expression (see `expression.sample_style`); 0: all show the same."""

    skin_marks: float = 1.0
    """Strength of what makes skin uneven: pores, blemishes, freckles, moles, blotches; 0 is a doll."""

    hair_changes: float = 0.75
    """Share of recordings in which the hair is not worn in the person's usual style."""

    yaw_degrees: float = 30.0
    """Heads turn at most so far to either side; half of them less than a third of it."""

    pitch_degrees: float = 15.0
    """Heads nod at most so far up or down."""

    roll_degrees: float = 8.0
    """Heads tilt at most so far."""

    framing: float = 0.03
    """Deviation of where the head lies in the picture and of how large it is, as a share of the picture."""

    illuminations: tuple[float, ...] = (0.52, 0.2, 0.12, 0.08, 0.08)
    """Share of scenes under each of `ILLUMINATIONS`."""

    structured_backgrounds: float = 0.7
    """Share of scenes with a room, shelves, stripes or lamps behind the head; the rest have gradients and blobs."""

    camera: float = 1.0
    """Strength of exposure errors, colour casts, blur, noise, vignetting and JPEG; 0 is a perfect camera."""

    def __post_init__(self):
        shares = ("glasses", "headwear", "facial_hair", "makeup", "hair_changes", "structured_backgrounds")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: a share from 0 to 1")
        for name in ("style", "skin_marks", "yaw_degrees", "pitch_degrees", "roll_degrees", "framing", "camera"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; accepted: 0 or more")
        if len(self.illuminations) != len(ILLUMINATIONS) or abs(sum(self.illuminations) - 1) > 1e-6:
            raise ValueError(
                f"illuminations is {self.illuminations}; accepted: {len(ILLUMINATIONS)} shares "
                f"({', '.join(ILLUMINATIONS)}) that add up to 1"
            )


FULL = Variety()
"""What training uses."""
PLAIN = Variety(
    glasses=0.0, headwear=0.0, yaw_degrees=18.0, pitch_degrees=9.0, roll_degrees=5.0, framing=0.018,
    illuminations=(1.0, 0.0, 0.0, 0.0, 0.0), structured_backgrounds=0.0, camera=0.0,
)  # fmt: skip
"""Small movements, free light, a perfect camera, nothing on the head: the easy case."""

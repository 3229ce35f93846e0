"""What a training run is: the network, the data, the weight of each term, the schedule. Presets are plain instances."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from tergan_core.config import ModelConfig
from tergan_core.errors import ConfigError, close_names
from tergan_core.losses import Adversarial
from training.faces import EXPRESSIONS, FULL, UNITS, Variety


@dataclass(frozen=True, kw_only=True)
class FacesConfig:
    """The procedural people that are trained on, rendered once into a cache."""

    people: int = 400
    """Number of people of the training split."""

    scenes: int = 16
    """Scenes per person; each gives one pair of images that differ in the expression alone."""

    pool: int = 700
    """Expressions shared by all people, so that each one has many drivers."""

    weakest: float = 0.2
    """Least intensity of these expressions. Those of validation and test are plain (0.45): figures compare."""

    alike: float = 0.0
    """Share of the training pairs that show two expressions much alike: small changes, as an edit's first steps are."""

    variety: Variety = FULL
    """How much everything beside person and expression varies in them."""

    validation_people: int = 24
    """Number of people of the validation split, with 4 scenes each and expressions of their own."""

    workers: int = 2
    """Processes that render."""

    seed: int = 0
    """Seed of scenes, expressions and pairing."""

    cache: str = "cache"
    """Folder of the rendered pairs."""


@dataclass(frozen=True, kw_only=True)
class RecordedConfig:
    """Real pictures in place of the procedural people; see docs/data.md. They have no face units and no true transfers,
    so the terms that need them are off: `--preset recorded`, which `--data` takes if no other is named."""

    data: str | None = None
    """Folder of a data set with identities, or a CSV file; a tenth of its people is kept for validation."""

    layout: str | None = None
    """One of the layouts of docs/data.md; recognised if only one fits."""

    unmapped: Literal["refuse", "drop"] = "refuse"
    """What to do with labels that none of the eight expressions means."""

    only: tuple[str, ...] = ()
    """Fields of the records and their wanted values: `camera=vl illumination=strong,weak`."""


@dataclass(frozen=True, kw_only=True)
class TermWeights:
    """Weight of each term of the objective; 0 leaves a term out, and it is not computed."""

    unit_regression: float = 4.0
    """Face units of identity and expression image against the true ones."""

    expression_classification: float = 0.2
    """Expression of real images, from the expression code."""

    identity_classification: float = 0.1
    """Person of real images, from the identity embedding."""

    paired_swap: float = 4.0
    """Output against the true image of the transfer."""

    reconstruction: float = 4.0
    """Output against the identity image, when asked for the expression that it shows."""

    expression_consistency: float = 0.5
    """Expression code of the output against the code asked for."""

    identity_consistency: float = 0.2
    """Identity embedding of the output against the identity image's."""

    cross_cycle: float = 0.5
    """Transfer back to the identity image's own expression against the identity image."""

    adversarial: float = 0.2
    """Output is taken for a real face by the critic. Beside `paired_swap`, this and the other weights of what the
    critic says are shares of its gradient at the output image."""

    feature_matching: float = 0.0
    """The critic's maps of the output against those of the true image."""

    critic_expression: float = 0.0
    """Critic reads the wanted expression from the output. In runs of hours it never learned to read one."""

    critic_identity: float = 0.0
    """Critic reads the person from the output."""

    r1: float = 0.05
    """Gradient penalty on the critic, computed in every 8th step and weighed 8 times there."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run; the same configuration and folder resume it."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The network."""

    faces: FacesConfig = field(default_factory=FacesConfig)
    """The data."""

    recorded: Annotated[RecordedConfig, tyro.conf.arg(name="")] = field(default_factory=RecordedConfig)
    """Other data."""

    weights: TermWeights = field(default_factory=TermWeights)
    """The objective."""

    run: str = "runs/default"
    """Folder of checkpoints, metrics and grids."""

    images: int = 100_000
    """Length of the run: identity images seen, over all processes."""

    batch_size: int = 12
    """Identity images per step and process."""

    adversarial_kind: Adversarial = "relativistic"
    """Kind of the adversarial loss. `relativistic` compares each output with its own true image, which the critic
    learns in a hundred steps; by `logistic`, which judges each image alone, far more slowly (docs/ablations.md)."""

    relative_swap: bool = False
    """Whether a weak change counts as much as a strong one in the term `paired_swap`."""

    standardized_units: bool = False
    """Whether each face unit counts in the term `unit_regression` by how little it varies."""

    reconstruction_share: float = 0.125
    """Share of each batch that is asked for its own expression."""

    true_units_share: float = 0.3
    """Share of each batch that is decoded from the true face units in place of the predicted ones."""

    textures_share: float = 0.0
    """Share of the expression images whose textures are made strange by a random convolution."""

    refine_from: float = 0.7
    """Share of the run after which consistency, cycle and adversarial terms join; 0 is from the start."""

    lr: float = 2e-3
    """Peak learning rate of the generator; linear warm-up, then cosine to 3 %."""

    critic_lr: float = 3e-4
    """Learning rate of the critic, constant."""

    critic_warmup_steps: int = 400
    """Steps that the critic learns alone before `refine_from`: a critic that knows nothing teaches nothing."""

    warmup_steps: int = 100
    """Steps of warm-up."""

    ema_decay: float = 0.998
    """Decay per step of the moving average of the weights, which is what is evaluated and shipped."""

    seed: int = 0
    """Seed of initialisation and of every batch, with rank and step."""

    device: str = "auto"
    """`auto` (CUDA if there is one), `cpu`, `cuda`."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the forward passes; bf16 is for GPUs."""

    threads: int = 2
    """CPU threads of each process."""

    loaders: int = 1
    """Threads that load and augment beside the network, each a batch ahead; two feed a GPU."""

    pretrained: bool = False
    """Start both encoders from timm's published weights."""

    expression_backbone_file: str | None = None
    """Safetensors file of timm weights that the expression encoder starts from; `training.imagenet` writes one."""

    start_from: str | None = None
    """Folder or repository of finished weights to start from; wider parts start as the narrower ones, parts of other
    layers start afresh and are named."""

    expression_from: str | None = None
    """The same for what reads expressions, in place of `start_from`: `--preset expression` trains it alone."""

    frozen: tuple[str, ...] = ()
    """Parts of the network that are not trained, such as `expression_encoder` or `decoder`."""

    report_every: int = 50
    """Steps between two rows of metrics."""

    checkpoint_every: int = 500
    """Steps between two checkpoints, each with a validation row and a grid."""

    def __post_init__(self):
        for name in (
            "images",
            "batch_size",
            "lr",
            "critic_lr",
            "report_every",
            "checkpoint_every",
            "threads",
            "loaders",
            "warmup_steps",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; accepted: a positive number")
        for name in ("reconstruction_share", "true_units_share", "textures_share", "refine_from", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; accepted: 0 to 1")
        if self.weights.paired_swap and self.reconstructions == self.batch_size:
            raise ConfigError(
                f"--batch-size {self.batch_size} and --reconstruction-share {self.reconstruction_share} leave no image "
                "for paired_swap; accepted: larger batches, a smaller share, or --weights.paired-swap 0"
            )
        if self.recorded.data is None and self.model.expressions != EXPRESSIONS:
            raise ConfigError(
                f"--model.expressions is {self.model.expressions}; accepted for the procedural people: {EXPRESSIONS}"
            )
        needs_truth = self.model.units or self.weights.unit_regression or self.weights.paired_swap
        if self.recorded.data is not None and needs_truth:
            raise ConfigError(
                "--data has no face units and no true transfers; --model.units must be empty, and "
                "--weights.unit-regression and --weights.paired-swap 0. --preset recorded is such a configuration."
            )

    @property
    def reconstructions(self) -> int:
        """Items of each batch that are asked for their own expression."""
        return math.ceil(self.reconstruction_share * self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain values."""
        return dataclasses.asdict(self)


def merge(config, values: dict[str, Any]):
    """The configuration with some values replaced; nested dataclasses take nested dictionaries.

    Raises:
        ConfigError: a key is unknown.
    """
    known = {entry.name: entry for entry in dataclasses.fields(config)}
    changed = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"configuration has the unknown key {key!r}. {close_names(key, known)}")
        present = getattr(config, key)
        if dataclasses.is_dataclass(present):
            changed[key] = merge(present, value)
        else:
            changed[key] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(config, **changed)


def read(path: str | Path, base: TrainConfig) -> TrainConfig:
    """`base` with the values of a JSON file.

    Raises:
        ConfigError: the file is missing or not JSON, or has an unknown key.
    """
    try:
        return merge(base, json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"--config {str(path)!r} cannot be read: {error}") from error


_NARROW_RESNET = {"channels": [24, 48, 96, 192], "stem_width": 16}

DEFAULT = TrainConfig(
    model=ModelConfig(
        image_size=96,
        expressions=EXPRESSIONS,
        units=UNITS,
        expression_width=len(UNITS),
        expression_backbone_options=_NARROW_RESNET,
        expression_pooling="flatten",
    ),
    run="runs/default",
    faces=FacesConfig(alike=0.35),
    relative_swap=True,
    standardized_units=True,
)
"""What works best so far: face units, paired truth, warping decoder; the paper's losses refine it."""

PAPER = dataclasses.replace(
    DEFAULT,
    model=dataclasses.replace(
        DEFAULT.model, units=(), expression_width=64, expression_pooling="average", decoder="vector"
    ),
    faces=FacesConfig(),
    weights=TermWeights(
        unit_regression=0,
        expression_classification=0.8,
        identity_classification=0.2,
        paired_swap=0,
        reconstruction=5.0,
        expression_consistency=1.0,
        identity_consistency=1.0,
        cross_cycle=0,
        adversarial=0.1,
        critic_expression=0.1,
        critic_identity=0.1,
        r1=0.05,
    ),
    run="runs/paper",
    adversarial_kind="logistic",
    relative_swap=False,
    standardized_units=False,
    true_units_share=0.0,
    reconstruction_share=0.5,
    refine_from=0.0,
)
"""Only what the TER-GAN abstract and its close relatives support: no units, no true transfers. The weights are ours."""

RECORDED = dataclasses.replace(PAPER, model=dataclasses.replace(PAPER.model, decoder="warp"), run="runs/recorded")
"""The paper's losses with the warping decoder, for pictures without true transfers. Its reconstruction starts near the
identity image (loss 0.016 over the first 50 steps on exported faces), the vector decoder's was at 0.14 after 300."""

TINY = dataclasses.replace(
    DEFAULT,
    faces=FacesConfig(people=1500, scenes=8, pool=1400, alike=0.35),
    run="runs/tiny",
    images=72_000,
    batch_size=8,
    refine_from=0.8,
    threads=1,
)
"""What two processes of one CPU core each train in about an hour. The shipped `tergan-s` was made with it as it was at
the time, from an older one; `training.json` beside its weights has all settings."""

MEDIUM = dataclasses.replace(
    TINY,
    model=dataclasses.replace(
        DEFAULT.model,
        image_size=128,
        expression_backbone_options={"channels": [24, 64, 160, 320], "stem_width": 16},
        decoder_widths=(24, 48, 96, 192),
    ),
    faces=FacesConfig(people=1500, scenes=8, pool=2100, alike=0.35),
    weights=TermWeights(feature_matching=0.2),
    run="runs/medium",
    images=50_000,
    lr=1e-3,
    start_from="tergan-s",
)
"""128 px, wider where maps are coarse, which costs little time. It starts as `tergan-s`. The first run of the shipped
`tergan-m`; docs/training.md has the others."""

EXPRESSION = dataclasses.replace(
    MEDIUM,
    model=dataclasses.replace(
        MEDIUM.model, expression_backbone="tf_efficientnet_lite0", expression_backbone_options={}
    ),
    weights=dataclasses.replace(
        TermWeights(),
        identity_classification=0,
        paired_swap=0,
        reconstruction=0,
        expression_consistency=0,
        identity_consistency=0,
        cross_cycle=0,
        adversarial=0,
        critic_expression=0,
    ),
    run="runs/expression",
    batch_size=16,
    lr=1e-3,
    start_from="tergan-s",
    frozen=("identity_encoder", "identity_head", "decoder"),
)
"""The expression encoder alone, to which nothing has to be drawn; start it with `--expression-backbone-file`."""

LARGE = dataclasses.replace(
    DEFAULT,
    model=dataclasses.replace(
        DEFAULT.model,
        image_size=256,
        identity_backbone="mobilenetv4_conv_medium",
        identity_width=256,
        expression_backbone="resnet34",
        expression_backbone_options={},
        decoder_widths=(32, 64, 128, 256, 384),
    ),
    faces=FacesConfig(people=10_000, scenes=8, pool=7000, alike=0.35, workers=16),
    run="runs/large",
    images=3_000_000,
    batch_size=32,
    precision="bf16",
    loaders=2,
    pretrained=True,
    checkpoint_every=5000,
)
"""`tergan-l`, for one GPU: never run so far. What it costs is worked out in docs/training.md."""

SMOKE = dataclasses.replace(
    DEFAULT,
    model=dataclasses.replace(
        DEFAULT.model,
        image_size=32,
        identity_backbone="test_resnet",
        expression_backbone="test_resnet",
        expression_backbone_options={},
        decoder_widths=(8, 16),
    ),
    faces=FacesConfig(people=3, scenes=2, pool=7, validation_people=2, workers=1),
    run="runs/smoke",
    images=32,
    batch_size=4,
    refine_from=0.5,
    warmup_steps=2,
    critic_warmup_steps=1,
    report_every=1,
    checkpoint_every=4,
    threads=1,
)
"""Seconds, not hours: for tests and for a look at the machinery."""

PRESETS = {
    "default": DEFAULT,
    "paper": PAPER,
    "recorded": RECORDED,
    "tiny": TINY,
    "medium": MEDIUM,
    "expression": EXPRESSION,
    "large": LARGE,
    "smoke": SMOKE,
}

"""The procedural face set: people, expressions and scenes by seed, and the true answer of every transfer."""

from training.faces.expression import (
    EXPRESSIONS,
    UNITS,
    WEAKEST,
    Expression,
    peak_expression,
    sample_expression,
    sample_pool,
)
from training.faces.face_set import SPLITS, FacePair, FaceSample, FaceSet
from training.faces.head import Head, load_head
from training.faces.identity import Identity, sample_identity
from training.faces.renderer import LANDMARKS, RENDERER_VERSION, Render, Surface, backward_flow, render
from training.faces.scene import STANDARD_CROP, Scene, sample_scene
from training.faces.variety import FULL, ILLUMINATIONS, PLAIN, Variety

__all__ = [
    "EXPRESSIONS",
    "FULL",
    "ILLUMINATIONS",
    "LANDMARKS",
    "PLAIN",
    "RENDERER_VERSION",
    "SPLITS",
    "STANDARD_CROP",
    "UNITS",
    "WEAKEST",
    "Expression",
    "FacePair",
    "FaceSample",
    "FaceSet",
    "Head",
    "Identity",
    "Render",
    "Scene",
    "Surface",
    "Variety",
    "backward_flow",
    "load_head",
    "load_pairs",
    "peak_expression",
    "render",
    "sample_expression",
    "sample_identity",
    "sample_pool",
    "sample_scene",
    "write_pairs",
]


def __getattr__(name):
    """Loads the cache functions when they are first used, so that `python -m training.faces.cache` runs cleanly."""
    if name in ("load_pairs", "write_pairs"):
        from training.faces import cache

        return getattr(cache, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

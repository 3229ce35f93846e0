"""What is trained on: rendered pairs, and the real data sets as their owners distribute them."""

from training.data.layouts import LAYOUTS
from training.data.pairs import Augmentation, Batch, Pairs
from training.data.reader import DataSet, detect, read
from training.data.records import EXPRESSIONS, DataLayoutError, Record, folds, only, with_identity

__all__ = [
    "EXPRESSIONS",
    "LAYOUTS",
    "Augmentation",
    "Batch",
    "DataLayoutError",
    "DataSet",
    "Pairs",
    "Record",
    "detect",
    "folds",
    "only",
    "read",
    "with_identity",
]

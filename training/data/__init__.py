"""What is trained on: rendered pairs, and the real data sets as their owners distribute them."""

from training.data.layouts import LAYOUTS
from training.data.pairs import Augmentation, Batch, Choice, Pairs
from training.data.reader import DataSet, detect, read
from training.data.recorded import FaceImages, RecordedPairs, load_recorded
from training.data.records import EXPRESSIONS, DataLayoutError, Record, folds, only, parse_wanted, with_identity

__all__ = [
    "EXPRESSIONS",
    "LAYOUTS",
    "Augmentation",
    "Batch",
    "Choice",
    "DataLayoutError",
    "DataSet",
    "FaceImages",
    "Pairs",
    "Record",
    "RecordedPairs",
    "detect",
    "folds",
    "load_recorded",
    "only",
    "parse_wanted",
    "read",
    "with_identity",
]

"""What is trained on: rendered pairs, and the real data sets as their owners distribute them."""

from training.data.pairs import Augmentation, Batch, Pairs

__all__ = ["Augmentation", "Batch", "Pairs"]

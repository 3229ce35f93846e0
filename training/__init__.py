"""Training, from a clone: faces, data, objective, loop, judge, evaluation."""

import importlib.util

from tergan_core.errors import MissingExtraError

for _package in ("numba", "tqdm"):
    if importlib.util.find_spec(_package) is None:
        raise MissingExtraError(_package, "train", "training")

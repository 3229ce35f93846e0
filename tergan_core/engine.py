"""Engines: what runs the network. PyTorch itself (`eager`), or what a compiler made of the network's three functions.

TERGAN is the eager engine itself. A `CompiledEngine` has three methods of it, `encode_identity`, `encode_expression`
and `draw`, with the same meaning, any batch size and the model's image size. `export` writes a model folder that holds
the compiled functions as well, if there are any, `load_engine` gives the engine that a folder names.
"""

import contextlib
import functools
import hashlib
import importlib.util
import logging
import platform
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from . import weights
from .decoder import Drawing, IdentityCode
from .errors import ConfigError, EngineError, MissingExtraError, TerganError, WeightsCorruptError, close_names
from .graphs import Function, Graphed
from .images import face_tensor, to_pixels
from .model import TERGAN, ExpressionCodes

EngineName = Literal["eager", "cuda-graph", "compile", "aoti", "onnx", "onnx-int8", "openvino"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
"""`eager` PyTorch, `cuda-graph` the same replayed on a GPU, `compile` torch.compile at every start, `aoti` AOTInductor,
`onnx` ONNX Runtime, `onnx-int8` with an expression encoder of 8-bit integers, `openvino`."""

TOLERANCE = {name: 1e-3 for name in ENGINES} | {"onnx-int8": 0.1}
"""Largest difference from eager that `export` accepts, of any value of any output (pixels are in [0, 1])."""

_RUNS_ON = {"onnx": ("onnxruntime",), "onnx-int8": ("onnxruntime",), "openvino": ("openvino",)}
_BUILT_WITH = {name: ("onnx", "onnxscript", *packages) for name, packages in _RUNS_ON.items()}
_SUFFIXES = {"aoti": ".pt2", "onnx": ".onnx", "onnx-int8": ".onnx", "openvino": ".onnx"}
_log = logging.getLogger(__name__)


class CompiledEngine(ExpressionCodes):
    """An engine made of three compiled functions.

    Args:
        codes: what the network knows of expression codes.
        functions: by the names of TERGAN's methods, with tensors in and tensors out.
    """

    def __init__(self, codes: ExpressionCodes, functions: dict[str, Function]):
        super().__init__(codes.config)
        self.classifier, self.prototypes = codes.classifier, codes.prototypes
        self._functions = functions

    def encode_identity(self, image: Float[Tensor, "b 3 h w"]) -> IdentityCode:
        """See `TERGAN.encode_identity`."""
        *maps, embedding = self._functions["encode_identity"](image)
        return IdentityCode(image, maps, embedding, self.encode_expression(image))

    def encode_expression(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """See `TERGAN.encode_expression`."""
        return self._functions["encode_expression"](image)[0]

    def draw(self, identity: IdentityCode, expression: Float[Tensor, "b d"]) -> Drawing:
        """See `TERGAN.draw`; of the parts of the drawing, the image and the flow are sure."""
        return Drawing(*self._functions["draw"](*_flat(identity), expression))


Engine = TERGAN | CompiledEngine


def export(source: str | Path, name: EngineName, folder: str | Path) -> Path:
    """Writes a model folder that runs by the engine `name`, and returns its path.

    It is the folder of `source` with the compiled functions beside the weights and with `engine` in `config.json`:
    its name, the sha256 of its files, and what it was built for. Its outputs are compared with eager's.

    Args:
        source: the model, as `weights.load` takes it.
        folder: the folder to write; made if absent.

    Raises:
        ConfigError: there is no such engine, or `folder` is the model's own.
        MissingExtraError: a package of the engine is not installed.
        EngineError: the compiler fails, or its output differs from eager by more than `TOLERANCE`.
        WeightsNotFoundError, WeightsCorruptError: as `weights.load`.
    """
    _check_name(name)
    on_gpu = name == "cuda-graph"
    if on_gpu and not torch.cuda.is_available():
        raise EngineError("engine 'cuda-graph' is tried on a GPU, and there is none here. Export where it runs.")
    model = weights.load(source, device="cuda" if on_gpu else "cpu")
    original, folder = weights.locate(source), Path(folder)
    if folder.resolve() == original.resolve():
        raise ConfigError(f"folder is {str(folder)!r}, the model's own; accepted: another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    description = {key: value for key, value in weights.describe(original).items() if key != "engine"}
    compiled_before = weights.describe(original).get("engine", {}).get("sha256", {})
    for path in weights.files(original):
        # The description is written last: where it is, the folder is whole.
        if path.name not in (weights.DESCRIPTION, *compiled_before):
            shutil.copyfile(path, folder / path.name)
    if name != "eager":
        paths = _build(model, name, folder)
        # TF32 rounds by 1e-3, in each algorithm otherwise.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if on_gpu else contextlib.nullcontext():
            difference = _difference(model, _open(model, name, folder))
        accepted = TOLERANCE[name]
        if not difference <= accepted:
            raise EngineError(
                f"the outputs of engine {name!r} differ from eager's by {difference:.2g}; accepted: {accepted:g}. "
                "Use another engine, and report this."
            )
        description["engine"] = {
            "name": name,
            "sha256": {path.name: weights.sha256(path) for path in paths},
            "built_for": _here() if name == "aoti" else {},
        }
    weights.write_description(folder, description)
    return folder


def quickest() -> EngineName:
    """The engine that archives get by default: ONNX Runtime where it is installed and no GPU is there, else eager.

    On a CPU it halves the cost of a lone face; edits in batches of 8 cost about the same (docs/performance.md).
    """
    installed = all(importlib.util.find_spec(package) is not None for package in _BUILT_WITH["onnx"])
    return "onnx" if installed and not torch.cuda.is_available() else "eager"


def load_engine(folder: Path, name: EngineName | None = None, *, device: str | torch.device = "cpu") -> Engine:
    """The engine of a model folder, in evaluation mode.

    Args:
        folder: the model folder.
        name: the engine to use, compiled now if the folder does not hold it. By default the one that the folder names;
            if that one cannot run here, the log says why and the network itself is used.
        device: where it runs.

    Raises:
        ConfigError: there is no engine `name`.
        MissingExtraError, EngineError: the engine `name` cannot run here.
        WeightsNotFoundError, WeightsCorruptError: as `weights.load`; or a compiled function does not have the sha256
            that the folder names.
    """
    device = torch.device(device)

    def network() -> TERGAN:
        model = weights.load(folder, device=device)
        return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    stored = weights.describe(folder).get("engine", {"name": "eager", "sha256": {}, "built_for": {}})
    if name is not None and _check_name(name) != stored["name"]:
        with tempfile.TemporaryDirectory(prefix="tergan-engine-") as work:
            model = network()
            _build(model, name, Path(work))
            return _open(model, name, Path(work))
    try:
        _check_files(folder, stored)
        has_files = _check_name(stored["name"]) in _SUFFIXES
        return _open(weights.load_codes(folder, device=device) if has_files else network(), stored["name"], folder)
    except WeightsCorruptError:
        raise
    except TerganError as error:
        if name is not None:
            raise
        _log.warning("engine %r cannot run here, eager PyTorch is used: %s", stored["name"], error)
    return network()  # what the failed engine held is free by now


def _build(model: TERGAN, name: EngineName, folder: Path) -> list[Path]:
    """The files with the compiled functions; none for engines that compile at every start."""
    _check_packages(name, _BUILT_WITH)
    if name not in _SUFFIXES:
        return []
    paths = []
    for function, arguments in example_arguments(model, batch=2).items():
        path = folder / f"{function}{_SUFFIXES[name]}"
        batch = torch.export.Dim("batch", min=1, max=1024)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the exporters, about themselves
                module = _PARTS[function](model)
                program = torch.export.export(module, arguments, dynamic_shapes=(({0: batch},) * len(arguments),))
                if name == "aoti":
                    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
                else:
                    torch.onnx.export(program, f=str(path), external_data=False, verbose=False)
        except Exception as error:  # compilers raise whatever their parts raise
            raise EngineError(f"engine {name!r} cannot compile {function}: {str(error)[:500]}") from error
        if name == "onnx-int8" and function == "encode_expression":
            _quantize(path, _example_faces(model.config.image_size).numpy())
        paths.append(path)
    return paths


def _quantize(path: Path, faces: np.ndarray) -> None:
    """Puts weights and maps of an ONNX file into 8 bits, with the ranges that maps have on faces [n, 3, s, s]."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, name: str):
            self._batches = ({name: batch} for batch in np.array_split(faces, len(faces) // 8))

        def get_next(self):
            return next(self._batches, None)

    quant_pre_process(str(path), str(path), skip_symbolic_shape=True)
    quantize_static(
        str(path),
        str(path),
        Reader(_onnx_session(path).get_inputs()[0].name),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        op_types_to_quantize=["Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "MaxPool"],
    )


def _open(codes: ExpressionCodes, name: EngineName, folder: Path) -> Engine:
    """The engine of compiled files; or of the network, which `codes` has to be where an engine has none."""
    if name not in _SUFFIXES and not isinstance(codes, TERGAN):
        raise TypeError(f"engine {name!r} needs the network")
    if name == "eager":
        return codes  # type: ignore[return-value]
    _check_packages(name, _RUNS_ON)
    device = codes.prototypes.device
    if name in _RUNS_ON and device.type != "cpu":
        others = "eager, cuda-graph, compile, aoti"
        raise EngineError(f"engine {name!r} runs on the CPU, the model is on {device}; accepted: {others}.")
    if name == "cuda-graph" and device.type != "cuda":
        others = ", ".join(other for other in ENGINES if other != name)
        raise EngineError(f"engine {name!r} runs on a GPU, the model is on {device}; accepted: {others}.")
    try:
        functions: dict[str, Function] = {
            function: _OPENERS[name](codes, function, folder / f"{function}{_SUFFIXES.get(name, '')}")
            for function in _PARTS
        }
        engine = CompiledEngine(codes, functions).eval()
        for batch in (1, 2):  # what compiles at its first call does so now, not in a request
            _outputs(engine, _faces(engine, batch))
    except Exception as error:  # as above
        raise EngineError(f"engine {name!r} cannot be started: {str(error)[:500]}") from error
    return engine


def _open_compile(model: TERGAN, function: str, path: Path) -> Function:
    return torch.compile(_PARTS[function](model), dynamic=True)


def _open_cuda_graph(model: TERGAN, function: str, path: Path) -> Function:
    return Graphed(_PARTS[function](model))


def _open_aoti(codes: ExpressionCodes, function: str, path: Path) -> Function:
    compiled = torch._inductor.aoti_load_package(str(path))
    return lambda *tensors: compiled(*(tensor.contiguous() for tensor in tensors))  # the layout that it was built for


def _open_onnx(codes: ExpressionCodes, function: str, path: Path) -> Function:
    session = _onnx_session(path)
    names = [entry.name for entry in session.get_inputs()]

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        arrays = [tensor.contiguous().numpy() for tensor in tensors]
        return [torch.from_numpy(array) for array in session.run(None, dict(zip(names, arrays, strict=True)))]

    return run


def _onnx_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads leave the core alone
    options.enable_mem_pattern = False  # one plan of memory for each batch size seen: 38 MiB more, and no quicker
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _open_openvino(codes: ExpressionCodes, function: str, path: Path) -> Function:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.Core().compile_model(path, "CPU", {**settings, "INFERENCE_PRECISION_HINT": "f32"})

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        # A copy: the next call writes into the same memory.
        answer = compiled([tensor.contiguous().numpy() for tensor in tensors])
        return [torch.from_numpy(answer[output].copy()) for output in compiled.outputs]

    return run


_OPENERS: dict[str, Callable[[Any, str, Path], Function]] = {
    "cuda-graph": _open_cuda_graph,
    "compile": _open_compile,
    "aoti": _open_aoti,
    "onnx": _open_onnx,
    "onnx-int8": _open_onnx,
    "openvino": _open_openvino,
}


class _Part(nn.Module):
    """One function of the network with tensors in and tensors out; each has code of its own for torch.compile."""

    def __init__(self, model: TERGAN):
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class _EncodeIdentity(_Part):
    """Leaves out what its input and `encode_expression` tell, so no weight is stored twice."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        code = self.model.encode_identity(*tensors)
        return (*code.maps, code.embedding)


class _EncodeExpression(_Part):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return (self.model.encode_expression(*tensors),)


class _Draw(_Part):
    """Of the drawing, the image and the flow, if there is one."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        image, *maps, embedding, shown, wanted = tensors
        drawing = self.model.draw(IdentityCode(image, maps, embedding, shown), wanted)
        return (drawing.image,) if drawing.flow is None else (drawing.image, drawing.flow)


_PARTS: dict[str, type[_Part]] = {
    "encode_identity": _EncodeIdentity,
    "encode_expression": _EncodeExpression,
    "draw": _Draw,
}


def _flat(identity: IdentityCode) -> tuple[Tensor, ...]:
    return (identity.image, *identity.maps, identity.embedding, identity.expression)


@functools.cache
def _example_faces(size_px: int) -> Float[Tensor, "n 3 s s"]:
    """Forty rendered faces (CC0), as varied as those that are trained on: engines are tried on them, and the ranges of
    8-bit maps are set by them."""
    sheet = to_pixels(Path(__file__).with_name("example_faces.jpg"))
    faces = rearrange(sheet, "(r h) (c w) k -> (r c) h w k", h=128, w=128)
    return torch.stack([face_tensor(face, size_px) for face in faces])


def _faces(model: ExpressionCodes, batch: int) -> Float[Tensor, "b 3 s s"]:
    return _example_faces(model.config.image_size)[:batch].to(model.prototypes.device)


@torch.inference_mode()
def _outputs(engine: Engine, faces: Tensor) -> list[Tensor]:
    """What the three functions make of the faces; each is given the expression of its neighbour."""
    identity = engine.encode_identity(faces)
    wanted = engine.encode_expression(faces.flip(0))
    drawing = engine.draw(identity, wanted)
    return [*_flat(identity), wanted, drawing.image, *([] if drawing.flow is None else [drawing.flow])]


def _difference(model: TERGAN, engine: Engine) -> float:
    """The largest difference between the engine's outputs and the network's, at several batch sizes."""
    return max(
        float((ours - eager).abs().max())
        for batch in (1, 3, 8)
        for ours, eager in zip(
            _outputs(engine, _faces(model, batch)), _outputs(model, _faces(model, batch)), strict=True
        )
    )


def example_arguments(model: TERGAN, batch: int) -> dict[str, tuple[Tensor, ...]]:
    """Arguments of each function. No dimension but the first has their batch size by chance."""
    faces = _faces(model, batch)
    with torch.no_grad():
        identity = model.encode_identity(faces)
    return {
        "encode_identity": (faces,),
        "encode_expression": (faces,),
        "draw": (*_flat(identity), identity.expression.flip(0)),
    }


def _check_name(name: str) -> EngineName:
    if name not in ENGINES:
        raise ConfigError(f"there is no engine {name!r}. {close_names(name, ENGINES)}")
    return name  # type: ignore[return-value]


def _check_packages(name: str, packages: Mapping[str, tuple[str, ...]]) -> None:
    for package in packages.get(name, ()):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, name.removesuffix("-int8"), f"engine {name!r}")


def _check_files(folder: Path, stored: dict[str, Any]) -> None:
    for name, sha256 in stored["sha256"].items():
        path = folder / name
        if not path.exists():
            raise EngineError(f"{name!r} is missing in {str(folder)!r}. Export the model again.")
        if weights.sha256(path) != sha256:
            raise WeightsCorruptError(
                f"{str(path)!r} does not have the sha256 that config.json names. Export the model again."
            )
    built_for, native = stored["built_for"], stored["name"] == "aoti"
    differing = [key for key, value in _here().items() if built_for.get(key, None if native else value) != value]
    if differing:
        here = ", ".join(f"{key} {_here()[key]}" for key in differing)
        raise EngineError(f"its code was built for another machine; here is {here}. Export the model here.")


def _here() -> dict[str, str]:
    """What native code depends on."""
    return {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "processor": _processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def _processor() -> str:
    """The CPU's family and instructions as a short fingerprint: code is compiled for all that it can do."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(flags.encode()).hexdigest()[:16]

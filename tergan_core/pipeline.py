"""FaceEditor: the object users hold. Pictures in, results out; lists run in batches, each item for itself."""

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .config import ModelConfig
from .decoder import IdentityCode
from .engine import CompiledEngine, EngineName, load_engine
from .errors import (
    IntensityError,
    InvalidCodeError,
    InvalidRequestError,
    TerganError,
    UnknownExpressionError,
    UnknownUnitError,
    close_names,
)
from .images import ImageInput, face_tensor, to_array
from .model import TERGAN
from .results import GeneratedFace, Recognition, weights_in_words
from .weights import SHIPPED, describe, locate

Named = tuple[str, Any]
"""A value from the caller with the name that errors call it by."""


class FaceEditor:
    """Transfers, edits and recognizes facial expressions with one network.

    A face is whatever `images.to_tensor` reads: a path, bytes, a binary file, a PIL image, a uint8 array or a float
    tensor. Of it, the central square is used. The code that `encode_identity` or `encode_expression` gave for a face is
    accepted in place of it. Each argument may be a list; then the answer is one. Lists have one length, and a single
    value beside them holds for all items.

    With `errors="raise"` the first bad item raises its error. With `errors="return"` the error takes the item's place
    in the answer, and the other items are computed as usual.

    Args:
        model: the network, which is put into evaluation mode and the channels-last memory format, or what runs it.

    >>> config = ModelConfig(image_size=32, identity_backbone="test_resnet", expression_backbone="test_resnet")
    >>> editor = FaceEditor(TERGAN(config))
    >>> editor.edit(torch.rand(3, 48, 40), "happiness", intensity=0.8)
    GeneratedFace(task='edit', to='happiness', intensity=0.8)
    """

    def __init__(self, model: TERGAN | CompiledEngine):
        self.model = model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.label = ""
        """Name, version and sha256 of the model, for the notice in generated pictures; empty if not known."""
        self.batch_size = 16
        """Number of faces in one forward pass; longer lists run in several."""

    @classmethod
    def load(
        cls,
        weights: str | Path = SHIPPED,
        *,
        device: str | torch.device | None = None,
        engine: EngineName | None = None,
    ) -> "FaceEditor":
        """The editor of a model.

        Args:
            weights: a catalogue name, a model folder, or `hf:owner/name`.
            device: a torch device; by default CUDA where there is one, else the CPU.
            engine: what runs the network, see `engine.ENGINES`; one that the model folder does not hold is made now,
                at every load, which takes a compiler 20 s and more; `engine.export` keeps it. By default the one that
                the folder names, or eager PyTorch if that cannot run here.

        Raises:
            WeightsNotFoundError: there is no such model, or it may not be read.
            WeightsCorruptError: its files are damaged.
            MissingExtraError, EngineError: the engine asked for cannot run here.
        """
        folder = locate(weights)
        editor = cls(load_engine(folder, engine, device=device or ("cuda" if torch.cuda.is_available() else "cpu")))
        known = describe(folder)
        editor.label = f"{known['name']} {known['version']} sha256:{known['sha256']}"
        return editor

    @property
    def config(self) -> ModelConfig:
        """The architecture of the model."""
        return self.model.config

    @property
    def expressions(self) -> tuple[str, ...]:
        """The expressions that `edit` and `recognize` know."""
        return self.config.expressions

    @torch.inference_mode()
    def transfer(self, *, identity: Any, expression: Any, intensity: Any = 1.0, errors: str = "raise") -> Any:
        """The person of `identity` with the expression of `expression`: a `GeneratedFace`, or a list of them.

        Args:
            identity: who the output shows; a face, an identity code, or a list of them.
            expression: the face whose expression is taken, its expression code, or a list of them.
            intensity: 0 = the identity's own expression, 1 = that of `expression`; up to `config.max_intensity`.
            errors: `raise` or `return`.

        Raises:
            InvalidImageError, ImageTooLargeError: a face cannot be read.
            InvalidCodeError: a code is of another model.
            IntensityError: an intensity is out of range.
            InvalidRequestError: lists differ in length.
        """

        def draw(people: list[IdentityCode], wanted: list[Tensor], intensities: list[float]) -> list[GeneratedFace]:
            return self._draw("transfer", people, wanted, [None] * len(wanted), intensities)

        return self._run(
            draw,
            errors,
            identity=(identity, self._read_identities),
            expression=(expression, self._read_expressions),
            intensity=(intensity, self._read_intensities),
        )

    @torch.inference_mode()
    def edit(self, face: Any, to: Any = None, intensity: Any = 1.0, *, units: Any = None, errors: str = "raise") -> Any:
        """The same person with another expression: a `GeneratedFace`, or a list of them.

        Args:
            face: a face, an identity code, or a list of them.
            to: the name of an expression; a mixture as `{"happiness": 0.5, "surprise": 0.3}`, whose weights sum to at
                most 1 and the rest of which is neutral; or a list of them. None keeps the expression that the face
                shows, for `units` to change.
            intensity: 0 = unchanged, 1 = as asked for; up to `config.max_intensity`.
            units: weights of single face units as `{"mouthSmile": 0.6, "browDownLeft": 0.2}`, 0 = rest, 1 = full, up to
                `config.max_intensity`; they take the place of what `to` or the face has. A name without its side means
                both. Or a list of them.
            errors: `raise` or `return`.

        Raises:
            UnknownExpressionError: the model has no expression of this name.
            UnknownUnitError: the model has no face unit of this name.
            IntensityError: an intensity, or a weight, is out of range.
            InvalidRequestError: neither `to` nor `units` is given, or lists differ in length.
            InvalidImageError, ImageTooLargeError, InvalidCodeError: as `transfer`.
        """
        if to is None and units is None:
            raise InvalidRequestError("neither an expression nor units are given; accepted: one of them, or both.")

        def draw(people: list[IdentityCode], intensities: list[float], *changes: list[Change]) -> list[GeneratedFace]:
            codes = [person.expression[0] for person in people]
            for column in changes:
                codes = [change.apply(code) for change, code in zip(column, codes, strict=True)]
            names = [" + ".join(change.name for change in row if change.name) for row in zip(*changes, strict=True)]
            return self._draw("edit", people, codes, names, intensities)

        return self._run(
            draw,
            errors,
            face=(face, self._read_identities),
            intensity=(intensity, self._read_intensities),
            to=(to, self._read_targets),
            units=(units, self._read_units),
        )

    @torch.inference_mode()
    def recognize(self, face: Any, *, errors: str = "raise") -> Any:
        """Which expression the face shows: a `Recognition`, or a list of them.

        Args:
            face: a face, an expression code, or a list of them.
            errors: `raise` or `return`.

        Raises:
            InvalidImageError, ImageTooLargeError: the face cannot be read.
            InvalidCodeError: the code is of another model.
        """
        return self._run(self._classify, errors, face=(face, self._read_expressions))

    @torch.no_grad()
    def encode_identity(self, face: ImageInput) -> IdentityCode:
        """The identity code of one face, to be used in place of it as often as needed.

        Raises:
            InvalidImageError, ImageTooLargeError: the face cannot be read.
        """
        return _value(self._read_identities([("face", face)]))

    @torch.no_grad()
    def encode_expression(self, face: ImageInput) -> Float[Tensor, " d"]:
        """The expression code of one face; codes can be mixed, scaled and interpolated.

        Raises:
            InvalidImageError, ImageTooLargeError: the face cannot be read.
        """
        return _value(self._read_expressions([("face", face)]))

    # What follows works on columns: one value or error for each item. ------------------------------------------------

    def _run(self, forward: Callable[..., list[Any]], errors: str, **columns: tuple[Any, Callable]) -> Any:
        """Reads the columns and calls `forward` on their good rows, batch by batch; results come in the rows' order.

        Args:
            forward: from one list for each column to the list of results.
            columns: the caller's value, or list of values, and the method that reads a list of them.
        """
        if errors not in ("raise", "return"):
            raise InvalidRequestError(f"errors is {errors!r}; accepted: 'raise', 'return'.")
        lists = {name: _listed(name, value) for name, (value, _) in columns.items()}
        lengths = {name: len(items) for name, items in lists.items() if items is not None}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise InvalidRequestError(f"the lists differ in length: {counts}; accepted: one length, or a single value.")
        length = next(iter(lengths.values()), 1)
        singles = {name: read([(name, value)]) for name, (value, read) in columns.items() if lists[name] is None}
        results: list[Any] = []
        for start in range(0, length, self.batch_size):
            batch = slice(start, min(start + self.batch_size, length))
            values = [
                singles[name] * (batch.stop - start) if items is None else columns[name][1](items[batch])
                for name, items in lists.items()
            ]
            rows = list(zip(*values, strict=True))
            failures = [next((value for value in row if isinstance(value, TerganError)), None) for row in rows]
            first = next((failure for failure in failures if failure is not None), None)
            if errors == "raise" and first is not None:
                raise first
            good = [row for row, failure in zip(rows, failures, strict=True) if failure is None]
            made = iter(forward(*map(list, zip(*good, strict=True))) if good else ())
            results += [next(made) if failure is None else failure for failure in failures]
        return results if lengths else results[0]

    def _read_identities(self, faces: list[Named]) -> list[IdentityCode | TerganError]:
        def encode(pictures: Tensor) -> Iterator[IdentityCode]:
            codes = self.model.encode_identity(pictures)
            return (codes.take(slice(i, i + 1)) for i in range(len(pictures)))

        return self._read_faces(faces, lambda face: isinstance(face, IdentityCode), self._check_identity, encode)

    def _read_expressions(self, faces: list[Named]) -> list[Tensor | TerganError]:
        def is_code(face: Any) -> bool:
            return isinstance(face, Tensor) and face.ndim == 1

        return self._read_faces(faces, is_code, self._check_expression, lambda x: iter(self.model.encode_expression(x)))

    def _read_faces(
        self,
        faces: list[Named],
        is_code: Callable[[Any], bool],
        check: Callable[[str, Any], Any],
        encode: Callable[[Tensor], Iterator[Any]],
    ) -> list[Any]:
        """The code of each face: given ones are checked, the others are made in one forward pass."""
        values: list[Any] = []
        pictures = []
        for name, face in faces:
            try:
                if is_code(face):
                    values.append(check(name, face))
                else:
                    pictures.append(face_tensor(face, self.config.image_size, name=name))
                    values.append(None)
            except TerganError as error:
                values.append(error)
        if not pictures:
            return values
        batch = torch.stack(pictures).to(self._device)
        made = encode(batch)
        return [next(made) if value is None else value for value in values]

    def _read_targets(self, targets: list[Named]) -> list[Any]:
        return [_attempt(self._target, name, to) for name, to in targets]

    def _read_units(self, changes: list[Named]) -> list[Any]:
        return [_attempt(self._units, name, units) for name, units in changes]

    def _read_intensities(self, intensities: list[Named]) -> list[Any]:
        return [_attempt(_number, name, value, self.config.max_intensity) for name, value in intensities]

    def _target(self, name: str, to: Any) -> "Change":
        """The change to an expression or a mixture."""
        if to is None:
            return self._no_change
        whole = slice(None)
        if not isinstance(to, dict):
            return Change(to, whole, self._prototype(name, to))
        if not to:
            raise UnknownExpressionError(f"{name} is an empty mixture. Known names: {', '.join(self.expressions)}.")
        weights = {key: _number(f"{name}[{key!r}]", weight, 1.0) for key, weight in to.items()}
        if (total := sum(weights.values())) > 1 + 1e-6:
            raise IntensityError(f"{name} has weights that sum to {total:.3g}; accepted: at most 1.")
        neutral = self.model.prototypes[0]
        code = neutral + sum(weight * (self._prototype(name, key) - neutral) for key, weight in weights.items())
        return Change(weights_in_words(weights), whole, code)

    @property
    def _no_change(self) -> "Change":
        return Change("", [], torch.empty(0, device=self._device))

    def _units(self, name: str, units: Any) -> "Change":
        """The change to weights of face units."""
        if units is None:
            return self._no_change
        known = self.config.units
        if not known:
            raise UnknownUnitError("this model has no face units; name an expression instead.")
        if not isinstance(units, dict) or not units:
            raise UnknownUnitError(
                f"{name} is {units!r:.80}; accepted: weights by unit, such as {{'mouthSmile': 0.6}}."
            )
        weights: dict[int, float] = {}
        for key, value in units.items():
            places = [known.index(unit) for unit in (key, f"{key}Left", f"{key}Right") if unit in known]
            if not places:
                close = close_names(key, [*known, *dict.fromkeys(re.sub("(Left|Right)$", "", unit) for unit in known)])
                raise UnknownUnitError(f"{name} has the unit {key!r:.80}, which this model does not have. {close}")
            weight = _number(f"{name}[{key!r}]", value, self.config.max_intensity)
            weights |= dict.fromkeys(places, weight)
        values = torch.tensor([*weights.values()], device=self._device)
        return Change(weights_in_words(units), [*weights], values)

    def _prototype(self, name: str, expression: Any) -> Tensor:
        if not isinstance(expression, str) or expression not in self.expressions:
            known = close_names(str(expression), self.expressions)
            raise UnknownExpressionError(f"{name} is {expression!r:.80}, which this model does not have. {known}")
        return self.model.prototypes[self.expressions.index(expression)]

    def _check_expression(self, name: str, code: Tensor) -> Tensor:
        width = self.config.expression_width
        if code.shape != (width,) or not code.is_floating_point() or not code.isfinite().all():
            raise InvalidCodeError(
                f"{name} is a tensor {list(code.shape)} of {code.dtype}; accepted: {width} finite floats, as "
                "encode_expression gives, or a face."
            )
        return code.to(self._like)

    def _check_identity(self, name: str, code: IdentityCode) -> IdentityCode:
        parts = [code.image, *code.maps, code.embedding, code.expression]
        shapes = [part.shape for part in parts]
        if shapes != self._identity_shapes or not all(part.isfinite().all() for part in parts):
            raise InvalidCodeError(
                f"{name} is an identity code of other shapes than this model's, or not finite; accepted: what "
                "encode_identity of this editor gives for one face, or a face."
            )
        return IdentityCode(
            code.image.to(self._like),
            [feature_map.to(self._like) for feature_map in code.maps],
            code.embedding.to(self._like),
            code.expression.to(self._like),
        )

    def _draw(
        self,
        task: Literal["transfer", "edit"],
        people: list[IdentityCode],
        wanted: Sequence[Tensor],
        names: Sequence[str | None],
        intensities: list[float],
    ) -> list[GeneratedFace]:
        identity = IdentityCode.concatenate(people)
        strength = torch.tensor(intensities, device=self._device)
        code = self.model.blend(identity.expression, torch.stack(list(wanted)), strength)
        drawing = self.model.draw(identity, code)
        flows = [None] * len(people) if drawing.flow is None else list(drawing.flow.float().cpu().numpy())
        return [
            GeneratedFace(to_array(face), task, name, intensity, flow, self.label)
            for face, name, intensity, flow in zip(drawing.image, names, intensities, flows, strict=True)
        ]

    def _classify(self, codes: list[Tensor]) -> list[Recognition]:
        batch = torch.stack(codes)
        rows = self.model.classify(batch).softmax(dim=-1).tolist()
        return [
            Recognition(
                label=self.expressions[row.index(max(row))],
                probabilities=dict(zip(self.expressions, row, strict=True)),
                units=dict(zip(self.config.units, code, strict=False)),
            )
            for row, code in zip(rows, batch.tolist(), strict=True)
        ]

    @functools.cached_property
    def _identity_shapes(self) -> list[torch.Size]:
        size_px = self.config.image_size
        code = self.model.encode_identity(torch.zeros(1, 3, size_px, size_px, device=self._device))
        return [part.shape for part in (code.image, *code.maps, code.embedding, code.expression)]

    @property
    def _like(self) -> Tensor:
        """A tensor of the network's device and kind of floats."""
        return self.model.prototypes

    @property
    def _device(self) -> torch.device:
        return self._like.device


@dataclass(frozen=True)
class Change:
    """New values for some entries of an expression code."""

    name: str
    """In words."""

    places: slice | list[int]
    values: Tensor

    def apply(self, code: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The code with the new values."""
        changed = code.clone()
        changed[self.places] = self.values.to(code.dtype)
        return changed


def _listed(name: str, value: Any) -> list[Named] | None:
    """The items of a list with their names; None for a single value."""
    if name == "intensity" and isinstance(value, np.ndarray | Tensor):
        value = value.tolist()
    if not isinstance(value, list | tuple) or isinstance(value, IdentityCode):
        return None
    return [(f"{name}[{i}]", item) for i, item in enumerate(value)]


def _number(name: str, value: Any, largest: float) -> float:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= largest:
        raise IntensityError(f"{name} is {value!r:.80}; accepted: a number from 0 to {largest:g}.")
    return float(value)


def _attempt(read: Callable, *arguments: Any) -> Any:
    """What `read` returns, or the TerganError that it raises."""
    try:
        return read(*arguments)
    except TerganError as error:
        return error


def _value(results: list[Any]) -> Any:
    """The one result, raised if it is an error."""
    (result,) = results
    if isinstance(result, TerganError):
        raise result
    return result

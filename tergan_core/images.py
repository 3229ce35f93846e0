"""Pictures in and out: path | bytes | file | PIL | array | tensor -> RGB float tensor in [0, 1], and back.

All ways to hand in the same picture give the same tensor to the bit. Sizes are checked by the header, before decoding.
"""

import io
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from .errors import ImageTooLargeError, InvalidImageError, TerganError, UnsupportedMediaTypeError
from .provenance import Notice

MAX_PIXELS = 40_000_000
"""Pictures with more pixels are refused by their header, before decoding."""

MAX_BYTES = 32 * 2**20
"""Files with more bytes are refused unread."""

MAX_SCANS = 32
"""JPEG files of more scans are refused, before decoding: each costs a pass over all pixels and as few as 40 bytes.
Encoders write about ten."""

READABLE = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""File formats that are read; of animations, the first frame."""


@dataclass(frozen=True)
class Limits:
    """Which pictures are read; `serving` has narrower ones."""

    max_pixels: int = MAX_PIXELS
    formats: tuple[str, ...] = READABLE


WRITABLE = ("png", "jpeg", "webp")
"""File formats that `encode` writes."""

ImageInput = object
"""What `to_tensor` accepts, and checks itself: a path, bytes, a binary file, a PIL image, a uint8 array `[h w]` or
`[h w c]` (grey, RGB, RGBA), or a float tensor or array `[3 h w]` in [0, 1]."""

_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
"""What ends or is followed by a length; neither stuffing nor restart markers."""


def to_tensor(image: ImageInput, *, name: str = "image") -> Float[Tensor, "3 h w"]:
    """The picture as an RGB float32 tensor in [0, 1], on the CPU.

    EXIF orientation is applied, transparency is laid on white, grey (8 and 16 bit), palette and CMYK become RGB.

    Args:
        image: a path, bytes, a binary file, a PIL image, a uint8 array `[h w]`, `[h w 1]`, `[h w 3]` or `[h w 4]`, or a
            float tensor or array `[3 h w]`.
        name: what error messages call the picture.

    Raises:
        InvalidImageError: not a picture, truncated, empty, of a wrong shape, kind or range, or not finite.
        ImageTooLargeError: more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes.

    >>> to_tensor(np.full((2, 3, 3), 255, np.uint8)).shape
    torch.Size([3, 2, 3])
    """
    if _is_float(image):
        return _checked_floats(image, name)
    return _unit_floats(rearrange(torch.from_numpy(to_pixels(image, name=name)), "h w c -> c h w"))


def to_pixels(image: ImageInput, *, name: str = "image", limits: Limits = Limits()) -> UInt8[np.ndarray, "h w 3"]:
    """The picture as upright RGB of 8 bits: what `to_tensor` gives, times 255, in a quarter of the memory.

    Args:
        image, name: as `to_tensor`; floats are rounded.
        limits: which pictures are read.

    Raises:
        InvalidImageError, ImageTooLargeError: as `to_tensor`.

    >>> to_pixels(torch.ones(3, 2, 4)).shape
    (2, 4, 3)
    """
    if _is_float(image):
        return to_array(_checked_floats(image, name, limits))
    return _pixels(image, name, limits)


def _pixels(image: object, name: str, limits: Limits, enough_px: int | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture; a JPEG file smaller by 2, 4 or 8 where both sides still are `enough_px`, which is quicker."""
    if isinstance(image, str | os.PathLike):
        name = f"{name} {os.fspath(image)!r}"
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size:
        _check_size(*image.shape[:2], name=name, limits=limits)
        return image.copy()
    if isinstance(image, PIL.Image.Image):
        enough_px = None  # it is the caller's, and stays as it is
    # No name is kept for the opened file: its pixels and its decoder go as soon as there is a copy.
    return np.array(_upright_rgb(_picture(image, name, limits), name, limits, enough_px))


def face_tensor(
    image: ImageInput, size_px: int, *, name: str = "face", limits: Limits = Limits()
) -> Float[Tensor, "3 s s"]:
    """The central square of the picture, resized to `size_px` with antialiasing, as `to_tensor` gives it.

    What has to be resized has 8 bits, which costs an eighth of the time of floats. A JPEG file of more than four times
    that size is decoded smaller, to at least twice that size.

    Args:
        image, name, limits: as `to_pixels`.
        size_px: side of the square.

    Raises:
        InvalidImageError, ImageTooLargeError: as `to_tensor`.

    >>> face_tensor(np.zeros((40, 60, 3), np.uint8), 32).shape
    torch.Size([3, 32, 32])
    """
    if _is_float(image):
        picture = _checked_floats(image, name, limits)
    else:
        pixels = _pixels(image, name, limits, enough_px=2 * size_px)
        picture = rearrange(torch.from_numpy(pixels), "h w c -> c h w")
    height, width = picture.shape[1:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = picture[:, top : top + side, left : left + side]
    if side == size_px:
        return _unit_floats(square)
    if square.is_floating_point():
        square = _bytes_of(square)
    size = (size_px, size_px)
    return _unit_floats(torch.nn.functional.interpolate(square[None], size, mode="bicubic", antialias=True)[0])


def to_file(image: ImageInput, *, name: str = "image") -> bytes:
    """The picture as a file that servers read: a PNG, JPEG or WebP file is handed on as it is, all else becomes PNG.

    Args:
        image, name: as `to_tensor`.

    Raises:
        InvalidImageError, ImageTooLargeError: as `to_tensor`; what is behind a file's header is not looked at.

    >>> to_file(np.zeros((4, 4, 3), np.uint8))[1:4]
    b'PNG'
    """
    if not isinstance(image, np.ndarray | Tensor | PIL.Image.Image):
        image = _bytes(image, name)
        if _open(image, name).format in {format.upper() for format in WRITABLE}:
            return image
    return encode(to_pixels(image, name=name))


def count_pixels(image: bytes | np.ndarray) -> int:
    """Pixels of an array `[h w c]`, or of a file as its header has them; 0 if there is no header to be read."""
    if isinstance(image, np.ndarray):
        return image.shape[0] * image.shape[1]
    try:
        return math.prod(_open(image, "image").size)
    except TerganError:
        return 0


def frames(image: ImageInput, *, name: str = "image") -> tuple[list[UInt8[np.ndarray, "h w 3"]], list[int]]:
    """All frames of an animated GIF, WebP or PNG as `to_pixels` gives them, and how long each is shown, in ms.

    Args:
        image: a path, bytes, or a binary file; a picture that does not move is one frame.
        name: what error messages call the picture.

    Raises:
        InvalidImageError, ImageTooLargeError: as `to_tensor`; all frames together may have `MAX_PIXELS` pixels.
    """
    if isinstance(image, str | os.PathLike):
        name = f"{name} {os.fspath(image)!r}"
    animation = _open(_bytes(image, name), name)
    count = getattr(animation, "n_frames", 1)
    if count * animation.width * animation.height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"{name} has {count} frames of {animation.width}x{animation.height} pixels; accepted: at most "
            f"{MAX_PIXELS} pixels in all. Scale it down, or cut it."
        )
    pictures, durations_ms = [], []
    for number in range(count):
        try:
            animation.seek(number)
            picture = animation.copy()
        except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
            raise InvalidImageError(f"{name} is truncated or damaged at frame {number}: {error}.") from error
        pictures.append(np.array(_upright_rgb(picture, name)))
        durations_ms.append(int(animation.info.get("duration") or 100))
    return pictures, durations_ms


def save_frames(
    pictures: list[UInt8[np.ndarray, "h w 3"]],
    durations_ms: list[int],
    path: str | os.PathLike,
    notice: Notice | None = None,
) -> Path:
    """Writes an animation as GIF, WebP or PNG, by the suffix, and returns the path.

    Args:
        pictures, durations_ms: as `frames` gives them.
        notice: what the file is to say of its origin; in a GIF, as its comment.

    Raises:
        UnsupportedMediaTypeError: the suffix is none of .gif, .webp, .png.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".gif", ".webp", ".png"):
        raise UnsupportedMediaTypeError(
            f"cannot save the animation {os.fspath(path)!r}; accepted suffixes: .gif, .webp, .png."
        )
    first, *others = [PIL.Image.fromarray(picture) for picture in pictures]
    options = notice.save_options(path.suffix.lower()[1:]) if notice else {}
    first.save(path, save_all=True, append_images=others, duration=durations_ms, loop=0, **options)
    return path


def to_array(image: Float[Tensor, "3 h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """The tensor in [0, 1] as a uint8 array; values outside are clipped.

    >>> int(to_array(torch.full((3, 1, 1), 0.5))[0, 0, 0])
    128
    """
    return rearrange(_bytes_of(image.detach().float().clamp(0, 1)), "c h w -> h w c").cpu().numpy()


def to_pil(image: Float[Tensor, "3 h w"]) -> PIL.Image.Image:
    """The tensor in [0, 1] as a PIL image."""
    return PIL.Image.fromarray(to_array(image))


def encode(
    image: UInt8[np.ndarray, "h w 3"], format: str = "png", quality: int = 92, notice: Notice | None = None
) -> bytes:
    """The array as the bytes of a picture file.

    Args:
        format: one of `WRITABLE`.
        quality: of JPEG and WebP, 1 to 100; PNG is lossless, and compressed lightly, which is quicker than its default.
        notice: what the file is to say of its origin.

    Raises:
        UnsupportedMediaTypeError: the format is not one of `WRITABLE`.

    >>> encode(np.zeros((4, 4, 3), np.uint8))[1:4]
    b'PNG'
    """
    if format not in WRITABLE:
        raise UnsupportedMediaTypeError(f"cannot write pictures as {format!r}; accepted: {', '.join(WRITABLE)}.")
    options: dict[str, Any] = {"compress_level": 1} if format == "png" else {"quality": quality}
    options |= notice.save_options(format) if notice else {}
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, format, **options)
    return file.getvalue()


def _is_float(image: ImageInput) -> TypeGuard[np.ndarray | Tensor]:
    """Whether it is an array or a tensor of anything but bytes; what is no float is refused later."""
    return isinstance(image, np.ndarray | Tensor) and image.dtype not in (np.uint8, torch.uint8)


def _bytes_of(picture: Float[Tensor, "3 h w"]) -> UInt8[Tensor, "3 h w"]:
    return (picture * 255).round().byte()


def _unit_floats(picture: Tensor) -> Float[Tensor, "3 h w"]:
    """Bytes as floats in [0, 1]; floats as they are."""
    picture = picture.contiguous()
    return picture.float().div_(255) if picture.dtype == torch.uint8 else picture


def _checked_floats(image: np.ndarray | Tensor, name: str, limits: Limits = Limits()) -> Tensor:
    """The float picture as float32, if its kind, shape and range are right."""
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, and is refused below
            image = torch.from_numpy(np.ascontiguousarray(image, np.float32))
    if not isinstance(image, Tensor) or not image.is_floating_point():
        raise InvalidImageError(f"{name} has dtype {image.dtype}; accepted: uint8 [h w 3], or float [3 h w] in [0, 1].")
    floats = image.detach().cpu()
    if floats.ndim != 3 or floats.shape[0] != 3 or floats.numel() == 0:
        raise InvalidImageError(
            f"{name} has shape {list(image.shape)}; accepted: one float picture [3 h w], or uint8 [h w 3]. "
            "Pass several pictures as a list."
        )
    _check_size(*floats.shape[1:], name=name, limits=limits)
    floats = floats.float()
    if not floats.isfinite().all():
        raise InvalidImageError(f"{name} has values that are NaN or infinite; accepted: numbers in [0, 1].")
    low, high = floats.aminmax()
    # Resizing filters overshoot by a hair; anything further is another convention.
    if low < -1e-3 or high > 1 + 1e-3:
        raise InvalidImageError(
            f"{name} has values from {low:.3g} to {high:.3g}; accepted: [0, 1]. "
            "Divide 0..255 by 255; bring -1..1 here by image / 2 + 0.5."
        )
    return floats.clamp(0, 1).contiguous()


def _picture(image: object, name: str, limits: Limits) -> PIL.Image.Image:
    if isinstance(image, PIL.Image.Image):
        return image
    if isinstance(image, np.ndarray | Tensor):
        return _picture_of_array(np.asarray(image.cpu() if isinstance(image, Tensor) else image), name)
    return _open(_bytes(image, name), name, limits)


def _picture_of_array(array: np.ndarray, name: str) -> PIL.Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = rearrange(array, "h w 1 -> h w")
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise InvalidImageError(
            f"{name} has shape {list(array.shape)}; accepted: uint8 [h w], [h w 3] or [h w 4], or float [3 h w]. "
            "Pass several pictures as a list."
        )
    return PIL.Image.fromarray(array)


def _bytes(source: object, name: str) -> bytes:
    """The content of bytes, a path or a file; of the latter, at most `MAX_BYTES` are read."""
    data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else _read(source, name)
    if not data:
        raise InvalidImageError(f"{name} is empty (0 bytes); accepted: {', '.join(READABLE)}.")
    if len(data) > MAX_BYTES:
        raise ImageTooLargeError(f"{name} has more than {MAX_BYTES // 2**20} MiB, which is the limit. Scale it down.")
    return data


def _read(source: object, name: str) -> bytes:
    data = None
    try:
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                data = file.read(MAX_BYTES + 1)
        elif hasattr(source, "read"):
            data = source.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL, a file that is closed
        raise InvalidImageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if not isinstance(data, bytes):
        raise InvalidImageError(
            f"{name} is a {type(source).__name__}; accepted: a path, bytes, a file opened with mode 'rb', a PIL image, "
            "a uint8 array [h w 3] or a float tensor [3 h w]."
        )
    return data


def _open(data: bytes, name: str, limits: Limits = Limits()) -> PIL.Image.Image:
    """The picture with its header read and its pixels not."""
    if data[:3] == b"\xff\xd8\xff" and (scans := _jpeg_scans(data)) > MAX_SCANS:
        raise InvalidImageError(f"{name} has {scans} scans; accepted: at most {MAX_SCANS}. Save it again.")
    try:
        return PIL.Image.open(io.BytesIO(data), formats=limits.formats)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise ImageTooLargeError(
            f"{name} has far more than {limits.max_pixels} pixels, which is the limit. Scale it down first."
        ) from error
    except Exception as error:  # Pillow's parsers raise whatever the bytes lead them to
        raise InvalidImageError(
            f"{name} is not a picture that can be read; accepted: {', '.join(limits.formats)}."
        ) from error


def _jpeg_scans(data: bytes) -> int:
    """The number of a JPEG file's scans, without those of previews inside it and of what follows its end."""
    scans, start = 0, 2
    while (marker := _JPEG_MARKER.search(data, start)) and marker[1] != b"\xd9":
        scans += marker[1] == b"\xda"
        start = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
    return scans


def _upright_rgb(
    picture: PIL.Image.Image, name: str, limits: Limits = Limits(), enough_px: int | None = None
) -> PIL.Image.Image:
    """The decoded picture, turned as its EXIF orientation says, in RGB; see `_pixels`."""
    _check_size(picture.height, picture.width, name=name, limits=limits)
    if picture.mode == "F" or 0 in picture.size:
        raise InvalidImageError(
            f"{name} is a PIL image of mode {picture.mode!r} and size {picture.size}; accepted: not empty, 8 or 16 bit."
        )
    try:
        if enough_px:
            picture.draft(None, (enough_px, enough_px))  # JPEG alone
        picture = PIL.ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I"):
            sixteen_bit = np.asarray(picture).clip(0, 65535)
            picture = PIL.Image.fromarray((sixteen_bit / np.float32(257)).round().astype(np.uint8))
        if picture.has_transparency_data:
            white = PIL.Image.new("RGBA", picture.size, "white")
            picture = PIL.Image.alpha_composite(white, picture.convert("RGBA"))
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    except Exception as error:  # as above
        raise InvalidImageError(f"{name} is truncated or damaged: {error}. Save or send it again.") from error


def _check_size(height: int, width: int, *, name: str, limits: Limits) -> None:
    if height * width > limits.max_pixels:
        raise ImageTooLargeError(
            f"{name} has {width}x{height} pixels; accepted: at most {limits.max_pixels} in all. Scale it down first."
        )

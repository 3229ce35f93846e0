import io
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st

from tergan_core import images
from tergan_core.errors import ImageTooLargeError, InvalidImageError, TerganError, UnsupportedMediaTypeError


def file_bytes(picture: PIL.Image.Image | np.ndarray, format: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    (PIL.Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture).save(file, format, **options)
    return file.getvalue()


def forms(array: np.ndarray, path: Path) -> dict[str, object]:
    """One picture in every form that is accepted."""
    data = file_bytes(array)
    path.write_bytes(data)
    floats = rearrange(torch.from_numpy(array.copy()), "h w c -> c h w").float() / 255
    return {
        "path": path,
        "path as str": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "file": io.BytesIO(data),
        "open PIL": PIL.Image.open(path),
        "PIL": PIL.Image.fromarray(array),
        "array": array,
        "uint8 tensor": torch.from_numpy(array.copy()),
        "tensor": floats.contiguous(),
        "channels-last tensor": floats,
        "double tensor": rearrange(torch.from_numpy(array.copy()), "h w c -> c h w").double() / 255,
        "tensor with gradient": floats.clone().requires_grad_(),
        "float array": rearrange(array.astype(np.float32) / 255, "h w c -> c h w"),
        "big-endian float array": rearrange((array.astype(np.float32) / 255).astype(">f4"), "h w c -> c h w"),
        "long double array": rearrange((array / 255).astype(np.longdouble), "h w c -> c h w"),
        "array of negative strides": array[::-1].copy()[::-1],
    }


def test_every_form_of_a_picture_gives_the_same_tensor_to_the_bit(face_image, tmp_path):
    expected = torch.from_numpy(face_image.transpose(2, 0, 1).astype(np.float32) / np.float32(255))
    square = images.face_tensor(face_image, 64)
    for form, image in forms(face_image, tmp_path / "face.png").items():
        assert torch.equal(images.to_tensor(image), expected), form
        if form != "file":  # it has been read to its end
            assert torch.equal(images.face_tensor(image, 64), square), form


@pytest.mark.parametrize("format", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_lossless_formats_give_the_pixels_back(format):
    array = np.tile(np.uint8([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]), (4, 4, 1))
    options = {"lossless": True} if format == "WEBP" else {}
    assert np.array_equal(images.to_array(images.to_tensor(file_bytes(array, format, **options))), array)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied(face_image, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    data = file_bytes(face_image, exif=exif)
    # The standard's words: which edge of the scene the first row and the first column of the file are.
    rows_are_columns = orientation >= 5
    first_row_at_far_side = orientation in (3, 4, 7, 8) if not rows_are_columns else orientation in (6, 7)
    first_column_at_far_side = orientation in (2, 3) if not rows_are_columns else orientation in (7, 8)
    expected = face_image.transpose(1, 0, 2) if rows_are_columns else face_image
    flip_vertically = first_column_at_far_side if rows_are_columns else first_row_at_far_side
    flip_horizontally = first_row_at_far_side if rows_are_columns else first_column_at_far_side
    expected = expected[:: -1 if flip_vertically else 1, :: -1 if flip_horizontally else 1]
    assert np.array_equal(images.to_array(images.to_tensor(data)), expected)


def test_grey_of_8_and_of_16_bit_become_three_equal_channels(face_image):
    grey = face_image[..., 0]
    expected = np.stack([grey] * 3, axis=-1)
    deep = grey.astype(np.uint16) * 257
    for image in (grey, grey[..., None], file_bytes(grey), file_bytes(deep), file_bytes(deep, "TIFF")):
        assert np.array_equal(images.to_array(images.to_tensor(image)), expected)


def test_transparency_is_laid_on_white(face_image):
    alpha = np.full((*face_image.shape[:2], 1), 255, np.uint8)
    alpha[:40] = 0
    rgba = np.concatenate([face_image, alpha], axis=-1)
    expected = face_image.copy()
    expected[:40] = 255
    for image in (rgba, file_bytes(rgba), PIL.Image.fromarray(rgba)):
        assert np.array_equal(images.to_array(images.to_tensor(image)), expected)


def test_palette_cmyk_and_animation_are_read(face_image):
    picture = PIL.Image.fromarray(face_image)
    palette = picture.quantize(16)
    assert np.array_equal(images.to_array(images.to_tensor(file_bytes(palette))), np.asarray(palette.convert("RGB")))
    cmyk = images.to_array(images.to_tensor(file_bytes(picture.convert("CMYK"), "JPEG", quality=100)))
    assert np.abs(cmyk.astype(int) - face_image).mean() < 4
    animation = file_bytes(palette, "GIF", save_all=True, append_images=[PIL.Image.new("RGB", palette.size)])
    assert np.array_equal(images.to_array(images.to_tensor(animation)), np.asarray(palette.convert("RGB")))


def test_a_face_is_the_central_square_resized_smoothly(face_image):
    face = images.face_tensor(face_image, 40)
    assert face.shape == (3, 40, 40)
    reference = PIL.Image.fromarray(face_image[8:88]).resize((40, 40), PIL.Image.Resampling.BICUBIC)
    assert np.abs(images.to_array(face).astype(int) - np.asarray(reference)).max() <= 1
    assert torch.equal(images.face_tensor(face_image, 80), images.to_tensor(face_image[8:88]))


def test_pictures_survive_the_way_out_and_back(face_image):
    tensor = images.to_tensor(face_image)
    assert np.array_equal(images.to_array(tensor), face_image)
    assert np.array_equal(np.asarray(images.to_pil(tensor)), face_image)
    assert np.array_equal(images.to_array(images.to_tensor(images.encode(face_image))), face_image)
    for format in ("jpeg", "webp"):
        again = images.to_array(images.to_tensor(images.encode(face_image, format, quality=95)))
        assert np.abs(again.astype(int) - face_image).mean() < 3
    with pytest.raises(UnsupportedMediaTypeError, match="cannot write pictures as 'bmp'; accepted: png, jpeg, webp"):
        images.encode(face_image, "bmp")


FLOATS = torch.full((3, 8, 8), 0.5)
INVALID = {
    "not an image": (b"hello, this is no picture", "face is not a picture that can be read; accepted: PNG, JPEG"),
    "empty": (b"", r"face is empty \(0 bytes\)"),
    "no such file": ("nowhere.png", "face 'nowhere.png' cannot be read: No such file or directory"),
    "a folder": (".", "face '.' cannot be read: Is a directory"),
    "a path with NUL": ("a\0b", "cannot be read: embedded null byte"),
    "a number": (42, "face is a int; accepted: a path, bytes"),
    "nothing": (None, "face is a NoneType; accepted"),
    "a text file": (io.StringIO("hello"), "accepted: .* a file opened with mode 'rb'"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture that can be read"),
    "NaN": (FLOATS * torch.nan, "face has values that are NaN or infinite"),
    "infinity": (FLOATS * torch.inf, "face has values that are NaN or infinite"),
    "0..255 floats": (FLOATS * 400, "face has values from 200 to 200; accepted: .* Divide 0..255 by 255"),
    "-1..1 floats": (-FLOATS, "face has values from -0.5 to -0.5; .* image / 2"),
    "HWC floats": (rearrange(FLOATS, "c h w -> h w c"), r"face has shape \[8, 8, 3\]; accepted: one float picture"),
    "a batch": (FLOATS[None], r"face has shape \[1, 3, 8, 8\]; .* as a list"),
    "no pixels": (FLOATS[:, :0], r"face has shape \[3, 0, 8\]"),
    "int64": (FLOATS.long(), "face has dtype torch.int64; accepted: uint8"),
    "text array": (np.array("face"), "face has dtype <U4; accepted"),
    "object array": (np.array([None]), "face has dtype object; accepted"),
    "huge doubles": (np.full((3, 8, 8), 1e300), "face has values that are NaN or infinite"),
    "bool array": (np.ones((8, 8), bool), "face has dtype bool; accepted"),
    "CHW uint8": (np.zeros((3, 8, 8), np.uint8), r"face has shape \[3, 8, 8\]; accepted: uint8 \[h w\]"),
    "no uint8 pixels": (np.zeros((0, 8, 3), np.uint8), r"face has shape \[0, 8, 3\]"),
    "float PIL": (PIL.Image.new("F", (4, 4)), r"face is a PIL image of mode 'F' and size \(4, 4\)"),
    "empty PIL": (PIL.Image.new("RGB", (0, 4)), r"size \(0, 4\)"),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_is_no_picture_is_refused_with_the_reason(case):
    image, message = INVALID[case]
    with pytest.raises(InvalidImageError, match=message) as caught:
        images.to_tensor(image, name="face")
    assert caught.value.code == "invalid_image"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_files_are_refused(face_image, format):
    data = file_bytes(face_image, format)
    for length in (1, 12, len(data) // 2, len(data) - 60):
        with pytest.raises(InvalidImageError, match=r"truncated or damaged|not a picture that can be read"):
            images.to_tensor(data[:length])


@pytest.mark.parametrize("size", [(40_000, 40_000), (10_000, 10_000), (8_000, 5_001)])
def test_too_many_pixels_are_refused_by_the_header(size, png_claiming, monkeypatch):
    monkeypatch.setattr(PIL.Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(
        ImageTooLargeError, match=r"image has .*more than 40000000|image has 8000x5001 pixels"
    ) as caught:
        images.to_tensor(png_claiming(*size))
    assert caught.value.code == "image_too_large"


def jpeg_of_scans(more, side=64):
    """A progressive grey JPEG with its last scan repeated, and how many scans one has without."""
    data = file_bytes(PIL.Image.new("L", (side, side), 90), "JPEG", progressive=True)
    tables = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:-2] + data[tables:-2] * more + data[-2:], data.count(b"\xff\xda")


def test_a_jpeg_of_too_many_scans_is_refused_before_it_is_decoded(monkeypatch):
    allowed, count = jpeg_of_scans(images.MAX_SCANS - jpeg_of_scans(0)[1])
    assert 2 < count < 12 and images.to_tensor(allowed).shape == (3, 64, 64)
    refused, _ = jpeg_of_scans(images.MAX_SCANS - count + 1)
    monkeypatch.setattr(PIL.Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(InvalidImageError, match=f"image has {images.MAX_SCANS + 1} scans; accepted: at most"):
        images.to_tensor(refused)


def test_scans_of_a_preview_and_of_what_follows_a_jpegs_end_are_not_counted(face_image):
    many = b"\xff\xda\0\x02" * 100
    data = file_bytes(face_image, "JPEG", comment=many, progressive=True)
    assert data.count(b"\xff\xda") >= 100
    assert torch.equal(
        images.to_tensor(data + many), images.to_tensor(file_bytes(face_image, "JPEG", progressive=True))
    )


def test_limits_narrow_what_is_read(face_image):
    narrow = images.Limits(max_pixels=96 * 80 - 1, formats=("PNG",))
    floats = rearrange(torch.from_numpy(face_image), "h w c -> c h w") / 255
    for image in (face_image, file_bytes(face_image), PIL.Image.fromarray(face_image), floats):
        assert images.face_tensor(image, 64, limits=images.Limits(max_pixels=96 * 80)).shape == (3, 64, 64)
        with pytest.raises(ImageTooLargeError, match="80x96 pixels; accepted: at most 7679 in all"):
            images.face_tensor(image, 64, limits=narrow)
    with pytest.raises(InvalidImageError, match=r"accepted: PNG\.$"):
        images.face_tensor(file_bytes(face_image, "GIF"), 64, limits=narrow)


@pytest.mark.parametrize("size", [(1100, 900), (192, 192), (60, 64)])
def test_a_picture_is_resized_in_8_bits_as_in_floats_to_two_levels(size):
    pixels = np.random.default_rng(0).integers(64, 192, (*size, 3), dtype=np.uint8)
    side = min(size)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    floats = images.to_tensor(pixels)
    square = floats[None, :, top : top + side, left : left + side]
    expected = torch.nn.functional.interpolate(square, (96, 96), mode="bicubic", antialias=True).clamp(0, 1)[0]
    face = images.face_tensor(pixels, 96)
    assert (face - expected).abs().max() < 2 / 255
    assert (face - expected).mean().abs() < 0.1 / 255
    assert torch.equal(images.face_tensor(floats, 96), face)


def test_16_bits_are_rounded_to_the_nearest_of_8():
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    shallow = images.to_pixels(file_bytes(deep))[..., 0].astype(int)
    assert np.abs(shallow * 257 - deep.astype(int)).max() == 128


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_whether_or_not_pillow_warns(png_claiming):
    with pytest.raises(ImageTooLargeError, match="10000x10000 pixels; accepted: at most 40000000"):
        images.to_tensor(png_claiming(10_000, 10_000))


def test_too_many_bytes_are_refused_without_reading_all(monkeypatch, tmp_path):
    monkeypatch.setattr(images, "MAX_BYTES", 2**20)
    path = tmp_path / "large.png"
    with path.open("wb") as file:
        file.truncate(2**40)  # sparse
    with path.open("rb") as file:
        for source in (path, file, bytes(2**20 + 1)):
            with pytest.raises(ImageTooLargeError, match="more than 1 MiB"):
                images.to_tensor(source)


@given(st.binary(max_size=300))
def test_random_bytes_only_ever_give_a_tergan_error(data):
    with pytest.raises(TerganError):
        images.to_tensor(data)


SEEDS = {
    format: file_bytes(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(16, 12, 3), format) for format in images.READABLE
}


@pytest.mark.filterwarnings("ignore")  # Pillow has much to say about them
@settings(deadline=None)  # a damaged header may claim many pixels
@given(st.sampled_from(sorted(SEEDS)), st.data())
def test_damaged_pictures_give_a_tensor_or_a_tergan_error(format, data):
    damaged = bytearray(SEEDS[format])
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        tensor = images.to_tensor(bytes(damaged))
    except TerganError:
        return
    assert tensor.shape[0] == 3 and 0 <= tensor.min() and tensor.max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_large_jpeg_is_decoded_smaller_and_gives_the_same_face(mode, progressive):
    y, x = np.mgrid[0:1300, 0:1000] / 150
    waves = (127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=-1)).astype(np.uint8)
    data = file_bytes(PIL.Image.fromarray(waves).convert(mode), "JPEG", quality=95, progressive=progressive)
    assert images._pixels(data, "face", images.Limits(), enough_px=2 * 96).shape == (325, 250, 3)
    quick, whole = images.face_tensor(data, 96), images.face_tensor(images.to_pixels(data), 96)
    assert (quick - whole).abs().max() < 0.02 and (quick - whole).abs().mean() < 0.004
    mine = PIL.Image.open(io.BytesIO(data))
    images.face_tensor(mine, 96)
    assert mine.size == (1000, 1300)


def test_a_jpeg_that_is_decoded_smaller_is_turned_as_its_orientation_says():
    left_dark = np.zeros((800, 800, 3), np.uint8)
    left_dark[:, 400:] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right: what was left is above
    face = images.face_tensor(file_bytes(left_dark, "JPEG", exif=exif), 32)
    assert face[:, :12].max() < 0.1 and face[:, 20:].min() > 0.9


def test_an_animation_that_is_cut_short_is_named():
    pictures = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(3)]
    file = io.BytesIO()
    first, *others = map(PIL.Image.fromarray, pictures)
    first.save(file, "gif", save_all=True, append_images=others)
    assert len(images.frames(file.getvalue())[0]) == 3
    with pytest.raises(InvalidImageError, match="truncated or damaged at frame"):
        images.frames(file.getvalue()[:-2000])

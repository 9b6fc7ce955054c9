"""Reading pictures, in the same way for training and inference, and writing them.

Whatever the format, pixels are returned as uint8 RGB, upright, with transparency on white.
"""

import contextlib
import functools
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from vitpose_jax.errors import UserError, first_line, short_errors
from vitpose_jax.files.formats import BEGINNING, RAW_SUFFIXES, format_of, kind_of, reads_heic
from vitpose_jax.files.writing import make_folder, replacing

ImageLike = np.ndarray | str | os.PathLike | Image.Image
"""What `load_image` reads; arrays may be anything that NumPy converts, such as JAX arrays."""

Pixels = UInt8[np.ndarray, "height width 3"]

_PILLOW_FORMATS = frozenset(
    {"AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"}
)
"""Formats that Pillow may open; others start programs (PostScript) or are only partly supported."""
_SEVERAL_PICTURES = frozenset({"AVIF", "GIF", "PNG", "TIFF", "WEBP"})
_BYTES_A_PIXEL = 8  # while decoding, at most
_STRIP = 2**20  # pixels converted at a time

# OpenCV's flags by reduction factor; it knows no IMREAD_REDUCED_RGB.
_JPEG_FLAGS = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
_JPEG_FLAGS |= {8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# The second bytes of markers, the first being 0xFF.
_JPEG_SCAN, _JPEG_FRAMES = 0xDA, frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@short_errors
def load_image(source: ImageLike) -> Pixels:
    """Read a picture.

    Files and PIL pictures are turned upright (EXIF), transparency is composited on white, 16-bit
    greys keep their high byte, and grey, palette and CMYK pictures become RGB. If a file holds
    several pictures, the first is used. Arrays must be RGB, grey or RGBA (alpha is ignored), and
    uint8 or uint16.

    Args:
        source: path, PIL picture, or array (height, width[, 1, 3 or 4]).

    Returns:
        A new array, even if `source` is an array.

    Raises:
        UserError: the file is missing, truncated, not a picture or larger than 178 million pixels,
            or the source has another shape or type.

    Example:
        >>> load_image("people.jpg").shape
        (240, 320, 3)
    """
    if isinstance(source, str | os.PathLike):
        return read_picture(source)[0]
    if isinstance(source, Image.Image):
        with _named("the PIL picture"), _explained():
            return _from_pil(source.copy())
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source))
    raise UserError(
        f"an image must be a path, a PIL picture or an array, not {type(source).__name__}"
    )


def read_picture(path: str | os.PathLike[str]) -> tuple[Pixels, str | None]:
    """Read a picture file as `load_image` does; also say whether it holds more pictures."""
    with _named(str(path)):
        if Path(path).suffix.lower() in RAW_SUFFIXES and kind_of(os.fspath(path)) is None:
            raise UserError("is a camera's raw file; develop it into a JPEG or PNG")
        data = _read(Path(path))
        if _plain_jpeg_size(data):
            return decode_image(data), None
        pixels = decode_image(data)
        with _explained(data), _opened(io.BytesIO(data)) as image:
            several = image.format in _SEVERAL_PICTURES and getattr(image, "is_animated", False)
    more = f"{path}: holds several pictures (an animation or pages); only the first is used"
    return pixels, more if several else None


def decode_image(data: bytes, image_wh: tuple[int, int] | None = None, factor: int = 1) -> Pixels:
    """Decode an image file, as `load_image` does.

    Args:
        data: the file's bytes.
        image_wh: the (width, height) that annotations give. If the picture only has that size
            when its EXIF orientation is ignored, it is ignored. None accepts any size.
        factor: decode a JPEG at 1, 1/2, 1/4 or 1/8 of its resolution (factor 1, 2, 4, 8), which is
            faster; other formats are decoded in full.

    Raises:
        UserError: not a picture, damaged, or of another size. The message omits the file's name.
    """
    pixels = None
    if size := _plain_jpeg_size(data):
        with PICTURE_MEMORY.claim_for(size):
            pixels = _decode_jpeg(data, image_wh, factor)
    if pixels is None:
        if not data:
            raise UserError("is empty; remove it or replace it")
        with (
            _explained(data),
            _opened(io.BytesIO(data)) as image,
            PICTURE_MEMORY.claim_for(image.size),
        ):
            pixels, factor = _from_pil(image, image_wh), 1
    height, width = pixels.shape[:2]
    if image_wh is not None and (width, height) != _reduced(image_wh, factor):
        raise UserError(f"is {width}x{height}, the annotations say {image_wh[0]}x{image_wh[1]}")
    return pixels


def picture_size(path: epath.PathLike) -> tuple[int, int]:
    """Return the (width, height) that a picture will have once decoded, from its header alone.

    Raises:
        UserError: the file is missing or not a picture.
    """
    with _named(str(path)), _explained():
        try:
            with epath.Path(path).open("rb") as file:
                return size_in_header(file)
        except FileNotFoundError:
            raise UserError("no such file") from None


def size_in_header(file: IO[bytes]) -> tuple[int, int]:
    """As `picture_size`, of an open file.

    Raises:
        UserError: it is not a picture. The message omits the file's name.
    """
    with _explained(), _opened(file) as image:
        width, height = image.size
        on_its_side = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
    return (height, width) if on_its_side else (width, height)


def reduction(shrink: float) -> int:
    """Return the largest factor for `decode_image` that leaves at least one pixel per crop pixel.

    Args:
        shrink: original pixels per crop pixel.
    """
    return max(factor for factor in _JPEG_FLAGS if factor <= max(shrink, 1.0))


def reduced_affine(factor: int) -> np.ndarray:
    """Map pixel centres of an image to those of the same image reduced by `factor`; (2, 3)."""
    offset = (1 / factor - 1) / 2
    return np.array([[1 / factor, 0, offset], [0, 1 / factor, offset]])


def free_at_once() -> None:
    """Have Pillow return the memory of large pictures to the system, for the whole process.

    Its default blocks of 16 MiB are small enough for the C library to keep them, for each thread.
    """
    Image.core.set_block_size(2**26)  # type: ignore[attr-defined]  # documented, yet untyped


class EncodingError(UserError):
    """A picture that its file format cannot hold, such as a JPEG of more than 65,535 pixels."""


def write_picture(path: Path, pixels: Pixels) -> None:
    """Write a picture in the format of the path's suffix; makes its folder too.

    Raises:
        UserError: it cannot be written.
        EncodingError: the format cannot hold it.
    """
    make_folder(path.parent)
    with replacing(path) as draft:
        try:
            Image.fromarray(pixels).save(draft, quality=90)
        except OSError as error:
            if error.errno is None:  # from the encoder, not the system
                raise EncodingError(f"{path}: the picture cannot be encoded ({error})") from None
            raise


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError("no such file") from None
    except IsADirectoryError:
        raise UserError("is a folder, not a picture") from None
    except OSError as error:
        raise UserError(f"cannot be read ({error.strerror})") from None


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


@contextlib.contextmanager
def _explained(data: bytes = b"") -> Iterator[None]:
    """Turn whatever Pillow raises into a one-line UserError without the picture's name."""
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError:
        kind, name = format_of(data)
        if kind == "image":
            raise UserError(
                f"is damaged or truncated (its {name} has no sound beginning); replace it"
            ) from None
        what = "is not a picture Pillow can read"
        what = f"is {name}, which is not read as a picture" if name else what
        raise UserError(f"{what}; remove it or convert it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"has more than {_most_pixels() / 1e6:.0f} million pixels; scale it down"
        ) from None
    except Exception as error:  # damaged files make Pillow's decoders raise anything
        raise UserError(f"is damaged or truncated ({first_line(error)}); replace it") from None


def _most_pixels() -> float:
    """Return Pillow's limit, a guard against decompression bombs."""
    return 2 * Image.MAX_IMAGE_PIXELS if Image.MAX_IMAGE_PIXELS else float("inf")


class PictureMemory:
    """Limits the bytes that all threads together use to decode pictures; one always fits."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used = limit, 0
        self._changed = threading.Condition()
        self._mine = threading.local()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Keep counting what this thread claims until the end of the block."""
        self._mine.size = 0
        try:
            yield
        finally:
            self._use(-self._mine.size)
            del self._mine.size

    @contextlib.contextmanager
    def claim_for(self, image_wh: tuple[int, int]) -> Iterator[None]:
        """Wait until a picture of this (width, height) may be decoded."""
        size = image_wh[0] * image_wh[1] * _BYTES_A_PIXEL
        mine = getattr(self._mine, "size", None)
        with self._changed:
            if not mine:  # a thread that holds a picture must not wait for itself
                self._changed.wait_for(lambda: not self._used or self._used + size <= self._limit)
            self._used += size
        if mine is not None:
            self._mine.size = mine + size
        try:
            yield
        finally:
            self._use(-size if mine is None else 0)

    def _use(self, size: int) -> None:
        with self._changed:
            self._used += size
            self._changed.notify_all()


PICTURE_MEMORY = PictureMemory(2**30)


def _opened(file: IO[bytes]) -> Image.Image:
    """Open a picture in a supported format, loading the HEIC plugin if needed."""
    begins = file.read(BEGINNING)
    file.seek(0)
    if format_of(begins)[1] == "HEIC":
        if not reads_heic():
            raise UserError('is HEIC: pip install "vitpose-jax[heic]", or convert it to JPEG')
        _register_heic()
    Image.init()
    return Image.open(file, formats=list(_PILLOW_FORMATS & Image.OPEN.keys()))


@functools.cache
def _register_heic() -> None:
    import pillow_heif

    pillow_heif.register_heif_opener(thumbnails=False)


def _plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a complete grey or RGB JPEG, which OpenCV reads exactly as Pillow does.

    OpenCV takes less than half the time, but does not reject truncated files. A file counts as
    truncated if there is no end marker after the start of the first scan; an embedded thumbnail
    comes before that and has its own end marker, and anything may follow the picture.
    """
    if data[:2] != _JPEG_START:
        return None
    at, channels, width, height = 2, 0, 0, 0
    while at + 9 < len(data) and data[at] == 0xFF and data[at + 1] != _JPEG_SCAN:
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        if data[at + 1] in _JPEG_FRAMES:
            height, width = (int.from_bytes(data[i : i + 2], "big") for i in (at + 5, at + 7))
            channels = data[at + 9]
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    plain = channels in (1, 3) and 0 < width * height <= _most_pixels()
    return (width, height) if plain and data.rfind(_JPEG_END, at) >= 0 else None


def _decode_jpeg(data: bytes, image_wh: tuple[int, int] | None, factor: int) -> Pixels | None:
    """Decode with OpenCV; None if that fails."""
    buffer, flags = np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | _JPEG_FLAGS[factor]
    try:
        pixels = cv2.imdecode(buffer, flags)
        if pixels is None or image_wh is None:
            return pixels
        if pixels.shape[1::-1] != _reduced(image_wh, factor):
            pixels = cv2.imdecode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return pixels


def _reduced(image_wh: tuple[int, int], factor: int) -> tuple[int, int]:
    return -(-int(image_wh[0]) // factor), -(-int(image_wh[1]) // factor)


def _from_pil(image: Image.Image, image_wh: tuple[int, int] | None = None) -> Pixels:
    """Convert a picture, modifying it; `image_wh` as for `decode_image`."""
    if 0 in image.size:
        raise UserError(f"has no pixels ({image.width} x {image.height})")
    image.load()
    _turn_upright(image, image_wh)
    rows = max(1, _STRIP // image.width)
    if rows >= image.height:
        return _to_rgb(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, rows):
        end = min(top + rows, image.height)
        pixels[top:end] = _to_rgb(image.crop((0, top, image.width, end)))
    return pixels


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # "I;16" and, from some decoders, "I"
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError("has 32 bits a pixel; convert it to 8 or 16 bits")
        return _from_array((grey >> 8).astype(np.uint8))
    if image.mode == "F":
        raise UserError("has floating-point pixels; convert it to 8 bits")
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        image = image if image.mode == "RGB" else image.convert("RGB")
    except ValueError:
        raise UserError(f"has pixels of mode {image.mode}; convert it to RGB") from None
    return _from_array(np.asarray(image))


def _turn_upright(image: Image.Image, image_wh: tuple[int, int] | None) -> None:
    """Apply the EXIF orientation, unless the picture has the size `image_wh` only without it."""
    with contextlib.suppress(Exception):  # a damaged EXIF block is no reason to reject the pixels
        on_its_side = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        fits = image_wh is not None and image.size == tuple(image_wh)
        if not (on_its_side and fits and image.width != image.height):
            ImageOps.exif_transpose(image, in_place=True)


def _from_array(array: np.ndarray) -> Pixels:
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    good = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not good or array.dtype != np.uint8 or 0 in array.shape:
        raise UserError(
            f"an image array must be uint8 RGB (height, width, 3), not {array.dtype} {array.shape}"
        )
    if array.ndim == 2 or array.shape[2] == 1:
        return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    return np.array(array[:, :, :3], order="C")

"""Reading pictures of every kind into one form: uint8 RGB, upright."""

import contextlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, replacing

ImageLike = np.ndarray | str | os.PathLike | Image.Image
"""What `load_image` reads; of arrays all kinds that NumPy takes, such as JAX's."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".jfif", ".avif", ".ppm"}
)

_JPEG_END = b"\xff\xd9"

# Pillow warns of pictures above 89 million pixels, which cameras make by now, and refuses those
# above twice that; the refusal is the guard against decompression bombs that we keep.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
# Damaged files are reported by the errors below, once and with their names.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


def load_image(source: ImageLike) -> np.ndarray:
    """Read a picture.

    Files and PIL pictures are turned upright (EXIF), transparency is laid on white, 16-bit greys
    keep their high byte, and grey, palette and CMYK pictures become RGB; of an animation the first
    frame is taken. Arrays are RGB (or grey, or RGBA, whose alpha is ignored), uint8 or uint16.

    Args:
        source: path, PIL picture, or array (height, width[, 1, 3 or 4]).

    Returns:
        uint8 (height, width, 3), RGB; a new array, also of an array.

    Raises:
        UserError: the file is missing, truncated, no picture or larger than 178 million pixels,
            or the source has another shape or type.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        with _explained(str(path)), Image.open(path) as image:
            pixels = _from_jpeg(image, path)
            return _from_pil(image, str(path)) if pixels is None else pixels
    if isinstance(source, Image.Image):
        with _explained("the PIL picture"):
            return _from_pil(source.copy(), "the PIL picture")
    if hasattr(source, "__array__"):
        return _from_array(np.asarray(source))
    raise UserError(
        f"an image must be a path, a PIL picture or an array, not {type(source).__name__}"
    )


class EncodingError(UserError):
    """A picture that its file format cannot hold, such as a JPEG of more than 65,535 pixels."""


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write a uint8 RGB (height, width, 3) picture in its suffix's format; makes its folder too.

    Raises:
        UserError: it cannot be written.
        EncodingError: the format cannot hold it.
    """
    make_folder(path.parent)
    with replacing(path) as draft:
        try:
            Image.fromarray(pixels).save(draft, quality=90)
        except OSError as error:
            if error.errno is None:  # the encoder's, not the system's
                raise EncodingError(f"{path}: the picture cannot be encoded ({error})") from None
            raise


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever Pillow raises as one line about the picture of that name."""
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, not a picture") from None
    except UnidentifiedImageError:
        what = "is empty" if os.path.getsize(name) == 0 else "is not a picture Pillow can read"
        raise UserError(f"{name}: {what}; remove it or convert it to JPEG or PNG") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{name}: has more than {2 * Image.MAX_IMAGE_PIXELS // 10**6} million pixels; "
            "scale it down"
        ) from None
    except Exception as error:  # damaged files make Pillow's decoders raise whatever there is
        if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decoder's
            raise UserError(f"{name}: cannot be read ({error.strerror})") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name}: is damaged or truncated ({reason}); replace it") from None


def _from_array(array: np.ndarray) -> np.ndarray:
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


def _from_jpeg(image: Image.Image, path: Path) -> np.ndarray | None:
    """The pixels of an opened file by OpenCV: Pillow's, in less than half its time.

    None where Pillow is to read it: other formats and colours, and what is cut short, of which
    OpenCV would give the part that is there.
    """
    if image.format != "JPEG" or image.mode != "RGB":
        return None
    data = np.fromfile(path, np.uint8)
    if data[-2:].tobytes() != _JPEG_END:
        return None
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def _upright(image: Image.Image) -> Image.Image:
    """The picture itself, turned as its EXIF block says."""
    with contextlib.suppress(Exception):  # a damaged EXIF block says nothing about the pixels
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _from_pil(image: Image.Image, name: str) -> np.ndarray:
    if 0 in image.size:
        raise UserError(f"{name}: has no pixels ({image.width} x {image.height})")
    image.load()
    image = _upright(image)
    if image.mode.startswith("I"):  # "I;16" and, from some decoders, "I"
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise UserError(f"{name}: has 32 bits a pixel; convert it to 8 or 16 bits")
        return _from_array((grey >> 8).astype(np.uint8))
    if image.mode == "F":
        raise UserError(f"{name}: has floating-point pixels; convert it to 8 bits")
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        return _from_array(np.asarray(image if image.mode == "RGB" else image.convert("RGB")))
    except ValueError:
        raise UserError(f"{name}: has pixels of mode {image.mode}; convert it to RGB") from None

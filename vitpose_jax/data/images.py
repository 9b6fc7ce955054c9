"""Decoding of image files with OpenCV."""

import cv2
import numpy as np

from vitpose_jax.data.people import BadImage

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_REDUCED |= {8: cv2.IMREAD_REDUCED_COLOR_8}
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_JPEG_SCAN = 0xDA  # the second byte of its marker; the first of all markers is 0xFF


def reduction(shrink: float) -> int:
    """The strongest JPEG reduction (1, 2, 4, 8) that leaves at least one pixel per crop pixel."""
    return max(factor for factor in (1, 2, 4, 8) if factor <= max(shrink, 1.0))


def decode_image(data: bytes, image_wh: tuple[int, int] | None, factor: int = 1) -> np.ndarray:
    """Decode an image file's bytes.

    Args:
        data: the file.
        image_wh: the size the annotations give; where the camera's orientation tag turns the image
            out of that size, the tag is ignored. None accepts any size.
        factor: decode at 1, 1/2, 1/4 or 1/8 of the resolution (a JPEG then costs less).

    Returns:
        uint8 (height, width, 3), blue, green, red.

    Raises:
        BadImage: not an image, cut short, or of another size.
    """
    if data[:2] == _JPEG_START and _is_cut_short(data):
        raise BadImage("the JPEG is cut short")
    buffer = np.frombuffer(data, np.uint8)
    flags = _REDUCED.get(factor, cv2.IMREAD_COLOR)
    pixels = _imdecode(buffer, flags)
    if image_wh is None:
        return pixels
    expected = tuple(-(-int(side) // factor) for side in image_wh[::-1])
    if pixels.shape[:2] != expected:
        pixels = _imdecode(buffer, flags | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels.shape[:2] != expected:
        if factor > 1:  # not every format is reduced with the same rounding
            return decode_image(data, image_wh)
        height, width = pixels.shape[:2]
        raise BadImage(f"it is {width}x{height}, the annotations say {image_wh[0]}x{image_wh[1]}")
    return pixels


def _is_cut_short(jpeg: bytes) -> bool:
    """Whether no end marker follows the first scan's start.

    A thumbnail before it has an end marker of its own; after the picture's, anything may come.
    """
    at = 2
    while at + 3 < len(jpeg) and jpeg[at] == 0xFF and jpeg[at + 1] != _JPEG_SCAN:
        filler = jpeg[at + 1] == 0xFF
        at += 1 if filler else 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return jpeg.rfind(_JPEG_END, at) < 0


def _imdecode(buffer: np.ndarray, flags: int) -> np.ndarray:
    try:
        pixels = cv2.imdecode(buffer, flags) if len(buffer) else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise BadImage("it cannot be decoded as an image")
    return pixels


def reduced_affine(factor: int) -> np.ndarray:
    """Pixel centres of an image to those of the same image reduced by `factor`; (2, 3)."""
    offset = (1 / factor - 1) / 2
    return np.array([[1 / factor, 0, offset], [0, 1 / factor, offset]])

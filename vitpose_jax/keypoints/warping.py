"""Cutting crops out of images on the host, with OpenCV."""

import contextlib
import math
import threading

import cv2
import numpy as np
from jaxtyping import Float, UInt8

MAX_WARP_SIDE = 32766
"""The largest image side for OpenCV's warp, which indexes its source with 16-bit integers."""
MAX_KEPT_BYTES = 2**24
"""The largest buffer that a thread keeps for its next crop."""
MAX_WIDENED_PIXELS = 2**20
"""For larger images, adding a fourth channel costs more than it saves with a few people."""

_buffers = threading.local()


class _SingleThread(contextlib.ContextDecorator):
    """Keeps OpenCV from using threads of its own while any thread is inside.

    Crops are cut by many threads or processes at once. OpenCV would split each crop among as many
    threads again: two thirds more processor time on two cores with 16 such threads. The setting
    holds for the whole process, so it is restored afterwards.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = self._before = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                cv2.setNumThreads(self._before)


_single_thread = _SingleThread()


@_single_thread
def warp_crop(
    image: UInt8[np.ndarray, "height width 3"],
    matrix: Float[np.ndarray, "2 3"],
    crop: UInt8[np.ndarray, "rows columns 3"],
) -> None:
    """Cut a crop out of an image, in place: bilinear, black outside the image.

    OpenCV 5 warps four channels more than twice as fast as three, with the same values. The part of
    the image that the crop does not show is cut off first (at whole pixels, so that values change
    by rounding at most).

    Args:
        image: the whole image.
        matrix: from image pixels to crop pixels.
        crop: filled in place.
    """
    part, matrix = _part_seen(image, matrix, crop.shape[:2])
    wide = _scratch("source", (*part.shape[:2], 4))
    cv2.cvtColor(part, cv2.COLOR_RGB2RGBA, dst=wide)
    warped = _scratch("crop", (*crop.shape[:2], 4))
    cv2.warpAffine(wide, matrix, crop.shape[1::-1], dst=warped, flags=cv2.INTER_LINEAR)
    cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=crop)


@_single_thread
def warp_crops(
    image: UInt8[np.ndarray, "height width 3"],
    matrices: Float[np.ndarray, "people 2 3"],
    crops: UInt8[np.ndarray, "people rows columns 3"],
) -> None:
    """Cut people out of one image, in place, with exactly the values of OpenCV's warp.

    So, unlike in `warp_crop`, the image is not cut first unless it is too large for OpenCV. The
    fourth channel is added once for all people.
    """
    if max(image.shape[:2]) > MAX_WARP_SIDE:
        for matrix, crop in zip(matrices, crops, strict=True):
            warp_crop(image, matrix, crop)
        return
    size, widened = crops.shape[2:0:-1], math.prod(image.shape[:2]) <= MAX_WIDENED_PIXELS
    if widened:
        source = cv2.cvtColor(
            image, cv2.COLOR_RGB2RGBA, dst=_scratch("source", (*image.shape[:2], 4))
        )
        warped = _scratch("crop", (*crops.shape[1:3], 4))
    for matrix, crop in zip(matrices, crops, strict=True):
        if widened:
            cv2.warpAffine(source, matrix, size, dst=warped, flags=cv2.INTER_LINEAR)
            cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, dst=crop)
        else:
            cv2.warpAffine(image, matrix, size, dst=crop, flags=cv2.INTER_LINEAR)


def _part_seen(
    image: np.ndarray, matrix: np.ndarray, crop_size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image that a crop shows, and the map from that part to the crop.

    A part that is too large for OpenCV's warp is reduced to every n-th pixel.
    """
    (a, b, tx), (c, d, ty) = matrix.tolist()
    (height, width), det = image.shape[:2], a * d - b * c
    corners = [
        ((d * u - b * v) / det, (a * v - c * u) / det)
        for u in (-1 - tx, crop_size[1] - tx)
        for v in (-1 - ty, crop_size[0] - ty)
    ]
    xs, ys = zip(*corners, strict=True)
    x0, x1 = max(0, int(min(xs)) - 2), min(width, int(max(xs)) + 3)
    y0, y1 = max(0, int(min(ys)) - 2), min(height, int(max(ys)) + 3)
    if x1 <= x0 or y1 <= y0:  # the crop lies outside the image
        return image[:1, :1], np.array([[1.0, 0, -9], [0, 1, -9]])
    step = -(-max(x1 - x0, y1 - y0) // MAX_WARP_SIDE)
    tx, ty = tx + a * x0 + b * y0, ty + c * x0 + d * y0
    moved = np.array([[a * step, b * step, tx], [c * step, d * step, ty]])
    return image[y0:y1:step, x0:x1:step], moved


def _scratch(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """This thread's buffer of that name; allocating new memory costs half as much as the warp."""
    size = math.prod(shape)
    if size > MAX_KEPT_BYTES:
        return np.empty(shape, np.uint8)
    buffer = getattr(_buffers, name, None)
    if buffer is None or buffer.size < size:
        buffer = np.empty(size, np.uint8)
        setattr(_buffers, name, buffer)
    return buffer[:size].reshape(shape)

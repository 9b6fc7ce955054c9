"""The host's part of an estimate: pictures read and people cut out by threads, a little ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import ImageLike, load_image
from vitpose_jax.inference.person import BoxesLike, as_boxes, box_problem
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.warping import warp_crops

BoxSource = BoxesLike | Callable[[np.ndarray], np.ndarray]
"""Boxes, or a function that finds them in the image (uint8 RGB), such as a detector."""

WORKERS = min(max(4, os.cpu_count() or 1), 16)


def _nothing() -> np.ndarray:
    return np.zeros(0)


@dataclass
class Item:
    """One image on its way through the batches.

    Attributes:
        image: uint8 RGB, if it is to be kept.
        image_wh: (width, height).
        boxes: (N, 5), see `as_boxes`.
        usable: bool (N,), those that show something: M.
        crops: uint8 (M, height, width, 3).
        center, scale: (M, 2), the crops' regions.
        error: why nothing could be got from it.
        rows: what the network says of the people so far, in the crops' order.
    """

    image: np.ndarray | None = None
    image_wh: tuple[int, int] = (0, 0)
    boxes: np.ndarray = field(default_factory=_nothing)
    usable: np.ndarray = field(default_factory=_nothing)
    crops: np.ndarray = field(default_factory=_nothing)
    center: np.ndarray = field(default_factory=_nothing)
    scale: np.ndarray = field(default_factory=_nothing)
    error: Exception | None = None
    rows: list[tuple[np.ndarray, ...]] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return len(self.rows) == len(self.crops)


def prepare_ahead(
    items: Iterable[tuple[ImageLike, BoxSource]], input_size: tuple[int, int], keep_images: bool
) -> Iterator[Item]:
    """The items in their order, read and cropped by threads that run a little ahead.

    Errors, also those of a function that finds boxes, come as items: their turn is after what was
    there before them.

    Args:
        items: images and boxes; taken in the caller's thread.
        input_size: (height, width) of the crops.
        keep_images: give every item its image.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="vitpose") as pool:
        ahead: deque[Future[Item]] = deque()
        try:
            for image, boxes in items:
                taken = _taken(image, boxes)
                ahead.append(pool.submit(_prepare, *taken, input_size, keep_images))
                if len(ahead) > 2 * WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _taken(
    image: ImageLike, boxes: BoxSource
) -> tuple[str | os.PathLike | np.ndarray | UserError, BoxSource]:
    """An item as threads may read it later: only files are left for them to open.

    By then the caller may have filled an array anew (one buffer for all frames of a video), and a
    PIL picture, which reads its file when it is first used, is no safe thing for two threads.
    """
    try:
        image = image if isinstance(image, str | os.PathLike) else load_image(image)
    except UserError as error:
        image = error
    return image, boxes.copy() if isinstance(boxes, np.ndarray) else boxes


def _prepare(
    image: str | os.PathLike | np.ndarray | UserError, boxes: BoxSource, *how: object
) -> Item:
    try:
        if isinstance(image, UserError):
            raise image
        return _cropped(image, boxes, *how)
    except Exception as error:
        return Item(error=error)


def _cropped(
    image: str | os.PathLike | np.ndarray,
    boxes: BoxSource,
    input_size: tuple[int, int],
    keep_image: bool,
) -> Item:
    pixels = image if isinstance(image, np.ndarray) else load_image(image)
    boxes = as_boxes(boxes(pixels) if callable(boxes) else boxes, pixels)
    wh = pixels.shape[1::-1]
    usable = np.array([box_problem(box, wh) is None for box in boxes], bool)
    center, scale = box_to_center_scale(boxes[usable, :4], input_size)
    crops = np.empty((len(center), *input_size, 3), np.uint8)
    warp_crops(pixels, udp_affine(center, scale, 0.0, input_size), crops)
    return Item(pixels if keep_image else None, wh, boxes, usable, crops, center, scale)

"""Work on the host: threads read images and crop people, a few images ahead of the device."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import PICTURE_MEMORY, ImageLike, load_image, read_picture
from vitpose_jax.inference.person import BoxesLike, as_boxes, box_problem
from vitpose_jax.keypoints.crops import box_to_center_scale, udp_affine
from vitpose_jax.keypoints.warping import warp_crops

BoxSource = BoxesLike | Callable[[np.ndarray], np.ndarray]
"""Boxes, or a function that finds them in the image (uint8 RGB), such as a detector."""

WORKERS = min(max(4, os.cpu_count() or 1), 16)


def _empty() -> np.ndarray:
    return np.zeros(0)


@dataclass
class Item:
    """One image on its way through the batches.

    Attributes:
        image: uint8 RGB, if kept.
        image_wh: (width, height).
        boxes: (N, 5), see `as_boxes`.
        usable: bool (N,), which boxes show part of the image; these M boxes have crops.
        crops: uint8 (M, height, width, 3).
        center, scale: (M, 2), the crops' regions.
        problem: what is wrong with the image, if it can be used all the same.
        error: why the image cannot be used.
        rows: the network's outputs so far, in the crops' order.
        batch_ends: whether its last person completes a batch, or no one before is in an incomplete
            one.
    """

    image: np.ndarray | None = None
    image_wh: tuple[int, int] = (0, 0)
    boxes: np.ndarray = field(default_factory=_empty)
    usable: np.ndarray = field(default_factory=_empty)
    crops: np.ndarray = field(default_factory=_empty)
    center: np.ndarray = field(default_factory=_empty)
    scale: np.ndarray = field(default_factory=_empty)
    problem: str | None = None
    error: Exception | None = None
    rows: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    batch_ends: bool = False

    @property
    def done(self) -> bool:
        """Whether the network has processed all of the image's people."""
        return len(self.rows) == len(self.crops)


def prepare_ahead(
    items: Iterable[tuple[ImageLike, BoxSource]], input_size: tuple[int, int], keep_images: bool
) -> Iterator[Item]:
    """Read and crop images in threads that run a few images ahead; yield them in order.

    Errors, including those of a function that finds boxes, are yielded as items, in order.

    `items` is consumed in the caller's thread; `input_size` is the crops' (height, width).
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="vitpose") as pool:
        ahead: deque[Future[Item]] = deque()
        try:
            for image, boxes in items:
                boxes = boxes.copy() if isinstance(boxes, np.ndarray) else boxes
                snapshot = snapshot_input(image)
                ahead.append(pool.submit(_prepare, snapshot, boxes, input_size, keep_images))
                if len(ahead) > 2 * WORKERS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def snapshot_input(image: ImageLike) -> str | os.PathLike[str] | np.ndarray | UserError:
    """An image in a form that a thread can safely read later: a file's path, or a copy.

    The caller may overwrite an array meanwhile (one buffer for all frames of a video), and a PIL
    picture, which reads its file on first use, is not safe to share between threads. For an
    unusable picture the error is returned, to be raised in order.
    """
    if isinstance(image, str | os.PathLike):
        return image
    try:
        return load_image(image)
    except UserError as error:
        return error


@PICTURE_MEMORY.kept()
def _prepare(
    image: str | os.PathLike[str] | np.ndarray | UserError,
    boxes: BoxSource,
    input_size: tuple[int, int],
    keep_image: bool,
) -> Item:
    try:
        if isinstance(image, UserError):
            raise image
        pixels, problem = (image, None) if isinstance(image, np.ndarray) else read_picture(image)
        found = as_boxes(boxes(pixels) if callable(boxes) else boxes, pixels)
        height, width = pixels.shape[:2]
        usable = np.array([box_problem(box, (width, height)) is None for box in found], bool)
        center, scale = box_to_center_scale(found[usable, :4], input_size)
        crops = np.empty((len(center), *input_size, 3), np.uint8)
        warp_crops(pixels, udp_affine(center, scale, 0.0, input_size), crops)
    except Exception as error:
        return Item(error=error)
    kept = pixels if keep_image else None
    return Item(kept, (width, height), found, usable, crops, center, scale, problem)

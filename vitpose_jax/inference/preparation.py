"""Work on the host: threads read images and crop people, a few images ahead of the device.

What waits is limited in bytes, not only in number: at most CROP_BYTES of crops for each image (the
rest are cut when their turn comes), images of at most KEPT_BYTES, and frames of AHEAD_BYTES.
"""

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
CROP_BYTES = 2**23
KEPT_BYTES = 2**23
"""Larger pictures are read again if they are needed again."""
AHEAD_BYTES = 2**28


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
        crops: uint8 (m, height, width, 3), the first m of the M crops.
        origin: the image, or the file, from which the others are cut.
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
    origin: "str | os.PathLike[str] | np.ndarray | None" = None
    center: np.ndarray = field(default_factory=_empty)
    scale: np.ndarray = field(default_factory=_empty)
    problem: str | None = None
    error: Exception | None = None
    rows: list[tuple[np.ndarray, ...]] = field(default_factory=list)
    batch_ends: bool = False

    @property
    def done(self) -> bool:
        """Whether the network has processed all of the image's people."""
        return self.error is not None or len(self.rows) == len(self.center)


def crop_parts(item: Item) -> Iterator[np.ndarray]:
    """All crops of an item, (m, height, width, 3) at a time; they are not kept.

    If its picture cannot be read again for the later ones, `error` is set.
    """
    first, origin = item.crops, item.origin
    item.crops, item.origin = _empty(), None
    yield first
    if origin is None:
        return
    with PICTURE_MEMORY.kept():
        try:
            image = origin if isinstance(origin, np.ndarray) else load_image(origin)
        except UserError as error:
            item.error = error
            return
        size, count = first.shape[1:3], len(first)
        for start in range(count, len(item.center), count):
            yield _cut(image, item.center[start : start + count], item.scale[start:], size)


def _cut(
    image: np.ndarray, center: np.ndarray, scale: np.ndarray, input_size: tuple[int, int]
) -> np.ndarray:
    crops = np.empty((len(center), *input_size, 3), np.uint8)
    warp_crops(image, udp_affine(center, scale[: len(center)], 0.0, input_size), crops)
    return crops


def prepare_ahead(
    items: Iterable[tuple[ImageLike, BoxSource]],
    input_size: tuple[int, int],
    keep_images: bool,
    largest_kept: int | None = None,
) -> Iterator[Item]:
    """Read and crop images in threads that run a few images ahead; yield them in order.

    Errors, including those of a function that finds boxes, are yielded as items, in order.

    `items` is consumed in the caller's thread; `input_size` is the crops' (height, width). Images
    of files are not kept if they have more than `largest_kept` bytes.
    """
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="vitpose") as pool:
        ahead: deque[tuple[Future[Item], int]] = deque()
        held = 0
        try:
            for image, boxes in items:
                boxes = boxes.copy() if isinstance(boxes, np.ndarray) else boxes
                snapshot = snapshot_input(image)
                size = snapshot.nbytes if isinstance(snapshot, np.ndarray) else 0
                keep = keep_images, largest_kept
                ahead.append((pool.submit(_prepare, snapshot, boxes, input_size, *keep), size))
                held += size
                while len(ahead) > 2 * WORKERS or (held > AHEAD_BYTES and len(ahead) > 1):
                    future, size = ahead.popleft()
                    held -= size
                    yield future.result()
            while ahead:
                yield ahead.popleft()[0].result()
        finally:
            for future, _ in ahead:
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
    largest_kept: int | None,
) -> Item:
    try:
        if isinstance(image, UserError):
            raise image
        pixels, problem = (image, None) if isinstance(image, np.ndarray) else read_picture(image)
        found = as_boxes(boxes(pixels) if callable(boxes) else boxes, pixels)
        height, width = pixels.shape[:2]
        usable = np.array([box_problem(box, (width, height)) is None for box in found], bool)
        center, scale = box_to_center_scale(found[usable, :4], input_size)
        count = max(1, CROP_BYTES // (3 * input_size[0] * input_size[1]))
        crops = _cut(pixels, center[:count], scale[:count], input_size)
    except Exception as error:
        return Item(error=error)
    if pixels is not image and largest_kept is not None and pixels.nbytes > largest_kept:
        keep_image = False
    origin = None
    if len(center) > count:
        origin = image if pixels.nbytes > KEPT_BYTES else pixels
    kept = pixels if keep_image else None
    return Item(kept, (width, height), found, usable, crops, origin, center, scale, problem)

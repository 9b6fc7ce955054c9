"""Image files of a folder, decoded with OpenCV, and the count of those that cannot be."""

import logging
import threading
from collections.abc import Sequence

import cv2
import numpy as np
from etils import epath

from vitpose_jax.data.people import BadImage, People, Picture
from vitpose_jax.data.tolerance import too_many
from vitpose_jax.errors import UserError

log = logging.getLogger(__name__)

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


class FolderImages:
    """The images of a folder, by row."""

    def __init__(self, folder: epath.PathLike, file_names: Sequence[str]):
        self._folder = epath.Path(folder)
        self._prefix = str(folder).rstrip("/")
        self._local = "://" not in self._prefix
        self._file_names = tuple(file_names)

    def missing(self) -> np.ndarray:
        """Bool (M,): which files are not there (one listing per folder, no file is opened)."""
        present: dict[str, set[str]] = {}
        absent = np.zeros(len(self._file_names), bool)
        for row, name in enumerate(self._file_names):
            parent, _, base = name.rpartition("/")
            if parent not in present:
                folder = self._folder / parent
                present[parent] = {p.name for p in folder.iterdir()} if folder.exists() else set()
            absent[row] = base not in present[parent]
        return absent

    def path(self, row: int) -> str:
        """Where image `row` lies."""
        return f"{self._prefix}/{self._file_names[row]}"

    def read(self, row: int) -> bytes:
        """The file's bytes.

        Raises:
            BadImage: it cannot be read.
        """
        path = self.path(row)
        try:
            if self._local:
                with open(path, "rb") as file:
                    return file.read()
            return epath.Path(path).read_bytes()
        except OSError as error:
            raise BadImage(f"{path}: {error.strerror or error}") from None

    def load(self, people: People, row: int, shrink: float) -> Picture:
        """See `ImageSource.load`."""
        image = int(people.image_row[row])
        factor = reduction(shrink)
        data = self.read(image)
        try:
            pixels = decode_image(data, people.image_wh[row], factor)
        except BadImage as error:
            raise BadImage(f"{self.path(image)}: {error}") from None
        if factor == 1 or pixels.shape[1] == people.image_wh[row][0]:
            return Picture(pixels)
        return Picture(pixels, reduced_affine(factor))


class BadImageCount:
    """Names each unreadable image once, and gives up when there are too many.

    Every worker process counts for itself.
    """

    def __init__(self, num_images: int, max_bad_share: float):
        self._num_images, self._max_bad_share = num_images, max_bad_share
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, problem: str) -> None:
        """Note an unreadable image.

        Raises:
            UserError: more images are bad than the data set may have; from then on, at every one
                (threads prepare batches ahead, and each must learn of it).
        """
        with self._lock:
            is_new = problem not in self._seen
            self._seen.add(problem)
            count = len(self._seen)
        if is_new:
            log.warning("skipped image (%d so far): %s", count, problem)
        if too_many(count, self._num_images, self._max_bad_share):
            raise UserError(
                f"{count} of {self._num_images} images cannot be used (at most "
                f"{self._max_bad_share:.0%} are skipped); one of them: {problem}"
            )

    def __getstate__(self) -> dict:
        state = self.__dict__.copy()
        del state["_lock"]
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

"""COCO annotations and a folder of images as a pose data set."""

import logging
from collections.abc import Sequence

import numpy as np
from etils import epath

from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.layouts import COCO_HELP, CocoFiles
from vitpose_jax.data.people import BadImage, People, Picture
from vitpose_jax.data.tolerance import too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import decode_image, reduced_affine, reduction

log = logging.getLogger(__name__)


class FolderImages:
    """The images of a folder, by row."""

    def __init__(self, folder: epath.PathLike, file_names: Sequence[str]) -> None:
        self._folder = epath.Path(folder)
        self._prefix = str(folder).rstrip("/")
        self._local = "://" not in self._prefix
        self._file_names = tuple(file_names)

    def missing(self) -> np.ndarray:
        """Bool (M,), which files are not there; lists each folder once and opens no file."""
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
        """The path of image `row`."""
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
        data, factor = self.read(image), reduction(shrink)
        width, height = people.image_wh[row].tolist()
        try:
            pixels = decode_image(data, (width, height), factor)
        except UserError as error:
            raise BadImage(f"{self.path(image)}: {error}") from None
        if factor == 1 or pixels.shape[1] == width:
            return Picture(pixels)
        return Picture(pixels, reduced_affine(factor))


def open_coco(
    files: CocoFiles,
    split: str,
    input_size: tuple[int, int],
    max_bad_share: float,
    category: str = "",
) -> PoseDataset:
    """Open annotations in COCO's layout; see `open_pose_dataset`."""
    annotations = read_annotations(
        files.annotations, max_bad_share=max_bad_share, category=category
    )
    image_folder = files.image_folder(annotations.file_names)
    report = annotations.report
    log.log(logging.WARNING if report.is_unusual else logging.INFO, "%s", report.summary())
    images = FolderImages(image_folder, annotations.file_names)
    missing = images.missing()
    if missing.any():
        first = images.path(int(np.argmax(missing)))
        words = f"{missing.sum()} of {len(missing)} images are missing, the first is {first}"
        if too_many(int(missing.sum()), len(missing), max_bad_share):
            raise UserError(f"{words}; at most {max_bad_share:.0%} are skipped. {COCO_HELP}")
        log.warning("%s; the people on them are skipped", words)
    entries = annotations.coco["images"]
    return PoseDataset(
        name=str(files.annotations),
        split=split,
        skeleton=annotations.skeleton,
        input_size=input_size,
        load_people=lambda: annotations.people.take(~missing[annotations.people.image_row]),
        images=images,
        image_ids=np.array([image["id"] for image in entries], np.int64),
        load_image_wh=lambda: np.array([(i["width"], i["height"]) for i in entries], np.int32),
        load_coco=lambda: annotations.coco,
        max_bad_share=max_bad_share,
        file_names=annotations.file_names,
        sources=(str(files.annotations),),
    )

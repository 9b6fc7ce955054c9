"""COCO annotations and a folder of images as a pose data set."""

import logging
from collections.abc import Sequence

import numpy as np
from etils import epath

from vitpose_jax.data import findings
from vitpose_jax.data.coco.annotations import Annotations, read_annotations
from vitpose_jax.data.coco.picture_files import PictureFiles
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.layouts import COCO_HELP, PATHS_HELP, CocoFiles, Options
from vitpose_jax.data.people import BadImage, People, Picture
from vitpose_jax.data.tolerance import too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import decode_image, picture_size, reduced_affine, reduction

log = logging.getLogger(__name__)


class FolderImages:
    """The images of a folder, by row."""

    def __init__(self, folder: epath.PathLike, file_names: Sequence[str]) -> None:
        self._folder = epath.Path(folder)
        self._prefix = str(folder).rstrip("/")
        self._local = "://" not in self._prefix
        self._file_names = tuple(file_names)
        self.respelled: dict[str, str] = {}

    def missing(self) -> np.ndarray:
        """Which files are missing, bool (M,); lists each folder once and opens no file.

        Files found under another spelling are used, and recorded in `respelled`.
        """
        present: dict[str, set[str]] = {}
        absent = np.zeros(len(self._file_names), bool)
        for row, name in enumerate(self._file_names):
            parent, _, base = name.rpartition("/")
            if parent not in present:
                folder = self._folder / parent
                there = folder.exists() and folder.is_dir()
                present[parent] = {p.name for p in folder.iterdir()} if there else set()
            absent[row] = base not in present[parent]
        if absent.any():
            pairs = list(zip(self._file_names, absent.tolist(), strict=True))
            self.respelled = PictureFiles(self._folder).respelled(
                [name for name, is_absent in pairs if is_absent],
                {name for name, is_absent in pairs if not is_absent},
            )
            absent &= np.array([name not in self.respelled for name in self._file_names])
            self._file_names = tuple(self.respelled.get(name, name) for name in self._file_names)
        return absent

    def nearest(self, row: int) -> str:
        """A phrase for messages: the file with the name most like a missing one's, if any."""
        files = PictureFiles(self._folder)
        found = files.nearest(self._file_names[row])
        if found:
            return f"the most similar name there is {found}"
        return f"{self._prefix} holds {len(files.paths)} files, none with a similar name"

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


def warn_of_shared_images(train: PoseDataset, val: PoseDataset) -> None:
    """Warn of image files that both splits have people on."""
    paths = []
    for dataset in (train, val):
        if not isinstance(dataset.images, FolderImages):
            return
        rows = np.unique(dataset.people.image_row).tolist()
        paths.append({dataset.images.path(row) for row in rows})
    if shared := sorted(paths[0] & paths[1]):
        log.warning(
            "%d of the %d images to evaluate on are also trained on, for instance %s: the results "
            "will be better than on new images",
            *(len(shared), len(paths[1]), shared[0]),
        )


def open_coco(files: CocoFiles, options: Options) -> PoseDataset:
    """Open annotations in COCO's layout; see `open_pose_dataset`."""

    def size(name: str) -> tuple[int, int]:
        return picture_size(files.image_folder([name]) / name)

    annotations = read_annotations(
        files.annotations,
        max_bad_share=options.max_bad_share,
        category=options.category,
        picture_size=size,
    )
    folder = files.image_folder(annotations.file_names)
    dataset = as_dataset(annotations, folder, options, sources=(str(files.annotations),))
    dataset.divided = files.has_split
    return dataset


def as_dataset(
    annotations: Annotations,
    folder: epath.PathLike | None,
    options: Options,
    sources: tuple[str, ...],
) -> PoseDataset:
    """The people whose images are present, as a data set; without a folder, all people.

    Raises:
        UserError: too many images are missing.
    """
    report, limit = annotations.report, options.max_bad_share
    images = FolderImages(folder or "", annotations.file_names)
    missing = images.missing() if folder else np.zeros(len(annotations.file_names), bool)
    for name, found in images.respelled.items():
        report.add(findings.RENAMED_FILE, f"{name}: {found}")
    for row in np.flatnonzero(missing).tolist():
        report.add(findings.NO_PICTURE, images.path(row))
    report.num_used = int(np.count_nonzero(~missing[annotations.people.image_row]))
    if too_many(int(missing.sum()), len(missing), limit):
        first = int(np.argmax(missing))
        allowed = "" if missing.all() else f"; at most {limit:.0%} are skipped"
        is_coco = "2017" in sources[0] and not missing.all()
        raise UserError(
            f"{missing.sum()} of {len(missing)} images are missing, the first is "
            f"{images.path(first)} ({images.nearest(first)}){allowed}. "
            f"{COCO_HELP if is_coco else PATHS_HELP}"
        )
    entries = annotations.coco["images"]
    return PoseDataset(
        name=sources[0],
        split=options.split,
        skeleton=annotations.skeleton,
        input_size=options.input_size,
        load_people=lambda: annotations.people.take(~missing[annotations.people.image_row]),
        images=images,
        image_ids=np.array([image["id"] for image in entries], np.int64),
        load_image_wh=lambda: np.array([(i["width"], i["height"]) for i in entries], np.int32),
        load_coco=lambda: annotations.coco,
        max_bad_share=limit,
        file_names=annotations.file_names,
        sources=sources,
        categories=tuple(str(category.get("name")) for category in annotations.coco["categories"]),
        report=report,
    )

"""Opening a pose data set by name or path."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.data.coco.detections import read_detections
from vitpose_jax.data.images import BadImageCount, FolderImages
from vitpose_jax.data.people import ImageSource, People
from vitpose_jax.data.samples import PersonCrops
from vitpose_jax.data.tolerance import MAX_BAD_SHARE, too_many
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.skeletons import Skeleton

log = logging.getLogger(__name__)

SPLITS = ("train", "val")

RECORDS_FOLDER, RECORDS_FINISHED = "coco_keypoints", "prepared.json"
"""What `vitpose prepare` writes first and last."""

SYNTHETIC = {"synthetic": "some", "synthetic-crowd": "crowd", "synthetic-solo": "solo"}
"""Names of rendered data sets, and who is together there: see `synthetic_scene.render_scene`."""

COCO_HELP = (
    "COCO 2017 is fetched with: wget http://images.cocodataset.org/zips/{train2017,val2017}.zip "
    "http://images.cocodataset.org/annotations/annotations_trainval2017.zip, unpacked into one "
    "folder; or set COCO_DIR to that folder; or use the data set 'synthetic', which needs no files"
)


@dataclass
class PoseDataset:
    """People with keypoints, and the images they are on.

    Attributes:
        name: as it was opened.
        split: "train" or "val".
        skeleton: what is annotated.
        input_size: (height, width) of the crops.
        load_people: gives the table of people.
        images: where the pictures come from.
        image_ids: int64 (M,), ids of all images, also of those without people.
        load_image_wh: gives int32 (M, 2), their sizes.
        load_coco: gives the annotations as a COCO dict.
        max_bad_share: the largest share of images that may be unreadable.
        dataset_index: which expert of a mixture-of-experts model the people belong to.
        boxes_are_free: whether crops can be taken anywhere on the images (not so from records).
    """

    name: str
    split: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    load_people: Callable[[], People] = field(repr=False)
    images: ImageSource
    image_ids: np.ndarray = field(repr=False)
    load_image_wh: Callable[[], np.ndarray] = field(repr=False)
    load_coco: Callable[[], dict[str, Any]] = field(repr=False)
    max_bad_share: float = MAX_BAD_SHARE
    dataset_index: int = 0
    boxes_are_free: bool = True

    def __len__(self) -> int:
        return len(self.people)

    @cached_property
    def people(self) -> People:
        """Everybody, one row per sample."""
        return self.load_people()

    @cached_property
    def coco_gt(self) -> dict[str, Any]:
        """The annotations as a COCO dict, to evaluate against."""
        return self.load_coco()

    @property
    def image_id_of_rows(self) -> np.ndarray:
        """int64 (len,): which image each row, the unit of training, is on."""
        return self.people.image_id

    @cached_property
    def bad_images(self) -> BadImageCount:
        """Images that could not be read so far (in this process)."""
        return BadImageCount(len(self.image_ids), self.max_bad_share)

    def training_crops(self) -> PersonCrops:
        """What makes training samples of the rows."""
        return self.crops()

    def crops(self) -> PersonCrops:
        """What makes samples of the people."""
        return PersonCrops(
            self.people,
            self.images,
            self.skeleton,
            self.input_size,
            self.bad_images,
            self.dataset_index,
        )

    def people_from_detections(self, path: epath.PathLike, min_score: float = 0.0) -> People:
        """A detector's boxes in place of the annotated ones (see `read_detections`).

        Raises:
            UserError: also where the data set holds crops of the annotated boxes only.
        """
        if not self.boxes_are_free:
            raise UserError(
                f"{self.name} holds crops around annotated boxes only; "
                "evaluate on detections with the COCO folder it was made from"
            )
        categories = keypoint_categories(self.coco_gt["categories"], self.name)
        return read_detections(
            path,
            self.image_ids,
            self.load_image_wh(),
            self.skeleton.num_keypoints,
            min_score,
            [category["id"] for category in categories],
        )


def open_pose_dataset(
    name_or_path: str,
    split: str,
    *,
    input_size: tuple[int, int] = (256, 192),
    dataset_index: int = 0,
    max_bad_share: float = MAX_BAD_SHARE,
) -> PoseDataset:
    """Open a data set.

    Args:
        name_or_path: one of `SYNTHETIC` (rendered, nothing on disk), "coco" (the
            folder $COCO_DIR, else ./data/coco), the path of a folder in COCO's layout
            (annotations/person_keypoints_<split>2017.json, <split>2017/), or that of a folder
            written by `vitpose prepare`. Paths may be on `gs://`.
        split: "train" or "val".
        input_size: (height, width) of the crops.
        dataset_index: which expert of a mixture-of-experts model the people belong to.
        max_bad_share: the largest share of malformed annotations, and of missing or unreadable
            images, that is skipped (one or two are always, unless it is 0).

    Raises:
        UserError: nothing there, or not usable; says what to do.
    """
    if split not in SPLITS:
        raise UserError(f"the split is 'train' or 'val', not {split!r}")
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share is {max_bad_share}; it is a share, from 0 to 1")
    if name_or_path in SYNTHETIC:
        from vitpose_jax.data.synthetic.dataset import open_synthetic

        dataset = open_synthetic(name_or_path, split, input_size)
    else:
        if name_or_path == "coco":
            folder = epath.Path(os.environ.get("COCO_DIR", "data/coco"))
        else:
            folder = epath.Path(name_or_path).expanduser()
        if not folder.exists():
            raise UserError(f"there is no data set at {folder}. {COCO_HELP}")
        if (folder / RECORDS_FINISHED).exists() or (folder / RECORDS_FOLDER).exists():
            dataset = open_records(folder, split, input_size, max_bad_share)
        else:
            dataset = open_coco_folder(folder, split, input_size, max_bad_share)
        dataset.name = name_or_path
    dataset.dataset_index = dataset_index
    return dataset


def open_coco_folder(
    folder: epath.Path, split: str, input_size: tuple[int, int], max_bad_share: float
) -> PoseDataset:
    """Open a folder in COCO's layout; see `open_pose_dataset`."""
    annotation_file = folder / "annotations" / f"person_keypoints_{split}2017.json"
    image_folder = folder / f"{split}2017"
    for needed in (annotation_file, image_folder):
        if not needed.exists():
            raise UserError(f"{folder} is not in COCO's layout: {needed} is missing. {COCO_HELP}")
    annotations = read_annotations(annotation_file, max_bad_share=max_bad_share)
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
        name=str(folder),
        split=split,
        skeleton=annotations.skeleton,
        input_size=input_size,
        load_people=lambda: annotations.people.take(~missing[annotations.people.image_row]),
        images=images,
        image_ids=np.array([image["id"] for image in entries], np.int64),
        load_image_wh=lambda: np.array([(i["width"], i["height"]) for i in entries], np.int32),
        load_coco=lambda: annotations.coco,
        max_bad_share=max_bad_share,
    )


def open_records(
    folder: epath.Path, split: str, input_size: tuple[int, int], max_bad_share: float
) -> PoseDataset:
    """Open a folder written by `vitpose prepare`; see `open_pose_dataset`."""
    from vitpose_jax.data.records.reading import Records  # tensorflow-datasets takes its time

    records = Records(folder, split)
    people, images, image_ids, image_wh = records.read()
    if input_size[0] > records.input_size[0] or input_size[1] > records.input_size[1]:
        log.warning(
            "%s was prepared for crops of %dx%d; crops of %dx%d will be less sharp than from the "
            "images themselves",
            *(folder, *records.input_size, *input_size),
        )
    log.info("%s: %d people on %d images", folder, len(people), len(image_ids))
    return PoseDataset(
        name=str(folder),
        split=split,
        skeleton=records.skeleton,
        input_size=input_size,
        load_people=lambda: people,
        images=images,
        image_ids=image_ids,
        load_image_wh=lambda: image_wh,
        load_coco=lambda: read_json(folder / f"annotations_{split}.json"),
        max_bad_share=max_bad_share,
        boxes_are_free=False,
    )

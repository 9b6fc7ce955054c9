"""ArrayRecord person crops written by `vitpose prepare`: the layout, and reading them.

A folder of records holds a tensorflow-datasets data set (`coco_keypoints/<version>/`, readable with
`tfds.builder_from_directory(...).as_data_source(split)`), and beside it what is needed before the
first pixel: per split `people_<split>.npz` (the table; row i is record i) and
`annotations_<split>.json` (the COCO dict without segmentations). `prepared.json` is written last:
a folder without it is unfinished. Everything is read without TensorFlow.
"""

from functools import cached_property
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example

from vitpose_jax.data.coco.categories import skeleton_from_category
from vitpose_jax.data.datasets import RECORDS_FINISHED, RECORDS_FOLDER
from vitpose_jax.data.images import decode_image, reduced_affine, reduction
from vitpose_jax.data.people import BadImage, People, Picture
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_object
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale
from vitpose_jax.keypoints.skeletons import Skeleton

FORMAT = 1

# How far from the box training may look: scale 1.5 turned by any angle, and a shift of 0.2 boxes.
TRAIN_REACH, TRAIN_SHIFT = 1.5, 0.2
PIXELS_PER_CROP_PIXEL = 1.25
"""Crops for training are stored at most this much finer than the network sees them at scale 1."""
TRAIN_QUALITY, VAL_QUALITY = 85, 95
"""JPEG quality."""


def stored_region(
    box: np.ndarray, image_wh: np.ndarray, input_size: tuple[int, int], split: str
) -> tuple[tuple[int, int, int, int], float]:
    """Which part of an image a person's record holds, and how finely.

    Args:
        box: (4,), cleaned.
        image_wh: (2,).
        input_size: (height, width) of the crops to be cut from the record.
        split: "train" leaves room for the augmentation; "val" holds the crop itself, unreduced.

    Returns:
        (x0, y0, x1, y1), whole image pixels, x1 and y1 excluded; and the factor (>= 1) by which it
        is to be reduced.
    """
    center, scale = box_to_center_scale(box, input_size)
    size = scale.astype(np.float64) * PIXEL_STD
    if split == "train":
        half = TRAIN_REACH * np.hypot(*size) / 2 + TRAIN_SHIFT * np.asarray(box[2:], np.float64)
        factor = max(1.0, size[0] / (input_size[1] * PIXELS_PER_CROP_PIXEL))
    else:
        half, factor = size / 2, 1.0
    low = np.clip(np.floor(center - half) - 2, 0, image_wh - 1).astype(int)
    high = np.clip(np.ceil(center + half) + 3, low + 1, image_wh).astype(int)
    return (int(low[0]), int(low[1]), int(high[0]), int(high[1])), float(factor)


class RecordImages:
    """The pictures of one split's records, by row of the table."""

    def __init__(self, paths: list[str], from_image: np.ndarray):
        self._paths = paths
        self._from_image = from_image

    @cached_property
    def _source(self) -> grain.sources.ArrayRecordDataSource:
        return grain.sources.ArrayRecordDataSource(self._paths)

    def __len__(self) -> int:
        return len(self._source)

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_from_image": self._from_image}

    def load(self, people: People, row: int, shrink: float) -> Picture:
        """See `ImageSource.load`."""
        stored = self._from_image[row]
        factor = reduction(shrink * stored[0, 0])
        try:
            example = tf_example.Example.FromString(self._source[row])
            jpeg = example.features.feature["image"].bytes_list.value[0]
            pixels = decode_image(jpeg, None, factor)
        except (BadImage, IndexError, ValueError, RuntimeError) as error:
            raise BadImage(f"record {row} of {self._paths[0]}: {error}") from None
        if factor > 1:
            stored = reduced_affine(factor)[:, :2] @ stored
            stored[:, 2] += reduced_affine(factor)[:, 2]
        return Picture(pixels, stored)


def read_marker(folder: epath.Path) -> dict[str, Any]:
    """The `prepared.json` of a finished folder: format, source, input_size, splits, category.

    Raises:
        UserError: damaged, or of another version.
    """
    try:
        marker = read_object(folder / RECORDS_FINISHED)
    except UserError as error:
        raise _damaged(folder, error) from None
    if marker.get("format") != FORMAT:
        raise UserError(f"{folder} was prepared by another version: remove it and prepare it again")
    for key in ("source", "input_size", "splits", "category"):
        if key not in marker:
            raise _damaged(folder, f"{RECORDS_FINISHED} has no '{key}'")
    return marker


def _damaged(folder: epath.Path, what: object) -> UserError:
    return UserError(f"{folder} is damaged ({what}): remove it and prepare it again")


class Records:
    """One split of a prepared folder."""

    def __init__(self, folder: epath.Path, split: str):
        """Read what comes before the pixels.

        Raises:
            UserError: unfinished, of another version, damaged, or without that split.
        """
        self.folder, self.split = folder, split
        if not (folder / RECORDS_FINISHED).exists():
            raise UserError(f"{folder} is unfinished: run the same `vitpose prepare` again")
        marker = read_marker(folder)
        if split not in marker["splits"]:
            raise UserError(
                f"{folder} has no split '{split}', only {', '.join(sorted(marker['splits']))}"
            )
        self.input_size = tuple(marker["input_size"])
        self._category = marker["category"]
        self._count = marker["splits"][split]

    @cached_property
    def skeleton(self) -> Skeleton:
        """What is annotated."""
        return skeleton_from_category(self._category, str(self.folder))

    def read(self) -> tuple[People, RecordImages, np.ndarray, np.ndarray]:
        """The table, the pictures, and all images' ids (M,) and sizes (M, 2).

        Raises:
            UserError: files are missing or do not belong together.
        """
        place = self.folder / f"people_{self.split}.npz"
        try:
            with place.open("rb") as file, np.load(file, allow_pickle=False) as columns:
                table = dict(columns)
            image_ids, image_wh = table.pop("image_ids"), table.pop("image_sizes")
            from_image = table.pop("from_image")
            people = People(**table)
            place = self.folder / RECORDS_FOLDER
            (version,) = (path for path in place.iterdir() if not path.name.startswith("."))
            info = tfds.builder_from_directory(version).info.splits[self.split]
        except Exception as error:  # numpy, zipfile, zlib and protobuf raise many kinds
            raise _damaged(self.folder, f"{place.name}: {error}") from None
        if not len(people) == len(from_image) == info.num_examples == self._count:
            raise _damaged(
                self.folder,
                f"{len(people)} people, {info.num_examples} records, {self._count} expected",
            )
        images = RecordImages([str(path) for path in info.filepaths], from_image)
        return people, images, image_ids, image_wh

"""Reading a folder of ArrayRecord person crops as a pose data set."""

import logging
from functools import cached_property
from typing import Any

import grain
import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from tensorflow_datasets.proto import tf_example_generated_pb2 as tf_example

from vitpose_jax.data.coco.categories import skeleton_from_category
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.findings import SOURCE_CHANGED, Finding, Report
from vitpose_jax.data.layouts import NoSplit, Options
from vitpose_jax.data.people import BadImage, People, Picture
from vitpose_jax.data.records.layout import RECORDS_FOLDER, Marker, damaged, has_changed
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.files.pictures import decode_image, reduced_affine, reduction

log = logging.getLogger(__name__)


class RecordImages:
    """The pictures of one split's records, by row of the table."""

    def __init__(self, paths: list[str], from_image: np.ndarray) -> None:
        self._paths = paths
        self._from_image = from_image

    @cached_property
    def _source(self) -> grain.sources.ArrayRecordDataSource:
        return grain.sources.ArrayRecordDataSource(self._paths)

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
        except (UserError, IndexError, ValueError, RuntimeError) as error:
            raise BadImage(f"record {row} of {self._paths[0]}: {error}") from None
        if factor > 1:
            stored = reduced_affine(factor)[:, :2] @ stored
            stored[:, 2] += reduced_affine(factor)[:, 2]
        return Picture(pixels, stored)


def open_records(folder: epath.Path, options: Options) -> PoseDataset:
    """Open a folder written by `vitpose prepare`; see `open_pose_dataset`.

    Raises:
        UserError: the folder is unfinished, damaged, of another version, or lacks the split.
    """
    marker, split, input_size = Marker.read(folder), options.split, options.input_size
    if split not in marker.splits:
        raise NoSplit(f"{folder} has no split '{split}', only {', '.join(sorted(marker.splits))}")
    people, images, image_ids, image_wh = _read_table(folder, split, marker.splits[split])
    if input_size[0] > marker.input_size[0] or input_size[1] > marker.input_size[1]:
        log.warning(
            "%s was prepared for crops of %dx%d; crops of %dx%d will be less sharp than those cut "
            "from the original images",
            *(folder, *marker.input_size, *input_size),
        )
    skeleton, found = skeleton_from_category(marker.category, str(folder))
    if has_changed(marker.sources.get(split, {})):
        found.append(Finding(SOURCE_CHANGED, f"{folder} from {marker.source}"))
    count = len(people)
    return PoseDataset(
        name=str(folder),
        split=split,
        skeleton=skeleton,
        input_size=input_size,
        load_people=lambda: people,
        images=images,
        image_ids=image_ids,
        load_image_wh=lambda: image_wh,
        load_coco=lambda: read_json(folder / f"annotations_{split}.json"),
        max_bad_share=options.max_bad_share,
        has_whole_images=False,
        categories=(str(marker.category.get("name")),),
        report=Report(str(folder), count, len(image_ids), count, found),
    )


def _read_table(
    folder: epath.Path, split: str, count: int
) -> tuple[People, RecordImages, np.ndarray, np.ndarray]:
    """The `count` people of a split, their pictures, and all images' ids (M,) and sizes (M, 2)."""
    place = folder / f"people_{split}.npz"
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as columns:
            table = dict(columns)
        image_ids, image_wh = table.pop("image_ids"), table.pop("image_sizes")
        from_image = table.pop("from_image")
        people = People(**table)
        place = folder / RECORDS_FOLDER
        (version,) = (path for path in place.iterdir() if not path.name.startswith("."))
        info = tfds.builder_from_directory(version).info.splits[split]
    except Exception as error:  # numpy, zipfile, zlib and protobuf raise many kinds
        raise damaged(folder, f"{place.name}: {error}") from None
    if not len(people) == len(from_image) == info.num_examples == count:
        found = f"{len(people)} people, {info.num_examples} records, {count} expected"
        raise damaged(folder, found)
    images = RecordImages([str(path) for path in info.filepaths], from_image)
    return people, images, image_ids, image_wh

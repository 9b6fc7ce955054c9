"""Opening a pose data set by name or path."""

import logging
import os
from collections.abc import Mapping

from etils import epath

from vitpose_jax.data.coco.folder import open_coco
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.layouts import (
    COCO_HELP,
    PATHS_HELP,
    SPLITS,
    DataSource,
    Options,
    find_coco,
    given_files,
    read_yaml,
)
from vitpose_jax.data.overview import describe
from vitpose_jax.data.records.layout import is_records_folder
from vitpose_jax.data.synthetic.dataset import SYNTHETIC, open_synthetic
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.data.yolo import find_yolo, is_yolo, open_yolo
from vitpose_jax.errors import UserError

log = logging.getLogger(__name__)


def open_pose_dataset(
    source: DataSource,
    split: str,
    *,
    input_size: tuple[int, int] = (256, 192),
    dataset_index: int = 0,
    max_bad_share: float = MAX_BAD_SHARE,
    category: str = "",
) -> PoseDataset:
    """Open a data set and log what it holds, as a warning if something is unusual.

    Args:
        source: one of:
            a name in `SYNTHETIC` (rendered, nothing on disk);
            "coco" (the folder $COCO_DIR, else ./data/coco);
            a folder, also on `gs://`, in COCO's layout, as annotation tools export it, in
            Ultralytics' YOLO-pose layout, or written by `vitpose prepare`;
            a YOLO data.yaml;
            the paths of annotations and images by split, as a mapping or a YAML file (see
            `given_files`).
        split: "train" or "val".
        input_size: (height, width) of the crops.
        dataset_index: the expert of a mixture-of-experts model that the people belong to.
        max_bad_share: the largest share of malformed annotations, and of missing or unreadable
            images, that is skipped (one or two always are, unless it is 0).
        category: name or id of the category to read; by default all categories with the keypoints
            that most annotations have.

    Raises:
        UserError: there is no data set, or it cannot be used; the message says what to do.
    """
    if split not in SPLITS:
        raise UserError(f"the split is 'train' or 'val', not {split!r}")
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share is {max_bad_share}; it is a share, from 0 to 1")
    options = Options(split, input_size, max_bad_share, category)
    if isinstance(source, Mapping):
        dataset: PoseDataset = open_coco(given_files(source, split, "config.data"), options)
    elif (place := find_place(source)) is None:
        dataset = open_synthetic(source, split, input_size)
    else:
        dataset = _open_place(place, options)
        dataset.name = source
    dataset.dataset_index = dataset_index
    if report := dataset.report:
        level = logging.WARNING if report.is_unusual else logging.INFO
        log.log(level, "%s", describe(dataset))
    return dataset


def find_place(source: str) -> epath.Path | None:
    """Return the file or folder of a data set; None if it has none.

    Raises:
        UserError: there is nothing.
    """
    if source in SYNTHETIC:
        return None
    place = epath.Path(os.environ.get("COCO_DIR", "data/coco") if source == "coco" else source)
    try:
        place = place.expanduser()
        exists = place.exists()
    except (OSError, ValueError):  # not a possible file name
        exists = False
    if not exists:
        raise UserError(f"there is no data set at {str(place)[:200]}. {COCO_HELP}")
    return place


def _open_place(place: epath.Path, options: Options) -> PoseDataset:
    split = options.split
    if place.suffix in (".yaml", ".yml"):
        if is_yolo(content := read_yaml(place)):
            return open_yolo(place, options)
        return open_coco(given_files(content, split, str(place)), options)
    if is_records_folder(place):
        from vitpose_jax.data.records.reading import open_records  # imports slowly

        return open_records(place, options)
    if not place.is_dir():
        raise UserError(f"{place} is not a folder; give a data set's folder, or {PATHS_HELP}")
    if found := find_coco(place, split):
        return open_coco(found, options)
    if data_yaml := find_yolo(place):
        return open_yolo(data_yaml, options)
    raise UserError(
        f"{place} is not a data set: it has no annotations/person_keypoints_{split}2017.json, no "
        f"other .json in it or in annotations/ or {split}/, and no data.yaml with kpt_shape; "
        f"{PATHS_HELP}. {COCO_HELP}"
    )

"""Opening a pose data set by name or path."""

import os

from etils import epath

from vitpose_jax.data.coco.folder import COCO_HELP, open_coco_folder
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.records.layout import is_records_folder
from vitpose_jax.data.synthetic.dataset import SYNTHETIC, open_synthetic
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.errors import UserError

SPLITS = ("train", "val")


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
        name_or_path: a name in `SYNTHETIC` (rendered, nothing on disk); "coco" (the folder
            $COCO_DIR, else ./data/coco); or a folder, which may be on `gs://`: in COCO's layout
            (annotations/person_keypoints_<split>2017.json, <split>2017/) or written by
            `vitpose prepare`.
        split: "train" or "val".
        input_size: (height, width) of the crops.
        dataset_index: the expert of a mixture-of-experts model that the people belong to.
        max_bad_share: the largest share of malformed annotations, and of missing or unreadable
            images, that is skipped (one or two always are, unless it is 0).

    Raises:
        UserError: nothing there, or not usable; says what to do.
    """
    if split not in SPLITS:
        raise UserError(f"the split is 'train' or 'val', not {split!r}")
    if not 0 <= max_bad_share <= 1:
        raise UserError(f"max_bad_share is {max_bad_share}; it is a share, from 0 to 1")
    if name_or_path in SYNTHETIC:
        dataset: PoseDataset = open_synthetic(name_or_path, split, input_size)
    else:
        dataset = _open_folder(name_or_path, split, input_size, max_bad_share)
        dataset.name = name_or_path
    dataset.dataset_index = dataset_index
    return dataset


def _open_folder(
    path: str, split: str, input_size: tuple[int, int], max_bad_share: float
) -> PoseDataset:
    if path == "coco":
        folder = epath.Path(os.environ.get("COCO_DIR", "data/coco"))
    else:
        folder = epath.Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"there is no data set at {folder}. {COCO_HELP}")
    if not is_records_folder(folder):
        return open_coco_folder(folder, split, input_size, max_bad_share)
    from vitpose_jax.data.records.reading import open_records  # tensorflow-datasets is slow

    return open_records(folder, split, input_size, max_bad_share)

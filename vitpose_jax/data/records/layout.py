"""What a folder of records holds, and which part of an image a record stores.

`vitpose prepare` writes a tensorflow-datasets data set (`coco_keypoints/<version>/`, readable with
`tfds.builder_from_directory(...).as_data_source(split)`). Beside it, for each split, it writes what
is needed before any pixels are read: `people_<split>.npz` (the table; row i is record i) and
`annotations_<split>.json` (the COCO dict without segmentations). `prepared.json` is written last:
a folder without it is unfinished. Everything is read without TensorFlow.
"""

import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from etils import epath

from vitpose_jax.errors import UserError
from vitpose_jax.files.fingerprint import digest_files
from vitpose_jax.files.json_file import read_object
from vitpose_jax.files.writing import write_json
from vitpose_jax.keypoints.crops import PIXEL_STD, box_to_center_scale

RECORDS_FOLDER, MARKER_FILE = "coco_keypoints", "prepared.json"
FORMAT = 1

# How far around the box training may look: scale 1.5 at any rotation, and a shift of 0.2 boxes.
TRAIN_REACH, TRAIN_SHIFT = 1.5, 0.2
PIXELS_PER_CROP_PIXEL = 1.25
"""Training crops are stored at no more than this times the network's resolution at scale 1."""


@dataclass(frozen=True)
class Marker:
    """The content of `prepared.json`.

    Attributes:
        source: the data set the records were made from.
        input_size: (height, width) of the crops to be cut from them.
        splits: number of people by split.
        category: the entry of COCO's `categories` that names the keypoints.
        sources: for each split, the files that the people came from, and a digest of them.
    """

    source: str
    input_size: tuple[int, int]
    splits: dict[str, int]
    category: dict[str, Any]
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)

    @staticmethod
    def read(folder: epath.Path) -> "Marker":
        """Read the marker of a finished folder.

        Raises:
            UserError: the folder is unfinished, damaged, or of another version.
        """
        if not (folder / MARKER_FILE).exists():
            raise UserError(f"{folder} is unfinished: run the same `vitpose prepare` again")
        try:
            content = read_object(folder / MARKER_FILE)
        except UserError as error:
            raise damaged(folder, error) from None
        if content.pop("format", None) != FORMAT:
            raise UserError(
                f"{folder} was prepared by another version: remove it and prepare it again"
            )
        try:
            marker = Marker(**content)
        except TypeError as error:
            raise damaged(folder, f"{MARKER_FILE}: {error}") from None
        if not _is_sound(marker):
            raise damaged(folder, f"{MARKER_FILE} holds values that were not written there")
        height, width = marker.input_size
        return replace(marker, input_size=(height, width))

    def write(self, folder: epath.Path) -> None:
        """Mark a folder as finished."""
        write_json(folder / MARKER_FILE, {"format": FORMAT, **asdict(self)}, indent=1)


def _is_sound(marker: Marker) -> bool:
    """Whether the values read have the types of those written."""
    size, counts = marker.input_size, marker.splits
    return (
        isinstance(marker.source, str)
        and isinstance(size, list)
        and len(size) == 2
        and all(type(side) is int and side > 0 for side in size)
        and isinstance(counts, dict)
        and all(type(count) is int for count in counts.values())
        and isinstance(marker.category, dict)
        and isinstance(marker.sources, dict)
        and all(
            isinstance(source, dict)
            and source.keys() == {"files", "digest"}
            and isinstance(source["files"], list)
            and all(isinstance(file, str) for file in source["files"])
            for source in marker.sources.values()
        )
    )


def sources_of(files: tuple[str, ...]) -> dict[str, Any]:
    """One split's entry of `Marker.sources`."""
    paths = [path if "://" in path else os.path.abspath(path) for path in files]
    return {"files": paths, "digest": digest_files(paths)}


def has_changed(source: dict[str, Any]) -> bool:
    """Whether the source files have changed; false if they are remote or can no longer be read."""
    files = source.get("files", [])
    if not files or any("://" in path for path in files):
        return False
    now = digest_files(files)
    return None not in (now, source["digest"]) and now != source["digest"]


def is_records_folder(folder: epath.Path) -> bool:
    """Whether `vitpose prepare` has written into a folder, finished or not."""
    return (folder / MARKER_FILE).exists() or (folder / RECORDS_FOLDER).exists()


def damaged(folder: epath.Path, what: object) -> UserError:
    """The error for a folder whose files cannot be used."""
    return UserError(f"{folder} is damaged ({str(what)[:200]}): remove it and prepare it again")


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
        (x0, y0, x1, y1) in whole image pixels, x1 and y1 excluded, and the factor (>= 1) by which
        to reduce that part.
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

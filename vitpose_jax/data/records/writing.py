"""Writing a data set's people as ArrayRecord crops, for `vitpose prepare`.

Cutting each person out once avoids decoding whole photographs in every epoch. A tensorflow-datasets
builder writes the records, without TensorFlow.
"""

import contextlib
import io
import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from vitpose_jax.data.coco.categories import keypoint_categories
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.people import BadImage
from vitpose_jax.data.records.layout import (
    MARKER_FILE,
    RECORDS_FOLDER,
    Marker,
    has_changed,
    sources_of,
    stored_region,
)
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import DRAFT_PREFIX, make_folder, write_json

log = logging.getLogger(__name__)

_JPEG_OPTIONS = {
    "train": [cv2.IMWRITE_JPEG_QUALITY, 85],
    "val": [
        *(cv2.IMWRITE_JPEG_QUALITY, 95),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    ],
}


class CocoKeypoints(tfds.core.GeneratorBasedBuilder):
    """People of a data set in COCO's keypoint layout, one record per person."""

    VERSION = tfds.core.Version("1.0.0")
    name = RECORDS_FOLDER
    # There are no checksum files beside this one, and searching for them would need
    # importlib_resources, which tensorflow-datasets does not install.
    code_path = None

    def __init__(self, *, datasets: dict[str, PoseDataset], **options: Any) -> None:
        """Take the opened splits; `rows` and `from_image` are filled while writing."""
        self._datasets = datasets
        self.rows: dict[str, list[int]] = {split: [] for split in datasets}
        self.from_image: dict[str, list[np.ndarray]] = {split: [] for split in datasets}
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        count = next(iter(self._datasets.values())).skeleton.num_keypoints
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "from_image": tfds.features.Tensor(shape=(2, 3), dtype=np.float32),
            "keypoints": tfds.features.Tensor(shape=(count, 2), dtype=np.float32),
            "visible": tfds.features.Tensor(shape=(count,), dtype=np.float32),
            "bbox_xywh": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "image_wh": tfds.features.Tensor(shape=(2,), dtype=np.int32),
            "image_id": tfds.features.Scalar(dtype=np.int64),
            "annotation_id": tfds.features.Scalar(dtype=np.int64),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description="One person per record. Keypoints and boxes are in pixels of the original "
            "image; `from_image` maps them to the stored part.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        return {split: self._generate_examples(split) for split in self._datasets}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        dataset = self._datasets[split]
        people = dataset.people
        for row, jpeg, from_image in _encoded(dataset, split):
            key = len(self.rows[split])
            self.rows[split].append(row)
            self.from_image[split].append(from_image)
            yield (
                key,
                {
                    "image": io.BytesIO(jpeg),
                    "from_image": from_image.astype(np.float32),
                    "keypoints": people.keypoints[row],
                    "visible": people.visible[row],
                    "bbox_xywh": people.box[row],
                    "image_wh": people.image_wh[row],
                    "image_id": people.image_id[row],
                    "annotation_id": people.annotation_id[row],
                },
            )


def _encoded(dataset: PoseDataset, split: str) -> Iterator[tuple[int, bytes, np.ndarray]]:
    """Row, JPEG and affine map of each person whose image can be read, in order."""

    def encode(row: int) -> tuple[int, bytes, np.ndarray] | None:
        try:
            return row, *_encode_person(dataset, row, split)
        except BadImage as error:
            dataset.bad_images.add(str(error))
            return None

    rows = iter(range(len(dataset.people)))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while chunk := list(islice(rows, 256)):
            yield from filter(None, pool.map(encode, chunk))


def _encode_person(dataset: PoseDataset, row: int, split: str) -> tuple[bytes, np.ndarray]:
    """A person's part of the image as JPEG, and the map (2, 3) from the image to it."""
    people = dataset.people
    pixels = dataset.images.load(people, row, 1.0).pixels
    (x0, y0, x1, y1), factor = stored_region(
        people.box[row], people.image_wh[row], dataset.input_size, split
    )
    part = pixels[y0:y1, x0:x1]
    size = np.maximum(1, np.round(np.array([x1 - x0, y1 - y0]) / factor)).astype(int)
    if factor > 1:
        part = cv2.resize(part, size.tolist(), interpolation=cv2.INTER_AREA)
    sx, sy = size / (x1 - x0, y1 - y0)
    from_image = np.array(
        [[sx, 0, (0.5 - x0) * sx - 0.5], [0, sy, (0.5 - y0) * sy - 0.5]], np.float64
    )
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(part, cv2.COLOR_RGB2BGR), _JPEG_OPTIONS[split])
    return jpeg.tobytes(), from_image


def prepare(
    source: str,
    out: epath.PathLike,
    *,
    input_size: tuple[int, int] = (256, 192),
    splits: tuple[str, ...] = ("train", "val"),
    max_bad_share: float = MAX_BAD_SHARE,
) -> bool:
    """Write a data set's people as records, unless that is already done; say if any were left out.

    A folder left by an interrupted run counts as unfinished; the next run starts over.

    Args:
        source: what `open_pose_dataset` opens (not a folder of records).
        out: a new folder; may be on `gs://`.
        input_size: (height, width) of the crops that training will cut from the records.
        splits: which splits to write.
        max_bad_share: the largest share of bad annotations or images that is skipped.

    Raises:
        UserError: `source` cannot be used, or `out` holds other files or other records.
    """
    out = epath.Path(out).expanduser()
    if (out / MARKER_FILE).exists():
        _refuse_other(out, Marker.read(out), source, input_size, splits)
        log.info("%s is already prepared", out)
        return False
    _make_empty(out)
    datasets = {
        split: open_pose_dataset(source, split, input_size=input_size, max_bad_share=max_bad_share)
        for split in splits
    }
    for dataset in datasets.values():
        if not dataset.has_whole_images:
            raise UserError(f"{source} is already a folder of records")
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    builder = CocoKeypoints(datasets=datasets, data_dir=str(out), file_format="array_record")
    log.info("writing %d people into %s", sum(map(len, datasets.values())), out)
    with tempfile.TemporaryDirectory() as nothing, contextlib.redirect_stdout(io.StringIO()):
        builder.download_and_prepare(download_dir=nothing)  # its output speaks of a download
    for split, dataset in datasets.items():
        _write_table(out, split, dataset, builder)
    counts = {split: len(builder.rows[split]) for split in splits}
    categories = keypoint_categories(datasets[splits[-1]].coco_gt["categories"], source)
    sources = {split: sources_of(dataset.sources) for split, dataset in datasets.items()}
    Marker(source, input_size, counts, dict(categories[0]), sources).write(out)
    for split, count in counts.items():
        log.info("%s: %d people of %s written", split, count, source)
    costly = any(data.report is not None and data.report.costs for data in datasets.values())
    return costly or any(len(data) > counts[split] for split, data in datasets.items())


def _write_table(out: epath.Path, split: str, dataset: PoseDataset, builder: CocoKeypoints) -> None:
    """Write the split's table and annotations."""
    table: dict[str, Any] = {
        "from_image": np.array(builder.from_image[split]),
        "image_ids": dataset.image_ids,
        "image_sizes": dataset.load_image_wh(),
        **dataset.people.take(np.array(builder.rows[split], np.int64)).columns(),
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **table)
    (out / f"people_{split}.npz").write_bytes(buffer.getvalue())
    coco = dict(dataset.coco_gt)
    coco["annotations"] = [
        {key: value for key, value in annotation.items() if key != "segmentation"}
        for annotation in coco["annotations"]
    ]
    write_json(out / f"annotations_{split}.json", coco)


def _refuse_other(
    out: epath.Path, found: Marker, source: str, input_size: tuple[int, int], splits: Iterable[str]
) -> None:
    """Refuse a finished folder that was made from another source or with other options."""
    for key, value in (("source", source), ("input_size", input_size)):
        if getattr(found, key) != value:
            raise UserError(
                f"{out} was prepared with {key} {getattr(found, key)}, not {value}; "
                "give another --out"
            )
    if any(map(has_changed, found.sources.values())):
        raise UserError(
            f"{source} has changed since {out} was prepared from it; give another --out, or remove "
            "that folder first"
        )
    missing = set(splits) - set(found.splits)
    if missing:
        raise UserError(f"{out} was prepared without {', '.join(missing)}; give another --out")


def _make_empty(out: epath.Path) -> None:
    """Make the folder, or remove what an interrupted run left in it, and nothing else.

    Raises:
        UserError: it cannot be made, or holds other files.
    """
    started = ("people_", "annotations_", DRAFT_PREFIX)
    for path in make_folder(out).iterdir():
        ours = path.name == RECORDS_FOLDER or path.name.startswith(started)
        if not ours:
            raise UserError(f"{out} holds other files ({path.name}); give a new folder as --out")
    for path in out.iterdir():
        if path.is_dir():
            path.rmtree()
        else:
            path.unlink()

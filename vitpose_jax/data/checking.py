"""What `vitpose check` examines beyond what training reads when it starts."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from vitpose_jax.data import findings
from vitpose_jax.data.coco.annotations import check_annotations
from vitpose_jax.data.coco.folder import FolderImages, as_dataset, warn_of_shared_images
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.layouts import SPLITS, DataSource, NoSplit, Options, files_around
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.people import BadImage
from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import decode_image, picture_size


def open_splits(
    source: DataSource, input_size: tuple[int, int], category: str
) -> tuple[list[PoseDataset], list[str]]:
    """Open a data set's splits, and check the sizes of its pictures.

    Returns:
        The splits found, and notes about those that are missing.

    Raises:
        UserError: a split cannot be used, or there is none.
    """
    datasets, notes = [], []
    for split in SPLITS:
        try:
            dataset = open_pose_dataset(
                source, split, input_size=input_size, max_bad_share=1.0, category=category
            )
        except NoSplit as error:
            notes.append(str(error))
            continue
        check_pictures(dataset)
        datasets.append(dataset)
        if not dataset.divided:
            notes.append(
                f"{dataset.name} is not divided into train and val: to train on it, give another "
                "data set to evaluate on as config.val_data"
            )
            break
    if len(datasets) == 2:
        warn_of_shared_images(*datasets)
    if not datasets:
        raise UserError(notes[0])
    return datasets, notes


def open_file(
    content: Any, path: Path, input_size: tuple[int, int], category: str
) -> tuple[PoseDataset, bool]:
    """Open an annotation file by itself.

    Returns:
        The data set, and whether its pictures were found near the file.
    """
    options = Options("train", input_size, 1.0, category)
    annotations = check_annotations(
        content, path, max_bad_share=options.max_bad_share, category=category
    )
    files = files_around(epath.Path(path))
    folder = files.image_folder(annotations.file_names)
    there = not FolderImages(folder, annotations.file_names).missing().all()
    dataset = as_dataset(annotations, folder if there else None, options, sources=(str(path),))
    if there:
        check_pictures(dataset)
    return dataset, there


def check_pictures(dataset: PoseDataset) -> None:
    """Compare the sizes of all pictures with the annotations, and report those that differ."""
    images, report = dataset.images, dataset.report
    if report is None or not isinstance(images, FolderImages):
        return
    rows = np.unique(dataset.people.image_row).tolist()
    sizes = dataset.load_image_wh()

    def problem(row: int) -> str | None:
        path, size = images.path(row), tuple(sizes[row].tolist())
        try:
            if picture_size(path) != size:
                decode_image(images.read(row), size)
        except (UserError, BadImage) as error:
            text = str(error)
            return text if text.startswith(path) else f"{path}: {text}"
        return None

    with ThreadPoolExecutor(16) as pool:
        found = pool.map(problem, rows)
        bar = tqdm(found, total=len(rows), unit="image", disable=None, leave=False)
        problems = [text for text in bar if text]
    for text in problems:
        report.add(findings.BAD_PICTURE, text)


def is_annotations(content: Any) -> bool:
    """Whether a JSON file's content has keypoint annotations, not only boxes."""
    if not isinstance(content, Mapping) or not isinstance(content.get("annotations"), list):
        return False
    categories = content.get("categories")
    parts = categories if isinstance(categories, list) else []
    return any(isinstance(entry, Mapping) and entry.get("keypoints") for entry in parts)

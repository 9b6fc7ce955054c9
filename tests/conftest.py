"""Fixtures every test may use: photographs, and a small drawn data set."""

import json
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import shape_checks  # noqa: F401  (before the package is imported)

from vitpose_jax.data.synthetic.scene import render_scene
from vitpose_jax.keypoints.skeletons import SKELETONS

pytest_plugins = ("golden_fixtures", "inference_fixtures", "hub_fixtures", "export_models")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with photographs (`data`) and outputs of the original code on them (`golden`)."""
    folder = Path(os.environ.get("VITPOSE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no photographs at {folder} (set VITPOSE_SHARED to their folder)")
    return folder


LEVELS = {name: logging.getLogger(name).level for name in (None, "absl", "asyncio", "vitpose_jax")}


def restore_levels() -> None:
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def logging_as_it_was():
    """Commands set up logging for their process; tests find it as it was at first.

    That is before the test, too: the command may have run in a fixture that several tests share.
    """
    handlers = list(logging.getLogger().handlers)
    restore_levels()
    yield
    logging.getLogger().handlers[:] = handlers
    restore_levels()


def write_coco_folder(folder: Path, num_images: int = 6) -> Path:
    """One person an image, both splits; image ids from 1, annotation ids from 101."""
    coco = SKELETONS["coco"]
    for split, first in (("train", 0), ("val", 1000)):
        images, annotations = [], []
        (folder / f"{split}2017").mkdir(parents=True)
        for i in range(1, num_images + 1):
            scene = render_scene(np.random.default_rng([7, first + i]))
            height, width = scene.pixels.shape[:2]
            name = f"{i:012d}.jpg"
            cv2.imwrite(str(folder / f"{split}2017" / name), scene.pixels[..., ::-1])
            images.append({"id": i, "file_name": name, "width": width, "height": height})
            person = int(np.flatnonzero(scene.annotated)[-1])
            visible = scene.visible[person]
            points = np.column_stack([scene.keypoints[person], visible]).astype(float)
            annotations.append(
                {
                    "id": 100 + i,
                    "image_id": i,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": scene.boxes[person].astype(float).tolist(),
                    "area": float(scene.areas[person]),
                    "num_keypoints": int((visible > 0).sum()),
                    "keypoints": points.ravel().tolist(),
                }
            )
        category = {"id": 1, "name": "person", "keypoints": list(coco.keypoint_names)}
        category["skeleton"] = [[a + 1, b + 1] for a, b in coco.limbs]
        content = {"images": images, "annotations": annotations, "categories": [category]}
        (folder / "annotations").mkdir(exist_ok=True)
        annotation_file(folder, split).write_text(json.dumps(content))
    return folder


def annotation_file(folder: Path, split: str = "train") -> Path:
    return folder / "annotations" / f"person_keypoints_{split}2017.json"


@pytest.fixture
def coco_folder(tmp_path: Path) -> Path:
    """A small data set in COCO's layout: six images a split, each with one annotated person."""
    return write_coco_folder(tmp_path / "coco")


@pytest.fixture(scope="session")
def make_coco_folder():
    """`write_coco_folder`, for data sets that several tests share."""
    return write_coco_folder


@pytest.fixture(scope="session")
def edit_annotations():
    """edit(folder, change): change(content) alters the training annotations' dict in place."""

    def edit(folder: Path, change, split: str = "train") -> Path:
        path = annotation_file(folder, split)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return edit

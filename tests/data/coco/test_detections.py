"""A detector's boxes in place of the annotated ones."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.data.coco.detections import detected_people
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.people import People
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS


def _dataset(*category_ids: int) -> PoseDataset:
    """A data set of one image, all of whose categories have the same keypoints."""
    categories = [{"id": i, "keypoints": ["nose"]} for i in category_ids]
    return PoseDataset(
        name="own",
        split="val",
        skeleton=SKELETONS["coco"],
        input_size=(64, 48),
        load_people=lambda: People.empty(0, 17),
        images=None,
        image_ids=np.array([5]),
        load_image_wh=lambda: np.array([[64, 48]]),
        load_coco=lambda: {"categories": categories},
    )


def test_people_are_of_the_data_sets_categories(tmp_path: Path) -> None:
    entries = [
        {"image_id": 5, "category_id": i, "bbox": [i, 0, 9, 9], "score": 0.5} for i in (1, 7, 8)
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    assert detected_people(_dataset(7, 8), path).box[:, 0].tolist() == [7, 8]
    assert detected_people(_dataset(1), path).box[:, 0].tolist() == [1]
    with pytest.raises(UserError, match=r"of category_id \[1, 7, 8\], is .*category_id \[3\]"):
        detected_people(_dataset(3), path)


def _boxes_on(coco_folder: Path, tmp_path: Path, edit: Callable[[list], None]) -> People:
    """The annotated boxes of the validation images as a detector's, changed by `edit`."""
    dataset = open_pose_dataset(str(coco_folder), "val")
    entries = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": 0.5}
        for a in dataset.coco_gt["annotations"]
    ]
    edit(entries)
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    return detected_people(dataset, path)


@pytest.mark.parametrize(
    "spelled",
    [
        int,
        float,
        str,
        lambda i: f"{i:012d}",
        lambda i: f"{i:012d}.jpg",
        lambda i: f"images/{i:012d}.jpg",
        lambda i: f"images\\{i:012d}",
    ],
)
def test_images_are_found_however_the_file_names_them(
    coco_folder: Path, tmp_path: Path, spelled: Callable[[int], object], caplog
) -> None:
    def respell(entries: list) -> None:
        for entry in entries:
            entry["image_id"] = spelled(entry["image_id"])

    people = _boxes_on(coco_folder, tmp_path, respell)
    assert people.image_id.tolist() == [1, 2, 3, 4, 5, 6]
    assert not caplog.records


def test_ids_of_64_bits(shared: Path, tmp_path: Path) -> None:
    found = read_annotations(shared / "field-cases/ids_of_64_bits.json")
    images = found.coco["images"]
    path = tmp_path / "boxes.json"
    own = images[7]["file_id"]
    assert own > 2**63
    path.write_text(
        json.dumps([{"image_id": own, "category_id": 1, "bbox": [1, 2, 30, 40], "score": 1}])
    )
    dataset = replace(
        _dataset(1),
        load_people=lambda: found.people,
        image_ids=np.array([image["id"] for image in images]),
        load_image_wh=lambda: np.array([(i["width"], i["height"]) for i in images]),
        load_coco=lambda: found.coco,
    )
    assert detected_people(dataset, path).image_row.tolist() == [7]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.update(bbox=[9999, 0, 300, 300]), "boxes that reach far beyond their image"),
        (lambda e: e.update(image_id="other.jpg"), "on other images, for instance image_id 'other"),
        (lambda e: e.update(image_id=77), "on other images, for instance image_id 77"),
        (lambda e: e.update(image_id=None), "'image_id' must be a whole number or a string"),
        (lambda e: e.update(image_id=1e300), "for instance"),
        (lambda e: e.update(score="high"), "'score' must be a number"),
    ],
)
def test_single_bad_boxes_are_told(
    coco_folder: Path, tmp_path: Path, change: Callable[[dict], None], words: str, caplog
) -> None:
    _boxes_on(coco_folder, tmp_path, lambda entries: change(entries[2]))
    assert words in caplog.text


def test_boxes_in_other_forms_are_told(coco_folder: Path, tmp_path: Path, caplog) -> None:
    def to_corners(entries: list) -> None:
        for entry in entries:
            x, y, w, h = entry["bbox"]
            entry["bbox"] = [x, y, x + w, y + h]

    def to_fractions(entries: list) -> None:
        for entry in entries:
            entry["bbox"] = [value / 1000 for value in entry["bbox"]]

    _boxes_on(coco_folder, tmp_path, to_corners)
    assert "look like corners" in caplog.text
    with pytest.raises(UserError, match="boxes between 0 and 1, as if divided"):
        _boxes_on(coco_folder, tmp_path, to_fractions)


def test_images_without_any_box_are_told(coco_folder: Path, tmp_path: Path, caplog) -> None:
    _boxes_on(coco_folder, tmp_path, lambda entries: entries.__delitem__(slice(3)))
    assert "has no box on 3 of 6 images with annotated people" in caplog.text

"""Boxes from JSON files."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.boxes import read_boxes
from vitpose_jax.inference.inputs import Source


def image(name: str) -> Source:
    return Source("image", f"/somewhere/{name}", name)


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_detections_by_number_and_by_name(tmp_path: Path) -> None:
    entries = [
        {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1},
        {"file_name": "x.jpg", "bbox": [5, 6, 7, 8]},
        {"image_id": 7, "bbox": [9, 9, 9, 9], "score": 0.4, "category_id": 3},
        {"image_id": 7, "bbox": [4, 3, 2, 1], "score": 0.9, "category_id": 1},
        {"file_name": "c/d.jpg", "bbox": [0, 0, 0, 0]},
    ]
    boxes = read_boxes(write(tmp_path / "b.json", entries))
    np.testing.assert_array_equal(
        boxes.of(image("0007.jpg")), [[1, 2, 3, 4, 0.5], [4, 3, 2, 1, 0.9]]
    )
    np.testing.assert_array_equal(boxes.of(image("x.jpg")), [[5, 6, 7, 8, 1]])
    assert boxes.of(image("8.jpg")).shape == (0, 5)
    deep = Source("image", "/a/b/c/d.jpg", "d.jpg")
    np.testing.assert_array_equal(boxes.of(deep), [[0, 0, 0, 0, 1]])
    assert boxes.skipped == 1
    assert [box.entry for box in boxes.boxes[7, None]] == [0, 3]
    assert len(read_boxes(tmp_path / "b.json", any_category=True).of(image("7.jpg"))) == 3


def test_coco_annotations(shared: Path) -> None:
    path = shared / "data/coco-mini/annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    boxes = read_boxes(path)
    crowds = sum(entry["iscrowd"] for entry in content["annotations"])
    assert boxes.skipped == crowds > 0
    assert sum(map(len, boxes.boxes.values())) == len(content["annotations"]) - crowds
    entry = content["annotations"][0]
    name = next(i["file_name"] for i in content["images"] if i["id"] == entry["image_id"])
    np.testing.assert_array_equal(boxes.of(image(name))[0, :4], entry["bbox"])


def test_fields_in_other_forms(tmp_path: Path) -> None:
    crowds = [0, 0.0, False, None, "0", "false", ""]
    entries = [
        {"image_id": 1, "file_name": None, "bbox": [1, 2, 3, 4], "iscrowd": c} for c in crowds
    ]
    images = [{"id": 1, "file_name": "a.jpg", "width": "640", "height": 480.0}]
    images += [{"id": 2, "file_name": "b.jpg", "width": 0, "height": None}]
    boxes = read_boxes(write(tmp_path / "b.json", {"annotations": entries, "images": images}))
    assert len(boxes.of(image("a.jpg"))) == len(crowds)
    assert boxes.sizes == {"a.jpg": (640, 480)}
    alone = read_boxes(write(tmp_path / "b.json", {"annotations": entries, "images": None}))
    assert len(alone.of(image("1.jpg"))) == len(crowds)


def test_frames_of_a_video(tmp_path: Path) -> None:
    entries = [{"file_name": "v.mp4", "frame": i, "bbox": [i, 0, 5, 5]} for i in (0, 2)]
    boxes = read_boxes(write(tmp_path / "b.json", entries))
    video = Source("video", "v.mp4", "v.mp4")
    assert [len(boxes.of(video, i)) for i in range(3)] == [1, 0, 1]


def test_categories_are_kept_and_a_file_may_number_people_otherwise(tmp_path: Path) -> None:
    entries = [{"image_id": 1, "bbox": [0, 0, 5, 5], "category_id": i} for i in (7, 3, 7)]
    path = write(tmp_path / "b.json", entries)
    with pytest.raises(
        UserError,
        match=r"no boxes of people; it has 1 of category_id 3, 2 of category_id 7;.*--category",
    ):
        read_boxes(path)
    boxes = read_boxes(path, any_category=True).boxes
    assert {key: [box.category for box in found] for key, found in boxes.items()} == {
        (1, None): [7, 3, 7]
    }
    categories = [{"id": 3, "name": "horse"}, {"id": 7, "name": "person"}]
    write(path, {"annotations": entries, "categories": categories})
    boxes = read_boxes(path)
    assert list(boxes.boxes) == [(1, None)]
    assert [(box.entry, box.category) for box in boxes.boxes[1, None]] == [(0, 7), (2, 7)]
    assert boxes.skipped == 1


def test_notes_of_what_is_not_there_and_of_what_is_ambiguous(tmp_path: Path) -> None:
    names = ({"file_name": "1.jpg"}, {"file_name": "v.mp4", "frame": 3}, {"file_name": "a/2.jpg"})
    boxes = read_boxes(
        write(tmp_path / "b.json", [name | {"bbox": [0, 0, 5, 5]} for name in names])
    )
    pictures = [
        Source("image", f"{folder}/{n}.jpg", f"{folder}/{n}.jpg") for folder in "ab" for n in "12"
    ]
    video, other = (Source("video", name, name) for name in ("v.mp4", "w.mp4"))
    assert boxes.notes([*pictures[1:3], video]) == []
    unknown, untaken, shared = boxes.notes(pictures)
    assert unknown.endswith("b.json has no box for 1 picture(s): b/2.jpg")
    assert "1 box(es)" in untaken
    assert untaken.endswith("not among the inputs: v.mp4")
    assert "1 name(s)" in shared
    assert shared.endswith("1.jpg for a/1.jpg, b/1.jpg")
    unknown, untaken = boxes.notes([pictures[0], other])
    assert unknown.endswith("b.json has no box for 1 video(s): w.mp4 (is it v.mp4?)")
    assert "2 box(es)" in untaken
    for unknown in (other, pictures[3], Source("video", "1.jpg", "1.jpg")):
        with pytest.raises(UserError, match=r"b\.json: has no box for any of the 1 inputs"):
            boxes.notes([unknown])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("{oops", "is not JSON"),
        ("[" * 100000, "is not JSON"),
        ([], "no boxes"),
        ({"boxes": []}, "must be a list"),
        (3, "must be a list"),
        ([[1, 2, 3, 4]], "entry 0: must be an object"),
        ([{"bbox": [1, 2, 3, 4]}], "entry 0: has neither"),
        ([{"image_id": [1], "bbox": [1, 2, 3, 4]}], "entry 0: has neither"),
        ([{"image_id": 1}], "entry 0: bbox must be four numbers"),
        ([{"image_id": 1, "bbox": [1, 2, 3]}], "entry 0: bbox must be four numbers"),
        ([{"image_id": 1, "bbox": [1, 2, 3, "4"]}], "entry 0: bbox must be four numbers"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": "high"}], "score must be a finite"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": float("nan")}], "0: score must be a fini"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 10**400}], "score must be a finite"),
        (f'[{{"image_id": 1, "bbox": [0, 0, 5, {"1" * 5000}]}}]', "is not JSON that can be read"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "frame": 0.5}], "frame must be a whole"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 2}], "no boxes of people"),
        (
            [{"image_id": 1, "bbox": [1, 2, 3, 4], "category_id": "x"}],
            "no boxes of people; it has 1 of x; say which are people: --category NAME",
        ),
        ([{"file_name": "", "bbox": [1, 2, 3, 4]}], "entry 0: has neither"),
        ([{"file_name": 1, "image_id": 1, "bbox": [1, 2, 3, 4]}], "file_name must be a text"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "no"}], "iscrowd must be 0 or 1"),
        ([{"image_id": 1, "bbox": [1, 2, 3, 4], "iscrowd": "1"}], "holds no boxes"),
        ({"annotations": [], "images": [3]}, "must be objects with id"),
        ({"annotations": [], "images": [{"id": 1, "file_name": [1]}]}, "must be objects with id"),
    ],
)
def test_bad_files(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read_boxes(write(tmp_path / "b.json", content))
    assert "b.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_boxes(tmp_path / "b.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="is not JSON that can be read"):
        read_boxes(tmp_path / "b.json")


def test_a_byte_order_mark_and_sides_beyond_every_number(tmp_path: Path) -> None:
    entries = [{"image_id": 1, "bbox": [0, None, 5, 10**400]}]
    (tmp_path / "b.json").write_text(json.dumps(entries), encoding="utf-8-sig")
    boxes = read_boxes(tmp_path / "b.json").of(image("1.jpg"))
    np.testing.assert_array_equal(boxes, [[0, np.nan, 5, np.inf, 1]])

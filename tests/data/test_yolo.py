"""Ultralytics' YOLO-pose folders read as the COCO annotations they were made from."""

import json
import shutil

import numpy as np
import pytest
import yaml

from vitpose_jax.data import findings
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS

COCO = SKELETONS["coco"]


def write_yolo(coco_folder, place, dims=3, **changes):
    """The COCO folder in YOLO's layout."""
    for split in ("train", "val"):
        images, labels = place / "images" / split, place / "labels" / split
        shutil.copytree(coco_folder / f"{split}2017", images)
        labels.mkdir(parents=True)
        source = coco_folder / "annotations" / f"person_keypoints_{split}2017.json"
        content = json.loads(source.read_text())
        sizes = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            image = sizes[annotation["image_id"]]
            size = np.array([image["width"], image["height"]])
            box = np.reshape(annotation["bbox"], (2, 2))
            points = np.reshape(annotation["keypoints"], (-1, 3)) / (*size, 1)
            if dims == 2:
                points[points[:, 2] == 0, :2] = -1
            values = [*(box[0] + box[1] / 2) / size, *box[1] / size, *points[:, :dims].ravel()]
            name = image["file_name"].replace(".jpg", ".txt")
            with (labels / name).open("a") as file:
                file.write(f"0 {' '.join(map(repr, map(float, values)))}\n")
    about = {"path": ".", "train": "images/train", "val": "images/val", "kpt_shape": [17, dims]}
    about |= {"flip_idx": COCO.flip_index.tolist(), "names": {0: "person"}}
    about |= {"kpt_names": {0: list(COCO.keypoint_names)}} | changes
    about = {key: value for key, value in about.items() if value is not None}
    (place / "data.yaml").write_text(yaml.safe_dump(about))
    return place


@pytest.mark.parametrize("dims", [2, 3])
def test_people_are_the_same_as_in_coco(coco_folder, tmp_path, dims):
    place = write_yolo(coco_folder, tmp_path / "yolo", dims)
    for split in ("train", "val"):
        coco = open_pose_dataset(str(coco_folder), split)
        for source in (place, place / "data.yaml"):
            yolo = open_pose_dataset(str(source), split)
            assert yolo.skeleton == COCO
            labelled = coco.people.visible > 0
            np.testing.assert_array_equal(yolo.people.visible > 0, labelled)
            np.testing.assert_allclose(yolo.people.box, coco.people.box, atol=1e-3)
            points = (data.people.keypoints[labelled] for data in (yolo, coco))
            np.testing.assert_allclose(*points, atol=1e-3)
            assert yolo.crops().evaluation_batch(np.arange(6))["valid"].all()
            assert {*yolo.report.by_kind()} == {findings.NO_AREA}


@pytest.mark.parametrize(
    "changes",
    [
        {"path": "../datasets/mine"},  # Ultralytics' own folder
        {"path": "/somewhere/else"},  # another machine's
        {"path": None, "train": "../images/train", "val": "../images/val"},  # Roboflow
        {"val": ["images/val"]},
        {"val": "val.txt"},
        {"val": "cvat.txt"},
        {"val": "images\\val"},
    ],
)
def test_places_of_images(coco_folder, tmp_path, changes):
    place = write_yolo(coco_folder, tmp_path / "yolo", **changes)
    names = [f"images/val/{i:012d}.jpg" for i in range(1, 7)]
    (place / "val.txt").write_text("".join(f"./{name}\n" for name in names))
    (place / "cvat.txt").write_text("\n".join(f"data/{name}" for name in names))
    assert len(open_pose_dataset(str(place), "val")) == 6


def test_keypoints_without_names(coco_folder, tmp_path):
    place = write_yolo(coco_folder, tmp_path / "same", kpt_names=None)
    dataset = open_pose_dataset(str(place), "val")
    assert dataset.skeleton == COCO
    assert dataset.report.count(findings.ASSUMED_COCO) == 1
    other = list(range(17))
    other[3], other[4] = 4, 3
    place = write_yolo(coco_folder, tmp_path / "other", kpt_names=None, flip_idx=other)
    dataset = open_pose_dataset(str(place), "val")
    assert dataset.skeleton.flip_pairs == ((3, 4),)
    assert dataset.skeleton.keypoint_names[3] == "keypoint_3"
    assert dataset.report.count(findings.NUMBERED_KEYPOINTS) == 1
    place = write_yolo(coco_folder, tmp_path / "none", kpt_names=None, flip_idx=None)
    report = open_pose_dataset(str(place), "val").report
    assert report.count(findings.NO_FLIP_PAIRS) == 1
    place = write_yolo(coco_folder, tmp_path / "identity", flip_idx=list(range(17)))
    report = open_pose_dataset(str(place), "val").report
    assert report.count(findings.NO_PARTNER) == 16


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5", "has 3 columns, not 56"),
        ("0 0.5 0.5 0.2 0.2" + " 0.5" * 34, "has 39 columns, not 56"),
        ("0 0.5 zero 0.2 0.2" + " 0.5 0.5 2" * 17, "holds 'zero', not a number"),
        ("7 0.5 0.5 0.2 0.2" + " 0.5 0.5 2" * 17, "of class 7; names lists 0 to 0"),
        ("0 250 120 40 80" + " 0.5 0.5 2" * 17, "is not between 0 and 1"),
        ("0 nan 0.5 0.2 0.2" + " 0.5 0.5 2" * 17, "is not between 0 and 1"),
        ("0 0.5 0.5 0.2 0.2" + " 0.5 0.5 0.97" * 17, "visibility flag"),
        ("0 0.5 0.5 0.2 0.2" + " inf 0.5 2" * 17, "not a finite number"),
    ],
)
def test_malformed_lines_are_told(coco_folder, tmp_path, line, words):
    place = write_yolo(coco_folder, tmp_path / "yolo")
    file = place / "labels/val/000000000003.txt"
    file.write_text(f"{file.read_text()}\n{line}\n")
    dataset = open_pose_dataset(str(place), "val")
    (where,) = dataset.report.by_kind()[findings.MALFORMED]
    assert words in where
    assert len(dataset) == 6
    assert (dataset.report.num_annotations, dataset.report.costs) == (7, True)


def test_files_without_their_other_half_are_told(coco_folder, tmp_path):
    place = write_yolo(coco_folder, tmp_path / "yolo")
    (place / "images/val/000000000002.jpg").unlink()
    (place / "labels/val/000000000003.txt").unlink()
    (place / "images/val/000000000004.jpg").write_bytes(b"no picture")
    report = open_pose_dataset(str(place), "val").report
    assert report.by_kind()[findings.LABELS_WITHOUT_IMAGE] == ["labels/val/000000000002.txt"]
    assert report.by_kind()[findings.NO_LABEL_FILE] == ["labels/val/000000000003.txt"]
    assert "000000000004.jpg: is not a picture" in report.by_kind()[findings.MALFORMED][0]
    shutil.rmtree(place / "labels/val")
    with pytest.raises(UserError, match=r"none of the 5 images of 'val' has a label file"):
        open_pose_dataset(str(place), "val")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kpt_shape": None}, "kpt_shape must be .* not None; a data set without it"),
        ({"kpt_shape": [17, 4]}, "kpt_shape must be"),
        ({"kpt_shape": "17x3"}, "kpt_shape must be"),
        ({"flip_idx": [1, 2, 0, *range(3, 17)]}, "flip_idx must give"),
        ({"flip_idx": [0, 1]}, "flip_idx must give"),
        ({"names": None}, "names must list the classes from 0"),
        ({"names": {1: "person"}}, "names must list the classes from 0"),
        ({"kpt_names": {0: ["nose"]}}, "must be 17 names"),
        ({"kpt_names": {1: list(COCO.keypoint_names)}}, "no names for class 0"),
        ({"val": None}, "has no 'val'"),
        ({"val": "pictures"}, "val is 'pictures', but there is no"),
        ({"val": "data.yaml"}, "neither a folder nor a .txt"),
    ],
)
def test_what_is_wrong_with_data_yaml_is_named(coco_folder, tmp_path, changes, words):
    place = write_yolo(coco_folder, tmp_path / "yolo", **changes)
    with pytest.raises(UserError, match=words):
        open_pose_dataset(str(place / "data.yaml"), "val")


def test_pictures_lie_as_cameras_say(coco_folder, tmp_path):
    """Labels are divided by the size of the upright picture."""
    from PIL import Image

    place = write_yolo(coco_folder, tmp_path / "yolo")
    file = place / "images/val/000000000001.jpg"
    with Image.open(file) as image:
        size, exif = image.size, image.getexif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(file, exif=exif)
    dataset = open_pose_dataset(str(place), "val")
    assert tuple(dataset.load_image_wh()[0]) == size
    assert dataset.crops().evaluation_batch(np.arange(1))["valid"].all()


def test_folders_that_lead_in_circles(coco_folder, tmp_path):
    place = write_yolo(coco_folder, tmp_path / "yolo")
    (place / "images/val/again").symlink_to(place / "images/val")
    assert len(open_pose_dataset(str(place), "val")) == 6


def test_bytes_that_are_no_text(coco_folder, tmp_path):
    place = write_yolo(coco_folder, tmp_path / "yolo")
    file = place / "data.yaml"
    file.write_bytes(file.read_bytes() + b"\xba\xff")
    with pytest.raises(UserError, match=r"data\.yaml: is not readable YAML"):
        open_pose_dataset(str(place), "train")

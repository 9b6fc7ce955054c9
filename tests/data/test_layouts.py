"""Data sets in the folders that annotation tools export."""

import shutil

import pytest
import yaml

from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError

ARRANGEMENTS = {
    "COCO": "annotations/person_keypoints_{}2017.json {}2017",
    "another year": "annotations/person_keypoints_{}2014.json {}2014",
    "images below images": "annotations/person_keypoints_{}2017.json images/{}2017",
    "CVAT": "annotations/person_keypoints_{}.json images/{}",
    "CVAT's usual names": "annotations/person_keypoints_Validation.json images/Validation",
    "Roboflow": "valid/_annotations.coco.json valid",
    "FiftyOne": "{}/labels.json {}/data",
    "CrowdPose": "json/crowdpose_{}.json images",
    "Human-Art": "annotations/{}_humanart.json {}2017",
    "no other file": "annotations/instances_{}.json {}",
    "AP-10K": "annotations/ap10k-{}-split1.json data",
    "in one folder": "{}.json images",
    "beside each other": "{}/annotations.json {}/images",
    "all in the root": "coco_{}.json .",
}


def rearrange(coco_folder, place, arrangement, split):
    annotations, images = arrangement.format(split, split).split()
    if split == "train":
        annotations, images = (
            part.replace("Validation", "Train").replace("valid", "train")
            for part in (annotations, images)
        )
    (place / annotations).parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(coco_folder / f"{split}2017", place / images, dirs_exist_ok=True)
    source = coco_folder / "annotations" / f"person_keypoints_{split}2017.json"
    shutil.copy(source, place / annotations)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_arrangements_of_folders(coco_folder, tmp_path, arrangement):
    names = ARRANGEMENTS[arrangement]
    for split in ("train", "val"):
        rearrange(coco_folder, tmp_path / "own", names, split)
    shared = names.endswith((" data", " images", " ."))  # both splits' images have the same names
    for split in ("val",) if shared else ("train", "val"):
        dataset = open_pose_dataset(str(tmp_path / "own"), split)
        assert len(dataset) == 6
        assert dataset.crops().evaluation_batch([0, 5])["valid"].all()


@pytest.mark.parametrize(
    "arrangement",
    [
        "annotations/person_keypoints_default.json images/default",
        "labels.json data",
        "result.json images",
        "_annotations.coco.json .",
    ],
)
def test_sets_that_are_not_divided(coco_folder, tmp_path, arrangement):
    rearrange(coco_folder, tmp_path / "own", arrangement, "train")
    assert len(open_pose_dataset(str(tmp_path / "own"), "train")) == 6
    assert len(open_pose_dataset(str(tmp_path / "own"), "val")) == 6


def test_what_is_not_clear_is_asked(coco_folder, tmp_path):
    annotations = coco_folder / "annotations"
    (annotations / "instances_val2017.json").write_text("{}")
    source = annotations / "person_keypoints_val2017.json"
    shutil.move(source, annotations / "person_keypoints_val2014.json")
    shutil.move(coco_folder / "val2017", coco_folder / "val2014")
    assert len(open_pose_dataset(str(coco_folder), "val")) == 6
    shutil.copy(
        annotations / "person_keypoints_val2014.json", annotations / "person_keypoints_val.json"
    )
    words = r"which annotations are 'val', annotations/.*val.json, annotations/.*val2014.json\?"
    with pytest.raises(UserError, match=words):
        open_pose_dataset(str(coco_folder), "val")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"is not a data set: it has no annotations/person_"):
        open_pose_dataset(str(tmp_path / "empty"), "val")
    with pytest.raises(UserError, match=r"val2014.json is not a folder"):
        open_pose_dataset(str(annotations / "person_keypoints_val2014.json"), "val")


def test_paths_are_given(coco_folder, tmp_path):
    paths = {
        split: {
            "annotations": str(coco_folder / f"annotations/person_keypoints_{split}2017.json"),
            "images": str(coco_folder / f"{split}2017"),
        }
        for split in ("train", "val")
    }
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(paths))
    for source in (paths, str(file)):
        assert len(open_pose_dataset(source, "val")) == 6
    for change, words in (
        ({"valid": {}}, "has the unknown key 'valid'; use train and val"),
        ({"val": None}, "has no 'val'"),
        ({"val": "folder"}, "val must give 'annotations' and 'images', not 'folder'"),
        ({"val": {**paths["val"], "images": "gone"}}, "there is no gone"),
    ):
        with pytest.raises(UserError, match=words):
            open_pose_dataset({**paths, **change}, "val")
    for content in ("[1, 2]", "a: [", "\x00"):
        file.write_text(content)
        with pytest.raises(UserError, match=r"own\.yaml: (must hold|is not readable YAML)"):
            open_pose_dataset(str(file), "val")

"""File names as other systems and tools spell them."""

import unicodedata
from pathlib import Path

import pytest

from vitpose_jax.data import findings
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é 1.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("images/a.jpg", "a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("images\\a.jpg", "images/a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("a.jpg", "deep/er/a.jpg"),
        ("deep\\a.jpg", "DEEP/A.JPG"),
        ("A.JPG", "a.jpg"),
        ("my%20cat.jpg", "my cat.jpg"),
        ("my cat.jpg", "my%20cat.jpg"),
        (COMPOSED, DECOMPOSED),
        (DECOMPOSED, COMPOSED),
        ("10:30.jpg", "10_30.jpg"),
        ("data/train/images/a.jpg", "images/a.jpg"),
    ],
)
def test_files_are_found_under_another_spelling(
    coco_folder: Path, edit_annotations, written: str, there: str
) -> None:
    folder = coco_folder / "train2017"
    (folder / there).parent.mkdir(parents=True, exist_ok=True)
    (folder / "000000000003.jpg").rename(folder / there)
    edit_annotations(coco_folder, lambda c: c["images"][2].update(file_name=written))
    dataset = open_pose_dataset(str(coco_folder), "train")
    assert len(dataset.people) == 6
    assert dataset.images.load(dataset.people, 2, 1.0).pixels.size
    assert dataset.report.count(findings.RENAMED_FILE) == (written != "./a.jpg")


@pytest.mark.parametrize(
    "written", ["other/000000000001.jpg", "cam2/a.jpg", "a.png", "train2017/other.jpg"]
)
def test_a_file_that_may_be_another_ones_is_not_taken(
    coco_folder: Path, edit_annotations, written: str
) -> None:
    """Not one that another image has, nor from another folder, nor of another suffix."""
    folder = coco_folder / "train2017"
    (folder / "cam1").mkdir()
    (folder / "000000000003.jpg").rename(folder / "cam1/a.jpg")
    edit_annotations(coco_folder, lambda c: c["images"][2].update(file_name=written))
    dataset = open_pose_dataset(str(coco_folder), "train")
    assert len(dataset.people) == 5
    assert dataset.report.count(findings.NO_PICTURE) == 1


def test_one_file_for_two_names_is_nobodys(coco_folder: Path, edit_annotations) -> None:
    def same(content) -> None:
        content["images"][1]["file_name"] = "cam1/a.jpg"
        content["images"][2]["file_name"] = "cam2/a.jpg"

    (coco_folder / "train2017/000000000003.jpg").rename(coco_folder / "train2017/a.jpg")
    edit_annotations(coco_folder, same)
    assert len(open_pose_dataset(str(coco_folder), "train").people) == 4


def test_the_nearest_file_is_named(coco_folder: Path, edit_annotations) -> None:
    def rename(content) -> None:
        for image in content["images"]:
            image["file_name"] = image["file_name"].replace(".jpg", ".png")

    edit_annotations(coco_folder, rename)
    with pytest.raises(UserError, match=r"\(the most similar name there is 0000000\d*\.jpg\)"):
        open_pose_dataset(str(coco_folder), "train")

"""Boxes find their pictures, however the file names or numbers them; results keep its names."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.boxes import BoxFile, read_boxes
from vitpose_jax.inference.inputs import Source

BOX = [10, 10, 40, 90]
UMLAUTS = unicodedata.normalize("NFC", "Ångström b.jpg")


def read(folder: Path, *entries: dict[str, Any], images: list[Any] | None = None) -> BoxFile:
    content = [{"bbox": BOX, **entry} for entry in entries]
    whole = content if images is None else {"images": images, "annotations": content}
    (folder / "b.json").write_text(json.dumps(whole))
    return read_boxes(folder / "b.json")


def picture(location: str) -> Source:
    return Source("image", f"/data/{location}", Path(location).name)


@pytest.mark.parametrize(
    ("location", "name", "found"),
    [
        (UMLAUTS, unicodedata.normalize("NFD", UMLAUTS), True),
        (UMLAUTS, "%C3%85ngstr%C3%B6m%20b.jpg", True),
        (UMLAUTS, UMLAUTS.upper(), True),
        (UMLAUTS, f"C:\\data\\images\\{UMLAUTS}", True),
        (UMLAUTS, f"images/train/{UMLAUTS}", True),
        (UMLAUTS, f"./{UMLAUTS}", True),
        (UMLAUTS, "https://host/a/%C3%85ngstr%C3%B6m%20b.jpg", True),
        (UMLAUTS, UMLAUTS.removesuffix(".jpg"), True),
        (UMLAUTS, UMLAUTS.replace("jpg", "png"), False),
        ("t:1.jpg", "t_1.jpg", True),
        ("t:1.jpg", "t:1.jpg", True),
        ("t_1.jpg", "t:1.jpg", True),
        ("dir\\x.jpg", "dir/x.jpg", True),
        ("dir\\x.jpg", "x.jpg", True),
        ("val/x.jpg", "images/val/x.jpg", True),
        ("val/x.jpg", "VAL\\x.jpg", True),
        ("caf\udce9.jpg", "caf\\xe9.jpg", True),  # as our results spell it
        ("caf\udce9.jpg", "café.jpg", True),
        ("xy.jpg", "y.jpg", False),
        ("img_7.jpg", "img_70.jpg", False),
    ],
)
def test_spellings(tmp_path: Path, location: str, name: str, found: bool) -> None:
    boxes = read(tmp_path, {"file_name": name})
    assert boxes.name_of(picture(location)) == (name if found else None)
    assert len(boxes.of(picture(location))) == found
    if found:
        assert boxes.identity(picture(location))[0] == name


def test_what_could_be_two_is_neither_and_told(tmp_path: Path) -> None:
    boxes = read(tmp_path, *({"file_name": f"{folder}/1.jpg"} for folder in "ab"))
    assert boxes.name_of(picture("a/1.jpg")) == "a/1.jpg"
    assert boxes.name_of(picture("1.jpg")) is None
    with pytest.raises(UserError, match=r"1\.jpg, which could be [ab]/1\.jpg or [ab]/1\.jpg"):
        boxes.notes([picture("1.jpg")])
    note, _ = boxes.notes([picture("a/1.jpg"), picture("c/1.jpg")])
    assert "no box for 1 picture(s): 1.jpg, which could be" in note
    assert read(tmp_path, {"file_name": "A.jpg"}, {"file_name": "a.jpg"}).name_of(
        picture("a.jpg")
    ) == ("a.jpg")


def test_a_name_that_is_one_pictures_own_is_no_others(tmp_path: Path) -> None:
    boxes = read(tmp_path, {"file_name": "img.jpg"})
    lower, upper = picture("img.jpg"), picture("IMG.jpg")
    assert boxes.name_of(upper) == "img.jpg"
    boxes = read(tmp_path, {"file_name": "img.jpg"})
    (note,) = boxes.notes([upper, lower])
    assert note.endswith("no box for 1 picture(s): IMG.jpg, which could be img.jpg")
    assert (boxes.name_of(upper), boxes.name_of(lower)) == (None, "img.jpg")


@pytest.mark.parametrize(
    ("entries", "images", "message"),
    [
        (
            [{"file_name": "a.jpg", "image_id": i} for i in (3, 2)],
            None,
            r"entry 1: image_id of a\.jpg is 2, but 3 before",
        ),
        (
            [{"file_name": "b.jpg", "image_id": 3}],
            [{"id": 3, "file_name": "a.jpg"}],
            r"entry 0: file_name is b\.jpg, but image_id 3 is a\.jpg",
        ),
    ],
)
def test_identities_that_contradict_each_other(
    tmp_path: Path, entries: list[Any], images: list[Any] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, *entries, images=images)


def test_a_picture_without_people_does_not_take_anothers_boxes(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "a/1.jpg"}, {"id": 2, "file_name": "b/1.jpg"}]
    boxes = read(tmp_path, {"image_id": 2}, images=images)
    assert len(boxes.of(picture("a/1.jpg"))) == 0
    assert len(boxes.of(picture("b/1.jpg"))) == 1


BIG = 2**63 + 7


@pytest.mark.parametrize(
    ("in_images", "in_entry", "kept"),
    [
        (BIG, BIG, BIG),
        (10**30, 10**30, 10**30),
        (-5, -5, -5),
        (3.0, 3, 3),
        ("3", 3, "3"),
        (3, "3", 3),
        (3, 3.0, 3),
        ("abc", "abc", "abc"),
        (3, "000001", 3),
        (3, "000001.jpg", 3),
    ],
)
def test_ids_of_a_file_with_images(
    tmp_path: Path, in_images: Any, in_entry: Any, kept: Any
) -> None:
    images = [{"id": in_images, "file_name": "000001.jpg"}]
    boxes = read(tmp_path, {"image_id": in_entry}, images=images)
    assert len(boxes.of(picture("000001.jpg"))) == 1
    assert len(boxes.of(picture("3.jpg"))) == 0  # its number is the id of another name
    assert boxes.identity(picture("000001.jpg")) == ("000001.jpg", kept)


@pytest.mark.parametrize(
    ("image_id", "kept"),
    [
        (7, 7),
        (7.0, 7),
        ("7", "7"),
        ("0007", "0007"),
        ("000007", "000007"),
        ("0007.jpg", "0007.jpg"),
    ],
)
def test_ids_without_images(tmp_path: Path, image_id: Any, kept: Any) -> None:
    boxes = read(tmp_path, {"image_id": image_id})
    assert len(boxes.of(picture("0007.jpg"))) == 1
    assert boxes.identity(picture("0007.jpg")) == ("0007.jpg", kept)


@pytest.mark.parametrize("image_id", [True, 1.5, [1], {}, "", None, 1e300, float("nan")])
def test_ids_that_cannot_be(tmp_path: Path, image_id: Any) -> None:
    with pytest.raises(UserError, match="entry 0: has neither image_id"):
        read(tmp_path, {"image_id": image_id})


def test_the_file_of_the_field_case(shared: Path) -> None:
    boxes = read_boxes(shared / "field-cases/image_ids/own.json")
    own = {name: boxes.identity(picture(name)) for name in ("000001.jpg", "000002.jpg")}
    assert own == {"000001.jpg": ("000001.jpg", 3), "000002.jpg": ("000002.jpg", 1)}


def test_ids_that_contradict_the_images(tmp_path: Path) -> None:
    images = [{"id": 5, "file_name": "a.jpg"}]
    boxes = read(tmp_path, {"image_id": 5}, {"image_id": 1}, images=images)
    assert "1 box(es) left out, whose image_id is not among" in boxes.lost[0]
    assert "entry 1 (1)" in boxes.lost[0]
    with pytest.raises(UserError, match=r"no boxes of its own images; unknown is entry 0 \(1\)"):
        read(tmp_path, {"image_id": 1}, images=images)
    images += [{"id": 5.0, "file_name": "b.jpg"}]
    with pytest.raises(UserError, match=r"image id 5 is used twice, for a\.jpg and b\.jpg"):
        read(tmp_path, {"image_id": 5}, images=images)


def test_frames(tmp_path: Path) -> None:
    frames: list[Any] = ["0", 1.0, 2, 40, -1]
    boxes = read(tmp_path, *({"file_name": "videos/V.mp4", "frame": i} for i in frames))
    video = Source("video", "/x/v.mp4", "v.mp4")
    assert [len(boxes.of(video, i)) for i in range(4)] == [1, 1, 1, 0]
    (problem,) = boxes.beyond(video, 30)
    assert "2 box(es) are for frames that v.mp4 does not have, for instance 40" in problem
    assert boxes.beyond(video, 50)
    still = read(tmp_path, {"file_name": "v.mp4"})
    with pytest.raises(UserError, match=r"v\.mp4, whose boxes have no frame"):
        still.notes([video])

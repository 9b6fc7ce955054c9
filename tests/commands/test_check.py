"""`vitpose check`: what it tells of data, boxes and weights, its page, and its exit status."""

import json
import re
import shutil

from vitpose_jax.cli import main


def check(capsys, *options):
    """(exit status, what was printed, errors)."""
    status = main(["check", *map(str, options)])
    return status, *capsys.readouterr()


def test_a_sound_data_set(coco_folder, capsys):
    status, out, err = check(capsys, coco_folder)
    assert (status, err) == (0, "")
    assert out.count("6 of 6 annotations on 6 images are used.") == 2
    assert "17 keypoints of coco: nose, left_eye" in out
    assert "8 left-right pairs: left_eye/right_eye" in out
    assert "19 limbs: left_ankle-left_knee" in out
    assert len(out.splitlines()) < 25


def test_the_page_shows_people_and_findings(coco_folder, edit_annotations, tmp_path, capsys):
    def spoil(content):
        first, second, third = content["annotations"][:3]
        first["bbox"] = "wide"
        second["keypoints"][0:3] = [0, 0, 2]
        third["num_keypoints"] = 1
        content["categories"][0]["name"] = "<b>person</b>"

    edit_annotations(coco_folder, spoil)
    picture = coco_folder / "train2017" / f"{6:012d}.jpg"
    picture.write_bytes(b"no picture")
    status, out, _ = check(capsys, coco_folder, "--html", tmp_path / "page.html")
    assert status == 1
    for words in (
        "left out: 1 malformed annotations, for instance annotations[0]: 'bbox' must be",
        "kept: 1 people with labelled keypoints at exactly (0, 0)",
        "kept: 1 annotations whose num_keypoints contradicts",
        "left out: 1 images that cannot be read or differ in size",
    ):
        assert words in out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == page.count("</svg>") > 20
    assert page.count("data:image/jpeg;base64,") >= 2 * (5 + 6) + 3
    assert ">right_shoulder</text>" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing is fetched
    assert "<b>person</b>" not in page
    assert len(page) < 4e6


def test_what_cannot_be_read_is_status_2(coco_folder, tmp_path, capsys):
    annotations = coco_folder / "annotations/person_keypoints_train2017.json"
    annotations.write_text("{")
    assert check(capsys, coco_folder)[0] == 2
    for source in (tmp_path / "nothing", "x" * 5000, "x" * 300 + ".json", "\0", "/dev/null"):
        status, _, err = check(capsys, source)
        assert (status, err.count("\n")) == (2, 1)
    for options, words in (
        ([], "give either DATA or --annotations"),
        (["--annotations", annotations], "--annotations needs the folder of the images"),
        ([coco_folder, "--category", "a", "--category", "b"], "give it once"),
    ):
        status, _, err = check(capsys, *options)
        assert status == 2
        assert words in err


def test_one_split_alone(coco_folder, capsys):
    (coco_folder / "annotations/person_keypoints_train2017.json").unlink()
    status, out, _ = check(capsys, coco_folder)
    assert status == 0
    assert "note: " in out
    assert "has no annotations for 'train'" in out


def test_annotations_by_their_paths(coco_folder, tmp_path, capsys):
    annotations = coco_folder / "annotations/person_keypoints_val2017.json"
    images = coco_folder / "val2017"
    for options in (
        ["--annotations", annotations, "--images", images],
        [annotations, "--images", images],
        [annotations],
    ):
        status, out, _ = check(capsys, *options)
        assert (status, "note" in out) == (0, False)
        assert "6 of 6 annotations" in out
    lone = tmp_path / "lone.json"
    shutil.copy(annotations, lone)
    status, out, _ = check(capsys, lone)
    assert status == 0
    assert "its pictures were not found, so they were not checked" in out


def test_one_picture_in_both_splits(coco_folder, tmp_path, capsys):
    paths = {
        "annotations": str(coco_folder / "annotations/person_keypoints_val2017.json"),
        "images": str(coco_folder / "val2017"),
    }
    file = tmp_path / "own.yaml"
    file.write_text(json.dumps({"train": paths, "val": paths}))
    status, out, _ = check(capsys, file)
    assert status == 1
    assert "! 6 of the 6 images to evaluate on are also trained on" in out


def test_records(coco_folder, edit_annotations, tmp_path, capsys):
    main(["prepare", str(coco_folder), "--out", str(tmp_path / "records")])
    capsys.readouterr()
    status, out, _ = check(capsys, tmp_path / "records", "--html", tmp_path / "page.html")
    assert (status, "17 keypoints of coco" in out) == (0, True)
    assert (tmp_path / "page.html").read_text().count("data:image/jpeg") == 24
    edit_annotations(coco_folder, lambda c: c["annotations"].pop())
    status, out, _ = check(capsys, tmp_path / "records")
    assert (status, "whose source has changed" in out) == (1, True)


def test_boxes(coco_folder, tmp_path, capsys):
    box = {"category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9}
    boxes = [{"image_id": number, **box} for number in range(1, 7)]
    file = tmp_path / "boxes.json"
    file.write_text(json.dumps(boxes))
    status, out, _ = check(capsys, file)
    assert status == 0
    assert "6 boxes of people on 6 pictures" in out
    assert "were not compared with the sizes" in out
    status, out, _ = check(capsys, coco_folder, "--boxes", file)
    assert status == 0
    assert "6 boxes on the images of val" in out
    file.write_text(json.dumps([*boxes, {**boxes[0], "image_id": 999}]))
    status, out, _ = check(capsys, coco_folder, "--boxes", file)
    assert status == 1
    assert "left out 1 boxes: on other images" in out
    named = [
        {**boxes[0], "file_name": f"{i:012d}.jpg", "bbox": [100, 150, 420, 470]} for i in (1, 2)
    ]
    file.write_text(json.dumps(named))
    status, out, _ = check(capsys, file, "--images", coco_folder / "val2017")
    assert status == 1
    assert "2 of 2 boxes lie mostly outside their picture" in out


def test_weights(golden, capsys):
    status, out, _ = check(capsys, golden / "hf_vitpose_tiny_simple")
    assert status == 0
    assert "million parameters; a ViT 64 wide" in out
    assert "note: the weights do not name them" in out
    status, out, _ = check(capsys, golden / "vitpose_plus_tiny.pth", "--num-heads", 4)
    assert status == 0
    assert "a ViT 96 wide, 4 blocks, 4 heads" in out


def test_field_cases(shared, capsys):
    told = {
        "absent_joints_as_zero_visible": (1, "84 people with labelled keypoints at exactly (0, 0)"),
        "ap10k_names": (0, "17 keypoints of ap10k"),
        "crowd30": (0, "1 images with more than 20 labelled people"),
        "crowdpose_limbs": (0, "3 limbs that do not join two keypoints"),
        "ids_from_0_n3": (0, "3 of 3 annotations"),
        "ids_of_64_bits": (0, "68 of 118 annotations"),
        "nan_unlabelled": (0, "68 of 118 annotations"),
        "num_keypoints_0_half": (0, "36 annotations whose num_keypoints contradicts"),
        "two_skeletons": (1, "4 annotations of categories with other keypoints"),
    }
    for name, (wanted, words) in told.items():
        status, out, _ = check(capsys, shared / "field-cases" / f"{name}.json")
        assert (name, status) == (name, wanted)
        assert words in out
    status, _, err = check(capsys, shared / "field-cases/boxes_category/group.json")
    assert status == 2
    assert "'ball' (category_id 1)" in err


def test_a_number_beyond_floats_is_shown_on_the_page(
    coco_folder, edit_annotations, tmp_path, capsys
):
    def spoil(content):
        content["annotations"][0]["bbox"][2] = 10**400

    edit_annotations(coco_folder, spoil)
    assert check(capsys, coco_folder, "--html", tmp_path / "page.html")[0] == 1

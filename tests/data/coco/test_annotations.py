import json

import numpy as np
import pytest

from vitpose_jax.data import findings
from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS


def test_counts_on_coco_are_those_of_pycocotools(shared):
    from pycocotools.coco import COCO

    path = shared / "data/coco-mini/annotations/person_keypoints_train2017.json"
    found = read_annotations(path)
    truth = COCO(str(path))
    annotations = truth.loadAnns(truth.getAnnIds())
    assert found.report.count(findings.CROWD) == sum(a["iscrowd"] for a in annotations)
    usable = [a for a in annotations if not a["iscrowd"] and a["num_keypoints"] > 0]
    assert found.people.annotation_id.tolist() == [
        a["id"] for a in found.coco["annotations"] if a in usable
    ]
    first = usable[0]
    row = found.people.annotation_id.tolist().index(first["id"])
    keypoints = np.array(first["keypoints"]).reshape(17, 3)
    np.testing.assert_array_equal(found.people.keypoints[row], keypoints[:, :2])
    np.testing.assert_array_equal(found.people.visible[row], keypoints[:, 2])
    assert found.skeleton is SKELETONS["coco"]
    assert "81 people without a labelled keypoint" in found.report.summary()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda a: a.update(keypoints=[0] * 51, num_keypoints=0), findings.UNLABELLED),
        (lambda a: a.update(keypoints=[5, 5, 0] * 17, num_keypoints=0), findings.UNLABELLED),
        (lambda a: a.update(keypoints=[], num_keypoints=0), findings.UNLABELLED),
        (lambda a: a.update(keypoints=[5, 5, 0] * 17), findings.LABELS_MISSING),
        (lambda a: a.update(keypoints=[]), findings.LABELS_MISSING),
        (lambda a: a.update(keypoints=None, num_keypoints=0), findings.NO_KEYPOINTS),
        (lambda a: a.update(iscrowd=1), findings.CROWD),
        (lambda a: a.update(bbox=[5000, 5000, 10, 10]), findings.OFF_IMAGE),
        (lambda a: a.update(bbox=[10, 10, 0, 50]), findings.OFF_IMAGE),
        (lambda a: a.update(bbox=[0.1, 0.2, 0.5, 0.6]), findings.NORMALIZED_BOX),
        (lambda a: a.update(keypoints=[0.2, 0.4, 2] * 17), findings.NORMALIZED_POINTS),
        (lambda a: a.update(area=0), findings.ZERO_AREA),
        (lambda a: a.update(keypoints=[9000, 9000, 2] * 17), findings.POINTS_OFF_BOX),
        (lambda a: a.update(category_id=7), findings.UNKNOWN_CATEGORY),
        (lambda a: a.update(id=102), findings.REPEATED_ID),
    ],
)
def test_what_would_train_nothing_is_left_out_and_told(coco_folder, edit_annotations, change, kind):
    found = read_annotations(edit_annotations(coco_folder, lambda c: change(c["annotations"][3])))
    assert len(found.people) == 5
    assert found.report.count(kind) == 1
    assert f"left out: 1 {kind.words}" in found.report.summary()
    assert found.report.is_unusual != kind.usual


def test_contradictions_are_told_but_kept(coco_folder, edit_annotations):
    def change(content):
        content["annotations"][0]["num_keypoints"] = 99
        content["annotations"][1]["keypoints"][:3] = [-30, 5, 2]
        content["annotations"].append({**content["annotations"][2], "id": 555})

    found = read_annotations(edit_annotations(coco_folder, change))
    assert len(found.people) == 7
    for kind in (findings.WRONG_COUNT, findings.POINTS_OFF_IMAGE, findings.SAME_PERSON):
        assert found.report.count(kind) == 1
    assert "id 555" in found.report.summary()


def test_what_the_evaluation_needs_is_filled_in(coco_folder, edit_annotations):
    before = read_annotations(edit_annotations(coco_folder, lambda content: None))
    assert not before.report.is_unusual

    def remove(content):
        for annotation in content["annotations"]:
            for key in ("area", "iscrowd", "num_keypoints"):
                del annotation[key]

    found = read_annotations(edit_annotations(coco_folder, remove))
    assert found.report.count(findings.NO_AREA) == 6
    assert "6 people without an area (the box's area is used" in found.report.summary()
    annotations = found.coco["annotations"], before.coco["annotations"]
    for annotation, whole in zip(*annotations, strict=True):
        assert annotation["iscrowd"] == 0
        assert annotation["num_keypoints"] == whole["num_keypoints"]
        assert annotation["area"] == np.prod(whole["bbox"][2:])


def test_opening_warns_of_what_is_unusual_alone(coco_folder, edit_annotations, caplog):
    edit_annotations(coco_folder, lambda c: c["annotations"][3].update(iscrowd=1))
    open_pose_dataset(str(coco_folder), "train")
    assert not caplog.records
    edit_annotations(coco_folder, lambda c: c["annotations"][2].update(area=0))
    open_pose_dataset(str(coco_folder), "train")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"1 {findings.ZERO_AREA.words}, for instance id 103" in record.getMessage()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoints": "nose"}, "'keypoints' must be 51 numbers"),
        ({"keypoints": [1, 2, 2] * 16}, "not 48 values"),
        ({"keypoints": [None, 2, 2] * 17}, "not a finite number"),
        ({"keypoints": [1e300, 2, 2] * 17}, "not a finite number"),
        ({"keypoints": [1, 2, 3] * 17}, "not 0, 1 or 2"),
        ({"bbox": [1, 2, 3]}, "'bbox' must be four numbers"),
        ({"bbox": {"x": 1}}, "'bbox' must be four numbers"),
        ({"bbox": [1, 2, "3", 4]}, "'bbox' must be four numbers"),
        ({"image_id": 77}, "image_id 77 is not among the images"),
        ({"image_id": "three"}, "image_id 'three' is not among the images"),
        ({"image_id": 1.5}, "'image_id' must be a whole number or a string"),
        ({"image_id": [1]}, "'image_id' must be a whole number or a string"),
        ({"image_id": True}, "'image_id' must be a whole number or a string"),
        ({"image_id": float("nan")}, "'image_id' must be a whole number or a string"),
        ({"id": None}, "'id' must be a whole number or a string"),
        ({"area": "big"}, "'area' must be a number"),
        ({"num_keypoints": "17"}, "'num_keypoints' must be an integer"),
        ({"iscrowd": 3}, "'iscrowd' must be 0 or 1"),
    ],
)
def test_malformed_annotations_are_named_and_skipped(coco_folder, edit_annotations, change, words):
    path = edit_annotations(coco_folder, lambda c: c["annotations"][2].update(change))
    found = read_annotations(path)
    assert len(found.people) == 5
    assert len(found.coco["annotations"]) == 5
    assert "annotations[2]" in found.report.summary()
    assert words in found.report.summary()
    with pytest.raises(UserError, match=r"1 of 6 annotations are malformed.*annotations\[2\]"):
        read_annotations(path, max_bad_share=0.0)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.jpg",
        "/etc/passwd",
        "a/../../b.jpg",
        "C:\\x.jpg",
        "..\\x.jpg",
        "",
        "gs://other/x.jpg",
    ],
)
def test_file_names_that_leave_the_folder_are_refused(coco_folder, edit_annotations, name):
    path = edit_annotations(coco_folder, lambda c: c["images"][1].update(file_name=name))
    with pytest.raises(UserError, match=r"images\[1\].*leads out"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON that can be read"),
        ("[" * 100000, "is not JSON that can be read"),
        (f"[{'1' * 5000}]", "is not JSON that can be read"),
        ("[]", "no list 'images'"),
        ('{"images": [], "annotations": {}}', "no list 'annotations'"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "names its keypoints"),
        ('{"images": [3], "annotations": [], "categories": [{"keypoints": ["a"]}]}', "images.0."),
    ],
)
def test_other_files_are_refused_in_words(tmp_path, text, words):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        read_annotations(path)
    with pytest.raises(UserError, match="no such file"):
        read_annotations(tmp_path / "nothing.json")


def test_a_byte_order_mark_does_no_harm(coco_folder):
    path = coco_folder / "annotations/person_keypoints_train2017.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_annotations(path).people) == 6


def test_nobody_left_is_refused(coco_folder, edit_annotations):
    path = edit_annotations(coco_folder, lambda c: [a.update(iscrowd=1) for a in c["annotations"]])
    with pytest.raises(UserError, match=r"no usable person.*6 crowd regions"):
        read_annotations(path)


def test_own_keypoints_from_categories(coco_folder, edit_annotations):
    names = ["tip", "fin_l", "fin_r", "left_gill", "right_gill"]

    def change(content):
        content["categories"] = [
            {"id": 3, "name": "fish", "keypoints": names, "skeleton": [[1, 2], [1, 3]]}
        ]
        for annotation in content["annotations"]:
            annotation["category_id"] = 3
            annotation["keypoints"] = annotation["keypoints"][15:30]
            del annotation["num_keypoints"]

    path = edit_annotations(coco_folder, change)
    skeleton = read_annotations(path).skeleton
    assert skeleton.keypoint_names == tuple(names)
    assert skeleton.flip_pairs == ((1, 2), (3, 4))
    assert skeleton.limbs == ((0, 1), (0, 2))
    assert skeleton.sigmas == (0.05,) * 5

    def rename(content):
        content["categories"][0]["keypoints"] = ["tip", "fin", "tail", "gill", "eye"]

    found = read_annotations(edit_annotations(coco_folder, rename))
    assert found.report.count(findings.NO_FLIP_PAIRS) == 1
    assert found.skeleton.flip_pairs == ()
    edit_annotations(coco_folder, lambda c: c["categories"][0].update(keypoints=names))

    def add(content):
        content["categories"][0] |= {
            "flip_pairs": [["left_gill", "right_gill"]],
            "sigmas": [0.1, 0.2, 0.2, 0.3, 0.3],
            "upper_body": ["tip", 1],
        }

    skeleton = read_annotations(edit_annotations(coco_folder, add)).skeleton
    assert skeleton.flip_pairs == ((3, 4),)
    assert skeleton.sigmas == (0.1, 0.2, 0.2, 0.3, 0.3)
    assert skeleton.upper_body == (0, 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keypoints": ["a", "a"]}, "given twice"),
        ({"keypoints": ["a", 3]}, "list of names"),
        ({"flip_pairs": [["a", "z"]]}, "names 'z'"),
        ({"flip_pairs": [[0, 1, 2]]}, "groups of 2"),
        ({"flip_pairs": [[0, 1], [1, 2]]}, "uses a keypoint twice"),
        ({"sigmas": [0.1]}, "3 positive numbers"),
    ],
)
def test_bad_categories_are_refused_in_words(tmp_path, fields, words):
    category = {"id": 1, "name": "x", "keypoints": ["a", "b", "c"], **fields}
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": [category]}))
    with pytest.raises(UserError, match=words):
        read_annotations(path)

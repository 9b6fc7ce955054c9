import json
import logging
from itertools import islice

import cv2
import numpy as np
import pytest

from vitpose_jax.data.augmentation import NO_AUGMENTATION
from vitpose_jax.data.batches import eval_batches, train_batches
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError

SIZE = (64, 48)


def _open(folder, split="train", **options):
    return open_pose_dataset(str(folder), split, input_size=SIZE, **options)


def _same(a, b):
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_the_fields_are_as_documented(coco_folder):
    batch = next(iter(train_batches(_open(coco_folder, dataset_index=3), 4)))
    described = {key: (value.shape, str(value.dtype)) for key, value in batch.items()}
    assert described == {
        "crop": ((4, 64, 48, 3), "uint8"),
        "crop_xy": ((4, 17, 2), "float32"),
        "visible": ((4, 17), "float32"),
        "center": ((4, 2), "float32"),
        "scale": ((4, 2), "float32"),
        "box": ((4, 4), "float32"),
        "box_score": ((4,), "float32"),
        "image_id": ((4,), "int64"),
        "annotation_id": ((4,), "int64"),
        "dataset_index": ((4,), "int32"),
    }
    assert set(batch["dataset_index"]) == {3}


def test_an_epoch_has_everybody_once_and_epochs_differ(coco_folder):
    stream = iter(train_batches(_open(coco_folder), 6, seed=1))
    epochs = [next(stream)["annotation_id"].tolist() for _ in range(4)]
    assert all(sorted(epoch) == list(range(101, 107)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_threads_workers_and_shards_do_not_change_the_samples(coco_folder):
    dataset = _open(coco_folder)
    whole = list(islice(train_batches(dataset, 8, seed=5, num_threads=0), 3))
    for options in ({"num_threads": 4}, {"num_workers": 2}):
        for a, b in zip(whole, train_batches(dataset, 8, seed=5, **options), strict=False):
            _same(a, b)
    parts = [iter(train_batches(dataset, 4, seed=5, shard=(i, 2))) for i in (0, 1)]
    for batch in whole:
        for i, part in enumerate(parts):
            _same({key: value[i::2] for key, value in batch.items()}, next(part))
    other = next(iter(train_batches(dataset, 8, seed=6)))
    assert np.any(other["crop"] != whole[0]["crop"])


def test_an_iterator_goes_on_from_its_state(coco_folder):
    stream = iter(train_batches(_open(coco_folder), 4, seed=2))
    next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = [next(stream) for _ in range(3)]
    again = iter(train_batches(_open(coco_folder), 4, seed=2))
    again.set_state(state)
    for batch in expected:
        _same(batch, next(again))


def test_without_augmentation_training_sees_the_evaluation_crops(coco_folder):
    dataset = _open(coco_folder)
    train = next(iter(train_batches(dataset, 6, augmentation=NO_AUGMENTATION)))
    evaluation = next(iter(eval_batches(dataset, 6)))
    order = np.argsort(train["annotation_id"])
    for key in ("crop_xy", "visible", "center", "scale", "box"):
        np.testing.assert_array_equal(train[key][order], evaluation[key])
    difference = np.abs(train["crop"][order].astype(int) - evaluation["crop"])
    assert difference.mean() < 10  # training may decode at reduced resolution


def test_keypoints_sit_on_what_they_name(tmp_path, coco_folder):
    """White discs painted at the keypoints are white at `crop_xy`, however the crop is turned."""
    path = coco_folder / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        picture = np.zeros((image["height"], image["width"], 3), np.uint8)
        values = annotation["keypoints"]
        for k in range(17):
            x, y, flag = values[3 * k : 3 * k + 3]
            colour = (40 + 12 * k, 255 - 12 * k, 255)
            if flag:
                cv2.circle(picture, (round(x), round(y)), 7, colour, -1)
        name = image["file_name"] = image["file_name"].replace(".jpg", ".png")
        cv2.imwrite(str(coco_folder / "train2017" / name), picture)
    path.write_text(json.dumps(content))
    dataset = open_pose_dataset(str(coco_folder), "train", input_size=(256, 192))
    checked = hits = 0
    for batch in islice(train_batches(dataset, 8, seed=3), 6):
        for crop, xy, visible in zip(
            batch["crop"], batch["crop_xy"], batch["visible"], strict=True
        ):
            for k in np.flatnonzero(visible):
                x, y = np.round(xy[k]).astype(int)
                if 0 <= x < 192 and 0 <= y < 256:
                    checked += 1
                    hits += np.abs(crop[y, x] - (255.0, 255 - 12 * k, 40 + 12 * k)).max() < 30
    assert checked > 300
    assert hits / checked > 0.85  # the rest is covered by other keypoints' discs


def test_evaluation_pads_and_shards_without_losing_anybody(coco_folder):
    dataset = _open(coco_folder, "val")
    for count in (1, 2, 4):
        seen = []
        lengths = set()
        for i in range(count):
            batches = eval_batches(dataset, 4, shard=(i, count))
            lengths.add(len(batches))
            for batch in batches:
                assert batch["crop"].shape == (4, *SIZE, 3)
                assert not batch["crop"][~batch["valid"]].any()
                assert not batch["visible"][~batch["valid"]].any()
                seen += batch["annotation_id"][batch["valid"]].tolist()
        assert len(lengths) == 1
        assert sorted(seen) == list(range(101, 107))


def test_bad_images_are_replaced_in_training_and_counted(coco_folder, caplog):
    path = coco_folder / "train2017" / f"{3:012d}.jpg"
    path.write_bytes(path.read_bytes()[:1000])
    dataset = _open(coco_folder)
    batches = list(islice(train_batches(dataset, 6, seed=1), 2))
    again = list(islice(train_batches(_open(coco_folder), 6, seed=1), 2))
    for a, b in zip(batches, again, strict=True):
        _same(a, b)
        assert sorted(a["annotation_id"]) == [101, 102, 104, 104, 105, 106]
        assert a["crop"].any(axis=(1, 2, 3)).all()
    assert len(dataset.bad_images) == 1
    assert "000000000003.jpg: is damaged or truncated" in caplog.text

    evaluation = next(iter(eval_batches(_open(coco_folder), 6)))
    assert evaluation["valid"].tolist() == [True, True, False, True, True, True]
    with pytest.raises(UserError, match=r"1 of 6 images .*000000000003"):
        next(iter(train_batches(_open(coco_folder, max_bad_share=0.0), 6)))


def test_stand_ins_are_of_the_share_that_is_trained_on(coco_folder):
    (coco_folder / "train2017" / f"{4:012d}.jpg").write_bytes(b"")
    share = _open(coco_folder).on_images(np.array([2, 4]))
    for batch in islice(train_batches(share, 4, seed=1), 2):
        assert set(batch["image_id"].tolist()) == {2}


def test_nobody_left_to_stand_in_is_told(coco_folder):
    """Two bad images of six are put up with, but here nobody is on the others."""
    path = coco_folder / "annotations/person_keypoints_train2017.json"
    content = json.loads(path.read_text())
    del content["annotations"][2:]
    path.write_text(json.dumps(content))
    for i in (1, 2):
        (coco_folder / "train2017" / f"{i:012d}.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="no image of the 2 people to train on can be read"):
        next(iter(train_batches(_open(coco_folder), 2, num_threads=0)))


def test_missing_images_are_counted_on_opening(coco_folder, caplog):
    (coco_folder / "train2017" / f"{2:012d}.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert len(_open(coco_folder)) == 5
    assert "1 images that are missing, with the people on them" in caplog.text
    assert "000000000002.jpg" in caplog.text
    with pytest.raises(UserError, match="1 of 6 images are missing"):
        _open(coco_folder, max_bad_share=0.0)
    for i in (1, 3):
        (coco_folder / "train2017" / f"{i:012d}.jpg").unlink()
    with pytest.raises(UserError, match=r"3 of 6 images are missing.*at most 5% are skipped"):
        _open(coco_folder)
    assert len(_open(coco_folder, max_bad_share=0.5)) == 3
    with pytest.raises(UserError, match="max_bad_share is 50; it is a share"):
        _open(coco_folder, max_bad_share=50)


def test_missing_folders_say_how_to_get_coco(tmp_path, coco_folder, monkeypatch):
    with pytest.raises(UserError, match=r"no data set at .*nothing.*images.cocodataset.org"):
        open_pose_dataset(str(tmp_path / "nothing"), "train")
    monkeypatch.setenv("COCO_DIR", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"no data set at .*gone"):
        open_pose_dataset("coco", "train")
    monkeypatch.setenv("COCO_DIR", str(coco_folder))
    assert len(open_pose_dataset("coco", "val")) == 6
    (coco_folder / "annotations/person_keypoints_val2017.json").unlink()
    with pytest.raises(UserError, match=r"person_keypoints_val2017.json is missing"):
        open_pose_dataset("coco", "val")
    with pytest.raises(UserError, match="'train' or 'val', not 'test'"):
        open_pose_dataset("coco", "test")


def test_a_detector_s_boxes(coco_folder, tmp_path, caplog):
    dataset = _open(coco_folder, "val")
    boxes = [
        {"image_id": 2, "category_id": 1, "bbox": [10, 20, 50, 90.5], "score": 0.9},
        {"image_id": 2, "category_id": 2, "bbox": [10, 20, 50, 90], "score": 0.9},
        {"image_id": 99, "category_id": 1, "bbox": [10, 20, 50, 90], "score": 0.9},
        {"image_id": 1, "category_id": 1, "bbox": [-5, 0, 30, 60], "score": 0.2},
    ]
    path = tmp_path / "detections.json"
    path.write_text(json.dumps(boxes))
    (batch,) = eval_batches(dataset, 4, boxes=str(path))
    assert batch["image_id"][batch["valid"]].tolist() == [2, 1]
    assert batch["annotation_id"][batch["valid"]].tolist() == [0, 3]
    np.testing.assert_array_equal(batch["box"][1], [-5, 0, 30, 60])  # not cleaned
    np.testing.assert_allclose(batch["box_score"][:2], [0.9, 0.2])
    assert "left out 1 boxes: on other images" in caplog.text
    (batch,) = eval_batches(dataset, 4, boxes=str(path), min_box_score=0.5)
    assert batch["valid"].sum() == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{}", "not a detections file"),
        ("oops", "is not JSON that can be read"),
        ("[]", "none of the 0 boxes"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3], "score": 1}]', "four finite"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": "x"}]', "'score'"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 0, 4], "score": 1}]', "no area"),
        ('[{"image_id": 77, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]', "none of the 1"),
    ],
)
def test_bad_detections_are_refused_in_words(coco_folder, tmp_path, content, words):
    path = tmp_path / "detections.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words):
        eval_batches(_open(coco_folder, "val"), 4, boxes=str(path))


def test_the_real_detections_file(shared):
    folder = shared / "data/coco-mini"
    path = folder / "person_detection_results/COCO_val2017_detections_person.json"
    boxes = [b for b in json.loads(path.read_text()) if b["category_id"] == 1]
    batches = eval_batches(open_pose_dataset(str(folder), "val"), 64, boxes=str(path))
    assert len(batches.people) == len(boxes)
    np.testing.assert_allclose(batches.people.box, [b["bbox"] for b in boxes], rtol=1e-6)

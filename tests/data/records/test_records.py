import json
import logging
import shutil
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from vitpose_jax.cli import main
from vitpose_jax.data.batches import eval_batches, train_batches
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.records.writing import prepare
from vitpose_jax.errors import UserError


@pytest.fixture(scope="module")
def mini(shared, tmp_path_factory):
    """(COCO folder, the same as records)."""
    out = tmp_path_factory.mktemp("records") / "mini"
    source = shared / "data/coco-mini"
    prepare(str(source), out)
    return source, out


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_table_is_the_folder_s(mini, split):
    raw, records = (open_pose_dataset(str(path), split) for path in mini)
    for name, column in raw.people.columns().items():
        np.testing.assert_array_equal(records.people.columns()[name], column, err_msg=name)
    assert records.skeleton == raw.skeleton
    np.testing.assert_array_equal(records.image_ids, raw.image_ids)
    strip = [
        {k: v for k, v in a.items() if k != "segmentation"} for a in raw.coco_gt["annotations"]
    ]
    assert records.coco_gt["annotations"] == strip


def test_augmented_samples_agree_up_to_jpeg_and_resampling(mini):
    """Every field but the pixels exactly; pixels closely, also at the edge of what is stored."""
    raw, records = (open_pose_dataset(str(path), "train") for path in mini)
    differences, black = [], 0
    pairs = zip(train_batches(raw, 32, seed=4), train_batches(records, 32, seed=4), strict=True)
    for a, b in islice(pairs, 10):
        for key in a.keys() - {"crop"}:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)
        differences.append(np.abs(a["crop"].astype(int) - b["crop"]).mean(axis=(1, 2, 3)))
        black += ((b["crop"].max(-1) == 0) & (a["crop"].max(-1) > 40)).sum()
    differences = np.concatenate(differences)
    assert np.median(differences) < 4.5
    assert np.quantile(differences, 0.95) < 14
    assert black / (320 * 256 * 192) < 2e-4  # nothing the augmentation reaches was cut away


def test_evaluation_crops_agree(mini):
    raw, records = (open_pose_dataset(str(path), "val") for path in mini)
    for a, b in zip(eval_batches(raw, 32), eval_batches(records, 32), strict=True):
        np.testing.assert_array_equal(a["valid"], b["valid"])
        assert np.abs(a["crop"].astype(int) - b["crop"]).mean() < 2
    with pytest.raises(UserError, match="crops around annotated boxes only"):
        eval_batches(records, 8, boxes="detections.json")


def test_tensorflow_datasets_reads_them_without_tensorflow(mini):
    _, out = mini
    program = f"""
import sys
import numpy as np, tensorflow_datasets as tfds
from vitpose_jax.data.opening import open_pose_dataset
builder = tfds.builder_from_directory({str(out / "coco_keypoints" / "1.0.0")!r})
source = builder.as_data_source("train")
people = open_pose_dataset({str(out)!r}, "train").people
assert len(source) == len(people)
for row in (0, 7, len(people) - 1):
    np.testing.assert_array_equal(source[row]["keypoints"], people.keypoints[row])
    assert source[row]["annotation_id"] == people.annotation_id[row]
    assert source[row]["image"].ndim == 3
assert "tensorflow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_workers_can_read_records(mini):
    dataset = open_pose_dataset(str(mini[1]), "train")
    a = next(iter(train_batches(dataset, 4, seed=1)))
    b = next(iter(train_batches(dataset, 4, seed=1, num_workers=1)))
    np.testing.assert_array_equal(a["crop"], b["crop"])


def test_an_unfinished_folder_is_not_taken_for_a_finished_one(coco_folder, tmp_path, monkeypatch):
    from vitpose_jax.data.records import writing as module

    out = tmp_path / "records"

    def stop(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_table", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(str(coco_folder), out)
    with pytest.raises(UserError, match=r"unfinished: run the same `vitpose prepare` again"):
        open_pose_dataset(str(out), "train")
    prepare(str(coco_folder), out)
    assert len(open_pose_dataset(str(out), "train")) == 6
    before = (out / "prepared.json").stat().st_mtime_ns
    prepare(str(coco_folder), out)
    assert (out / "prepared.json").stat().st_mtime_ns == before


def test_unreadable_images_are_left_out_of_the_records(coco_folder, tmp_path, caplog):
    (coco_folder / "train2017" / f"{4:012d}.jpg").write_bytes(b"\xff\xd8 no image")
    prepare(str(coco_folder), tmp_path / "out", splits=("train",))
    dataset = open_pose_dataset(str(tmp_path / "out"), "train")
    assert dataset.people.annotation_id.tolist() == [101, 102, 103, 105, 106]
    batch = next(iter(eval_batches(dataset, 5)))
    raw = next(iter(eval_batches(open_pose_dataset(str(coco_folder), "train"), 6)))
    assert np.abs(batch["crop"].astype(int) - raw["crop"][[0, 1, 2, 4, 5]]).mean() < 6
    with pytest.raises(UserError, match="no split 'val', only train"):
        open_pose_dataset(str(tmp_path / "out"), "val")


def test_other_folders_and_settings_are_refused(coco_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"holds other files \(thesis.tex\)"):
        prepare(str(coco_folder), tmp_path / "mine")
    out = tmp_path / "out"
    prepare(str(coco_folder), out)
    with pytest.raises(UserError, match=r"prepared with input_size \(256, 192\), not \(64, 48\)"):
        prepare(str(coco_folder), out, input_size=(64, 48))
    with pytest.raises(UserError, match="already a folder of records"):
        prepare(str(out), tmp_path / "out2")
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(
            UserError, match=rf"{place}: the folder cannot be made .*choose another"
        ):
            prepare(str(coco_folder), place)


def _without_a_key(content: bytes) -> bytes:
    return json.dumps({k: v for k, v in json.loads(content).items() if k != "splits"}).encode()


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("people_train.npz", lambda data: b""),
        ("people_train.npz", lambda data: data[: len(data) // 2]),
        ("people_train.npz", lambda data: data[:60] + bytes(200) + data[260:]),
        ("prepared.json", lambda data: data[: len(data) // 2]),
        ("prepared.json", _without_a_key),
        ("coco_keypoints/1.0.0/dataset_info.json", lambda data: data[: len(data) // 2]),
        ("coco_keypoints/1.0.0/features.json", lambda data: b""),
    ],
)
def test_damaged_folders_are_told(mini, tmp_path, name, spoil):
    source, records = mini
    out = tmp_path / "records"
    shutil.copytree(records, out)
    (out / name).write_bytes(spoil((out / name).read_bytes()))
    with pytest.raises(UserError, match=r"records is damaged \(.*: remove it and prepare it again"):
        open_pose_dataset(str(out), "train")
    if name == "prepared.json":
        with pytest.raises(UserError, match="records is damaged"):
            prepare(str(source), out)


def test_what_a_file_manager_leaves_behind_does_no_harm(mini, tmp_path):
    out = tmp_path / "records"
    shutil.copytree(mini[1], out)
    for folder in (out, out / "coco_keypoints"):
        (folder / ".DS_Store").write_bytes(b"")
    assert len(open_pose_dataset(str(out), "train"))


def test_larger_crops_than_prepared_are_warned_of(coco_folder, tmp_path, caplog):
    out = tmp_path / "out"
    prepare(str(coco_folder), out, input_size=(64, 48))
    with caplog.at_level(logging.WARNING):
        open_pose_dataset(str(out), "train", input_size=(128, 96))
    assert "prepared for crops of 64x48" in caplog.text


def test_the_command(coco_folder, tmp_path, capsys):
    picture = coco_folder / "train2017" / f"{4:012d}.jpg"
    whole = picture.read_bytes()
    picture.write_bytes(b"\xff\xd8 no image")
    out = tmp_path / "out"
    assert main(["prepare", str(coco_folder), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"to train on it, give {out} as the data set\n"
    lines = [line.partition(" ")[2] for line in printed.err.splitlines()]  # less the time of day
    assert lines[0].endswith("train2017.json: 6 of 6 annotations on 6 images are used.")
    assert lines[-4] == f"writing 12 people into {out}"
    assert lines[-3].startswith("skipped image (1 so far): ")
    assert lines[-2:] == [
        f"train: 5 people of {coco_folder} written",
        f"val: 6 people of {coco_folder} written",
    ]
    assert len(open_pose_dataset(str(out), "val")) == 6
    assert not (out / "downloads").exists()

    options = ["prepare", str(coco_folder), "--max-bad-share", "0"]
    assert main([*options, "--out", str(tmp_path / "out2")]) == 2
    assert "1 of 6 images cannot be used (at most 0% are skipped)" in capsys.readouterr().err
    picture.write_bytes(whole)
    assert main([*options, "--out", str(tmp_path / "out2")]) == 0
    assert main(["prepare", str(tmp_path / "gone"), "--out", str(tmp_path / "out3")]) == 2
    assert "no data set at" in capsys.readouterr().err


def test_a_source_that_has_changed_since_is_told(coco_folder, edit_annotations, tmp_path, caplog):
    source = str(coco_folder)
    prepare(source, tmp_path / "records")
    open_pose_dataset(str(tmp_path / "records"), "train")
    assert not caplog.records
    edit_annotations(coco_folder, lambda c: c["annotations"][0].update(bbox=[1, 2, 30, 40]))
    open_pose_dataset(str(tmp_path / "records"), "val")
    assert not caplog.records
    open_pose_dataset(str(tmp_path / "records"), "train")
    assert "records whose source has changed since they were prepared" in caplog.text
    with pytest.raises(UserError, match=r"has changed since .*records was prepared from it"):
        prepare(source, tmp_path / "records")
    caplog.clear()
    coco_folder.rename(tmp_path / "elsewhere")  # out of reach
    open_pose_dataset(str(tmp_path / "records"), "train")
    assert not caplog.records


def test_people_left_out_are_status_1(coco_folder, tmp_path, edit_annotations):
    out = tmp_path / "out"
    options = ["prepare", str(coco_folder), "--splits", "train", "--out", str(out)]
    edit_annotations(coco_folder, lambda content: content["annotations"][0].update(bbox="wide"))
    assert main(options) == 1
    assert len(open_pose_dataset(str(out), "train")) == 5


def test_a_marker_with_other_values_is_told(coco_folder, tmp_path):
    prepare(str(coco_folder), tmp_path / "out", splits=("val",))
    marker = tmp_path / "out" / "prepared.json"
    sound = json.loads(marker.read_text())
    for name, value in (
        ("input_size", [256]),
        ("input_size", "256x192"),
        ("splits", ["val"]),
        ("splits", {"val": None}),
        ("category", 3),
        ("sources", {"val": {"files": 3, "digest": ""}}),
        ("source", None),
    ):
        marker.write_text(json.dumps(sound | {name: value}))
        with pytest.raises(UserError, match=r"is damaged \(prepared\.json holds"):
            open_pose_dataset(str(tmp_path / "out"), "val")
    marker.write_text(marker.read_text()[:-9])
    with pytest.raises(UserError, match="is damaged"):
        open_pose_dataset(str(tmp_path / "out"), "val")
    marker.write_text(json.dumps(sound))
    assert len(open_pose_dataset(str(tmp_path / "out"), "val")) == 6

"""What is written: COCO results that pycocotools reads."""

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.results import coco_result, write_results


def test_an_entry(make_person: Callable[..., Person]) -> None:
    person = make_person(10, 20, box_score=0.5)
    entry = coco_result(person, "000000000139.jpg", 139)
    assert entry["file_name"] == "000000000139.jpg"
    assert entry["image_id"] == 139
    assert entry["category_id"] == 1
    assert entry["bbox"] == [10, 20, 60, 150]
    assert len(entry["keypoints"]) == 3 * 17
    assert np.allclose(np.reshape(entry["keypoints"], (17, 3))[:, :2], person.keypoints, atol=1e-4)
    assert abs(entry["score"] - 0.5 * 0.9) < 1e-6
    assert not {"frame", "track_id"} & set(entry)
    in_video = coco_result(replace(person, track=3), "v.mp4", frame=7)
    assert (in_video["frame"], in_video["track_id"]) == (7, 3)
    assert "image_id" not in in_video


def test_files_are_strict_json_and_replaced_whole(
    tmp_path: Path, make_person: Callable[..., Person]
) -> None:
    path = tmp_path / "r.json"
    lost = replace(make_person(0, 0), box=np.array([1, np.nan, np.inf, 2]), box_score=np.nan)
    lost.keypoints[3], lost.keypoint_scores[3] = np.nan, np.inf  # damaged weights
    write_results(path, [coco_result(lost, "a.jpg"), coco_result(lost, "b.jpg")])
    content = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert [entry["bbox"] for entry in content] == [[1, None, None, 2]] * 2
    assert content[0]["keypoints"][9:12] == [None] * 3
    assert (content[0]["score"], content[0]["bbox_score"]) == (None, None)
    write_results(path, [])
    assert json.loads(path.read_text()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.json").mkdir()
    for path, reason in ((tmp_path / "r.json", "Is a directory"), (tmp_path / "no/r", "No such")):
        with pytest.raises(UserError, match=f"{path}: .*{reason}"):
            write_results(path, [{"score": 1}])
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]  # nothing half-written


def test_pycocotools_reads_them(shared: Path, tmp_path: Path) -> None:
    """The annotated poses as results: a perfect AP."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    path = shared / "data/coco-mini/annotations/person_keypoints_val2017.json"
    content = json.loads(path.read_text())
    results = []
    for entry in content["annotations"]:
        points = np.reshape(entry["keypoints"], (17, 3)).astype(np.float32)
        if entry["num_keypoints"]:
            box = np.array(entry["bbox"])
            person = Person(points[:, :2], np.ones(17, np.float32), box)
            results.append(coco_result(person, "x.jpg", entry["image_id"]))
    write_results(tmp_path / "r.json", results)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(path)
        evaluation = COCOeval(truth, truth.loadRes(str(tmp_path / "r.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] > 0.999

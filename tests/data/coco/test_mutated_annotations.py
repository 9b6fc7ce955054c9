"""Annotation files with something wrong anywhere: read right, told, or refused in one line.

A mutated file may change what perfect predictions score, or who is read, only with a finding.
"""

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose_jax.data.coco.annotations import Annotations, read_annotations
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.coco import PosePredictions, evaluate_coco
from vitpose_jax.keypoints.skeletons import SKELETONS

SIGMAS = np.array(SKELETONS["coco"].sigmas)


def whole_file() -> dict[str, Any]:
    """Four images, ten people, one more without labels, a crowd and a chair, as in COCO."""
    rng = np.random.default_rng(0)
    images = [
        {"id": 10 + i, "file_name": f"{i:03d}.jpg", "width": 640, "height": 480} for i in range(4)
    ]
    annotations: list[dict[str, Any]] = []
    for index in range(12):
        x, y, w, h = 20 + 200 * (index // 4), 30 + index, 120 + index, 300
        flags = rng.integers(0, 3, 17) * (index not in (3, 6))
        points = np.column_stack([rng.integers(x, x + w, 17), rng.integers(y, y + h, 17), flags])
        points[flags == 0] = 0
        annotations.append(
            {
                "id": 100 + index,
                "image_id": 10 + index % 4,
                "category_id": 1,
                "bbox": [x, y, w, h],
                "area": 0.6 * w * h,
                "iscrowd": int(index == 6),
                "num_keypoints": int((flags > 0).sum()),
                "keypoints": points.ravel().tolist(),
            }
        )
    chair = {"id": 900, "image_id": 10, "category_id": 2, "bbox": [1, 2, 30, 40], "area": 9}
    person = {"id": 1, "name": "person", "keypoints": list(SKELETONS["coco"].keypoint_names)}
    categories = [{**person, "skeleton": [[1, 2], [1, 3]]}, {"id": 2, "name": "chair"}]
    return {"images": images, "annotations": [*annotations, chair], "categories": categories}


def perfect(truth: dict[str, Any], image_ids: list[int]) -> PosePredictions:
    """The labelled people of `truth` as predictions, on images that are called `image_ids` now."""
    new = dict(zip((image["id"] for image in truth["images"]), image_ids, strict=False))
    people = [a for a in truth["annotations"] if a.get("num_keypoints") and a["image_id"] in new]
    points = np.array([a["keypoints"] for a in people], float).reshape(-1, 17, 3)
    return PosePredictions(
        keypoints=points[..., :2],
        scores=np.ones(points.shape[:2]),
        box_scores=np.ones(len(people)),
        areas=np.array([float(a["area"]) for a in people]),
        image_ids=np.array([new[a["image_id"]] for a in people], int),
        person_ids=np.arange(len(people)),
    )


WRONG = (None, True, False, "x", "7", " 1", "", 7.5, -3, 0, 10**12, 2**70, 1e308)
WRONG += ([], {}, [[1]], {"a": 1}, float("nan"), float("inf"), -float("inf"))
PLAUSIBLE = (7.5, -3, 0, 1)
"""Coordinates that may well be meant."""


def mutate(content: dict[str, Any], rng: random.Random) -> str:
    """Change one thing, in one, in half or in all entries of a list; says what."""
    key = rng.choice(["images", "annotations", "annotations", "annotations", "categories"])
    entries = content[key]
    chosen = rng.choice([entries[:1], [rng.choice(entries)], entries[::2], entries])
    kind = rng.choice(["remove", "type", "nest", "element", "scale", "duplicate", "drop", "top"])
    field = rng.choice(sorted(chosen[0]))
    value = rng.choice(WRONG)
    if kind == "top":
        content[key] = value
    elif kind == "duplicate":
        content[key] = entries + copy.deepcopy(chosen)
        for entry in content[key][len(entries) :]:
            if field == "id":
                entry["id"] = 10_000 + rng.randrange(10**6)
    elif kind == "drop":
        entries[rng.randrange(len(entries))] = value
    number = rng.choice([0, -1, 1e-3, 100, 1e7])
    for entry in chosen if kind in ("remove", "type", "nest", "element", "scale") else ():
        old = entry.get(field)
        if kind == "remove":
            entry.pop(field, None)
        elif kind == "type" and (field, value) != ("iscrowd", True):
            entry[field] = value
        elif kind == "nest":
            entry[field] = rng.choice([[old], {"value": old}, [[old]]])
        elif kind == "element" and isinstance(old, list) and old:
            old[rng.randrange(len(old))] = "x" if value in PLAUSIBLE else value
        elif kind == "scale" and isinstance(old, list):
            entry[field] = [v * number if isinstance(v, int | float) else v for v in old]
        elif kind == "scale" and isinstance(old, int | float):
            entry[field] = old * number
    return f"{kind} {key} x{len(chosen)} {field} {value!r} {number}"


def read_mutated(path: Path, content: dict[str, Any]) -> Annotations | None:
    """What is read; None where it is refused in one line."""
    path.write_text(json.dumps(content))
    try:
        return read_annotations(path)
    except UserError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1
    return None


def cases() -> Iterator[Any]:
    for seed in range(300):
        yield pytest.param(seed, marks=[pytest.mark.slow] if seed >= 60 else [])


@pytest.mark.parametrize("seed", cases())
def test_nothing_changes_without_a_finding(seed: int, tmp_path: Path) -> None:
    truth = whole_file()
    whole = read_mutated(tmp_path / "whole.json", truth)
    assert whole is not None
    assert not whole.report.is_unusual
    content = whole_file()
    change = mutate(content, random.Random(seed))
    found = read_mutated(tmp_path / "mutated.json", content)
    if found is None:
        return
    found.report.summary()
    image_ids = [image["id"] for image in found.coco["images"]]
    same = len(found.people) == len(whole.people) and all(
        np.array_equal(getattr(found.people, name), getattr(whole.people, name))
        for name in ("keypoints", "visible", "image_row")
    )
    same = same and np.abs(found.people.box - whole.people.box).max() < 30  # may well be meant
    if found.skeleton.num_keypoints == 17:
        predictions = perfect(truth, image_ids)
        stats = evaluate_coco(predictions, found.coco, SIGMAS, use_nms=False)
        same = same and stats["AP"] > 0.9999
        same = same and found.skeleton.flip_pairs == whole.skeleton.flip_pairs
    else:
        same = False
    assert same or found.report.is_unusual, change

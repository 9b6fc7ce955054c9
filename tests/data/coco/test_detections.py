"""A detector's boxes in place of the annotated ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.coco.detections import detected_people
from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.data.people import People
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS


def _dataset(*category_ids: int) -> PoseDataset:
    """A data set of one image, all of whose categories have the same keypoints."""
    categories = [{"id": i, "keypoints": ["nose"]} for i in category_ids]
    return PoseDataset(
        name="own",
        split="val",
        skeleton=SKELETONS["coco"],
        input_size=(64, 48),
        load_people=lambda: People.empty(0, 17),
        images=None,
        image_ids=np.array([5]),
        load_image_wh=lambda: np.array([[64, 48]]),
        load_coco=lambda: {"categories": categories},
    )


def test_people_are_of_the_data_sets_categories(tmp_path: Path) -> None:
    entries = [
        {"image_id": 5, "category_id": i, "bbox": [i, 0, 9, 9], "score": 0.5} for i in (1, 7, 8)
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    assert detected_people(_dataset(7, 8), path).box[:, 0].tolist() == [7, 8]
    assert detected_people(_dataset(1), path).box[:, 0].tolist() == [1]
    with pytest.raises(UserError, match=r"of category_id \[1, 7, 8\], is .*category_id \[3\]"):
        detected_people(_dataset(3), path)

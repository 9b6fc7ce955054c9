"""A detector's boxes in place of the annotated ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.coco.detections import read_detections
from vitpose_jax.errors import UserError


def test_people_are_of_the_data_sets_categories(tmp_path: Path) -> None:
    entries = [
        {"image_id": 5, "category_id": i, "bbox": [i, 0, 9, 9], "score": 0.5} for i in (1, 7, 8)
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(entries))
    images = np.array([5]), np.array([[64, 48]])
    found = read_detections(path, *images, 17, category_ids=(7, 8))
    assert found.box[:, 0].tolist() == [7, 8]
    assert read_detections(path, *images, 17).box[:, 0].tolist() == [1]
    with pytest.raises(UserError, match=r"of category_id \[1, 7, 8\], is .*category_id \[3\]"):
        read_detections(path, *images, 17, category_ids=(3,))

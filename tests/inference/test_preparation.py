"""Crops of many boxes are cut in parts, with the values that they have when cut at once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.errors import UserError
from vitpose_jax.inference import preparation
from vitpose_jax.inference.preparation import crop_parts, prepare_ahead

SIZE = (32, 24)


@pytest.mark.parametrize("kept", [2**23, 10])
def test_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (80, 90, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    boxes = np.column_stack([random.uniform(0, 60, (20, 2)), np.full((20, 2), 25.0)])
    items = [(str(tmp_path / "a.png"), boxes)]
    (whole,) = prepare_ahead(items, SIZE, keep_images=False)
    (crops,) = crop_parts(whole)
    assert len(crops) == 20
    monkeypatch.setattr(preparation, "CROP_BYTES", 3 * SIZE[0] * SIZE[1] * 3)
    monkeypatch.setattr(preparation, "KEPT_BYTES", kept)
    (item,) = prepare_ahead(items, SIZE, keep_images=False)
    parts = list(crop_parts(item))
    assert [len(part) for part in parts] == [3] * 6 + [2]
    np.testing.assert_array_equal(np.concatenate(parts), crops)
    (item,) = prepare_ahead(items, SIZE, keep_images=False)
    (tmp_path / "a.png").unlink()
    parts = list(crop_parts(item))
    assert isinstance(item.error, UserError) == (kept == 10)
    assert len(parts) == (1 if kept == 10 else 7)

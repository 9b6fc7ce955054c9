"""Errors that are addressed to the user get through as they were raised."""

from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError, first_line
from vitpose_jax.files.json_file import read_json
from vitpose_jax.inference.person import as_boxes
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.forecaster import build_forecaster


def test_what_the_user_can_put_right_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="num_heads 5 does not divide"):
        ViTConfig(16, 1, 5)


def test_handlers_of_value_errors_leave_the_message(tmp_path: Path) -> None:
    """Each of these is raised within, or beside, a handler of ValueError."""
    (tmp_path / "empty.json").touch()
    with pytest.raises(UserError, match=r"empty.json: is empty; JSON is expected$"):
        read_json(tmp_path / "empty.json")
    with pytest.raises(UserError, match=r"^config.json: width 64 is not a multiple of 5 heads$"):
        build_forecaster({"kind": "forecaster", "num_heads": 5})
    with pytest.raises(UserError, match=r"must have shape \(N, 4\)"):
        as_boxes([[1, 2, 3]], np.zeros((9, 9, 3), np.uint8))


def test_first_line_of_any_exception() -> None:
    assert first_line(OSError("disk full\nat byte 7")) == "disk full"
    assert first_line(TimeoutError()) == "TimeoutError"

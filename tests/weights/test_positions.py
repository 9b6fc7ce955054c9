"""Interpolated position grids against PyTorch's bicubic interpolation."""

from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.weights import load_pose_model
from vitpose_jax.weights.positions import guess_grid, resize_positions

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(
    ("old", "new"),
    [((14, 14), (16, 12)), ((16, 12), (24, 18)), ((16, 12), (8, 6)), ((16, 12), (5, 31))],
)
def test_grid_as_torch_interpolates_it(old: tuple[int, int], new: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    positions = rng.standard_normal((1, 1 + old[0] * old[1], 5), dtype=np.float32)
    grid = torch.tensor(positions[:, 1:]).reshape(1, *old, 5).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        grid, size=new, mode="bicubic", align_corners=False
    ).permute(0, 2, 3, 1)
    resized = resize_positions(positions, old, new)
    np.testing.assert_array_equal(resized[:, 0], positions[:, 0])
    np.testing.assert_allclose(resized[0, 1:].reshape(*new, 5), expected[0], atol=1e-5)


def test_guess_grid() -> None:
    assert [guess_grid(n, "file") for n in (192, 432, 196)] == [(16, 12), (24, 18), (14, 14)]
    with pytest.raises(UserError, match="file: cannot tell the grid of 77"):
        guess_grid(77, "file")


def test_loading_for_another_size_says_so(golden: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = load_pose_model(golden / "vitpose_tiny_classic.pth", num_heads=3, input_size=(128, 96))
    assert "interpolated (bicubic) from 16x12 to 8x6 for input size 128x96" in caplog.text
    assert model(np.zeros((1, 128, 96, 3), np.float32)).shape == (1, 32, 24, 17)
    with pytest.raises(UserError, match="multiples of 16"):
        load_pose_model(golden / "vitpose_tiny_classic.pth", num_heads=3, input_size=(100, 96))

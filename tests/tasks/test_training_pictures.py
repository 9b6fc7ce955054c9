"""A run's pictures: predictions beside the truth, and curves."""

from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.files.pictures import load_image
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.tasks import pictures
from vitpose_jax.training import curves
from vitpose_jax.training.failures import Failures

SKELETON = SKELETONS["coco"]


def sheet(scores: np.ndarray, people: int = 1) -> np.ndarray:
    """One or more grey crops of 128x96; the truth is 20 pixels to the right of the prediction."""
    crops = np.full((people, 128, 96, 3), 90, np.uint8)
    rng = np.random.default_rng(0)
    points = rng.uniform([10, 10], [60, 110], (people, 17, 2)).astype(np.float32)
    known = np.ones((people, 17), bool)
    known[:, 0] = False
    scores = np.broadcast_to(scores, (people, 17)).astype(np.float32)
    return pictures.draw_crops(crops, points, scores, points + np.float32([20, 0]), known, SKELETON)


def test_the_truth_is_beside_the_prediction() -> None:
    one = sheet(np.ones(17))
    assert one.shape == (256, 2 * 192, 3)
    predicted, true = one[:230, :192], one[:230, 192:]  # without their titles
    drawn = (predicted != 90).any(-1), (true != 90).any(-1)
    assert (np.roll(drawn[0], 40, axis=1) & drawn[1]).sum() / drawn[1].sum() > 0.6
    columns = [np.flatnonzero(each.any(0)).mean() for each in drawn]
    assert columns[1] - columns[0] == pytest.approx(40, abs=6)
    six = sheet(np.ones(17), people=6)
    assert six.shape == (2 * 256 + pictures.GAP, 4 * 2 * 192 + 3 * pictures.GAP, 3)


def test_low_scores_are_faded_not_hidden() -> None:
    sure, faded = (sheet(np.full(17, score))[:230, :192].astype(int) for score in (0.9, 0.1))
    contrast = [np.abs(each - 90).sum() for each in (sure, faded)]
    assert contrast[1] == pytest.approx(pictures.FADED * contrast[0], rel=0.05)
    mixed = sheet(np.where(np.arange(17) < 5, 0.1, 0.9))[:230, :192].astype(int)
    assert contrast[1] < np.abs(mixed - 90).sum() < contrast[0]


def test_the_runs_metric_is_the_largest_curve(tmp_path: Path) -> None:
    rows = [{"step": i, "train/loss": 1 / i, "train/lr": 0.1} for i in range(1, 30)]
    rows += [{"step": i, "eval/AP": i / 40, "eval/AR": None, "eval/AP50": 0.2} for i in (0, 10, 30)]
    failures = Failures()
    curves.draw_curves(rows, "AP", tmp_path / "curves.png", failures)
    height, width, _ = load_image(tmp_path / "curves.png").shape
    assert height > 500
    assert width > 1000

"""Forecast metrics and baselines: against the data's published numbers and closed forms."""

from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.data.motion.windows import MotionWindows, make_track
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation import forecasting

# PCK@50px and mean error in px of frames 1-5, as the data's README gives them.
PUBLISHED = {
    ("test", "zero_velocity"): (".997 .966 .904 .847 .806", "9.0 15.0 20.9 26.4 31.6"),
    ("test", "constant_velocity"): ("1.000 .992 .929 .816 .705", "9.1 15.7 23.7 32.5 42.0"),
    ("validation", "zero_velocity"): (".999 .990 .966 .944 .921", "6.7 10.3 13.8 17.1 20.3"),
    ("validation", "constant_velocity"): ("1.000 .998 .974 .918 .837", "8.1 13.4 19.4 25.9 32.7"),
}


def numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_baselines_score_as_published(shared: Path, split: str) -> None:
    tracks = open_tracks(shared / "data" / "cmu-3dpw", split)
    windows = MotionWindows(tracks, stride=2, complete=True)
    forecasts = {name: forecasting.baseline(name, 5) for name in forecasting.BASELINES}
    results = forecasting.compare(forecasts, windows)
    for (where, name), (pck, error) in PUBLISHED.items():
        if where == split:
            frames = forecasting.per_frame(results[name])
            np.testing.assert_allclose(frames["pck_50px"], numbers(pck), atol=0.00055)
            np.testing.assert_allclose(frames["error_px"], numbers(error), atol=0.06)
    if split == "test":
        best = forecasting.summarize(results["damped_fit"])
        assert best["pck_50px"] == pytest.approx(0.934, abs=0.0005)
        assert best["error_px_last"] == pytest.approx(28.8, abs=0.05)


def line(frames: int = 15, dims: int = 2) -> dict[str, np.ndarray]:
    """Two joints, 100 px apart, moving 10 px a frame."""
    positions = np.zeros((frames, 2, dims))
    positions[..., 0] = 10 * np.arange(frames)[:, None]
    positions[:, 1, 1] = 100
    return MotionWindows([make_track(positions, fps=30)], 10, frames - 10).arrays()


def test_metrics_in_closed_form() -> None:
    windows = line()
    predicted = forecasting.zero_velocity(windows["observed"], windows["observed_visible"], 5)
    metrics = forecasting.per_frame(forecasting.evaluate_forecast(predicted, windows))
    np.testing.assert_allclose(metrics["error_px"], [10, 20, 30, 40, 50])
    np.testing.assert_allclose(metrics["error_heights"], [0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(metrics["pck_50px"], [1, 1, 1, 1, 0])  # 50 is not within 50
    np.testing.assert_allclose(metrics["pck_0.1_box"], [1, 0, 0, 0, 0])
    np.testing.assert_allclose(metrics["pck_0.2_box"], [1, 1, 0, 0, 0])


def test_three_dimensions_in_millimetres() -> None:
    windows = line(dims=3)
    predicted = forecasting.zero_velocity(windows["observed"], windows["observed_visible"], 5)
    metrics = forecasting.evaluate_forecast(predicted, windows)
    np.testing.assert_allclose(metrics["error_mm"][:, 0], 10_000 * np.arange(1, 6))
    assert "error_px" not in metrics


def test_linear_baselines_follow_a_line() -> None:
    windows = line()
    args = windows["observed"], windows["observed_visible"]
    np.testing.assert_allclose(
        forecasting.constant_velocity(*args, 5), windows["future"], atol=1e-3
    )
    fit = forecasting.linear_fit(*args, 5, fitted=4, damping=0.5)
    travel = fit[0, :, 0, 0] - windows["observed"][0, -1, 0, 0]
    np.testing.assert_allclose(travel, 10 * np.array([1, 1.5, 1.75, 1.875, 1.9375]), rtol=1e-5)


def test_missing_joints_count_nowhere() -> None:
    windows = line()
    windows["future_visible"][:, 2:, 1] = False
    windows["observed_visible"][:, -1, 1] = False
    predicted = forecasting.constant_velocity(windows["observed"], windows["observed_visible"], 5)
    np.testing.assert_allclose(predicted[0, :, 1, 0], 80)  # last seen one frame before
    metrics = forecasting.evaluate_forecast(predicted, windows)
    assert np.isnan(metrics["error_px"][2:, 1]).all()
    np.testing.assert_allclose(metrics["error_px"][:2, 1], [20, 30])
    frames = forecasting.per_frame(metrics)
    np.testing.assert_allclose(frames["error_px"], [10, 15, 0, 0, 0], atol=1e-3)


def test_a_frame_without_anybody_has_no_figures() -> None:
    windows = line()
    windows["future_visible"][:, -1] = False
    predicted = forecasting.zero_velocity(windows["observed"], windows["observed_visible"], 5)
    results = forecasting.evaluate_forecast(predicted, windows)
    summary = forecasting.summarize(results)
    assert np.isnan(summary["error_px_last"])
    assert np.isnan(summary["error_heights_last"])
    assert summary["error_px"] == pytest.approx(25)
    assert "| still | 25 | 10 |" in forecasting.table({"still": results}, "error_px")


def test_errors_in_sizes_weigh_people_with_a_size() -> None:
    windows = {key: np.repeat(value, 3, axis=0) for key, value in line().items()}
    windows["observed_visible"][1:, :, 1] = False  # two people of one joint: a box without sides
    windows["future_visible"][0, :, 0] = False
    predicted = windows["future"].copy()
    predicted[0, :, 1, 0] += 50
    frames = forecasting.per_frame(forecasting.evaluate_forecast(predicted, windows))
    np.testing.assert_allclose(frames["error_heights"], 0.5)
    np.testing.assert_allclose(frames["error_px"], 50 / 5)


def test_forecasts_that_do_not_fit() -> None:
    windows = line()
    with pytest.raises(UserError, match="other joints"):
        forecasting.evaluate_forecast(np.zeros((6, 4, 2, 2)), windows)
    with pytest.raises(UserError, match="not finite"):
        forecasting.evaluate_forecast(np.full(windows["future"].shape, np.nan), windows)
    with pytest.raises(UserError, match="no baseline 'x'"):
        forecasting.baseline("x", 5)


def test_batches_are_padded_not_counted() -> None:
    windows = line(frames=31)
    windows = {key: np.repeat(value, 7, axis=0) for key, value in windows.items()}
    windows["observed"] = windows["observed"] + np.arange(7, dtype=np.float32)[:, None, None, None]
    sizes = []

    def forecast(observed, visible):
        sizes.append(len(observed))
        return forecasting.zero_velocity(observed, visible, 21)

    out = forecasting.forecast_windows(forecast, windows, batch_size=3)
    assert sizes == [3, 3, 3]
    np.testing.assert_array_equal(out[:, 0], windows["observed"][:, -1])


def test_tables_name_rows_and_joints() -> None:
    windows = line()
    predicted = forecasting.zero_velocity(windows["observed"], windows["observed_visible"], 5)
    results = {"still": forecasting.evaluate_forecast(predicted, windows)}
    text = forecasting.table(results, "pck_50px")
    assert "| still | 80.0 | 100.0 | 100.0 | 100.0 | 100.0 | 0.0 |" in text
    assert "| hip | 50 |" in forecasting.joint_table(results, "error_px", ["hip", "knee"])


def test_coverage_of_gaussian_errors() -> None:
    """Radii at the chi distribution's quantiles hold 50% and 90%; missing joints do not count."""
    rng = np.random.default_rng(0)
    true = np.zeros((2000, 2, 3, 2), np.float32)
    predicted = rng.normal(0, 1, true.shape).astype(np.float32)
    radii = np.broadcast_to(np.sqrt([2 * np.log(2), 2 * np.log(10)]), (*true.shape[:3], 2))
    visible = np.ones(true.shape[:3], bool)
    visible[:, :, 1] = False
    predicted[:, :, 1] = 100
    shares = forecasting.coverage(predicted, radii.astype(np.float32), true, visible)
    np.testing.assert_allclose(shares, [[0.5, 0.9]] * 2, atol=0.025)


def test_damped_root_moves_the_pose_as_it_is() -> None:
    observed = np.zeros((1, 3, 2, 3), np.float32)
    observed[0, 2] = [[1, 0, 0], [3, 0, 0]]  # the mean step is 2
    future = forecasting.damped_root(observed, np.ones((1, 3, 2), bool), 3, damping=0.5)
    np.testing.assert_allclose(future[0, :, :, 0], [[3, 5], [4, 6], [4.5, 6.5]])

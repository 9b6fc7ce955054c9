"""Evaluating forecasts: baselines to compare with, and metrics per future frame and joint."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from vitpose_jax.data.motion import somof
from vitpose_jax.data.motion.windows import MotionWindows, last_seen, person_size
from vitpose_jax.errors import UserError

Forecast = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From observed joints, float32 (B, n, J, D), and their visibility, bool (B, n, J), to all future
frames, (B, m, J, D)."""

Observed = Float[np.ndarray, "batch observed joints dims"]
Visible = Bool[np.ndarray, "batch observed joints"]
Future = Float32[np.ndarray, "batch future joints dims"]

PIXELS = 50.0
"""Threshold of the original predictor's score: a hit is strictly closer."""

VIM_FRAMES = (2, 4, 8, 10, 14)
"""Future frames, from 1, at which SoMoF scores: called 100, 240, 500, 640 and 900 ms."""

COUNTS = ("count", "sized")
"""The metrics that count the joints which the other metrics average over."""

BY_SIZE = ("error_heights", "pck_0.1_box", "pck_0.2_box")
"""The metrics that average over `sized` joints; all others average over `count`."""

ROOT_DAMPING = 0.9
"""Share of its velocity that the body's centre keeps from frame to frame (at 15 a second)."""

DAMPING = 0.5
"""Share of the velocity that the damped fit keeps from frame to frame. Of 0.5, 0.55, ..., 1 it has
the smallest fifth-frame error on the training split of CMU motion in 3DPW's layout, 2D detections.
"""


def zero_velocity(observed: Observed, visible: Visible, frames: int) -> Future:
    """The last seen position of every joint, `frames` times."""
    return np.repeat(last_seen(observed, visible)[:, None], frames, axis=1)


def constant_velocity(observed: Observed, visible: Visible, frames: int) -> Future:
    """The step between the last two frames, repeated; zero if a joint is unseen in either."""
    return linear_fit(observed, visible, frames, fitted=2, damping=1.0)


def damped_fit(observed: Observed, visible: Visible, frames: int) -> Future:
    """The line through the last three frames, each further step shorter than the one before."""
    return linear_fit(observed, visible, frames, fitted=3, damping=DAMPING)


def root_velocity(observed: Observed, visible: Visible, frames: int) -> Future:
    """The last pose moved on, as it is, by the mean step of the joints between the last frames."""
    return damped_root(observed, visible, frames, damping=1.0)


def damped_root(
    observed: Observed, visible: Visible, frames: int, damping: float = ROOT_DAMPING
) -> Future:
    """As `root_velocity`, each further step shorter than the one before."""
    if observed.shape[1] < 2:
        return zero_velocity(observed, visible, frames)
    both = (visible[:, -1] & visible[:, -2])[..., None]
    step = np.where(both, observed[:, -1] - observed[:, -2], 0)
    velocity = step.sum(1, keepdims=True) / np.maximum(both.sum(1, keepdims=True), 1)
    travel = np.cumsum(damping ** np.arange(frames))[None, :, None, None]
    return (last_seen(observed, visible)[:, None] + travel * velocity[:, None]).astype(np.float32)


def linear_fit(
    observed: Observed, visible: Visible, frames: int, *, fitted: int, damping: float
) -> Future:
    """Move on from the last pose at the least-squares velocity of the last `fitted` frames.

    Future step k = 1, 2, ... is damping^(k-1) times that velocity. A joint that is not visible in
    all of those frames stays where it was last seen.
    """
    fitted = min(fitted, observed.shape[1])
    time = np.arange(fitted) - (fitted - 1) / 2
    weights = time / max((time**2).sum(), 1e-9)
    velocity = np.einsum("t,btjd->bjd", weights, observed[:, -fitted:])
    velocity = np.where(np.expand_dims(visible[:, -fitted:].all(1), -1), velocity, 0)
    travel = np.cumsum(damping ** np.arange(frames))[None, :, None, None]
    return (last_seen(observed, visible)[:, None] + travel * velocity[:, None]).astype(np.float32)


BASELINES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "zero_velocity": zero_velocity,
    "constant_velocity": constant_velocity,
    "damped_fit": damped_fit,
}
"""Those of every evaluation."""

SCENE_BASELINES = {
    "zero_velocity": zero_velocity,
    "constant_velocity": constant_velocity,
    "root_velocity": root_velocity,
    "damped_root": damped_root,
}
"""Those of scenes in 3D."""


def baseline(name: str, frames: int) -> Forecast:
    """A baseline by name, as a forecast of `frames` frames.

    Raises:
        UserError: there is no such baseline.
    """
    known = BASELINES | SCENE_BASELINES
    if name not in known:
        raise UserError(f"no baseline {name!r}; choose one of {', '.join(known)}")
    return lambda observed, visible: known[name](observed, visible, frames)


def forecast_windows(
    forecast: Forecast, windows: Mapping[str, np.ndarray], batch_size: int = 512
) -> np.ndarray:
    """Forecast all windows, float32 (N, m, J, D), in batches padded to the same size."""
    observed, visible = windows["observed"], windows["observed_visible"]
    count, size = len(observed), min(batch_size, len(observed))
    parts = []
    for first in range(0, count, size):
        rows = np.minimum(np.arange(first, first + size), count - 1)
        parts.append(np.asarray(forecast(observed[rows], visible[rows]), np.float32))
    return np.concatenate(parts)[:count]


def vim(
    predicted: Float[np.ndarray, "..."], true: Float[np.ndarray, "..."]
) -> Float64[np.ndarray, " 6"]:
    """SoMoF's score ("visibility-ignored metric") at `VIM_FRAMES` and these five's mean, in cm.

    At each frame it is the root of the sum of squared errors over a person's joints and axes,
    averaged over people and scenes.

    Args:
        predicted, true: (scenes, people, 14, 13, 3), metres.

    Raises:
        UserError: the arrays are not SoMoF's, differ in shape, are not finite or not in metres.
    """
    for name, joints in (("predicted", predicted), ("true", true)):
        shape = np.shape(joints)
        if len(shape) != 5 or shape[2:] != (somof.FUTURE, len(somof.JOINTS), 3):
            raise UserError(
                f"vim: {name} is {shape}, not (scenes, people, {somof.FUTURE} frames, "
                f"{len(somof.JOINTS)} joints, 3)"
            )
        somof.check_numbers(np.asarray(joints), f"vim: {name}")
    if np.shape(predicted) != np.shape(true) or not np.size(true):
        raise UserError(f"vim: predicted is {np.shape(predicted)}, but true {np.shape(true)}")
    somof.refuse_other_units(np.asarray(true), "vim: true")
    error = np.asarray(predicted, np.float64) - np.asarray(true, np.float64)
    distance = np.sqrt(np.square(error).sum((-1, -2))).mean((0, 1))
    frames = 100 * distance[np.array(VIM_FRAMES) - 1]
    return np.append(frames, frames.mean())


def evaluate_forecast(
    predicted: np.ndarray, windows: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """All metrics of a forecast, per future frame and joint; only visible joints count.

    Args:
        predicted: (N, m, J, D), pixels if D is 2, metres if 3.
        windows: arrays of `MotionWindows.arrays()`.

    Returns:
        float64 (m, J) arrays by name, NaN where nothing is visible:
            `pck_50px` (share of joints closer than 50 px) and `error_px` in 2D, `error_mm` in 3D;
            `error_heights`, the error in units of the longest side of the box around the last
            observed pose, and `pck_0.1_box` and `pck_0.2_box`, the shares of joints within 0.1 and
            0.2 of that side;
            `count`, the number of visible joints, and `sized`, that of people whose last observed
            pose has a size.

    Raises:
        UserError: the forecast does not fit the windows or is not finite.
    """
    truth, visible = windows["future"], windows["future_visible"]
    if predicted.shape != truth.shape:
        raise UserError(
            f"the forecast is {predicted.shape}, but the windows need {truth.shape} (windows, "
            "frames, joints, dimensions): was the model trained for other joints or another "
            "horizon?"
        )
    if not np.isfinite(predicted).all():
        raise UserError("the forecast contains values that are not finite numbers")
    error = np.linalg.norm(predicted.astype(np.float64) - truth, axis=-1)
    last = last_seen(windows["observed"], windows["observed_visible"])
    size = person_size(last, np.any(windows["observed_visible"], axis=1)).astype(np.float64)
    sized = visible & (size > 0)[:, None, None]
    relative = error / np.where(size > 0, size, 1)[:, None, None]
    metrics = {
        "error_heights": _mean(relative, sized),
        "pck_0.1_box": _mean(relative <= 0.1, sized),
        "pck_0.2_box": _mean(relative <= 0.2, sized),
        "count": visible.sum(0).astype(np.float64),
        "sized": sized.sum(0).astype(np.float64),
    }
    if truth.shape[-1] == 3:
        return {"error_mm": _mean(1000 * error, visible), **metrics}
    return {
        "pck_50px": _mean(error < PIXELS, visible),
        "error_px": _mean(error, visible),
        **metrics,
    }


def coverage(
    predicted: Float[np.ndarray, "windows future joints dims"],
    radii: Float[np.ndarray, "windows future joints radii"],
    true: Float[np.ndarray, "windows future joints dims"],
    visible: Bool[np.ndarray, "windows future joints"],
) -> Float64[np.ndarray, "future radii"]:
    """What share of the visible true positives lies within each radius, by future frame.

    For a calibrated forecaster these are 50% and 90%. NaN where nothing is visible.
    """
    within = np.linalg.norm(predicted - true, axis=-1)[..., None] <= radii
    counted = visible[..., None] * np.ones(radii.shape[-1])
    with np.errstate(invalid="ignore"):
        return (within * counted).sum((0, 2)) / counted.sum((0, 2))


def per_frame(metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Means (m,) over the joints of all metrics except the counts; NaN where there are none."""
    frames = {}
    for name, values in metrics.items():
        if name not in COUNTS:
            count = metrics["sized" if name in BY_SIZE else "count"]
            with np.errstate(invalid="ignore"):
                frames[name] = np.nansum(values * count, axis=1) / count.sum(1)
    return frames


def mean_frame(values: np.ndarray) -> float:
    """The mean over the future frames that have a value; NaN if none has."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def summarize(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Scalars for logs: each metric's mean over future frames, and its value at the last."""
    summary = {}
    for name, values in per_frame(metrics).items():
        summary[name] = mean_frame(values)
        summary[f"{name}_last"] = float(values[-1])
    return summary


def compare(
    forecasts: Mapping[str, Forecast], windows: MotionWindows
) -> dict[str, dict[str, np.ndarray]]:
    """The metrics of several forecasts on the same windows, by forecast name."""
    arrays = windows.arrays()
    return {
        name: evaluate_forecast(forecast_windows(forecast, arrays), arrays)
        for name, forecast in forecasts.items()
    }


def table(results: Mapping[str, Mapping[str, np.ndarray]], metric: str) -> str:
    """One metric as Markdown: a row per forecast, a column per future frame."""
    frames = {name: per_frame(metrics)[metric] for name, metrics in results.items()}
    shown = (lambda v: f"{100 * v:.1f}") if metric.startswith("pck") else (lambda v: f"{v:.4g}")
    numbers = [str(k + 1) for k in range(len(next(iter(frames.values()))))]
    rows = {name: map(shown, (mean_frame(v), *v)) for name, v in frames.items()}
    return _markdown((metric, "mean", *numbers), rows)


def vim_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """VIM as Markdown: a row per forecast, a column per frame and their mean."""
    header = ("VIM, cm", *next(iter(rows.values())))
    return _markdown(header, {n: [f"{v:.2f}" for v in row.values()] for n, row in rows.items()})


def joint_table(
    results: Mapping[str, Mapping[str, np.ndarray]], metric: str, names: list[str], frame: int = -1
) -> str:
    """One metric at one future frame as Markdown: a row per joint, a column per forecast."""
    values = [metrics[metric][frame] for metrics in results.values()]
    rows = {name: [f"{v[joint]:.4g}" for v in values] for joint, name in enumerate(names)}
    return _markdown((metric, *results), rows)


def _markdown(header: Sequence[str], rows: Mapping[str, Iterable[str]]) -> str:
    lines = [header, *((name, *cells) for name, cells in rows.items())]
    first, *others = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([first, "|---" * len(header) + "|", *others])


def _mean(values: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The mean of values (N, m, J) over the windows in which they are visible."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(visible, values, 0).sum(0) / visible.sum(0)

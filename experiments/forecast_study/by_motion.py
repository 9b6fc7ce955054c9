"""Where a forecaster of projected joints is good and where not: by action, and on the windows that
its sibling on detections is scored on."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.data.motion.windows import MotionWindows
from vitpose_jax.evaluation import forecasting
from vitpose_jax.tasks.forecasting import as_forecast, open_forecaster

OURS = "ours"


def errors_by_motion(folder: str, runs: Sequence[Path], split: str = "test") -> dict[str, dict]:
    """Mean error in pixels at the last frame, projected joints, by subset of the windows.

    Args:
      folder: the one with `sequenceFiles`.
      runs: trainings on projected joints, of several seeds.

    Returns:
      {subset: {"windows": how many, baseline: error, .., "ours": one error a run}}; the subsets are
      all windows, those in which the 2D detections are complete, and each action's.
    """
    windows = _windows(folder, split, "projected")
    arrays = windows.arrays()

    def errors(forecast: forecasting.Forecast) -> np.ndarray:
        off = forecasting.forecast_windows(forecast, arrays) - arrays["future"]
        return np.linalg.norm(off[:, -1], axis=-1).mean(-1)

    baselines = {
        name: errors(forecasting.baseline(name, windows.future)) for name in forecasting.BASELINES
    }
    ours = [errors(as_forecast(open_forecaster(run))) for run in runs]
    # Both inputs have one track an actor, in the same order: a window is a track and a first frame.
    detected = set(map(tuple, _windows(folder, split, "detections").starts.tolist()))
    actions = np.array([action(windows.tracks[track].name) for track in windows.starts[:, 0]])
    subsets = {
        "all": np.ones(len(actions), bool),
        "detections complete": np.array([tuple(s) in detected for s in windows.starts.tolist()]),
    } | {name: actions == name for name in dict.fromkeys(actions.tolist())}
    return {
        name: {"windows": int(mask.sum())}
        | {baseline: float(error[mask].mean()) for baseline, error in baselines.items()}
        | {OURS: [float(error[mask].mean()) for error in ours]}
        for name, mask in subsets.items()
    }


def action(track: str) -> str:
    """What is done in a track: soccer in "walking_09__soccer_02/1"; both sets of walks are one."""
    name, _, actor = track.partition("/")
    parts = name.split("__")
    part = parts[int(actor)] if actor and int(actor) < len(parts) else parts[0]
    return re.sub(r"_\d+$", "", part).removesuffix("_extra")


def by_motion_table(subsets: dict[str, dict]) -> str:
    """Errors of the baselines, ours as mean (least to most of the seeds), and by how much ours is
    below the best baseline."""
    names = list(forecasting.BASELINES)
    columns = ["windows", *names, OURS, "below the best"]
    lines = [f"| error px at the last frame, projected joints | {' | '.join(columns)} |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for subset, row in subsets.items():
        ours, best = np.array(row[OURS]), min(row[name] for name in names)
        below = 100 * (1 - ours / best)
        cells = [str(row["windows"]), *(f"{row[name]:.1f}" for name in names)]
        cells.append(f"{ours.mean():.2f} ({ours.min():.2f}-{ours.max():.2f})")
        cells.append(f"{below.mean():.1f}% ({below.min():.1f}-{below.max():.1f})")
        lines.append(f"| {subset} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _windows(folder: str, split: str, kind: str) -> MotionWindows:
    return MotionWindows(open_tracks(folder, split, kind), stride=2, complete=True)

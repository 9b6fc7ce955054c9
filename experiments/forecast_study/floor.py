"""What stands in a forecaster's way: the detections' noise, and the camera's motion."""

from pathlib import Path

import numpy as np

from vitpose_jax.data.motion import threedpw
from vitpose_jax.data.motion.viewpoints import COCO_BODY_IN_SMPL
from vitpose_jax.data.motion.windows import MotionTrack, MotionWindows
from vitpose_jax.evaluation import forecasting
from vitpose_jax.tasks.forecasting import (
    ForecastSettings,
    as_forecast,
    open_forecaster,
    open_windows,
)
from vitpose_jax.training import workdir
from vitpose_jax.training.settings import read_part

BODY = slice(5, 17)
"""COCO's shoulders to ankles: the keypoints whose true places the files know."""


def noise_floor(folder: str, split: str = "test") -> dict[str, float]:
    """Error of the projected 3D joints against the detections, in the windows that are scored.

    Shoulders to ankles only: where the true nose, eyes and ears are, the files do not say.
    """
    detected, true = [], []
    for sequence in threedpw.read_split(folder, split):
        for track, actor in zip(threedpw.detection_tracks(sequence), sequence.actors, strict=True):
            points = threedpw.project(actor.joints3d, sequence.cam_poses, sequence.intrinsics)
            places = np.nan_to_num(track.positions.copy())
            places[:, BODY] = points[:, COCO_BODY_IN_SMPL]
            detected.append(track)
            true.append(MotionTrack(track.name, places, track.visible, track.frame_ids, track.fps))
    seen = MotionWindows(detected, stride=2, complete=True).arrays()["future"][:, :, BODY]
    perfect = MotionWindows(true, stride=2, complete=True).arrays()["future"][:, :, BODY]
    error = np.linalg.norm(seen - perfect, axis=-1)
    return {"error_px": float(error.mean()), "pck_50px": float((error < 50).mean())}


def parts_of_error(run: Path) -> dict[str, list[float]]:
    """Errors of a run on test per future frame: of the joints, of their centre, and around it.

    The centre moves as the person walks and the camera follows and shakes.
    """
    settings = read_part(ForecastSettings, workdir.read_run(run).config)
    windows = open_windows(settings, "test", stride=2, complete=True).arrays()
    predicted = forecasting.forecast_windows(as_forecast(open_forecaster(run)), windows)
    error = predicted - windows["future"]
    centre = error.mean(2, keepdims=True)
    parts = {"joints": error, "centre": centre, "around the centre": error - centre}
    return {
        name: np.linalg.norm(part, axis=-1).mean((0, 2)).tolist() for name, part in parts.items()
    }

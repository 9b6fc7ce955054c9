"""How far one comes with the cameras of the observed frames known: people forecast in the world,
cameras by a linear fit, one seen through the other."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vitpose_jax.data.motion import threedpw
from vitpose_jax.evaluation import forecasting
from vitpose_jax.tasks.forecasting import as_forecast, open_forecaster

OBSERVED, FUTURE = 10, 5
RIDGE = 1e-5
"""Chosen on validation among 1e-6 .. 1e-2; up to 1e-5 the result is the same."""


def with_known_cameras(folder: str, run: Path) -> dict[str, list[float]]:
    """Mean error in pixels of the projected joints on test, per future frame.

    Args:
      folder: the one with `sequenceFiles`.
      run: a training on 3D joints.
    """
    test = _windows(folder, "test")
    shown = {"observed": test["joints"][:, :OBSERVED], "future": test["joints"][:, OBSERVED:]}
    shown["observed_visible"] = np.ones(shown["observed"].shape[:3], bool)
    people = forecasting.forecast_windows(as_forecast(open_forecaster(run)), shown)
    turns, places = _forecast_cameras(_windows(folder, "train", stride=1), test)
    true = test["turns"][:, OBSERVED:], test["places"][:, OBSERVED:]
    seen = _project(test, shown["future"], *true)
    rows = {
        "our 3D joints, true cameras": _project(test, people, *true),
        "our 3D joints, forecast cameras": _project(test, people, turns, places),
        "true 3D joints, forecast cameras": _project(test, shown["future"], turns, places),
    }
    return {
        name: np.linalg.norm(points - seen, axis=-1).mean((0, 2)).tolist()
        for name, points in rows.items()
    }


def _windows(folder: str, split: str, stride: int = 2) -> dict[str, np.ndarray]:
    """Windows in which the person is in view, cameras relative to the last observed one.

    joints (N, T, J, 3) metres in the world; rotation (N, 3, 3) and centre (N, 3) of the last
    observed camera; turns (N, T, 3) rotation vectors and places (N, T, 3) in its frame; intrinsics
    (N, 3, 3).
    """
    rows = []
    for sequence in threedpw.read_split(folder, split):
        rotations = sequence.cam_poses[:, :3, :3].astype(np.float64)
        centres = -np.einsum("tji,tj->ti", rotations, sequence.cam_poses[:, :3, 3])
        for actor, valid in zip(sequence.actors, sequence.cam_valid, strict=True):
            usable = valid & np.isfinite(actor.joints3d).all((1, 2))
            for start in range(0, len(usable) - OBSERVED - FUTURE + 1, stride):
                frames = slice(start, start + OBSERVED + FUTURE)
                if usable[frames].all():
                    last = start + OBSERVED - 1
                    relative = Rotation.from_matrix(rotations[frames] @ rotations[last].T)
                    places = (centres[frames] - centres[last]) @ rotations[last].T
                    poses = rotations[last], centres[last], relative.as_rotvec(), places
                    rows.append((actor.joints3d[frames], *poses, sequence.intrinsics))
    names = ("joints", "rotation", "centre", "turns", "places", "intrinsics")
    return {
        name: np.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }


def _forecast_cameras(train: dict, test: dict) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression of the cameras to come on how cameras and person moved: turns, places."""

    def features(windows: dict) -> np.ndarray:
        walk = _in_last_camera(windows, windows["joints"][:, :OBSERVED]).mean(2)
        moves = [windows["turns"][:, :OBSERVED], windows["places"][:, :OBSERVED], walk]
        columns = [np.diff(move, axis=1).reshape(len(walk), -1) for move in moves]
        return np.concatenate([*columns, walk[:, -1]], axis=1)

    x = features(train)
    y = np.concatenate([train["turns"][:, OBSERVED:], train["places"][:, OBSERVED:]], axis=-1)
    y = y.reshape(len(x), -1)
    mean, spread = x.mean(0), x.std(0) + 1e-9
    x = (x - mean) / spread
    penalty = RIDGE * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ (y - y.mean(0)))
    found = (features(test) - mean) / spread @ weights + y.mean(0)
    turns, places = np.split(found.reshape(len(found), FUTURE, 6), 2, axis=-1)
    return turns, places


def _in_last_camera(windows: dict, joints: np.ndarray) -> np.ndarray:
    """(N, T, J, 3) world -> the frame of the last observed camera."""
    around = joints - windows["centre"][:, None, None]
    return np.einsum("nij,ntkj->ntki", windows["rotation"], around)


def _project(
    windows: dict, joints: np.ndarray, turns: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """Joints (N, T, J, 3) in the world as cameras at turns, places see them: (N, T, J, 2)."""
    rotations = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(*turns.shape, 3)
    around = _in_last_camera(windows, joints) - places[:, :, None]
    points = np.einsum("ntij,ntkj->ntki", rotations, around)
    homogeneous = np.einsum("nij,ntkj->ntki", windows["intrinsics"], points)
    return homogeneous[..., :2] / homogeneous[..., 2:]

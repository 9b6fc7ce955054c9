"""Forecasting the motion of the people in a video."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from vitpose_jax.data.motion.resampling import resample
from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.files.video_streams import DEFAULT_FPS
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.inference.draw import draw_ghosts, draw_people
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.results import name_in_json
from vitpose_jax.inference.tracking import TIME_ROUNDING
from vitpose_jax.keypoints.skeletons import Skeleton
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.models.forecaster_config import COVERAGES
from vitpose_jax.models.pose_predictor import PosePredictor

BATCH = 256

People = Sequence[Sequence[Person]]
"""The tracked people of every frame of a video."""


@dataclass(frozen=True)
class Future:
    """A person's forecast poses.

    Attributes:
        poses: float32 (m, K, 2), pixels.
        after_seconds: (m,) times of the poses, counted from the forecast's frame.
        radii: float32 (m, K, 2), pixels around each joint that hold 50% and 90% of the true
            positions; None if the forecaster does not say.
    """

    poses: np.ndarray
    after_seconds: np.ndarray
    radii: np.ndarray | None = None


Futures = dict[tuple[int, int], Future]
"""Forecasts by (frame of the video, track)."""


STEADY = 0.2
"""By what share of its median length a frame of a steady video may differ."""


def frame_rate(times: np.ndarray) -> tuple[float, bool]:
    """A video's mean frames per second, and whether all its frames are about equally long."""
    if len(times) < 2:
        return DEFAULT_FPS, True
    lengths = np.diff(times)
    usual = float(np.median(lengths))
    steady = bool((np.abs(lengths - usual) <= STEADY * usual + TIME_ROUNDING).all())
    return (len(times) - 1) / float(times[-1] - times[0]), steady


def resample_tracks(
    tracks: Mapping[int, MotionTrack], times: np.ndarray, fps: float
) -> dict[int, MotionTrack]:
    """Resample the tracks of a video, whose frames are at `times` (seconds), to a steady rate."""
    return {
        number: resample(track, fps, times[track.frame_ids]) for number, track in tracks.items()
    }


def motion_tracks(frames: People, fps: float, min_score: float) -> dict[int, MotionTrack]:
    """Every person's motion from their first to their last frame, by track number.

    Keypoints with a score below `min_score` and frames in which the person is lost are missing.
    """
    seen: dict[int, dict[int, Person]] = defaultdict(dict)
    for index, people in enumerate(frames):
        for person in people:
            if person.track is not None:
                seen[person.track][index] = person
    tracks = {}
    for number, poses in seen.items():
        first, last = min(poses), max(poses)
        joints = len(poses[first].keypoints)
        positions = np.full((last - first + 1, joints, 2), np.nan, np.float32)
        for index, person in poses.items():
            good = (person.keypoint_scores >= min_score) & (person.keypoint_scores > 0)
            positions[index - first][good] = person.keypoints[good]
        ids = np.arange(first, last + 1)
        tracks[number] = make_track(positions, fps=fps, name=f"person {number}", frame_ids=ids)
    return tracks


def forecast_tracks(
    model: Forecaster | PosePredictor, tracks: Mapping[int, MotionTrack], times: np.ndarray
) -> Futures:
    """Forecast from every frame in which a person is seen and has been tracked long enough.

    The tracks' rate may differ from that of the video, whose frames are at `times` (seconds). A
    forecast is assigned to the first frame of the video at which all its input has been seen; if
    several are assigned to one frame, the last is kept.
    """
    n, keys, late, observed, visible = model.config.observed, [], [], [], []
    for number, track in tracks.items():
        for end in range(n, len(track.frame_ids) + 1):
            seen = track.visible[end - n : end]
            whole = track.frame_ids[end - 1] - track.frame_ids[end - n] == n - 1
            if whole and seen[-1].any() and seen.any(1).sum() >= max(2, n // 2):
                time = track.frame_ids[end - 1] / track.fps
                frame = int(np.searchsorted(times, time - 1e-6))
                keys.append((frame, number))
                late.append(times[frame] - time)
                observed.append(track.positions[end - n : end])
                visible.append(seen)
    if not keys:
        return {}
    spread = isinstance(model, Forecaster) and model.config.spread
    run = nnx.jit(
        lambda model, x, v: model.with_spread(x, v) if spread else (model.forecast(x, v), None)
    )
    size, results = min(BATCH, len(keys)), []
    for first in range(0, len(keys), size):
        rows = np.minimum(np.arange(first, first + size), len(keys) - 1)
        batch = np.stack([observed[r] for r in rows]), np.stack([visible[r] for r in rows])
        results.append(jax.device_get(run(model, *batch)))
    poses = np.concatenate([result[0] for result in results])
    radii = np.concatenate([result[1] for result in results]) if spread else [None] * len(poses)
    steps = np.arange(1, poses.shape[1] + 1) / next(iter(tracks.values())).fps
    return {
        key: Future(pose, steps - seconds, radius)
        for key, pose, seconds, radius in zip(keys, poses, late, radii, strict=False)
    }


def forecast_results(name: str, futures: Futures, times: np.ndarray) -> Iterator[dict[str, Any]]:
    """One JSON entry for each forecast of the video `name`, whose frames are at `times` (seconds).

    Values that are not finite are null. `radii_50` and `radii_90` are there if they are known.
    """
    for (frame, track), future in sorted(futures.items(), key=lambda item: item[0]):
        entry = {
            "file_name": name_in_json(name),
            "frame": frame,
            "time": round(float(times[frame]), 4),
            "track_id": track,
            "after_seconds": np.round(future.after_seconds, 4).tolist(),
            "keypoints": _in_json(future.poses),
        }
        if future.radii is not None:
            for index, share in enumerate(COVERAGES):
                entry[f"radii_{100 * share:.0f}"] = _in_json(future.radii[..., index])
        yield entry


def _in_json(values: np.ndarray) -> list[Any]:
    rounded = np.round(values, 2).astype(object)
    rounded[~np.isfinite(values)] = None
    return rounded.tolist()


def draw_video(
    video: Path,
    path: Path,
    frames: People,
    futures: Futures,
    skeleton: Skeleton,
    min_score: float,
) -> list[str]:
    """Draw a video's people and their forecasts; return problems with the video file.

    Raises:
        UserError: it cannot be read or written.
    """
    with VideoReader(video) as reader, VideoWriter(path, reader.fps) as writer:
        for index, image in enumerate(reader):
            people = frames[index] if index < len(frames) else []
            for person in people:
                if person.track is not None and (index, person.track) in futures:
                    future = futures[index, person.track]
                    radii = None if future.radii is None else future.radii[-1, :, 0]
                    image = draw_ghosts(image, future.poses, skeleton, person.track, radii)
            drawn = draw_people(image, people, skeleton, min_score)
            writer.write(drawn, reader.time)
    return reader.problems

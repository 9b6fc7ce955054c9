"""`vitpose forecast`: from a video, or from keypoints already found, to where people will be."""

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from tqdm import tqdm

from vitpose_jax.data.motion.resampling import ROUNDING, resample
from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.errors import UserError
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.inference.boxes import read_boxes
from vitpose_jax.inference.detector import DEFAULT_DETECTOR, PersonDetector
from vitpose_jax.inference.draw import draw_ghosts, draw_people
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.keypoint_file import read_keypoints
from vitpose_jax.inference.person import Person
from vitpose_jax.inference.results import coco_result, write_results
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.tasks.forecasting import open_forecaster

RESULTS_FILE = "forecast.json"
KEYPOINTS_FILE = "keypoints.json"
RATE_TOLERANCE = 0.02  # 29.97 and 30 frames a second are the same to a forecaster

Frames = list[list[Person]]


@dataclass(frozen=True)
class Future:
    """Where a person is going to be.

    Attributes:
        poses: float32 (m, K, 2), pixels.
        after_seconds: (m,), their times, counted from the video's frame.
    """

    poses: np.ndarray
    after_seconds: np.ndarray


Futures = dict[tuple[int, int], Future]
"""By frame of the video, and track."""


def forecast(options: argparse.Namespace) -> int:
    """Run the command; see `vitpose forecast --help` for the options."""
    if options.fps is not None and not 0 < options.fps < math.inf:
        raise UserError(f"--fps {options.fps:g}: must be a number of frames a second above 0")
    model = open_forecaster(options.weights)
    if model.config.dims != 2:
        raise UserError(f"{options.weights} forecasts 3D joints; videos give 2D keypoints")
    skeleton = _skeleton(model, options.weights)
    source, out = Path(options.input), Path(options.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made a folder ({error.strerror})") from None
    if source.suffix.lower() == ".json":
        frames, fps = read_keypoints(source, skeleton), options.fps or model.config.fps
        video = Path(options.video) if options.video else None
    else:
        frames, fps = _find_people(options, source, skeleton, out / KEYPOINTS_FILE)
        video = source
    if not any(frames):
        raise UserError(f"{source}: nobody was found in {len(frames)} frames")
    tracks = tracks_of(frames, fps, options.min_score)
    futures = forecast_tracks(model, _at_rate(tracks, model, options.resample), fps)
    write_results(out / RESULTS_FILE, _entries(source.name, futures))
    if not futures:
        raise UserError(
            f"{source}: nobody is seen for the {model.config.observed} frames in a row that a "
            "forecast needs; nothing to draw"
        )
    notes = [str(out / RESULTS_FILE)]
    if video is not None:
        notes.append(_draw(video, out, frames, futures, skeleton, options.min_score))
    people = len({track for _, track in futures})
    print(f"{len(futures)} forecasts of {people} people: {'; '.join(notes)}")
    return 0


def tracks_of(frames: Frames, fps: float, min_score: float) -> dict[int, MotionTrack]:
    """Every person's motion from their first to their last frame, by track number.

    Keypoints scored below `min_score`, and frames in which the person is lost, are missing.
    """
    seen: dict[int, dict[int, Person]] = defaultdict(dict)
    for index, people in enumerate(frames):
        for person in people:
            seen[person.track][index] = person
    tracks = {}
    for number, poses in seen.items():
        first, last = min(poses), max(poses)
        joints = len(next(iter(poses.values())).keypoints)
        positions = np.full((last - first + 1, joints, 2), np.nan, np.float32)
        for index, person in poses.items():
            good = (person.keypoint_scores >= min_score) & (person.keypoint_scores > 0)
            positions[index - first][good] = person.keypoints[good]
        ids = np.arange(first, last + 1)
        tracks[number] = make_track(positions, fps=fps, name=f"person {number}", frame_ids=ids)
    return tracks


def forecast_tracks(
    model: Forecaster | PosePredictor, tracks: Mapping[int, MotionTrack], fps: float
) -> Futures:
    """A forecast for every frame in which a person is seen and was followed long enough.

    Args:
        model: forecasts from `observed` frames.
        tracks: at the rate to forecast at.
        fps: of the video. A forecast belongs to the first frame by which all that it is made of
            has been seen; where that is so of several, to the last of them.
    """
    n, keys, late, observed, visible = model.config.observed, [], [], [], []
    for number, track in tracks.items():
        for end in range(n, len(track.frame_ids) + 1):
            seen = track.visible[end - n : end]
            whole = track.frame_ids[end - 1] - track.frame_ids[end - n] == n - 1
            if whole and seen[-1].any() and seen.any(1).sum() >= max(2, n // 2):
                time = track.frame_ids[end - 1] / track.fps
                frame = math.ceil(time * fps - ROUNDING)
                keys.append((frame, number))
                late.append(frame / fps - time)
                observed.append(track.positions[end - n : end])
                visible.append(seen)
    if not keys:
        return {}
    run = nnx.jit(lambda model, x, v: model.forecast(x, v))
    size, results = min(256, len(keys)), []
    for first in range(0, len(keys), size):
        rows = np.minimum(np.arange(first, first + size), len(keys) - 1)
        batch = np.stack([observed[r] for r in rows]), np.stack([visible[r] for r in rows])
        results.append(jax.device_get(run(model, *batch)))
    poses = np.concatenate(results)[: len(keys)]
    steps = np.arange(1, poses.shape[1] + 1) / next(iter(tracks.values())).fps
    found = (Future(p, steps - seconds) for p, seconds in zip(poses, late, strict=True))
    return dict(zip(keys, found, strict=True))


def _skeleton(model: Forecaster | PosePredictor, weights: str) -> Skeleton:
    for skeleton in SKELETONS.values():
        if skeleton.num_keypoints == model.config.num_joints:
            return skeleton
    raise UserError(
        f"{weights} forecasts {model.config.num_joints} joints, which is no skeleton of a pose "
        "model; train one on detections or keypoints"
    )


def _find_people(
    options: argparse.Namespace, source: Path, skeleton: Skeleton, path: Path
) -> tuple[Frames, float]:
    """Detection, pose and tracking on every frame of a video, and its frames a second.

    As this takes longest, what was found is written to `path`, also if it is interrupted.
    """
    if not options.pose_weights:
        raise UserError(f"{source} is a video: give --pose-weights, or a keypoints.json instead")
    with VideoReader(source) as reader:
        estimator = PoseEstimator.from_pretrained(options.pose_weights, num_heads=options.num_heads)
        if estimator.skeleton.num_keypoints != skeleton.num_keypoints:
            raise UserError(
                f"{options.pose_weights} finds {estimator.skeleton.num_keypoints} keypoints, "
                f"{options.weights} forecasts {skeleton.num_keypoints}"
            )
        boxes = _box_source(options, source)
        tracker = Tracker(estimator.skeleton)
        items = ((frame, boxes(index)) for index, frame in enumerate(reader))
        stream = estimator.stream(items, keep_images=False)
        bar = tqdm(stream, total=reader.frame_count, unit="frame", disable=None, leave=False)
        frames: Frames = []
        try:
            for prediction in bar:
                frames.append(tracker.update(prediction.people))
        finally:
            if any(frames):
                people = ((i, person) for i, frame in enumerate(frames) for person in frame)
                write_results(path, [coco_result(p, source.name, None, i) for i, p in people])
        return frames, reader.fps


def _box_source(options: argparse.Namespace, source: Path):
    """Frame number -> where its people are: boxes, a detector, or None for the whole image."""
    if options.boxes:
        from vitpose_jax.inference.inputs import expand_inputs

        boxes, video = read_boxes(options.boxes), expand_inputs([str(source)])[0]
        return lambda index: boxes.of(video, index)
    name = options.detector or DEFAULT_DETECTOR
    detector = None if name == "none" else PersonDetector(name)
    return lambda index: detector


def _at_rate(
    tracks: Mapping[int, MotionTrack], model: Forecaster | PosePredictor, resampled: bool
) -> dict[int, MotionTrack]:
    """The tracks at the model's rate if that is asked for, else as they are, with a warning."""
    rate = model.config.fps
    have = next(iter(tracks.values())).fps
    if abs(have / rate - 1) <= RATE_TOLERANCE:
        return dict(tracks)
    if resampled:
        return {number: resample(track, rate) for number, track in tracks.items()}
    print(
        f"warning: the frames are {have:g} a second, the forecaster was trained at {rate:g}, so "
        "people move at another pace than it knows; --resample puts this right",
        file=sys.stderr,
    )
    return dict(tracks)


def _entries(name: str, futures: Futures) -> Iterable[dict]:
    """One JSON entry per forecast; times in seconds after the frame, no numbers as null."""
    for (frame, track), future in sorted(futures.items(), key=lambda item: item[0]):
        points = np.round(future.poses, 2)
        yield {
            "file_name": name,
            "frame": frame,
            "track_id": track,
            "after_seconds": np.round(future.after_seconds, 4).tolist(),
            "keypoints": np.where(np.isfinite(points), points, None).tolist(),
        }


def _draw(
    video: Path,
    out: Path,
    frames: Frames,
    futures: Futures,
    skeleton: Skeleton,
    min_score: float,
) -> str:
    """The video again with people and their ghosts; says where it is, or why it is not there."""
    path = out / f"{video.stem}.forecast.mp4"
    try:
        with VideoReader(video) as reader, VideoWriter(path, reader.fps) as writer:
            for index, image in enumerate(reader):
                people = frames[index] if index < len(frames) else []
                for person in people:
                    if (index, person.track) in futures:
                        poses = futures[index, person.track].poses
                        image = draw_ghosts(image, poses, skeleton, person.track)
                writer.write(draw_people(image, people, skeleton, min_score))
    except UserError as error:
        return f"no video ({error})"
    return f"video {path}"

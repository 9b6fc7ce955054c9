"""`vitpose forecast`: forecast where people will be, from a video or from its keypoints."""

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vitpose_jax.commands.options import add_category, add_min_score, add_num_heads, add_results
from vitpose_jax.errors import UserError, printable
from vitpose_jax.weights.zoo import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL

if TYPE_CHECKING:
    import numpy as np

    from vitpose_jax.inference.person import Person

RESULTS_FILE = "forecast.json"
KEYPOINTS_FILE = "keypoints.json"
RATE_TOLERANCE = 0.02
"""Relative difference of frame rates that does not matter, such as 29.97 to 30."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Finds people in a video, tracks them and forecasts their next poses, at the frame rate "
        "that the forecaster was trained at, whatever the video's. Writes "
        "forecast.json, keypoints.json and the video with the forecasts as ghosts into --out. "
        "Exit status: 0 all went well; 1 something was skipped or is missing, such as the video; "
        "2 nothing was forecast; 130 or 143 stopped."
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="a video, or the keypoints.json of `vitpose predict`")
    add(
        "--weights", required=True, metavar="F", help="forecaster: a folder, a training run, a .pth"
    )
    add(
        "--pose-weights",
        default=DEFAULT_POSE_MODEL,
        metavar="W",
        help="for videos: the pose model, as for `vitpose predict` (default: %(default)s)",
    )
    add_num_heads(parser)
    add("--video", metavar="FILE", help="with a keypoints.json: the video to draw on")
    add("--boxes", metavar="FILE", help="boxes of people (COCO detections), instead of a detector")
    add_category(parser)
    add("--detector", metavar="NAME", help="as for `vitpose predict` (default: dfine-s)")
    add(
        "--fps", type=float, metavar="N", help="frames per second of a keypoints.json without times"
    )
    add_min_score(parser, "keypoints with a lower score count as missing")
    add_results(parser, "forecast")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from vitpose_jax.files.writing import make_folder
    from vitpose_jax.inference.forecasting import (
        draw_video,
        forecast_results,
        forecast_tracks,
        frame_rate,
        motion_tracks,
        resample_tracks,
    )
    from vitpose_jax.inference.journal import JOURNAL_FILE
    from vitpose_jax.inference.keypoint_file import read_keypoints
    from vitpose_jax.inference.outputs import (
        refuse_earlier_results,
        refuse_overwriting,
        results_folder,
    )
    from vitpose_jax.inference.results import write_results
    from vitpose_jax.keypoints.skeletons import SKELETONS
    from vitpose_jax.tasks.forecasting import open_forecaster

    if options.fps is not None and not 0 < options.fps < math.inf:
        raise UserError(f"--fps {options.fps:g}: must be a number of frames a second above 0")
    model = open_forecaster(options.weights)
    joints, rate = model.config.num_joints, model.config.fps
    if model.config.dims != 2:
        raise UserError(f"{options.weights} forecasts 3D joints; videos give 2D keypoints")
    skeleton = next((s for s in SKELETONS.values() if s.num_keypoints == joints), None)
    if skeleton is None:
        raise UserError(
            f"{options.weights} forecasts {joints} joints, which is no skeleton of a pose model; "
            "train one on detections or keypoints"
        )
    options.out = results_folder(options.out, "forecast", options.resume, options.overwrite)
    source, out = Path(options.input), options.out
    is_found = source.suffix.lower() == ".json"
    video = Path(options.video) if is_found and options.video else None if is_found else source
    written = [out / RESULTS_FILE]
    written += [] if is_found else [out / JOURNAL_FILE, out / KEYPOINTS_FILE]
    written += [out / f"{video.stem}.forecast.mp4"] if video else []
    given = [source, video, options.boxes, options.weights, options.pose_weights]
    refuse_overwriting(written, filter(None, given))
    if not options.overwrite and not (options.resume and (out / JOURNAL_FILE).exists()):
        refuse_earlier_results(written)
    make_folder(out)
    problems: tuple[str, ...] = ()
    if is_found:
        frames, times = read_keypoints(source, skeleton, options.fps, rate)
    else:
        frames, times, problems = _find_people(options, joints, written)
    if not any(frames):
        raise UserError(f"{source}: nobody was found in {len(frames)} frames")

    notes = [str(out / RESULTS_FILE)]
    fps, steady = frame_rate(times)
    tracks = motion_tracks(frames, fps, options.min_score)
    if not steady or abs(fps / rate - 1) > RATE_TOLERANCE:
        tracks = resample_tracks(tracks, times, rate)
        came = f"{fps:.4g} frames a second" if steady else "frames of unequal length"
        notes.append(f"{came}, resampled to the forecaster's {rate:g}")
    else:
        times = np.arange(len(frames)) / fps
    futures = forecast_tracks(model, tracks, times)
    write_results(out / RESULTS_FILE, forecast_results(source.name, futures, times))
    if not futures:
        raise UserError(
            f"{source}: nobody is seen for the {model.config.observed} frames in a row that a "
            "forecast needs; nothing to draw"
        )
    if video is not None:
        try:
            found = draw_video(video, written[-1], frames, futures, skeleton, options.min_score)
            notes.append(f"video {written[-1]}")
        except UserError as error:
            found = [f"no video: {error}"]
        for problem in found:
            if problem not in problems:  # not reported yet
                print(printable(f"warning: {problem}"), file=sys.stderr)
        problems += tuple(found)
    ahead = next(iter(futures.values())).after_seconds
    notes.append(f"{len(ahead)} poses each, {1 / rate:.3g} to {len(ahead) / rate:.3g} s ahead")
    people = len({track for _, track in futures})
    print(printable(f"{len(futures)} forecasts of {people} people: {'; '.join(notes)}"))
    return 1 if problems else 0


def _find_people(
    options: argparse.Namespace, joints: int, outputs: list[Path]
) -> tuple[list[list["Person"]], "np.ndarray", tuple[str, ...]]:
    """The people of every frame of a video, the frames' times, and any problems.

    As this takes longest, what is found is kept in a journal; keypoints.json is made from it even
    after an interruption.
    """
    from vitpose_jax.commands.people import (
        ProgressBar,
        conclude,
        finish,
        open_journal,
    )
    from vitpose_jax.commands.weights import open_weights
    from vitpose_jax.files.fingerprint import digest_files
    from vitpose_jax.inference.box_units import BoxUnitsSink
    from vitpose_jax.inference.boxes import BoxFile
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.inference.finding import open_finder
    from vitpose_jax.inference.inputs import Source
    from vitpose_jax.inference.keypoint_file import journal_people
    from vitpose_jax.inference.pipeline import Pipeline, Sink
    from vitpose_jax.inference.sinks import Recorder

    path = Path(options.input)
    if not path.exists():
        raise UserError(f"{path}: no such file")
    source = Source("video", str(path), path.name)
    detector = None if options.boxes else options.detector or DEFAULT_DETECTOR
    weights = open_weights(options.pose_weights, detector)
    finder = open_finder(options.boxes, options.detector, categories=options.category)
    for note in finder.notes([source]) if isinstance(finder, BoxFile) else []:
        print(printable(f"note: {note}"), file=sys.stderr)
    estimator = PoseEstimator.from_pretrained(weights, num_heads=options.num_heads)
    estimator.weights = options.pose_weights  # as the user knows them
    found = estimator.skeleton.num_keypoints
    if found != joints:
        raise UserError(
            f"{options.pose_weights} finds {found} keypoints, {options.weights} forecasts {joints}"
        )
    settings = {
        "--boxes": digest_files([options.boxes]) if options.boxes else None,
        "--detector": options.detector,
        "--category": options.category,
    }
    checks = [BoxUnitsSink(finder)] if isinstance(finder, BoxFile) else []
    with open_journal(options, outputs, settings, [source], estimator, checks) as journal:
        left = [source][journal.done :]
        sinks: list[Sink] = [Recorder(journal), ProgressBar(), *checks]
        report = journal.report + Pipeline(estimator, finder).run(left, sinks)
        report = finish(report, journal, ["json"])
    conclude(report, 1, options.out / KEYPOINTS_FILE)
    return *journal_people(journal.path, estimator.skeleton), report.problems

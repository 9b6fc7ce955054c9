"""Finding the keypoints of 3DPW's people in its images with a pose model.

Boxes come from the annotated actor (the extent of the file's detections or, without those, of the
projected 3D joints) or from a detector, whose boxes are assigned to the actors they overlap.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from vitpose_jax.data.motion.threedpw import Sequence, project
from vitpose_jax.errors import UserError
from vitpose_jax.inference.detector import PersonDetector
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.preparation import BoxSource
from vitpose_jax.keypoints.crops import box_iou

MARGIN = 0.1
"""Boxes around joints are widened by this share of their sides: bodies reach beyond joints."""

MIN_OVERLAP = 0.3
"""Lowest intersection over union of a detected box and the actor it is assigned to."""


def image_files(folder: Path, sequence: Sequence) -> list[Path]:
    """The image of every frame, `imageFiles/NAME/image_00012.jpg`.

    Raises:
        UserError: one is missing.
    """
    place = folder / "imageFiles" / sequence.name
    files = [place / f"image_{number:05d}.jpg" for number in sequence.frame_ids]
    missing = [file for file in files if not file.exists()]
    if missing:
        raise UserError(
            f"{missing[0]}: not there ({len(missing)} of {len(files)} images of this sequence); "
            "unpack imageFiles.zip of 3DPW beside sequenceFiles"
        )
    return files


def find_keypoints(
    sequence: Sequence,
    images: Iterable[Path],
    estimator: PoseEstimator,
    detector: PersonDetector | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (A, T, 17, 2) and scores (A, T, 17) of a sequence; 0 where nobody was found."""
    boxes = actor_boxes(sequence)
    count, frames = boxes.shape[:2]
    used = boxes.copy()

    def boxes_in(frame: int) -> BoxSource:
        def find(image: np.ndarray) -> np.ndarray:
            if detector is not None:
                used[:, frame] = assign_boxes(detector(image), boxes[:, frame])
            return used[np.isfinite(used[:, frame]).all(1), frame]

        return find

    keypoints = np.zeros((count, frames, 17, 2), np.float32)
    scores = np.zeros((count, frames, 17), np.float32)
    items = ((image, boxes_in(frame)) for frame, image in enumerate(images))
    for frame, prediction in enumerate(estimator.stream(items, keep_images=False)):
        actors = np.flatnonzero(np.isfinite(used[:, frame]).all(1))
        for actor, person in zip(actors, prediction.people, strict=True):
            keypoints[actor, frame] = person.keypoints
            scores[actor, frame] = person.keypoint_scores
    return keypoints, scores


def actor_boxes(sequence: Sequence) -> np.ndarray:
    """Box (x, y, w, h) of every actor in every frame, (A, T, 4) pixels; NaN where out of sight."""
    boxes = np.full((len(sequence.actors), len(sequence.frame_ids), 4), np.nan)
    for index, actor in enumerate(sequence.actors):
        points = project(actor.joints3d, sequence.cam_poses, sequence.intrinsics)
        trusted = np.isfinite(points).all((1, 2)) & sequence.cam_valid[index]
        for frame in range(boxes.shape[1]):
            corners = actor.keypoints[frame][actor.visible[frame]]
            if len(corners) < 4 and trusted[frame]:
                corners = points[frame]
            if len(corners) < 4:
                continue
            low, high = corners.min(0), corners.max(0)
            margin = MARGIN * (high - low)
            boxes[index, frame] = [*(low - margin), *(high - low + 2 * margin)]
    return boxes


def assign_boxes(found: np.ndarray, actors: np.ndarray) -> np.ndarray:
    """Assign detected boxes (N, 4 or 5) to the actors' annotated ones (A, 4).

    The overlap summed over actors is the largest possible; pairs below MIN_OVERLAP do not count.

    Returns:
        (A, 4), NaN for actors without a detected box.
    """
    result = np.full((len(actors), 4), np.nan)
    known = np.flatnonzero(np.isfinite(actors).all(1))
    overlap = np.array([[box_iou(actors[a], box[:4]) for box in found] for a in known])
    if overlap.size:
        rows, columns = linear_sum_assignment(overlap, maximize=True)
        for row, column in zip(rows, columns, strict=True):
            if overlap[row, column] >= MIN_OVERLAP:
                result[known[row]] = found[column][:4]
    return result

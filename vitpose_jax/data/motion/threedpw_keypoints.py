"""3DPW keypoints found by a pose model of this library, as files beside the data set.

`DATA/keypoints/SPLIT/SEQUENCE.npz` holds keypoints float32 (A, T, 17, 2) in pixels and scores
float32 (A, T, 17) for the A actors and T frames of the sequence file; 0 where an actor was not
found. `vitpose prepare-3dpw` writes them.
"""

from pathlib import Path

import numpy as np

from vitpose_jax.data.motion.threedpw import FPS, read_sequence, sequence_files
from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, replacing

MIN_SCORE = 0.2
"""Keypoints with a lower score count as missing, as in COCO's person score."""


def keypoint_file(folder: str | Path, split: str, name: str) -> Path:
    """The path of a sequence's keypoints."""
    return Path(folder).expanduser() / "keypoints" / split / f"{name}.npz"


def write_keypoints(path: Path, keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Write one sequence's file atomically."""
    make_folder(path.parent)
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, keypoints=keypoints, scores=scores)


def read_keypoint_file(path: Path, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Read (keypoints, scores) of a sequence with `shape` = (actors, frames).

    Raises:
        UserError: the file is missing, damaged, or of another sequence.
    """
    if not path.exists():
        raise UserError(f"{path} is missing; make it with `vitpose prepare-3dpw`")
    try:
        with np.load(path, allow_pickle=False) as content:
            keypoints, scores = content["keypoints"], content["scores"]
    except Exception as error:  # numpy and zipfile raise many kinds
        raise UserError(f"{path}: damaged ({error}); delete it and prepare it again") from None
    if keypoints.shape != (*shape, 17, 2) or scores.shape != (*shape, 17):
        raise UserError(
            f"{path}: keypoints are {keypoints.shape}, the sequence has {shape[0]} actors and "
            f"{shape[1]} frames; delete it and prepare it again"
        )
    return keypoints, scores


def keypoint_tracks(folder: str | Path, split: str) -> list[MotionTrack]:
    """The tracks of a split: 17 COCO keypoints per actor, in pixels."""
    tracks = []
    for file in sequence_files(folder, split):
        sequence = read_sequence(file)
        path = keypoint_file(folder, split, file.stem)
        shape = len(sequence.actors), len(sequence.frame_ids)
        for index, (keypoints, scores) in enumerate(
            zip(*read_keypoint_file(path, shape), strict=True)
        ):
            name, seen = f"{sequence.name}/{index}", scores >= MIN_SCORE
            tracks.append(
                make_track(keypoints, seen, fps=FPS, name=name, frame_ids=sequence.frame_ids)
            )
    return tracks

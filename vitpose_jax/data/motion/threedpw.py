"""3DPW ("3D Poses in the Wild") sequence files: people in motion, in 2D and in 3D."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.data.motion.array_pickle import load_pickle
from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.errors import UserError

FPS = 30.0
_NAME = re.compile(r"[\w-][\w .-]{0,99}")
SPLITS = ("train", "validation", "test")

# Row i holds the OpenPose-18 joint that is COCO-17 joint i (the neck has no counterpart).
OPENPOSE_TO_COCO = np.array([0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10])

SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2",
    "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar",
    "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip


@dataclass(frozen=True)
class Actor:
    """One person of a sequence, frame by frame.

    Attributes:
        keypoints: float32 (T, 17, 2), COCO's order, pixels; 0 where not `visible`.
        scores: float32 (T, 17), detection confidences; 0 where not `visible`.
        visible: bool (T, 17).
        joints3d: float32 (T, 24, 3), SMPL's order, metres in the world; NaN where unknown.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    visible: np.ndarray
    joints3d: np.ndarray


@dataclass(frozen=True)
class Sequence:
    """One sequence file.

    Attributes:
        name: the sequence's name, also its folder under `imageFiles`.
        actors: the A people in it.
        frame_ids: int64 (T,), the number of each frame's image.
        cam_poses: float32 (T, 4, 4), world to camera.
        cam_valid: bool (A, T), whether the camera pose and that actor's 3D joints can be trusted.
        intrinsics: float32 (3, 3).
    """

    name: str
    actors: list[Actor]
    frame_ids: np.ndarray
    cam_poses: np.ndarray
    cam_valid: np.ndarray
    intrinsics: np.ndarray


@np.errstate(over="ignore", invalid="ignore")
def read_sequence(path: str | Path) -> Sequence:
    """Read one sequence file; numbers too large for float32 become infinite, and so unknown.

    Raises:
        UserError: the file is not a pickle, holds anything but arrays and plain containers, lacks a
            key, or its arrays do not fit together.
    """
    path = Path(path)
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a 3DPW sequence file (it holds a {type(content).__name__})")
    poses2d = _per_actor(path, content, "poses2d", (None, 3, 18))
    frames = len(poses2d[0]) if poses2d else 0
    poses2d = _per_actor(path, content, "poses2d", (frames, 3, 18))
    joints = _per_actor(path, content, "jointPositions", (frames, 72))
    valid = _per_actor(path, content, "campose_valid", (frames,))
    cam_poses = _array(path, content, "cam_poses", (frames, 4, 4))
    intrinsics = _array(path, content, "cam_intrinsics", (3, 3))
    frame_ids = _array(path, content, "img_frame_ids", (frames,))
    if not (np.abs(frame_ids.astype(np.float64)) < 2**31).all():
        raise UserError(f"{path}: 'img_frame_ids' are no numbers of frames; download it again")
    for key, values in (("jointPositions", joints), ("campose_valid", valid)):
        if len(values) != len(poses2d):
            raise UserError(
                f"{path}: '{key}' has {len(values)} actors, 'poses2d' {len(poses2d)}; "
                "the file is damaged, download it again"
            )
    return Sequence(
        name=_name(path, content),
        actors=[_actor(pose, joint) for pose, joint in zip(poses2d, joints, strict=True)],
        frame_ids=frame_ids.astype(np.int64),
        cam_poses=cam_poses.astype(np.float32),
        cam_valid=np.stack([v > 0 for v in valid]) if valid else np.zeros((0, frames), bool),
        intrinsics=intrinsics.astype(np.float32),
    )


def read_split(folder: str | Path, split: str) -> list[Sequence]:
    """Read all sequences of a split, sorted by file name; `folder` holds `sequenceFiles`.

    Raises:
        UserError: there is no such split, it has no files, or a file is damaged.
    """
    return [read_sequence(path) for path in sequence_files(folder, split)]


def sequence_files(folder: str | Path, split: str) -> list[Path]:
    """The sequence files of a split, sorted by name.

    Raises:
        UserError: there is no such split, or it has no files.
    """
    if split not in SPLITS:
        raise UserError(f"3DPW has no split '{split}'; choose one of {', '.join(SPLITS)}")
    place = Path(folder).expanduser() / "sequenceFiles" / split
    files = sorted(place.glob("*.pkl"))
    if not files:
        raise UserError(
            f"no 3DPW sequence files (*.pkl) in {place}; download and unpack sequenceFiles.zip of "
            "3DPW there (virtualhumans.mpi-inf.mpg.de/3DPW) or give the folder that holds it"
        )
    return files


@np.errstate(over="ignore", invalid="ignore")
def project(joints3d: np.ndarray, cam_poses: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Project world points (T, J, 3) in metres to pixels (T, J, 2); NaN behind the camera."""
    rotation, offset = cam_poses[:, :3, :3], cam_poses[:, :3, 3]
    in_camera = np.einsum("tij,tkj->tki", rotation, joints3d) + offset[:, None]
    in_image = in_camera @ intrinsics.T
    depth = np.where(in_image[..., 2:] > 1e-3, in_image[..., 2:], np.nan)
    return (in_image[..., :2] / depth).astype(np.float32)


def detection_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The file's 2D detections: 17 COCO keypoints per actor, in pixels."""
    return [
        _track(sequence, index, actor.keypoints, actor.visible)
        for index, actor in enumerate(sequence.actors)
    ]


def projected_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The 3D joints seen through the camera: 24 SMPL joints in pixels, without detection noise.

    Joints outside the image are kept, since a projection knows where they are. Frames without a
    trusted camera pose and joints behind the camera are missing.
    """
    points = [
        project(actor.joints3d, sequence.cam_poses, sequence.intrinsics)
        for actor in sequence.actors
    ]
    return _tracks_of_known(sequence, points)


def joint_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The 3D joints themselves: 24 SMPL joints in metres, in the world frame."""
    return _tracks_of_known(sequence, [actor.joints3d for actor in sequence.actors])


def centred_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The other 23 3D joints relative to the pelvis, in metres: a single person without a path."""
    points = [actor.joints3d[:, 1:] - actor.joints3d[:, :1] for actor in sequence.actors]
    return _tracks_of_known(sequence, points)


def _tracks_of_known(sequence: Sequence, points: list[np.ndarray]) -> list[MotionTrack]:
    """Tracks of each actor's points (T, J, D), missing where not finite or not to be trusted."""
    return [
        _track(sequence, index, p, np.isfinite(p).all(-1) & sequence.cam_valid[index][:, None])
        for index, p in enumerate(points)
    ]


def _track(sequence: Sequence, index: int, points: np.ndarray, seen: np.ndarray) -> MotionTrack:
    return make_track(
        points, seen, fps=FPS, name=f"{sequence.name}/{index}", frame_ids=sequence.frame_ids
    )


def _name(path: Path, content: dict[str, Any]) -> str:
    """The sequence's name, which becomes the name of a folder."""
    name = content.get("sequence")
    if not isinstance(name, str) or not name:
        return path.stem
    if not _NAME.fullmatch(name):
        raise UserError(
            f"{path}: 'sequence' is {name[:40]!r}, not the plain name of a folder; the file is "
            "damaged or malicious, download it again"
        )
    return name


Shape = tuple[int | None, ...]


def _entry(path: Path, content: dict[str, Any], key: str) -> Any:
    if key not in content:
        raise UserError(f"{path}: no '{key}' in it; is it a 3DPW sequence file?")
    return content[key]


def _array(path: Path, content: dict[str, Any], key: str, shape: Shape) -> np.ndarray:
    return _checked(f"{path}: '{key}'", _entry(path, content, key), shape)


def _per_actor(path: Path, content: dict[str, Any], key: str, shape: Shape) -> list[np.ndarray]:
    values = _entry(path, content, key)
    if not isinstance(values, list | tuple):
        raise UserError(f"{path}: '{key}' is a {type(values).__name__}, not a list of actors")
    return [_checked(f"{path}: '{key}[{i}]'", value, shape) for i, value in enumerate(values)]


def _checked(where: str, value: Any, shape: Shape) -> np.ndarray:
    """The value, if it is an array of numbers of that shape; None is any number of frames."""
    have = value.shape if isinstance(value, np.ndarray) else type(value).__name__
    if (
        isinstance(value, np.ndarray)
        and value.dtype.kind in "biuf"
        and value.ndim == len(shape)
        and all(want in (None, side) for want, side in zip(shape, value.shape, strict=True))
    ):
        return value
    want = "(" + ", ".join("frames" if n is None else str(n) for n in shape) + ")"
    raise UserError(f"{where} is {have}, expected numbers of shape {want}; download the file again")


def _actor(poses2d: np.ndarray, joints: np.ndarray) -> Actor:
    """An actor from the file's detections (T, 3, 18) and joints (T, 72)."""
    points = poses2d.transpose(0, 2, 1)[:, OPENPOSE_TO_COCO].astype(np.float32)
    visible = np.isfinite(points).all(-1) & (points[..., 2] > 0) & (points[..., :2] != 0).any(-1)
    points = np.where(visible[..., None], points, 0)
    return Actor(
        points[..., :2], points[..., 2], visible, joints.reshape(-1, 24, 3).astype(np.float32)
    )

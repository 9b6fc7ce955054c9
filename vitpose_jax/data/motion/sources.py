"""The sources of motion, by name, and their tracks."""

import dataclasses
from pathlib import Path

import numpy as np

from vitpose_jax.data.motion import cmu_mocap, somof, threedpw
from vitpose_jax.data.motion.synthetic import synthetic_tracks
from vitpose_jax.data.motion.threedpw_keypoints import keypoint_tracks
from vitpose_jax.data.motion.viewpoints import fit_face, lift_coco
from vitpose_jax.data.motion.windows import MotionTrack
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS, flip_pairs_by_name, mirrored_order


@dataclasses.dataclass(frozen=True)
class MotionInput:
    """The joints of a source.

    Attributes:
        joint_names: J names.
        dims: 2 (pixels) or 3 (metres).
    """

    joint_names: tuple[str, ...]
    dims: int

    @property
    def flip_pairs(self) -> tuple[tuple[int, int], ...]:
        """Index pairs of left and right joints."""
        return flip_pairs_by_name(self.joint_names)

    @property
    def flip_index(self) -> np.ndarray:
        """int32 (J,), the joint that takes each one's place in a mirrored motion."""
        return mirrored_order(len(self.joint_names), self.flip_pairs)


_COCO_2D = MotionInput(SKELETONS["coco"].keypoint_names, 2)
INPUTS = {
    "detections": _COCO_2D,
    "projected": MotionInput(threedpw.SMPL_JOINTS, 2),
    "joints3d": MotionInput(threedpw.SMPL_JOINTS, 3),
    "somof": MotionInput(somof.JOINTS, 3),
    "centred": MotionInput(threedpw.SMPL_JOINTS[1:], 3),
    "cmu": MotionInput(cmu_mocap.JOINTS, 3),
    "keypoints": _COCO_2D,
    "synthetic": _COCO_2D,
}
"""What can be forecast: 3DPW's own 2D detections, its 3D joints seen through the camera, the 3D
joints themselves, SoMoF's of them, those around the pelvis, CMU motion capture, keypoints from a
pose model (`vitpose prepare-3dpw`), and synthetic motion."""


def _somof_tracks(sequence: threedpw.Sequence) -> list[MotionTrack]:
    return [somof.from_smpl(track) for track in threedpw.joint_tracks(sequence)]


_TRACKS_OF_SEQUENCE = {
    "detections": threedpw.detection_tracks,
    "projected": threedpw.projected_tracks,
    "joints3d": threedpw.joint_tracks,
    "somof": _somof_tracks,
    "centred": threedpw.centred_tracks,
}


def open_tracks(folder: str | Path, split: str, kind: str = "detections") -> list[MotionTrack]:
    """Open the tracks of a split.

    Args:
        folder: the folder that holds `sequenceFiles` (for cmu, `train` and `test`); ignored for
            synthetic motion.
        split: train, validation or test.
        kind: a name in `INPUTS`.

    Raises:
        UserError: a name is unknown, or a file is missing or damaged.
    """
    if kind not in INPUTS:
        raise UserError(f"no input {kind!r}; choose one of {', '.join(INPUTS)}")
    if kind == "synthetic":
        return synthetic_tracks(split)
    if kind == "cmu":
        return cmu_mocap.read_split(folder, split)
    if kind == "keypoints":
        return keypoint_tracks(folder, split)
    sequences = threedpw.read_split(folder, split)
    tracks_of = _TRACKS_OF_SEQUENCE[kind]
    if split != "train" or INPUTS[kind].dims == 3:
        return [track for sequence in sequences for track in tracks_of(sequence)]
    face = fit_face(sequences) if kind == "detections" else None
    return [
        _with_view(sequence, index, track, face)
        for sequence in sequences
        for index, track in enumerate(tracks_of(sequence))
    ]


def _with_view(
    sequence: threedpw.Sequence, index: int, track: MotionTrack, face: np.ndarray | None
) -> MotionTrack:
    """A 2D track with the `world` and `cameras` needed to see actor `index` from other sides."""
    actor = sequence.actors[index]
    world = actor.joints3d if face is None else lift_coco(actor, face)
    world = np.where(sequence.cam_valid[index][:, None, None], world, np.nan)
    cameras = (sequence.intrinsics @ sequence.cam_poses[:, :3]).astype(np.float32)
    return dataclasses.replace(track, world=world, cameras=cameras)

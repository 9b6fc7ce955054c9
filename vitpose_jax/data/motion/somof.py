"""The Social Motion Forecasting benchmark (SoMoF, ICCV 2021 workshop) on 3DPW.

Two people, 13 of SMPL's joints in metres in 3DPW's world, 15 frames a second: 14 frames are
forecast from 16. Its test set comes from 3DPW's train split, its training set from 3DPW's test
split. Source: somof.stanford.edu; Adeli et al., "Socially and Contextually Aware Human Motion and
Pose Forecasting", RA-L 2020. Scored by `vitpose_jax.evaluation.forecasting.vim`.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from vitpose_jax.data.motion.threedpw import SMPL_JOINTS
from vitpose_jax.data.motion.windows import MotionTrack
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json

FPS = 15.0
OBSERVED, FUTURE, PEOPLE = 16, 14, 2
IN_SMPL = np.array([1, 2, 4, 5, 7, 8, 12, 16, 17, 18, 19, 20, 21])
JOINTS = tuple(SMPL_JOINTS[joint] for joint in IN_SMPL)
BONES = {
    "thigh": ((0, 2), (1, 3)),
    "shin": ((2, 4), (3, 5)),
    "upper arm": ((7, 9), (8, 10)),
    "forearm": ((9, 11), (10, 12)),
}
"""Pairs of joints at a fixed distance."""

BONE_METRES = (0.12, 0.65)
"""Shortest and longest of these in people, from children to the very tall."""

RIGID = 0.1
"""By what share of its length a bone may change in time (standard deviation)."""

THREEDPW_SPLIT = {"train": "test", "validation": "validation", "test": "train"}
"""The benchmark's splits in 3DPW's."""

Scenes = Float32[np.ndarray, "scenes people frames joints 3"]


def from_smpl(track: MotionTrack) -> MotionTrack:
    """The benchmark's joints of a track of SMPL's 24."""
    return dataclasses.replace(
        track, positions=track.positions[:, IN_SMPL], visible=track.visible[:, IN_SMPL]
    )


def read_test(path: str | Path) -> Scenes:
    """Whole scenes from `test.npz`: `joints` (N, 2, 30, 13, 3), the 16 observed frames first.

    Raises:
        UserError: the file cannot be read, or its joints are not the benchmark's.
    """
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as content:
            joints = content["joints"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: no array 'joints' can be read from it ({error})") from None
    return check_scenes(joints, str(path), OBSERVED + FUTURE)


def read_json_pair(observed: str | Path, future: str | Path) -> Scenes:
    """Whole scenes from two of the benchmark's files, such as 3dpw_train_in.json and .._out.json.

    Each holds a list of scenes, of people, of frames, of 39 numbers: x, y, z of 13 joints.

    Raises:
        UserError: a file cannot be read, is not the benchmark's, or they differ in length.
    """
    parts = [read_json_scenes(observed, OBSERVED), read_json_scenes(future, FUTURE)]
    if len(parts[0]) != len(parts[1]):
        raise UserError(
            f"{observed} has {len(parts[0])} scenes, {future} {len(parts[1])}: they do not belong "
            "together"
        )
    return np.concatenate(parts, axis=2)


def read_json_scenes(path: str | Path, frames: int) -> Scenes:
    """The scenes of one file of the benchmark, which has `frames` frames.

    Raises:
        UserError: it cannot be read, or does not hold such scenes.
    """
    content = read_json(path)
    try:
        numbers = np.array(content, np.float64)
    except (TypeError, ValueError):
        raise UserError(
            f"{path}: not a full array of numbers (scenes, people, frames, {3 * len(JOINTS)}); is "
            "it one of SoMoF's _in.json or _out.json files, whole?"
        ) from None
    if numbers.ndim == 4 and numbers.shape[-1] == 3 * len(JOINTS):
        numbers = numbers.reshape(*numbers.shape[:3], len(JOINTS), 3)
    return check_scenes(numbers, str(path), frames)


def check_scenes(joints: Any, where: str, frames: int) -> Scenes:
    """Scenes as float32, if they are what the benchmark's protocol takes.

    Raises:
        UserError: another number of people, frames or joints, values that are not finite, or
            joints that are not in metres.
    """
    joints = np.asarray(joints)
    if joints.ndim != 5 or joints.shape[-1] != 3 or joints.dtype.kind not in "iuf":
        raise UserError(f"{where}: the joints are {joints.shape}, not (scenes, 2, {frames}, 13, 3)")
    _, people, length, count, _ = joints.shape
    if count != len(JOINTS):
        raise UserError(
            f"{where}: {count} joints, but SoMoF has {len(JOINTS)}: {', '.join(JOINTS)}; of SMPL's "
            "24, take those by `from_smpl`"
        )
    if people != PEOPLE:
        raise UserError(f"{where}: scenes of {people} people, but SoMoF's have {PEOPLE}")
    if length != frames:
        raise UserError(
            f"{where}: {length} frames, but SoMoF's protocol needs {frames} (it observes "
            f"{OBSERVED} and forecasts {FUTURE}, {FPS:g} a second)"
        )
    if not joints.size:
        raise UserError(f"{where}: there are no scenes in it")
    check_numbers(joints, where)
    check_metres(joints, where)
    return joints.astype(np.float32)


def check_numbers(joints: Float[np.ndarray, "..."], where: str) -> None:
    """Raise a UserError if any of (scenes, people, frames, ..) is not a finite number."""
    bad = ~np.isfinite(joints)
    if bad.any():
        scene, person, frame = np.argwhere(bad)[0][:3]
        raise UserError(
            f"{where}: scene {scene}, person {person}, frame {frame} (all from 0) holds values "
            "that are not finite numbers"
        )


def check_metres(joints: Float[np.ndarray, "*lead frames 13 3"], where: str) -> None:
    """Raise a UserError if bones are not as long as people's in metres, or change their length."""
    for name, pairs in BONES.items():
        lengths = _lengths(joints, pairs)
        length, change = float(np.median(lengths)), float(np.median(lengths.std(-1)))
        if not BONE_METRES[0] <= length <= BONE_METRES[1]:
            refuse_other_units(joints, where)
            wrong = f"is {length:.3g} long in the median, and people's {BONE_METRES[0]} to "
            wrong += f"{BONE_METRES[1]} m"
        elif change > RIGID * length:
            wrong = f"changes its length by {100 * change / length:.0f}% in time"
        else:
            continue
        raise UserError(
            f"{where}: the {name} {wrong}; the joints must be in metres and in SoMoF's order: "
            f"{', '.join(JOINTS)}"
        )


def refuse_other_units(joints: Float[np.ndarray, "*lead frames 13 3"], where: str) -> None:
    """Raise a UserError if all bones are as long as people's in a smaller unit than metres."""
    lengths = np.array([np.median(_lengths(joints, pairs)) for pairs in BONES.values()])
    for unit, factor in (("millimetres", 1000), ("centimetres", 100)):
        metres = lengths / factor
        if ((BONE_METRES[0] <= metres) & (metres <= BONE_METRES[1])).all():
            raise UserError(
                f"{where}: the bones are {lengths.round(1).tolist()} long, so these are {unit}; "
                f"divide by {factor} to give metres"
            )


def _lengths(joints: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """How long bones are, (pairs, .., frames)."""
    return np.stack(
        [np.linalg.norm(joints[..., a, :] - joints[..., b, :], axis=-1) for a, b in pairs]
    )

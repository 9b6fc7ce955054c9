"""CMU motion capture as the single-person forecasting papers use it (LTD, MSR-GCN and others).

Text files of 38 joints' exponential-map rotations, `train|test/ACTION/ACTION_N.txt`, from Li et
al., "Convolutional Sequence to Sequence Model for Human Dynamics", CVPR 2018. The protocol is that
of Mao et al., "Learning Trajectory Dependencies for Human Motion Prediction" (LTD), ICCV 2019:
every second frame, taken to be 25 a second; no path and no turning of the whole body; 25 frames
from 10; eight windows of each test file, drawn with a fixed seed; mean per-joint error in mm.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial.transform import Rotation

from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.errors import UserError

FPS = 25.0
OBSERVED, FUTURE = 10, 25
SCORED = {80: 1, 160: 3, 320: 7, 400: 9, 560: 13, 1000: 24}
"""Milliseconds, as the papers call them, and the future frame from 0."""

ACTIONS = (
    *("basketball", "basketball_signal", "directing_traffic", "jumping", "running", "soccer"),
    *("walking", "washwindow"),
)
PUBLISHED = {
    "LTD": {80: 11.5, 160: 20.4, 320: 37.8, 400: 46.8, 1000: 96.5},
    "MSR-GCN": {80: 8.7, 160: 15.8, 320: 30.6, 400: 38.1, 1000: 78.6},
}
"""Means over the actions, in mm."""

PARENTS = (
    *(-1, 0, 1, 2, 3, 4, 5, 0, 7, 8, 9, 10, 11, 0, 13, 14, 15, 16, 17, 18, 15, 20, 21, 22, 23),
    *(24, 25, 23, 27, 15, 29, 30, 31, 32, 33, 34, 32, 36),
)
USED = tuple(
    joint for joint in range(38) if joint not in (0, 1, 2, 7, 8, 13, 16, 20, 24, 27, 29, 33, 36)
)
"""The 25 joints that are forecast."""

COPIES = {16: 15, 20: 15, 29: 15, 24: 23, 27: 23, 33: 32, 36: 32}
"""Joints in the same place as one that is forecast; the remaining six never move."""

JOINTS = (
    *("left_knee", "left_ankle", "left_foot", "left_toe"),
    *("right_knee", "right_ankle", "right_foot", "right_toe"),
    *("spine", "chest", "neck", "throat", "head"),
    *("left_shoulder", "left_elbow", "left_wrist", "left_hand", "left_fingers", "left_thumb"),
    *("right_shoulder", "right_elbow", "right_wrist", "right_hand", "right_fingers"),
    "right_thumb",
)
"""Names of these."""

_UNIT = 70.0  # millimetres of one unit of the offsets
_OFFSETS = {  # from each joint's parent; joints that are left out are in its place
    **{2: (1.65674, -1.80282, 0.62477), 3: (2.5972, -7.13576, 0), 4: (2.49236, -6.8477, 0)},
    **{5: (0.19704, -0.54136, 2.14581), 6: (0, 0, 1.11249), 8: (-1.6107, -1.80282, 0.62476)},
    **{9: (-2.59502, -7.12977, 0), 10: (-2.4678, -6.78024, 0), 11: (-0.23024, -0.63258, 2.13368)},
    **{12: (0, 0, 1.11569), 14: (0.01961, 2.0545, -0.14112), 15: (0.01021, 2.06436, -0.05921)},
    **{17: (0.00713, 1.56711, 0.14968), 18: (0.03429, 1.56041, -0.10006)},
    **{19: (0.01305, 1.6256, -0.05265), 21: (3.54205, 0.90436, -0.17364), 22: (4.86513, 0, 0)},
    **{23: (3.35554, 0, 0), 25: (0, 0, 0.66117), 26: (0.53306, 0, 0), 28: (0.5412, 0, 0.5412)},
    **{30: (-3.49802, 0.75994, -0.32616), 31: (-5.02649, 0, 0), 32: (-3.36431, 0, 0)},
    **{34: (0, 0, -0.73041), 35: (-0.58887, 0, 0), 37: (-0.59786, 0, 0.59786)},
}
OFFSETS = np.array([_OFFSETS.get(joint, (0, 0, 0)) for joint in range(38)]) * _UNIT
"""Millimetres from each joint's parent, in the rest pose."""


def read_rotations(path: str | Path) -> Float[np.ndarray, "frames 38 3"]:
    """A file's exponential maps, one for each joint, without the three numbers of the path.

    Raises:
        UserError: it cannot be read, or its rows are not 117 finite numbers.
    """
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a text of numbers between commas ({error})") from None
    if rows.shape[1] != 3 + 3 * len(PARENTS) or not np.isfinite(rows).all():
        raise UserError(
            f"{path}: rows of {rows.shape[1]} numbers, but CMU's 38 joints take 117, all finite: "
            "is it a file of the benchmark's cmu_mocap, and not of Human3.6M (99)?"
        )
    return rows[:, 3:].reshape(-1, len(PARENTS), 3)


def joint_positions(
    rotations: Float[np.ndarray, "frames 38 3"],
) -> Float32[np.ndarray, "frames 38 3"]:
    """Forward kinematics: the joints in millimetres, the body at the origin and facing ahead.

    As in the protocol, the root's rotation is left out, and so is that of joints at the root.
    """
    turned = Rotation.from_rotvec(rotations.reshape(-1, 3)).as_matrix()
    # Exponential maps here turn row vectors: a joint's offset is multiplied from the left.
    local = turned.reshape(*rotations.shape, 3)
    world = local.copy()
    points = np.repeat(OFFSETS[None], len(rotations), 0)
    for joint, parent in enumerate(PARENTS):
        if parent > 0:
            world[:, joint] = local[:, joint] @ world[:, parent]
            points[:, joint] = OFFSETS[joint] @ world[:, parent] + points[:, parent]
    return points.astype(np.float32)


def read_track(path: str | Path) -> MotionTrack:
    """One file's 25 joints, in metres, at the protocol's rate; raises as `read_rotations`."""
    points = joint_positions(read_rotations(path)[::2])[:, USED]
    return make_track(points / 1000, fps=FPS, name=Path(path).stem)


def read_split(folder: str | Path, split: str) -> list[MotionTrack]:
    """The tracks of a split; each action's last training file is for validation.

    Raises:
        UserError: there are no files, or one is not the benchmark's.
    """
    actions = find_files(folder, "test" if split == "test" else "train").values()
    part = {"train": slice(None, -1), "validation": slice(-1, None), "test": slice(None)}[split]
    return [read_track(path) for files in actions for path in files[part]]


def find_files(folder: str | Path, split: str) -> dict[str, list[Path]]:
    """The files of a split, "train" or "test", by action; actions that are missing are left out.

    Raises:
        UserError: there are none.
    """
    place = Path(folder).expanduser() / split
    found = {action: sorted((place / action).glob(f"{action}_*.txt")) for action in ACTIONS}
    found = {action: files for action, files in found.items() if files}
    if not found:
        raise UserError(
            f"no files {place}/ACTION/ACTION_N.txt; the benchmark's folder cmu_mocap, with train "
            f"and test, holds {', '.join(ACTIONS)}"
        )
    return found


def draw_windows(tracks: list[MotionTrack]) -> Float32[np.ndarray, "windows 35 25 3"]:
    """The protocol's eight windows of each test file: ten frames seen, 25 to be forecast; metres.

    Raises:
        UserError: a file has 75 frames or fewer.
    """
    windows, before = [], 50
    for track in tracks:
        points = track.positions
        if len(points) <= before + FUTURE:
            raise UserError(
                f"{track.name}: {len(points)} frames at 25 a second; a window of the protocol "
                f"needs more than {before + FUTURE}"
            )
        draw = np.random.RandomState(1234567890)  # LTD's; the same for every file
        for _ in range(8):
            start = draw.randint(0, len(points) - before - FUTURE) + before - OBSERVED
            windows.append(points[start : start + OBSERVED + FUTURE])
    return np.stack(windows)


def mean_error(
    predicted: Float[np.ndarray, "windows 25 25 3"], true: Float[np.ndarray, "windows 25 25 3"]
) -> dict[int, float]:
    """The protocol's error in mm by milliseconds ahead, from metres.

    It is the mean over all 38 joints: copies count again, and those that never move count as right.

    Raises:
        UserError: the shapes differ, or values are not finite.
    """
    if np.shape(predicted) != np.shape(true) or not np.isfinite(predicted).all():
        raise UserError(
            f"the forecast is {np.shape(predicted)}, the truth {np.shape(true)}; both must be the "
            "same, and finite"
        )
    error = 1000 * np.linalg.norm(np.asarray(predicted, np.float64) - true, axis=-1)
    weight = np.array([1 + list(COPIES.values()).count(joint) for joint in USED])
    frames = (error * weight).sum(-1).mean(0) / len(PARENTS)
    return {ms: float(frames[frame]) for ms, frame in SCORED.items()}

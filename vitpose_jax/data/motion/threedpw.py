"""3DPW ("3D Poses in the Wild") sequence files: people in motion, in 2D and in 3D.

The files are Python 2 pickles. They are read by an unpickler that knows numpy arrays and plain
containers only: nothing in a file can name code to be run.
"""

import dataclasses
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.data.motion.windows import MotionTrack
from vitpose_jax.errors import UserError

FPS = 30.0
SPLITS = ("train", "validation", "test")

# Row i holds the OpenPose-18 joint that is COCO-17 joint i (the neck has no counterpart).
OPENPOSE_TO_COCO = np.array([0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10])

SMPL_JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2",
    "left_ankle", "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar",
    "right_collar", "head", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow",
    "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
SMPL_FLIP_INDEX = np.array(
    [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
)


@dataclasses.dataclass(frozen=True)
class Actor:
    """One person of a sequence, frame by frame.

    Attributes:
      keypoints: (T, 17, 2) float32, COCO order, pixels; 0 where not `visible`.
      scores: (T, 17) float32 detection confidences, 0 where not `visible`.
      visible: (T, 17) bool.
      joints3d: (T, 24, 3) float32, SMPL order, metres, world frame; NaN where not known.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    visible: np.ndarray
    joints3d: np.ndarray


@dataclasses.dataclass(frozen=True)
class Sequence:
    """One sequence file.

    Attributes:
      name: the sequence's name, which is also its folder under `imageFiles`.
      actors: the people in it.
      frame_ids: (T,) int64 number of each frame's image.
      cam_poses: (T, 4, 4) float32 world to camera.
      cam_valid: (A, T) bool: the camera pose and that actor's 3D joints can be trusted.
      intrinsics: (3, 3) float32.
    """

    name: str
    actors: list[Actor]
    frame_ids: np.ndarray
    cam_poses: np.ndarray
    cam_valid: np.ndarray
    intrinsics: np.ndarray

    @property
    def image_size(self) -> tuple[int, int]:
        """(width, height) in pixels, taken from the principal point, which is the image centre."""
        return round(2 * float(self.intrinsics[0, 2])), round(2 * float(self.intrinsics[1, 2]))


def read_sequence(path: str | Path) -> Sequence:
    """Reads one sequence file.

    Raises:
      UserError: the file is not a pickle, holds anything but arrays and plain containers, lacks a
        key, or its arrays do not fit together.
    """
    path = Path(path)
    content = load_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a 3DPW sequence file (it holds a {type(content).__name__})")
    poses2d = _per_actor(path, content, "poses2d", (3, 18))
    frames = len(poses2d[0]) if poses2d else 0
    joints = _per_actor(path, content, "jointPositions", (72,))
    valid = _per_actor(path, content, "campose_valid", ())
    cam_poses = _array(path, "cam_poses", _entry(path, content, "cam_poses"), (frames, 4, 4))
    intrinsics = _array(path, "cam_intrinsics", _entry(path, content, "cam_intrinsics"), (3, 3))
    frame_ids = _array(path, "img_frame_ids", _entry(path, content, "img_frame_ids"), (frames,))
    for key, values in (("jointPositions", joints), ("campose_valid", valid)):
        if len(values) != len(poses2d):
            raise UserError(
                f"{path}: '{key}' has {len(values)} actors, 'poses2d' {len(poses2d)}; "
                "the file is damaged, download it again"
            )
    actors = [_actor(pose, joint) for pose, joint in zip(poses2d, joints, strict=True)]
    for key, values in (("poses2d", poses2d), ("jointPositions", joints), ("campose_valid", valid)):
        for index, value in enumerate(values):
            if len(value) != frames:
                raise UserError(
                    f"{path}: actor {index} has {len(value)} frames in '{key}', actor 0 has "
                    f"{frames} in 'poses2d'; the file is damaged, download it again"
                )
    name = content.get("sequence")
    return Sequence(
        name if isinstance(name, str) and name else path.stem,
        actors,
        frame_ids.astype(np.int64),
        cam_poses.astype(np.float32),
        np.stack([v > 0 for v in valid]) if valid else np.zeros((0, frames), bool),
        intrinsics.astype(np.float32),
    )


def read_split(folder: str | Path, split: str) -> list[Sequence]:
    """All sequences of a split, by file name. `folder` is the one that holds `sequenceFiles`.

    Raises:
      UserError: no such split or no files in it.
    """
    return [read_sequence(path) for path in sequence_files(folder, split)]


def sequence_files(folder: str | Path, split: str) -> list[Path]:
    """The sequence files of a split, sorted by name; UserError where there are none."""
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


def project(joints3d: np.ndarray, cam_poses: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """World points (T, J, 3) in metres to image pixels (T, J, 2); NaN behind the camera."""
    rotation, offset = cam_poses[:, :3, :3], cam_poses[:, :3, 3]
    in_camera = np.einsum("tij,tkj->tki", rotation, joints3d) + offset[:, None]
    in_image = in_camera @ intrinsics.T
    depth = np.where(in_image[..., 2:] > 1e-3, in_image[..., 2:], np.nan)
    return (in_image[..., :2] / depth).astype(np.float32)


def detection_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The file's 2D detections, one track of 17 COCO keypoints per actor, in pixels."""
    return [
        MotionTrack(
            name=f"{sequence.name}/{index}",
            positions=actor.keypoints,
            visible=actor.visible,
            frame_ids=sequence.frame_ids,
            fps=FPS,
        )
        for index, actor in enumerate(sequence.actors)
    ]


def projected_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The 3D joints seen through the camera: 24 SMPL joints in pixels, without detection noise.

    Joints outside the image are given too (a projection knows them); frames without a trusted
    camera pose and joints behind the camera are missing.
    """
    tracks = []
    for index, actor in enumerate(sequence.actors):
        points = project(actor.joints3d, sequence.cam_poses, sequence.intrinsics)
        seen = np.isfinite(points).all(-1) & sequence.cam_valid[index][:, None]
        tracks.append(_track(sequence, index, points, seen))
    return tracks


def joint_tracks(sequence: Sequence) -> list[MotionTrack]:
    """The 3D joints themselves: 24 SMPL joints in metres, in the world frame."""
    tracks = []
    for index, actor in enumerate(sequence.actors):
        seen = np.isfinite(actor.joints3d).all(-1) & sequence.cam_valid[index][:, None]
        tracks.append(_track(sequence, index, actor.joints3d, seen))
    return tracks


def load_pickle(path: str | Path) -> Any:
    """Unpickles numpy arrays, scalars and plain containers, and refuses everything else by name.

    Raises:
      UserError: unreadable, not a pickle, or naming anything but numpy's own array functions.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        unpickler = _ArrayUnpickler(io.BytesIO(data), encoding="latin1")
        return _built(unpickler.load(), {})
    except _Refused as error:
        raise UserError(
            f"{path}: refused, the file asks for {error}; a 3DPW file holds numpy arrays and plain "
            "containers only, so this one is damaged or malicious"
        ) from error
    except (RecursionError, MemoryError) as error:
        raise UserError(f"{path}: refused, its contents are nested or sized absurdly") from error
    except Exception as error:  # a damaged pickle can raise anything at all
        raise UserError(
            f"{path}: not a readable pickle ({type(error).__name__}: {error}); download it again"
        ) from error


class _Refused(Exception):
    """What a pickle asked for and does not get."""


class _Dtype:
    """Stands in for numpy.dtype while unpickling: a type code and a byte order."""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or code[:1] not in "biufcSU":
            raise _Refused(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for a numpy array while unpickling; numpy itself never sees the file's state."""

    def __init__(self, *_: Any) -> None:
        self.array = np.zeros(0, np.float32)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, str | bytes | bytearray):
            raise _Refused("an array of Python objects")
        raw = raw.encode("latin1") if isinstance(raw, str) else bytes(raw)
        flat = np.frombuffer(raw, dtype.dtype)
        self.array = flat.reshape(shape, order="F" if fortran else "C").copy()


def _scalar(dtype: _Dtype, raw: str | bytes) -> Any:
    if not isinstance(dtype, _Dtype) or not isinstance(raw, str | bytes):
        raise _Refused("a scalar that is a Python object")
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.dtype)[0]


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise _Refused(f"_codecs.encode with {encoding!r}")
    return text.encode("latin1")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple, order: str) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


_STAND_INS = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    **{
        (f"numpy.{core}.{module}", name): stand_in
        for core in ("core", "_core")
        for module, name, stand_in in (
            ("multiarray", "_reconstruct", _Array),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise _Refused(f"{module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused(f"the persistent object {pid!r}")


def _built(value: Any, memo: dict[int, Any]) -> Any:
    """`value` with the stand-ins replaced by what they stand for."""
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Dtype):
        return value.dtype
    if not isinstance(value, list | tuple | dict):
        if isinstance(value, type) or callable(value):
            raise _Refused(f"{getattr(value, '__name__', value)} itself as a value")
        return value
    if id(value) not in memo:
        if isinstance(value, dict):
            memo[id(value)] = {k: _built(v, memo) for k, v in value.items()}
        else:
            memo[id(value)] = type(value)([_built(v, memo) for v in value])
    return memo[id(value)]


def _entry(path: Path, content: dict, key: str) -> Any:
    if key not in content:
        raise UserError(f"{path}: no '{key}' in it; is it a 3DPW sequence file?")
    return content[key]


def _per_actor(path: Path, content: dict, key: str, shape: tuple[int, ...]) -> list[np.ndarray]:
    values = _entry(path, content, key)
    if not isinstance(values, list | tuple):
        raise UserError(f"{path}: '{key}' is a {type(values).__name__}, not a list with one actor")
    return [
        _array(path, f"{key}[{index}]", value, (None, *shape)) for index, value in enumerate(values)
    ]


def _array(path: Path, key: str, value: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    fits = (
        isinstance(value, np.ndarray)
        and value.ndim == len(shape)
        and value.dtype.kind in "biuf"
        and all(want in (None, have) for want, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        have = value.shape if isinstance(value, np.ndarray) else type(value).__name__
        want = "(" + ", ".join("frames" if n is None else str(n) for n in shape) + ")"
        raise UserError(f"{path}: '{key}' is {have}, expected numbers of shape {want}")
    return value


def _actor(poses2d: np.ndarray, joints: np.ndarray) -> Actor:
    """(T, 3, 18) detections and (T, 72) joints of the file as an Actor."""
    points = poses2d.transpose(0, 2, 1)[:, OPENPOSE_TO_COCO].astype(np.float32)
    visible = np.isfinite(points).all(-1) & (points[..., 2] > 0) & (points[..., :2] != 0).any(-1)
    points = np.where(visible[..., None], points, 0)
    return Actor(
        points[..., :2], points[..., 2], visible, joints.reshape(-1, 24, 3).astype(np.float32)
    )


def _track(sequence: Sequence, index: int, points: np.ndarray, seen: np.ndarray) -> MotionTrack:
    return MotionTrack(
        name=f"{sequence.name}/{index}",
        positions=np.where(seen[..., None], points, 0).astype(np.float32),
        visible=seen,
        frame_ids=sequence.frame_ids,
        fps=FPS,
    )

"""Synthetic motion: people who walk, turn, wave, reach, sit down and squat, as keypoints in time.

The body is that of the synthetic images; smooth functions of time drive its joint angles. A person
goes from one activity to the next every few seconds, and the camera stands still.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.data.synthetic.body import (
    ANGLE,
    ANGLE_HIGH,
    ANGLE_LOW,
    ANGLES,
    BodyShape,
    pose_body,
    rotation_x,
)
from vitpose_jax.errors import UserError

IMAGE_WH = (1920, 1080)
FOCAL = 1400.0
"""Pixels; a horizontal field of view of 69 degrees."""

ANKLE_HEIGHT = 0.08
"""Height of the standing foot's ankle above the floor, in metres."""

_STREAM = {"train": 11, "validation": 12, "test": 13}
_SEQUENCES = {"train": 200, "validation": 40, "test": 40}
_BLEND = 0.6  # seconds in which one activity blends into the next
_GRAVITY = 9.81
_DETECTION_NOISE = 0.003  # of a person's height

Clock = np.ndarray
"""Seconds since the activity began, (T,)."""


def synthetic_motion_sequence(
    index: int, num_frames: int, fps: float = 30.0, *, split: str = "train"
) -> dict[str, np.ndarray]:
    """Make one person in motion; the result depends only on the arguments.

    The whole path lies at least two metres in front of the camera.

    Args:
        index: the sequence's number.
        num_frames: T.
        fps: frames per second.
        split: "train", "validation" or "test"; each has its own random stream.

    Returns:
        `keypoints_2d` float32 (T, 17, 2), pixels of a 1920x1080 camera; `visible` float32 (T, 17),
        2 inside the image, 0 outside; `keypoints_3d` float32 (T, 17, 3), metres in the world: x
        right, y up from the floor, z towards the camera; `camera` float32 (3, 4), the projection of
        these to homogeneous pixels.
    """
    rng = np.random.default_rng([_STREAM[split], index])
    shape = BodyShape.draw(rng)
    pace = float(rng.uniform(0.8, 1.2))
    camera_height, tilt = float(rng.uniform(0.8, 2.5)), float(rng.normal(4, 4))
    heading = rng.uniform(-180, 180)

    times = np.arange(num_frames) / fps
    angles = _sway(times, rng) + _rest_angles(rng)
    turn_rate = np.zeros(num_frames)
    begin = 0.0
    while begin <= times[-1] + _BLEND:
        activity = _ACTIVITIES[rng.choice(len(_ACTIVITIES), p=_WEIGHTS)]
        seconds = float(rng.uniform(1.5, 4.0))
        drawn = rng.random(5)
        weight = _window(times, begin, begin + seconds)
        used = weight > 0
        part, rate = activity((times[used] - begin) * pace, drawn, shape)
        angles[used] += weight[used, None] * part
        turn_rate[used] += weight[used] * rate
        begin += seconds

    body = pose_body(
        shape, np.clip(angles, ANGLE_LOW, ANGLE_HIGH), heading + np.cumsum(turn_rate) / fps
    )
    world = (
        body.joints
        + _stand_on_floor(body.joints[:, 15:17])[:, None]
        + (float(rng.normal(0, 0.8)), 0, 0)
    )
    world[..., 2] -= world[..., 2].max() + rng.uniform(2.0, 6.0)

    view = (world - (0, camera_height, 0)) @ rotation_x(tilt).T
    depth = np.maximum(-view[..., 2], 0.1)
    flat = np.stack([view[..., 0], -view[..., 1]], axis=-1) / depth[..., None]
    pixels = flat * FOCAL + np.array(IMAGE_WH) / 2
    inside = ((pixels >= 0) & (pixels < IMAGE_WH)).all(axis=-1) & (view[..., 2] < -0.1)
    return {
        "keypoints_2d": pixels.astype(np.float32),
        "visible": np.where(inside, 2, 0).astype(np.float32),
        "keypoints_3d": world.astype(np.float32),
        "camera": _projection(camera_height, tilt),
    }


def synthetic_tracks(split: str, num_frames: int = 300) -> list[MotionTrack]:
    """The 2D tracks of a split, ten seconds each by default.

    Raises:
        UserError: no such split.
    """
    if split not in _SEQUENCES:
        raise UserError(f"the split is one of {', '.join(_SEQUENCES)}, not {split!r}")
    tracks = []
    for index in range(_SEQUENCES[split]):
        sequence = synthetic_motion_sequence(index, num_frames, split=split)
        name, seen = f"synthetic {split} {index}", sequence["visible"] > 0
        tracks.append(make_track(sequence["keypoints_2d"], seen, fps=30.0, name=name))
    return tracks


def noisy_tracks(split: str, count: int, num_frames: int = 300) -> list[MotionTrack]:
    """The 2D tracks of a split's first sequences as a detector finds them, to be seen in 3D too.

    Keypoints are off by a few thousandths of the person's height, half of it for a while.
    """
    tracks = []
    for index in range(min(count, _SEQUENCES[split])):
        made = synthetic_motion_sequence(index, num_frames, split=split)
        points, seen = made["keypoints_2d"], made["visible"] > 0
        rng = np.random.default_rng([_STREAM[split], index, 1])
        noise = rng.standard_normal((2, *points.shape))
        noise[1] = gaussian_filter1d(noise[1], 3, axis=0) * 3
        size = np.ptp(points[..., 1], axis=1)[:, None, None]
        points = points + _DETECTION_NOISE * size * noise.sum(0)
        track = make_track(points, seen, fps=30.0, name=f"synthetic {split} {index}")
        cameras = np.repeat(made["camera"][None], num_frames, 0)
        tracks.append(replace(track, world=made["keypoints_3d"], cameras=cameras))
    return tracks


def synthetic_joint_tracks(split: str, count: int, num_frames: int = 300) -> list[MotionTrack]:
    """The 3D tracks of a split's first sequences: SoMoF's joints, metres, 30 frames a second."""
    tracks = []
    for index in range(min(count, _SEQUENCES[split])):
        joints = synthetic_motion_sequence(index, num_frames, split=split)["keypoints_3d"]
        neck = joints[:, 5:7].mean(1, keepdims=True)
        joints = np.concatenate([joints[:, 11:17], neck, joints[:, 5:11]], 1)
        tracks.append(make_track(joints, fps=30.0, name=f"synthetic {split} {index}"))
    return tracks


def _projection(camera_height: float, tilt: float) -> np.ndarray:
    """From the world to homogeneous pixels, (3, 4)."""
    rotation = rotation_x(tilt)
    outside = np.column_stack([rotation, rotation @ (0, -camera_height, 0)])
    width, height = IMAGE_WH
    inside = np.array([[FOCAL, 0, -width / 2], [0, -FOCAL, -height / 2], [0, 0, -1]])
    return (inside @ outside).astype(np.float32)


def _window(times: np.ndarray, begin: float, end: float) -> np.ndarray:
    """An activity's weight (T,): it rises around `begin` as the previous one falls; sums are 1."""

    def step(at: float) -> np.ndarray:
        u = np.clip((times - at) / _BLEND + 0.5, 0, 1)
        return u * u * u * (u * (6 * u - 15) + 10)

    return (step(begin) if begin > 0 else 1.0) - step(end)


def _stand_on_floor(ankles: np.ndarray) -> np.ndarray:
    """The pelvis's path (T, 3) that keeps the lower (supporting) foot in place.

    Args:
        ankles: (T, 2, 3), relative to the pelvis.
    """
    height = ankles[..., 1]
    carries = np.exp(-(height - height.min(axis=1, keepdims=True)) / 0.01)
    carries /= carries.sum(axis=1, keepdims=True)
    slide = -(np.diff(ankles, axis=0) * (carries[1:] + carries[:-1])[..., None] / 2).sum(axis=1)
    path = np.concatenate([np.zeros((1, 3)), np.cumsum(slide, axis=0)])
    path[:, 1] = ANKLE_HEIGHT - height.min(axis=1)
    return path


def _sway(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Small slow movements of every joint (T, A): three sines each."""
    frequency = rng.uniform(0.1, 0.7, (3, 1, len(ANGLES)))
    phase = rng.uniform(0, 2 * np.pi, (3, 1, len(ANGLES)))
    size = rng.normal(0, 1.2, (3, 1, len(ANGLES)))
    return (size * np.sin(2 * np.pi * frequency * times[:, None] + phase)).sum(axis=0)


def _rest_angles(rng: np.random.Generator) -> np.ndarray:
    """This person's angles (A,) at rest."""
    rest = rng.normal(0, 3, len(ANGLES))
    for side in ("left", "right"):
        rest[ANGLE[f"{side}_arm_out"]] += 8
        rest[ANGLE[f"{side}_elbow"]] += 14
        rest[ANGLE[f"{side}_knee"]] += 4
    return rest


Angles = np.ndarray
"""Degrees (T, A), added to those at rest."""

Activity = Callable[[Clock, np.ndarray, BodyShape], tuple[Angles, np.ndarray]]
"""(clock, five numbers in [0, 1), body) -> angles, and turning speed (T,), degrees per second."""


def _pose(clock: Clock, angles: Mapping[str, float | np.ndarray]) -> Angles:
    """Angles by name; a joint's name without a side stands for both sides."""
    pose = np.zeros((len(clock), len(ANGLES)))
    for name, value in angles.items():
        for target in (name,) if name in ANGLE else (f"left_{name}", f"right_{name}"):
            pose[:, ANGLE[target]] = value
    return pose


def _standing(clock: Clock, angles: Mapping[str, float | np.ndarray]) -> tuple[Angles, np.ndarray]:
    """An activity without turning."""
    return _pose(clock, angles), np.zeros(len(clock))


def _stride(
    clock: Clock, drawn: np.ndarray, shape: BodyShape, turn: float, run: bool = False
) -> tuple[Angles, np.ndarray]:
    """Walking or running, at the frequency of a pendulum as long as the legs."""
    leg = 0.49 * shape.height * shape.leg
    swing = (38 if run else 24) + 8 * drawn[0]
    cadence = (0.85 if run else 0.55) * np.sqrt(_GRAVITY / leg) / np.pi * (0.9 + 0.2 * drawn[1])
    phase = 2 * np.pi * (cadence * clock + drawn[2])
    knee, elbow = (75 if run else 48), (75 if run else 12)
    left_knee, right_knee = (np.maximum(0, np.sin(phase + s + 1.8)) ** 1.5 for s in (0, np.pi))
    arm = (0.9 if run else 0.7) * swing
    angles = {
        "left_leg_forward": swing * np.sin(phase) + 4,
        "right_leg_forward": -swing * np.sin(phase) + 4,
        "left_knee": knee * left_knee,
        "right_knee": knee * right_knee,
        "left_arm_forward": -arm * np.sin(phase),
        "right_arm_forward": arm * np.sin(phase),
        "left_elbow": elbow + 8 * np.cos(phase),
        "right_elbow": elbow - 8 * np.cos(phase),
        "spine_twist": -7 * np.sin(phase),
        "spine_bend": 12.0 if run else 3.0,
        "root_roll": 2.5 * np.cos(phase),
    }
    return _pose(clock, angles), np.full(len(clock), turn)


def _walk(clock: Clock, drawn: np.ndarray, shape: BodyShape) -> tuple[Angles, np.ndarray]:
    return _stride(clock, drawn, shape, turn=(drawn[3] - 0.5) * 20)


def _curve(clock: Clock, drawn: np.ndarray, shape: BodyShape) -> tuple[Angles, np.ndarray]:
    return _stride(clock, drawn, shape, turn=np.sign(drawn[3] - 0.5) * (30 + 50 * drawn[4]))


def _run(clock: Clock, drawn: np.ndarray, shape: BodyShape) -> tuple[Angles, np.ndarray]:
    return _stride(clock, drawn, shape, turn=(drawn[3] - 0.5) * 40, run=True)


def _turn(clock: Clock, drawn: np.ndarray, shape: BodyShape) -> tuple[Angles, np.ndarray]:
    """Turning on the spot, with small steps."""
    turn = np.sign(drawn[3] - 0.5) * (40 + 70 * drawn[4])
    pose, rate = _stride(clock, drawn, shape, turn)
    return pose * 0.45, rate


def _there_and_back(clock: Clock, seconds: float) -> np.ndarray:
    """From 0 to 1 and back, smoothly, repeated every `seconds`."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * clock / seconds)


def _stand(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    """Looking around."""
    look = (drawn[0] - 0.5) * 90 * _there_and_back(clock, 2 + 2 * drawn[1])
    return _standing(clock, {"neck_turn": look, "spine_twist": look * 0.2})


def _reach(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    """Reaching for something with one arm."""
    side = "left" if drawn[0] < 0.5 else "right"
    there = _there_and_back(clock, 1.6 + 1.6 * drawn[1])
    up = 50 + 105 * drawn[2]
    angles = {
        "spine_bend": (30 - 0.2 * up) * there,
        "spine_twist": (-20 if side == "left" else 20) * there,
        f"{side}_arm_forward": up * there,
        f"{side}_arm_out": 30 * drawn[3] * there,
        f"{side}_elbow": 40 * there * (1 - there) * 4,
    }
    return _standing(clock, angles)


def _wave(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    side = "left" if drawn[0] < 0.5 else "right"
    swing = np.sin(2 * np.pi * (1.0 + drawn[1]) * clock)
    angles = {
        f"{side}_arm_out": 80 + 25 * drawn[2],
        f"{side}_arm_turn": -70.0,
        f"{side}_elbow": 70 + 30 * swing,
    }
    return _standing(clock, angles)


def _squat(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    down = _there_and_back(clock, 1.8 + 1.4 * drawn[0]) * (0.6 + 0.4 * drawn[1])
    legs = {"leg_forward": 95 * down, "knee": 112 * down, "arm_forward": 70 * down}
    return _standing(clock, {**legs, "spine_bend": 22 * down, "root_pitch": 16 * down})


def _sit(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    """Sitting still, gesturing with one arm."""
    side = "left" if drawn[0] < 0.5 else "right"
    gesture = _there_and_back(clock, 1.2 + drawn[1])
    seat = {"leg_forward": 84.0, "knee": 82.0, "arm_forward": 25.0, "spine_bend": 8.0}
    arm = {f"{side}_arm_forward": 25 + 35 * gesture, f"{side}_elbow": 60 + 40 * gesture}
    return _standing(clock, {**seat, **arm})


def _bend(clock: Clock, drawn: np.ndarray, _: BodyShape) -> tuple[Angles, np.ndarray]:
    """Picking something up from the floor."""
    down = _there_and_back(clock, 2.0 + 1.2 * drawn[0])
    limbs = {"arm_forward": 75 * down, "leg_forward": 38 * down, "knee": 22 * down}
    return _standing(clock, {**limbs, "spine_bend": 62 * down, "root_pitch": 32 * down})


_ACTIVITIES: tuple[Activity, ...] = (
    *(_walk, _curve, _run, _stand, _turn),
    *(_reach, _wave, _squat, _sit, _bend),
)
_WEIGHTS = np.array([5, 3, 1.5, 1.5, 1.5, 2, 1.5, 1, 1, 1])
_WEIGHTS /= _WEIGHTS.sum()

"""An articulated human body: proportions, joint angles, and the resulting joint positions.

Frames are right-handed, in metres. In the body's frame, x points to the person's left, y up and z
forward; in the camera's, x to the image's right, y up and z towards the camera. A body with heading
0 faces the camera.
Segment lengths are fractions of the body's height after Drillis and Contini (1966), as printed in
Winter, "Biomechanics and Motor Control of Human Movement", fig. 4.1.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

ANGLES = (
    *("root_pitch", "root_roll", "spine_bend", "spine_side", "spine_twist"),
    *("neck_nod", "neck_side", "neck_turn"),
    *("left_arm_forward", "left_arm_out", "left_arm_turn", "left_elbow"),
    *("right_arm_forward", "right_arm_out", "right_arm_turn", "right_elbow"),
    *("left_leg_forward", "left_leg_out", "left_leg_turn", "left_knee"),
    *("right_leg_forward", "right_leg_out", "right_leg_turn", "right_knee"),
)
"""A pose's joint angles, in degrees; all 0 is upright with the arms hanging."""

ANGLE = {name: column for column, name in enumerate(ANGLES)}

_LIMITS = {
    "root_pitch": (-180, 180), "root_roll": (-180, 180),
    "spine_bend": (-25, 80), "spine_side": (-30, 30), "spine_twist": (-45, 45),
    "neck_nod": (-40, 40), "neck_side": (-30, 30), "neck_turn": (-70, 70),
    "arm_forward": (-50, 170), "arm_out": (-20, 165), "arm_turn": (-80, 80), "elbow": (3, 145),
    "leg_forward": (-35, 120), "leg_out": (-12, 65), "leg_turn": (-25, 40), "knee": (3, 140),
}  # fmt: skip
ANGLE_LOW, ANGLE_HIGH = np.array(
    [_LIMITS[name.removeprefix("left_").removeprefix("right_")] for name in ANGLES], np.float64
).T

HEAD_RADIUS = 0.058
"""Half the head's mean width and height, as a fraction of the body's height."""

FACE_POINTS = np.array(
    [
        [0.0, -0.12, 1.12],  # nose
        [0.38, 0.14, 0.88],  # left eye
        [-0.38, 0.14, 0.88],
        [0.98, 0.0, -0.05],  # left ear
        [-0.98, 0.0, -0.05],
    ]
)
"""Nose, eyes and ears in units of the head's radius: (left, up, forward)."""


@dataclass(frozen=True)
class BodyShape:
    """Proportions of one person.

    Attributes:
        height: metres.
        shoulder_width: between the shoulder joints, as a fraction of the height.
        hip_width: between the hip joints, likewise.
        leg: factor on the length of the legs.
        arm: factor on the length of the arms.
        head: factor on the size of the head.
        girth: factor on the width of limbs and trunk (for drawing).
    """

    height: float = 1.7
    shoulder_width: float = 0.21
    hip_width: float = 0.115
    leg: float = 1.0
    arm: float = 1.0
    head: float = 1.0
    girth: float = 1.0

    @staticmethod
    def draw(rng: np.random.Generator) -> "BodyShape":
        """Draw a person at random; one in eight is a child."""
        if rng.random() < 0.125:
            height, head, leg = rng.uniform(1.0, 1.4), rng.uniform(1.15, 1.4), 0.94
        else:
            height, head, leg = rng.normal(1.7, 0.09), rng.uniform(0.93, 1.08), 1.0
        return BodyShape(
            height=float(height),
            shoulder_width=float(rng.uniform(0.18, 0.235)),
            hip_width=float(rng.uniform(0.1, 0.13)),
            leg=float(leg * rng.uniform(0.95, 1.05)),
            arm=float(rng.uniform(0.95, 1.05)),
            head=float(head),
            girth=float(np.clip(rng.normal(1.05, 0.18), 0.75, 1.6)),
        )


@dataclass(frozen=True)
class PosedBody:
    """A body in space, over T frames; positions are metres, (T, ..., 3).

    Attributes:
        joints: (T, 17, 3), COCO's keypoints.
        head: (T, 3), the head's centre.
        head_axes: (T, 3, 3), columns are the head's left, up and forward.
        chest: (T, 3), between the shoulders.
        pelvis: (T, 3), between the hips.
        chest_axes: (T, 3, 3), columns are the chest's left, up and forward.
        hands: (T, 2, 3), ends of the left and right hand.
        toes: (T, 2, 3), ends of the left and right foot.
    """

    joints: np.ndarray
    head: np.ndarray
    head_axes: np.ndarray
    chest: np.ndarray
    pelvis: np.ndarray
    chest_axes: np.ndarray
    hands: np.ndarray
    toes: np.ndarray

    def rotated(self, rotation: np.ndarray) -> "PosedBody":
        """The body turned about the origin by a matrix (3, 3)."""
        return PosedBody(
            **{
                name: rotation @ value if name.endswith("axes") else value @ rotation.T
                for name, value in vars(self).items()
            }
        )


def _rotation(axis: int, degrees: float | np.ndarray) -> np.ndarray:
    """Right-handed rotations (..., 3, 3) about a coordinate axis (0, 1, 2)."""
    radians = np.deg2rad(np.asarray(degrees, np.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    turn = np.zeros((*radians.shape, 3, 3))
    turn[..., axis, axis] = 1
    turn[..., i, i] = turn[..., j, j] = cos
    turn[..., i, j], turn[..., j, i] = -sin, sin
    return turn


rotation_x, rotation_y, rotation_z = (partial(_rotation, axis) for axis in range(3))
"""Rotations by degrees. Positive angles pitch a body forward (x), turn it to its left (y) and tilt
it to its right (z)."""


def pose_body(shape: BodyShape, angles: np.ndarray, heading: np.ndarray) -> PosedBody:
    """Forward kinematics, with the pelvis at the origin.

    Args:
        shape: proportions.
        angles: (T, len(ANGLES)), degrees.
        heading: (T,), degrees about the vertical; 0 faces the camera, 90 the image's right.
    """
    height = shape.height
    column = {name: angles[:, i] for name, i in ANGLE.items()}
    pelvis_axes = (
        rotation_y(heading) @ rotation_x(column["root_pitch"]) @ rotation_z(column["root_roll"])
    )
    chest_axes = (
        pelvis_axes
        @ rotation_x(column["spine_bend"])
        @ rotation_z(column["spine_side"])
        @ rotation_y(column["spine_twist"])
    )
    head_axes = (
        chest_axes
        @ rotation_x(column["neck_nod"])
        @ rotation_z(column["neck_side"])
        @ rotation_y(column["neck_turn"])
    )
    pelvis = np.zeros((len(angles), 3))
    # Half of the trunk bends with the pelvis, half with the chest.
    waist = pelvis + pelvis_axes[..., 1] * 0.11 * height
    chest = waist + chest_axes[..., 1] * 0.178 * height
    neck = chest + chest_axes[..., 1] * 0.03 * height
    radius = HEAD_RADIUS * shape.head * height
    head = neck + head_axes[..., 1] * (0.03 * height + radius) + head_axes[..., 2] * 0.15 * radius

    joints = np.zeros((len(angles), 17, 3))
    joints[:, :5] = head[:, None] + radius * np.einsum("tij,kj->tki", head_axes, FACE_POINTS)
    hands, toes = np.zeros((len(angles), 2, 3)), np.zeros((len(angles), 2, 3))
    for side, (name, sign) in enumerate((("left", 1.0), ("right", -1.0))):
        limb = _limb_axes(chest_axes, column, f"{name}_arm", sign)
        lower = limb @ rotation_x(-column[f"{name}_elbow"])
        shoulder = chest + chest_axes[..., 0] * (sign * shape.shoulder_width / 2 * height)
        elbow = shoulder - limb[..., 1] * (0.172 * shape.arm * height)
        wrist = elbow - lower[..., 1] * (0.157 * shape.arm * height)
        hands[:, side] = wrist - lower[..., 1] * (0.085 * shape.arm * height)
        limb = _limb_axes(pelvis_axes, column, f"{name}_leg", sign)
        lower = limb @ rotation_x(column[f"{name}_knee"])
        hip = pelvis + pelvis_axes[..., 0] * (sign * shape.hip_width / 2 * height)
        knee = hip - limb[..., 1] * (0.245 * shape.leg * height)
        ankle = knee - lower[..., 1] * (0.246 * shape.leg * height)
        toes[:, side] = ankle + (0.105 * lower[..., 2] - 0.035 * lower[..., 1]) * height
        for first, point in ((5, shoulder), (7, elbow), (9, wrist)):
            joints[:, first + side] = point
        for first, point in ((11, hip), (13, knee), (15, ankle)):
            joints[:, first + side] = point
    return PosedBody(joints, head, head_axes, chest, pelvis, chest_axes, hands, toes)


def _limb_axes(
    parent: np.ndarray, column: dict[str, np.ndarray], limb: str, sign: float
) -> np.ndarray:
    """Axes of an upper arm or thigh: rotated outwards, then forwards, then about its own axis."""
    return (
        parent
        @ rotation_z(sign * column[f"{limb}_out"])
        @ rotation_x(-column[f"{limb}_forward"])
        @ rotation_y(-sign * column[f"{limb}_turn"])
    )

"""Poses for still images: activities as ranges of joint angles."""

import numpy as np

from vitpose_jax.data.synthetic.body import ANGLE, ANGLE_HIGH, ANGLE_LOW, ANGLES

# Activity -> angle -> (mean, spread) in degrees. A name without a side stands for both sides, drawn
# independently; "near_" and "far_" are the two sides in random order.
_ACTIVITIES: dict[str, dict[str, tuple[float, float]]] = {
    "stand": {"arm_forward": (5, 15), "arm_out": (12, 10), "elbow": (20, 18), "leg_out": (5, 6)},
    "walk": {
        "near_leg_forward": (22, 8), "far_leg_forward": (-16, 8),
        "near_knee": (12, 10), "far_knee": (25, 18),
        "near_arm_forward": (-22, 10), "far_arm_forward": (22, 10),
        "arm_out": (8, 6), "elbow": (28, 18), "spine_bend": (5, 5),
    },
    "run": {
        "near_leg_forward": (55, 15), "far_leg_forward": (-22, 12),
        "near_knee": (70, 25), "far_knee": (60, 30),
        "near_arm_forward": (-35, 12), "far_arm_forward": (40, 15),
        "arm_out": (14, 8), "elbow": (85, 18), "spine_bend": (14, 8), "root_pitch": (6, 5),
    },
    "sit": {
        "leg_forward": (85, 12), "leg_out": (10, 9), "knee": (80, 22), "spine_bend": (8, 12),
        "arm_forward": (32, 22), "arm_out": (12, 12), "elbow": (60, 30),
    },
    "crouch": {
        "leg_forward": (95, 18), "leg_out": (18, 12), "knee": (115, 18), "spine_bend": (25, 18),
        "arm_forward": (50, 25), "arm_out": (18, 15), "elbow": (50, 30), "root_pitch": (12, 8),
    },
    "reach_up": {
        "near_arm_forward": (140, 22), "far_arm_forward": (60, 60), "arm_out": (18, 18),
        "elbow": (25, 22), "leg_out": (6, 6), "neck_nod": (-12, 12),
    },
    "arms_out": {
        "arm_out": (85, 25), "arm_forward": (10, 20), "elbow": (30, 35),
        "leg_out": (14, 12), "leg_forward": (5, 14),
    },
    "hands_on_hips": {
        "arm_out": (42, 9), "arm_forward": (-10, 8), "arm_turn": (55, 12), "elbow": (92, 12),
        "leg_out": (9, 6),
    },
    "bend": {
        "spine_bend": (60, 14), "root_pitch": (28, 18), "leg_forward": (28, 14), "knee": (14, 14),
        "arm_forward": (85, 28), "arm_out": (10, 12), "elbow": (20, 18),
    },
    "kick": {
        "near_leg_forward": (75, 22), "far_leg_forward": (-6, 8), "near_knee": (20, 18),
        "far_knee": (15, 12), "near_leg_out": (18, 18), "arm_out": (50, 28), "elbow": (40, 28),
        "spine_bend": (-4, 10),
    },
    "lunge": {
        "near_leg_forward": (75, 14), "near_knee": (85, 16), "far_leg_forward": (-25, 8),
        "far_knee": (35, 22), "arm_forward": (30, 35), "arm_out": (25, 22), "elbow": (45, 35),
    },
    "lie": {
        "root_pitch": (-88, 8), "leg_forward": (15, 22), "knee": (25, 28), "arm_out": (35, 35),
        "arm_forward": (20, 40), "elbow": (40, 35), "leg_out": (10, 10),
    },
    "phone": {
        "near_arm_forward": (48, 12), "near_elbow": (115, 14), "far_arm_forward": (15, 22),
        "far_elbow": (40, 38), "arm_out": (12, 8), "arm_turn": (-15, 15), "neck_nod": (18, 12),
    },
}  # fmt: skip
_WEIGHTS = {
    "stand": 3, "walk": 3, "run": 2, "sit": 2, "crouch": 1, "reach_up": 1.5, "arms_out": 1.5,
    "hands_on_hips": 1, "bend": 1, "kick": 1, "lunge": 1, "lie": 0.5, "phone": 1,
}  # fmt: skip
_BASE = {"spine": (0, 5), "neck": (0, 13), "root": (0, 4), "leg": (0, 5), "arm": (4, 7)}
_ANYHOW = 1.5  # weight of poses whose angles are each drawn from three quarters of their range


def draw_pose(rng: np.random.Generator) -> np.ndarray:
    """Draw the angles (A,), in degrees, of a random pose within the joints' limits."""
    names = list(_ACTIVITIES)
    weights = np.array([_WEIGHTS[name] for name in names] + [_ANYHOW])
    choice = int(rng.choice(len(weights), p=weights / weights.sum()))
    mean, spread = np.empty(len(ANGLES)), np.empty(len(ANGLES))
    for i, name in enumerate(ANGLES):
        part = next((p for p in _BASE if p in name), None)
        mean[i], spread[i] = _BASE[part] if part else (12, 10)
    if choice == len(names):
        angles = rng.uniform(ANGLE_LOW, ANGLE_HIGH) * 0.75
        angles[:2] = rng.normal(0, 25, 2)
        return np.clip(angles, ANGLE_LOW, ANGLE_HIGH)
    sides = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    for name, (m, s) in _ACTIVITIES[names[choice]].items():
        for target in _targets(name, sides):
            mean[ANGLE[target]], spread[ANGLE[target]] = m, s
    return np.clip(rng.normal(mean, spread), ANGLE_LOW, ANGLE_HIGH)


def _targets(name: str, sides: tuple[str, str]) -> tuple[str, ...]:
    """The angles that a name in an activity stands for."""
    if name in ANGLE:
        return (name,)
    for prefix, side in zip(("near_", "far_"), sides, strict=True):
        if name.startswith(prefix):
            return (f"{side}_{name.removeprefix(prefix)}",)
    return tuple(f"{side}_{name}" for side in sides)

"""Which keypoints of a painted person are visible, read from the buffer of part numbers."""

import numpy as np

from vitpose_jax.data.synthetic.body import PosedBody

# Part numbers within one person; the buffer holds PARTS * person + part + 1, and 0 is nobody.
TORSO, HEAD, NECK = 0, 1, 2
UPPER_ARM, LOWER_ARM, HAND = 3, 5, 7  # left; right is one more
UPPER_LEG, LOWER_LEG, FOOT = 9, 11, 13
PARTS = 15
OCCLUDER = 255

# A joint is visible if one of these parts is on top at its position.
_OWN_PARTS = {
    **{k: (HEAD,) for k in range(5)},
    **{5 + s: (UPPER_ARM + s, TORSO) for s in (0, 1)},
    **{7 + s: (UPPER_ARM + s, LOWER_ARM + s) for s in (0, 1)},
    **{9 + s: (LOWER_ARM + s, HAND + s) for s in (0, 1)},
    **{11 + s: (UPPER_LEG + s, TORSO) for s in (0, 1)},
    **{13 + s: (UPPER_LEG + s, LOWER_LEG + s) for s in (0, 1)},
    **{15 + s: (LOWER_LEG + s, FOOT + s) for s in (0, 1)},
}


def read_visibility(
    parts: np.ndarray, person: int, body: PosedBody, points: np.ndarray
) -> np.ndarray:
    """The visibility of a person's keypoints, from the finished part buffer.

    Args:
        parts: uint8 (h, w).
        person: number in the buffer.
        body: one frame, in the camera's frame.
        points: (17, 2), the keypoints on the image.

    Returns:
        float32 (17,), 0 outside the image, 1 hidden (by the person, another one or a thing), 2
        visible.
    """
    height, width = parts.shape
    visible = np.zeros(17, np.float32)
    forward, left = body.head_axes[0, :, 2], body.head_axes[0, :, 0]
    faces = np.array(
        [
            forward[2],
            0.88 * forward[2] + 0.38 * left[2],
            0.88 * forward[2] - 0.38 * left[2],
            left[2] + 0.2,
            -left[2] + 0.2,
        ]
    )
    trunk = {5: body.chest[0, 2], 11: body.pelvis[0, 2]}
    for k, (x, y) in enumerate(points):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            continue
        seen = int(parts[round(y), round(x)]) - 1 - person * PARTS
        shows = seen in _OWN_PARTS[k]
        if k < 5:
            shows = shows and faces[k] > 0.05
        elif seen == TORSO:
            shows = shows and body.joints[0, k, 2] > trunk[5 if k < 7 else 11] - 0.06
        visible[k] = 2 if shows else 1
    return visible

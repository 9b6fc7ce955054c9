"""New views of recorded motion: the same people, seen from another side.

A walk seen from the left says little about one seen from the front. If a recording has 3D joints
and cameras, the person in a window is turned about the vertical axis through where they stand, and
the 2D keypoints move as the projected joints do. The person's place in the picture, the camera's
motion and the detector's errors stay as recorded.
"""

import numpy as np

from vitpose_jax.data.motion.threedpw import Actor, Sequence

COCO_BODY_IN_SMPL = np.array([16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8])
"""The SMPL joints for COCO's keypoints 5 to 16, shoulders to ankles; SMPL has no face."""

NEAREST = 0.3  # metres; nothing is projected from closer to the camera
_NECK, _HEAD, _LEFT_SHOULDER, _RIGHT_SHOULDER = 12, 15, 16, 17


def fit_face(sequences: list[Sequence]) -> np.ndarray:
    """Where nose, eyes and ears sit on the head, by least squares over all detections.

    Every visible face keypoint puts its 3D position on a ray from the camera; the positions are
    taken to be constant in the frame of `_head_frame`.

    Returns:
        float64 (5, 3), coordinates in that frame; the unit is the distance from neck to head joint.
    """
    rows: list[list[np.ndarray]] = [[] for _ in range(5)]
    sides: list[list[np.ndarray]] = [[] for _ in range(5)]
    for sequence in sequences:
        camera = sequence.intrinsics @ sequence.cam_poses[:, :3]
        for index, actor in enumerate(sequence.actors):
            axes, origin = _head_frame(actor.joints3d)
            slope = camera[:, :, :3] @ axes
            offset = (camera[:, :, :3] @ origin[..., None])[..., 0] + camera[:, :, 3]
            depth = offset[:, 2:]
            usable = (
                sequence.cam_valid[index] & np.isfinite(offset).all(1) & (depth[:, 0] > NEAREST)
            )
            for joint in range(5):
                kept = actor.visible[:, joint] & usable
                point = actor.keypoints[kept, joint]
                for axis in range(2):
                    along = point[:, axis : axis + 1]
                    rows[joint].append((slope[kept, axis] - along * slope[kept, 2]) / depth[kept])
                    error = along[:, 0] * offset[kept, 2] - offset[kept, axis]
                    sides[joint].append(error / depth[kept, 0])
    return np.stack(
        [
            np.linalg.lstsq(np.concatenate(a), np.concatenate(b), rcond=None)[0]
            for a, b in zip(rows, sides, strict=True)
        ]
    )


def lift_coco(actor: Actor, face: np.ndarray) -> np.ndarray:
    """The 17 COCO keypoints in the world, float32 (T, 17, 3) metres; `face` is from `fit_face`."""
    axes, origin = _head_frame(actor.joints3d)
    points = origin[:, None] + np.einsum("tik,jk->tji", axes, face)
    return np.concatenate([points, actor.joints3d[:, COCO_BODY_IN_SMPL]], 1).astype(np.float32)


def turn(
    positions: np.ndarray,
    visible: np.ndarray,
    world: np.ndarray,
    cameras: np.ndarray,
    angles: np.ndarray,
) -> np.ndarray:
    """2D windows as they would look with the person turned about the world's y axis.

    Only the motion relative to a steady walk (the straight line that best fits the joints' mean) is
    turned, so people still stand and walk where the camera looks.

    Args:
        positions: (B, T, J, 2), pixels.
        visible: bool (B, T, J).
        world: (B, T, J, 3), metres; windows with values that are not finite are not turned.
        cameras: (B, T, 3, 4), world to homogeneous pixels.
        angles: (B,), radians.

    Returns:
        float32 (B, T, J, 2).
    """
    known = np.isfinite(world).all((1, 2, 3)) & np.isfinite(cameras).all((1, 2, 3))
    world = np.where(known[:, None, None, None], world, 0)
    time = np.arange(world.shape[1], dtype=np.float32) - (world.shape[1] - 1) / 2
    angles = angles.astype(np.float32)
    root = world.mean(2)
    velocity = np.einsum("t,btd->bd", time / np.square(time).sum(), root)
    walk = (root.mean(1)[:, None] + time[:, None] * velocity[:, None])[:, :, None]
    cos, sin = np.cos(angles)[:, None, None], np.sin(angles)[:, None, None]
    x, y, z = np.moveaxis(world - walk, -1, 0)
    turned = walk + np.stack([cos * x + sin * z, y, cos * z - sin * x], -1)
    moved = _project(turned, cameras) - _project(world, cameras)
    counted = visible & known[:, None, None] & np.isfinite(moved).all(-1)
    return positions + np.where(counted[..., None], moved, 0).astype(np.float32)


def _project(points: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    homogeneous = np.matmul(points, np.swapaxes(cameras[..., :3], -1, -2))
    homogeneous += cameras[:, :, None, :, 3]
    return homogeneous[..., :2] / np.maximum(homogeneous[..., 2:], NEAREST)


def _head_frame(joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Axes (T, 3, 3) and origin (T, 3) of the head, from SMPL joints (T, 24, 3).

    The axes' columns point to the person's left, up and ahead. Their length is the distance from
    neck to head, and left follows the shoulders.
    """
    up = joints[:, _HEAD] - joints[:, _NECK]
    length = np.linalg.norm(up, axis=-1, keepdims=True)
    up = up / np.maximum(length, 1e-6)
    left = joints[:, _LEFT_SHOULDER] - joints[:, _RIGHT_SHOULDER]
    left = left - (left * up).sum(-1, keepdims=True) * up
    left = left / np.maximum(np.linalg.norm(left, axis=-1, keepdims=True), 1e-6)
    axes = np.stack([left, up, np.cross(left, up)], -1) * length[..., None]
    return axes.astype(np.float64), joints[:, _HEAD].astype(np.float64)

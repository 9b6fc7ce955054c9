"""Views from other sides: geometry against direct projection, the face against its detections."""

from pathlib import Path

import numpy as np

from vitpose_jax.data.motion import threedpw, viewpoints
from vitpose_jax.data.motion.threedpw import project


def scene(batch: int = 4, frames: int = 15, joints: int = 17):
    rng = np.random.default_rng(1)
    world = rng.normal(0, 0.5, (batch, frames, joints, 3)).astype(np.float32)
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, 2, 3] = 5 + 0.1 * np.arange(frames)
    intrinsics = np.array([[1000, 0, 960], [0, 1000, 540], [0, 0, 1]], np.float32)
    cameras = np.tile(intrinsics @ poses[:, :3], (batch, 1, 1, 1))
    positions = np.stack([project(w, poses, intrinsics) for w in world])
    return world, poses, intrinsics, cameras, positions


def test_no_turn_moves_nothing() -> None:
    world, _, _, cameras, positions = scene()
    seen = np.ones(positions.shape[:3], bool)
    same = viewpoints.turn(positions, seen, world, cameras, np.zeros(4))
    np.testing.assert_allclose(same, positions, atol=1e-3)


def test_half_turn_is_the_projection_from_behind() -> None:
    world, poses, intrinsics, cameras, positions = scene()
    seen = np.ones(positions.shape[:3], bool)
    seen[0, 3, 5] = False
    turned = viewpoints.turn(positions, seen, world, cameras, np.full(4, np.pi))
    time = np.arange(15) - 7
    root = world.mean(2)
    slope = np.einsum("t,btd->bd", time / np.square(time).sum(), root)
    walk = (root.mean(1)[:, None] + time[:, None] * slope[:, None])[:, :, None]
    behind = walk + (world - walk) * [-1, 1, -1]
    expected = np.stack([project(w, poses, intrinsics) for w in behind])
    np.testing.assert_allclose(turned[seen], expected[seen], atol=0.02)
    np.testing.assert_array_equal(turned[0, 3, 5], positions[0, 3, 5])


def test_unknown_places_stay() -> None:
    world, _, _, cameras, positions = scene()
    world[1, 3, 2] = np.nan
    seen = np.ones(positions.shape[:3], bool)
    turned = viewpoints.turn(positions, seen, world, cameras, np.full(4, 1.0))
    np.testing.assert_array_equal(turned[1], positions[1])
    assert np.abs(turned[0] - positions[0]).max() > 1


def test_the_face_lies_on_its_detections(shared: Path) -> None:
    """Fitted on one split, the face is found in another, about as well as the noise allows."""
    folder = shared / "data" / "cmu-3dpw"
    face = viewpoints.fit_face(threedpw.read_split(folder, "train"))
    assert face[3, 0] > 0.3 > -0.3 > face[4, 0]  # left ear to the left, right ear to the right
    distances = []
    for sequence in threedpw.read_split(folder, "validation"):
        for actor in sequence.actors:
            points = viewpoints.lift_coco(actor, face)
            seen = project(points, sequence.cam_poses, sequence.intrinsics)
            distance = np.linalg.norm(seen - actor.keypoints, axis=-1)
            distances.append(np.where(actor.visible, distance, np.nan))
    median = np.nanmedian(np.concatenate(distances), axis=0)
    assert median.max() < 12

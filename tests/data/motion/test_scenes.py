"""Made-up scenes: what they keep of the recordings, and what they change."""

import dataclasses

import numpy as np
import pytest

from vitpose_jax.data.motion import scenes, somof
from vitpose_jax.data.motion.sources import INPUTS
from vitpose_jax.data.motion.synthetic import synthetic_joint_tracks
from vitpose_jax.data.motion.windows import MotionWindows, side_by_side
from vitpose_jax.errors import UserError

NOTHING = scenes.SceneSettings(
    **{field.name: 0.0 for field in dataclasses.fields(scenes.SceneSettings)}
    | {"distance": (1.0, 1.0)}
)
FLIP = INPUTS["somof"].flip_index


@pytest.fixture(scope="module")
def windows() -> MotionWindows:
    """Two people alone, and the same two together."""
    one, two = synthetic_joint_tracks("train", 2, num_frames=60)
    tracks = [side_by_side([one], 2), side_by_side([two], 2), side_by_side([one, two], 2)]
    return MotionWindows(tracks, 16, 14)


def composed(windows: MotionWindows, **changes: float) -> tuple[dict, dict]:
    batch = windows.arrays()
    made = dataclasses.replace(NOTHING, **changes)
    compose = scenes.ComposeScenes(made, FLIP, 16, 15.0)
    return batch, compose.random_map(batch, np.random.default_rng(0))


def apart(batch: dict) -> np.ndarray:
    x = np.concatenate([batch["observed"], batch["future"]], 1)
    return np.moveaxis(x.reshape(len(x), 30, 2, 13, 3), 2, 1)


def distances(people: np.ndarray) -> np.ndarray:
    return np.linalg.norm(people[..., :, None, :] - people[..., None, :, :], axis=-1)


def test_people_alone_get_a_companion_at_the_distance(windows: MotionWindows) -> None:
    _, made = composed(windows)
    assert made["future_visible"].all()
    people = apart(made)
    centre = people[:, :, 15].mean(-2)
    gap = np.linalg.norm((centre[:, 0] - centre[:, 1])[:, [0, 2]], axis=-1)
    alone = ~windows.arrays()["observed_visible"].all((1, 2))
    np.testing.assert_allclose(gap[alone], 1.0, atol=1e-4)


def test_people_who_were_recorded_together_stay_so(windows: MotionWindows) -> None:
    batch, made = composed(windows, drift=0.0)
    together = batch["observed_visible"].all((1, 2))
    both = [apart(b)[together].reshape(together.sum(), 2, 30, 13, 3) for b in (batch, made)]
    spans = [
        np.sort(np.linalg.norm(b[:, 0] - b[:, 1], axis=-1), axis=None) for b in both
    ]  # whoever is first
    np.testing.assert_allclose(*spans, atol=1e-4)


@pytest.mark.parametrize("change", [{"drift": 1.0}, {"swing": 1.0}, {"flip": 1.0}])
def test_cameras_and_mirrors_keep_every_body(windows: MotionWindows, change: dict) -> None:
    batch, made = composed(windows, **change)
    before, after = apart(batch), apart(made)
    alone = ~batch["observed_visible"].all((1, 2))
    first = distances(before[alone, 0])
    if "flip" in change:
        first = first[..., FLIP, :][..., FLIP]
    np.testing.assert_allclose(distances(after[alone, 0]), first, atol=1e-4)
    assert np.abs(after[alone, 0] - before[alone, 0]).max() > 0.1


def test_a_drifting_camera_moves_all_alike(windows: MotionWindows) -> None:
    still, drifting = (apart(composed(windows, drift=drift)[1]) for drift in (0.0, 1.0))
    shift = drifting - still
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1, :, :1], shift.shape), atol=1e-4)
    np.testing.assert_allclose(shift[:, :, 15], 0, atol=1e-5)
    assert np.abs(shift).max() > 0.1


def test_smpl_bodies_have_its_bones(windows: MotionWindows) -> None:
    people = apart(composed(windows, smpl=1.0)[1])
    for (parent, child), metres in {(0, 2): 0.38, (2, 4): 0.40, (7, 9): 0.255}.items():
        length = np.linalg.norm(people[..., parent, :] - people[..., child, :], axis=-1)
        np.testing.assert_allclose(length, metres, rtol=0.02)


def test_other_changes_give_people(windows: MotionWindows) -> None:
    _, made = composed(windows, swap=1.0, damp=1.0, reverse=1.0, proportions=0.05, company=0.5)
    somof.check_scenes(apart(made), "made up", 30)


def test_no_movement_left() -> None:
    x = np.random.default_rng(0).normal(0, 1, (2, 2, 30, 13, 3))
    still = scenes.smaller_movements(x, np.zeros((2, 2, 2)), 15)
    np.testing.assert_allclose(still, np.broadcast_to(still[:, :, :1], still.shape))
    np.testing.assert_allclose(still[:, :, 15].mean(-2), x[:, :, 15].mean(-2))
    np.testing.assert_allclose(scenes.smaller_movements(x, np.ones((2, 2, 2)), 15), x)


def test_a_scene_is_of_one_time() -> None:
    one = synthetic_joint_tracks("train", 1, num_frames=40)[0]
    late = dataclasses.replace(one, frame_ids=one.frame_ids + 1)
    with pytest.raises(UserError, match="all over the same frames"):
        side_by_side([one, late], 2)

import numpy as np
import pytest

from vitpose_jax.data.motion.synthetic import (
    ANKLE_HEIGHT,
    synthetic_motion_sequence,
    synthetic_tracks,
)
from vitpose_jax.errors import UserError


@pytest.fixture(scope="module")
def sequences():
    return [synthetic_motion_sequence(index, 240) for index in range(12)]


def test_fields(sequences):
    for sequence in sequences:
        assert sequence["keypoints_2d"].shape == (240, 17, 2)
        assert sequence["keypoints_3d"].shape == (240, 17, 3)
        assert set(np.unique(sequence["visible"])) <= {0, 2}
        assert all(np.isfinite(value).all() for value in sequence.values())
    assert np.mean([s["visible"] > 0 for s in sequences]) > 0.8


def test_a_function_of_the_number_alone(sequences):
    again = synthetic_motion_sequence(5, 240)
    for key, value in sequences[5].items():
        np.testing.assert_array_equal(value, again[key])
    starts = {s["keypoints_3d"][0].tobytes() for s in sequences}
    starts |= {
        synthetic_motion_sequence(i, 240, split="test")["keypoints_3d"][0].tobytes()
        for i in range(12)
    }
    assert len(starts) == 24


def test_bodies_are_rigid_and_stand_on_the_floor(sequences):
    for sequence in sequences:
        joints = sequence["keypoints_3d"].astype(float)
        for a, b in ((5, 7), (7, 9), (11, 13), (13, 15), (5, 6)):
            length = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
            assert np.ptp(length) < 1e-4
        np.testing.assert_allclose(joints[:, 15:17, 1].min(axis=1), ANKLE_HEIGHT, atol=1e-5)


def test_movement_is_smooth_and_human(sequences):
    moving = 0
    for sequence in sequences:
        joints = sequence["keypoints_3d"].astype(float)
        speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1) * 30
        assert speed.max() < 12  # metres a second, hands and feet included
        jump = np.linalg.norm(np.diff(joints, n=2, axis=0), axis=-1)
        assert jump.max() < 0.2  # metres: no frame falls out of line
        moving += speed.mean() > 0.15
    assert moving >= 8
    travelled = [
        np.linalg.norm(s["keypoints_3d"][-1, 11, [0, 2]] - s["keypoints_3d"][0, 11, [0, 2]])
        for s in sequences
    ]
    assert max(travelled) > 2  # some walk


def test_the_standing_foot_does_not_slide(sequences):
    slides = []
    for sequence in sequences:
        ankles = sequence["keypoints_3d"][:, 15:17].astype(float)
        height = ankles[..., 1]
        low = height.argmin(axis=1)
        alone = np.abs(height[:, 0] - height[:, 1]) > 0.04
        rows = np.flatnonzero(alone[1:] & alone[:-1] & (low[1:] == low[:-1]))
        step = np.linalg.norm(np.diff(ankles[..., [0, 2]], axis=0), axis=-1)
        slides.append(step[rows, low[rows]] * 30)
    assert np.mean(np.concatenate(slides)) < 0.12  # metres a second


def test_tracks_for_the_forecaster():
    tracks = synthetic_tracks("validation", num_frames=40)
    assert len(tracks) == 40
    assert tracks[0].positions.shape == (40, 17, 2)
    with pytest.raises(UserError, match="train, validation, test, not 'val'"):
        synthetic_tracks("val")

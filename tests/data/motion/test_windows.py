"""Tracks and windows: what belongs together stays together, what is missing is marked."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitpose_jax.data.motion import resampling
from vitpose_jax.data.motion import windows as motion
from vitpose_jax.data.motion.augmentation import AugmentMotion, MotionAugmentation
from vitpose_jax.data.motion.batches import train_batches
from vitpose_jax.data.motion.sources import INPUTS, open_tracks
from vitpose_jax.data.motion.windows import MotionWindows, make_track
from vitpose_jax.errors import UserError


def track(frames: int = 20, joints: int = 3, dims: int = 2, **options) -> motion.MotionTrack:
    """Joint j of frame t is at (100 t + j, j, ..)."""
    time, joint = np.meshgrid(np.arange(frames), np.arange(joints), indexing="ij")
    parts = [100 * time + joint] + [joint] * (dims - 1)
    return make_track(np.stack(parts, -1), **({"fps": 30} | options))


@pytest.mark.parametrize(
    ("split", "everything", "complete"), [("test", 1582, 727), ("validation", None, 425)]
)
def test_counts_of_the_data(shared: Path, split: str, everything, complete: int) -> None:
    tracks = open_tracks(shared / "data" / "cmu-3dpw", split)
    if everything:
        assert len(MotionWindows(tracks, stride=2)) == everything
    assert len(MotionWindows(tracks, stride=2, complete=True)) == complete


def test_windows_hold_their_frames() -> None:
    windows = MotionWindows([track(20), track(16)], 10, 5, stride=2)
    assert len(windows) == 3 + 1
    sample = windows[1]
    np.testing.assert_array_equal(sample["observed"][:, 0, 0], 100 * np.arange(2, 12))
    np.testing.assert_array_equal(sample["future"][:, 0, 0], 100 * np.arange(12, 17))
    everything = windows.arrays()
    np.testing.assert_array_equal(everything["future"][1], sample["future"])


def test_windows_never_cross_gaps_or_people() -> None:
    ids = np.r_[0:12, 20:40]
    windows = MotionWindows([track(32, frame_ids=ids), track(12)], 4, 3)
    found = windows.arrays()
    steps = np.diff(np.concatenate([found["observed"], found["future"]], 1)[..., 0, 0], axis=1)
    assert (steps == 100).all()
    starts = found["observed"][:, 0, 0, 0] / 100
    assert len(windows) == (12 - 6) + (20 - 6) + (12 - 6)
    assert not ((starts > 5) & (starts < 12)).any()


def test_windows_in_which_nothing_is_seen_are_left_out() -> None:
    seen = np.ones((30, 3), bool)
    seen[:12] = False
    windows = MotionWindows([track(30, visible=seen)], 10, 5)
    assert windows.starts[:, 1].min() == 3
    assert MotionWindows([track(30, visible=seen)], 10, 5, complete=True).starts[0, 1] == 12


@pytest.mark.parametrize(
    ("tracks", "options", "said"),
    [
        ([], {}, "no tracks"),
        ([track(14)], {}, "the longest track has 14"),
        ([track(visible=np.zeros((20, 3), bool))], {}, "nobody is visible"),
        ([track(20), track(20, joints=4)], {}, "has 4 joints in 2D, track has 3 in 2D"),
        ([track(20), track(20, dims=3)], {}, "in 3D"),
        ([track(20), track(20, fps=25)], {}, "resample"),
        ([track(20, visible=np.eye(20, 3) > 1)], {}, "nobody is visible"),
        ([track(20, visible=np.arange(20)[:, None] % 2 > [0, 0, 0])], {"complete": True}, "every"),
        ([track(20)], {"stride": 0}, "at least 1"),
    ],
)
def test_windows_that_cannot_be(tracks: list, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        MotionWindows(tracks, **options)


def test_nan_is_missing_but_not_visible() -> None:
    positions = np.ones((5, 2, 2))
    positions[2, 1, 0] = np.nan
    made = make_track(positions, fps=30)
    assert not made.visible[2, 1]
    assert made.visible.sum() == 9
    assert np.isfinite(made.positions).all()
    with pytest.raises(UserError, match="frame 2, joint 1 is marked visible"):
        motion.MotionTrack("x", positions, np.ones((5, 2), bool), np.arange(5), 30)
    with pytest.raises(UserError, match="not \\(frames, joints"):
        make_track(np.ones((5, 2)), fps=30)


def test_resampling_a_straight_line() -> None:
    made = resampling.resample(track(31, fps=30), 25)
    assert made.fps == 25
    np.testing.assert_allclose(made.positions[:, 0, 0], np.arange(26) * 100 * 30 / 25, rtol=1e-5)
    same = resampling.resample(track(31), 30)
    np.testing.assert_array_equal(same.positions, track(31).positions)
    halved = resampling.resample(track(31), 15)
    np.testing.assert_array_equal(halved.positions[:, 0, 0], np.arange(0, 31, 2) * 100)


def test_resampling_invents_nothing() -> None:
    seen = np.ones((31, 3), bool)
    seen[10, 1] = False
    ids = np.arange(31) + 20 * (np.arange(31) >= 20)
    made = resampling.resample(track(31, visible=seen, frame_ids=ids), 20)
    times = made.frame_ids / 20 * 30
    lost = (times > 9) & (times < 11)
    assert not made.visible[lost, 1].any()
    assert made.visible[~lost].all()
    assert not ((times > 19 + 1e-6) & (times < 40 - 1e-6)).any()


@settings(max_examples=25, deadline=None)
@given(pace=st.floats(0.5, 2.0), lost=st.integers(5, 55))
def test_pace_is_a_change_of_time(pace: float, lost: int) -> None:
    """Of a swing of one second: joint 0 is always seen, joint 1 not in frame `lost`."""

    def swing(frames: np.ndarray) -> np.ndarray:
        return np.stack([100 * np.sin(frames / 30 * 2 * np.pi), 3 * frames], -1)

    visible = np.ones((61, 2), bool)
    visible[lost, 1] = False
    swings = np.repeat(swing(np.arange(61))[:, None], 2, 1)
    made = resampling.at_pace(make_track(swings, visible, fps=30), pace)
    assert made.fps == 30
    assert len(made.frame_ids) == int(60 / pace + 1e-6) + 1
    times = np.arange(len(made.frame_ids)) * pace
    inner = (times > 2) & (times < 58)  # a spline knows less of its ends
    np.testing.assert_allclose(made.positions[inner, 0], swing(times)[inner], atol=0.05)
    beside = (times > lost - 1 + 1e-6) & (times < lost + 1 - 1e-6)
    np.testing.assert_array_equal(made.visible[:, 1], ~beside)
    assert made.visible[:, 0].all()


def test_pace_keeps_people_and_cameras_together(shared: Path) -> None:
    tracks = open_tracks(shared / "data" / "cmu-3dpw", "train", "projected")
    for pace in (0.8, 1.3):
        made = resampling.at_pace(tracks[0], pace)
        seen = made.visible.all(1) & np.isfinite(made.world).all((1, 2))
        assert seen.mean() > 0.5
        points = np.concatenate([made.world, np.ones_like(made.world[..., :1])], -1)
        homogeneous = np.einsum("tij,tkj->tki", made.cameras, points)[seen]
        projected = homogeneous[..., :2] / homogeneous[..., 2:]
        error = np.abs(projected - made.positions[seen])
        assert np.median(error) < 0.02
        assert error.max() < 1.0


def test_a_camera_that_is_not_known_is_no_view() -> None:
    world = np.ones((30, 3, 3), np.float32)
    cameras = np.tile(np.eye(3, 4, dtype=np.float32), (30, 1, 1))
    cameras[10] = np.nan
    made = dataclasses.replace(track(30), world=world, cameras=cameras)
    made = resampling.at_pace(made, 0.5)
    lost = np.isnan(made.world).all((1, 2))
    np.testing.assert_array_equal(np.flatnonzero(lost), [19, 20, 21])
    assert np.isfinite(made.cameras).all()


@pytest.mark.parametrize("pace", [0, -1, float("nan")])
def test_a_pace_that_cannot_be(pace: float) -> None:
    with pytest.raises(UserError, match="times as fast"):
        resampling.at_pace(track(20), pace)


def test_last_seen_and_size() -> None:
    observed = np.arange(24, dtype=np.float32).reshape(1, 4, 3, 2)
    visible = np.ones((1, 4, 3), bool)
    visible[0, 2:, 1] = False
    visible[0, :, 2] = False
    pose = motion.last_seen(observed, visible)
    np.testing.assert_array_equal(pose[0, :2], [observed[0, 3, 0], observed[0, 1, 1]])
    np.testing.assert_array_equal(pose[0, 2], pose[0, :2].mean(0))
    assert motion.person_size(pose, visible.any(1))[0] == np.ptp(pose[0, :2], axis=0).max()


def test_batches_replay_and_shard(shared: Path) -> None:
    tracks = open_tracks(shared / "data" / "cmu-3dpw", "validation")
    windows = MotionWindows(tracks)
    options = {"seed": 3, "augmentation": MotionAugmentation(missing=0.5)}
    flip = INPUTS["detections"].flip_index
    batches = train_batches(windows, 8, flip_index=flip, **options)
    first, again = iter(batches), iter(batches)
    kept = [next(first) for _ in range(3)]
    state = first.get_state()
    fourth = next(first)
    for batch in kept:
        np.testing.assert_array_equal(batch["observed"], next(again)["observed"])
    again.set_state(state)
    np.testing.assert_array_equal(next(again)["future"], fourth["future"])
    plain = {"seed": 3, "augmentation": None}
    whole = next(iter(train_batches(windows, 8, **plain)))
    parts = [next(iter(train_batches(windows, 4, shard=(i, 2), **plain))) for i in range(2)]
    merged = np.stack([p["observed"] for p in parts], 1).reshape(whole["observed"].shape)
    np.testing.assert_array_equal(merged, whole["observed"])


def test_augmentation_moves_past_and_future_alike() -> None:
    rng = np.random.default_rng(0)
    windows = MotionWindows([track(40, joints=17)], 10, 5)
    batch = windows.arrays()
    options = MotionAugmentation(flip=1, rotation=0, view=0)
    flip = INPUTS["detections"].flip_index
    out = AugmentMotion(options, flip).random_map(batch, rng)
    np.testing.assert_array_equal(out["future"][..., 0], -batch["future"][:, :, flip, 0])
    np.testing.assert_array_equal(out["observed"][..., 1], batch["observed"][:, :, flip, 1])
    turned = AugmentMotion(
        MotionAugmentation(flip=0, reverse=1, rotation=0.5, scale=0.2, stretch=0),
        flip,
    ).random_map(batch, rng)
    whole = np.concatenate([turned["observed"], turned["future"]], 1)
    steps = np.linalg.norm(np.diff(whole, axis=1), axis=-1)
    assert np.allclose(steps, steps[:, :1, :1], rtol=1e-3)  # rigid: all steps stay alike
    assert turned["observed"].dtype == np.float32


def test_lost_joints_stay_in_the_truth() -> None:
    windows = MotionWindows([track(40, joints=17)], 10, 5)
    options = MotionAugmentation(flip=0, rotation=0, missing=1.0)
    out = AugmentMotion(options, np.arange(17)).random_map(
        windows.arrays(), np.random.default_rng(0)
    )
    assert out["future_visible"].all()
    assert 0.7 < out["observed_visible"].mean() < 0.95


def test_unknown_input() -> None:
    with pytest.raises(UserError, match="no input 'x'"):
        open_tracks("nowhere", "train", "x")

"""The One Euro filter does what it is for."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitpose_jax.inference.person import Person
from vitpose_jax.inference.smoothing import OneEuroFilter, PoseSmoother

MakePerson = Callable[..., Person]


def test_a_constant_stays() -> None:
    smooth = OneEuroFilter()
    for _ in range(5):
        np.testing.assert_array_equal(smooth(np.array([3.0, -2.0]), 1 / 30), [3, -2])


def test_one_step_by_hand() -> None:
    """From 0 to 1 in 0.1 s: speed 10, smoothed by 1 Hz; cutoff 2 + 0.5 x that; then the value."""
    smooth = OneEuroFilter(min_cutoff=2.0, beta=0.5, speed_cutoff=1.0)
    smooth(np.array(0.0), 0.1)
    tau = 2 * np.pi * 0.1
    speed = 10 * tau / (tau + 1)
    expected = tau * (2 + 0.5 * speed) / (tau * (2 + 0.5 * speed) + 1)
    assert smooth(np.array(1.0), 0.1) == pytest.approx(expected)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.floats(0.01, 1))
def test_never_beyond_what_was_seen(values: list[float], elapsed: float) -> None:
    smooth = OneEuroFilter(min_cutoff=0.5, beta=0.1)
    out = [float(smooth(np.array(v), elapsed)) for v in values]
    assert min(values) - 1e-6 <= min(out) <= max(out) <= max(values) + 1e-6


def shake(make_person: MakePerson, frames: int, speed: float) -> tuple[np.ndarray, list[Person]]:
    noise = np.random.default_rng(0).normal(0, 1.0, (frames, 17, 2))
    people = [make_person(20 + speed * i, 30, track=1) for i in range(frames)]
    clean = np.stack([p.keypoints for p in people])
    noisy = clean + noise
    return clean, [
        replace(p, keypoints=k.astype(np.float32)) for p, k in zip(people, noisy, strict=True)
    ]


def test_still_people_shake_less(make_person: MakePerson) -> None:
    clean, people = shake(make_person, 60, speed=0)
    smoother = PoseSmoother()
    smooth = np.stack([smoother.update([p], i / 30)[0].keypoints for i, p in enumerate(people)])[
        20:
    ]
    noisy = np.stack([p.keypoints for p in people])[20:]
    assert np.std(np.diff(smooth, axis=0)) < 0.35 * np.std(np.diff(noisy, axis=0))
    assert np.abs(smooth - clean[20:]).mean() < np.abs(noisy - clean[20:]).mean()


def test_walking_people_are_not_left_behind(make_person: MakePerson) -> None:
    """At 6 pixels a frame (two box heights in 1.7 s), the lag stays below two frames' way."""
    clean, people = shake(make_person, 60, speed=6)
    smoother = PoseSmoother()
    smooth = np.stack([smoother.update([p], i / 30)[0].keypoints for i, p in enumerate(people)])
    lag = (clean - smooth)[30:, :, 0].mean()
    assert 0 < lag < 12


def test_people_are_filtered_apart_and_return_anew(make_person: MakePerson) -> None:
    smoother = PoseSmoother()
    a, b = make_person(0, 0, track=1), make_person(300, 0, track=2)
    smoother.update([a, b], 0.0)
    moved = make_person(40, 0, track=1)
    found = smoother.update([b, moved], 0.1)
    np.testing.assert_allclose(found[0].keypoints, b.keypoints, atol=1e-4)
    assert (found[1].keypoints[:, 0] < moved.keypoints[:, 0]).all()
    for frame in range(2, 8):
        smoother.update([b], frame / 10)
    (back, _) = smoother.update([moved, b], 0.8)
    np.testing.assert_allclose(back.keypoints, moved.keypoints, atol=1e-4)


def test_untracked_people_pass(make_person: MakePerson) -> None:
    person = make_person(0, 0)
    assert PoseSmoother().update([person], 0.0)[0] is person


def test_longer_frames_follow_more(make_person: MakePerson) -> None:
    """The same step is smoothed less if more time went by; after half a second not at all."""
    moved = []
    for elapsed in (0.02, 0.2, 0.6):
        smoother = PoseSmoother()
        smoother.update([make_person(0, 0, track=1)], 0.0)
        moved.append(smoother.update([make_person(40, 0, track=1)], elapsed)[0].keypoints[0, 0])
    whole = make_person(40, 0).keypoints[0, 0]
    assert moved[0] < moved[1] < moved[2] == pytest.approx(whole)

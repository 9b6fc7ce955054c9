"""When things happen stays what it was at another frame rate."""

import math

import numpy as np
import pytest

from vitpose_jax.data.motion.resampling import resample
from vitpose_jax.data.motion.windows import MotionTrack, make_track
from vitpose_jax.errors import UserError


def line(first: int, count: int, fps: float = 30) -> MotionTrack:
    """A joint that is 10 pixels further every frame, at 0 in frame 0."""
    ids = np.arange(first, first + count)
    positions = np.stack([ids * 10.0, ids * 0.0], -1)[:, None]
    return make_track(positions, fps=fps, frame_ids=ids)


@pytest.mark.parametrize("first", [0, 100, 101])
@pytest.mark.parametrize("rate", [15, 25, 50, 60])
def test_frames_are_counted_from_the_same_moment(first: int, rate: int) -> None:
    made = resample(line(first, 21), rate)
    times = made.frame_ids / rate
    np.testing.assert_allclose(made.positions[:, 0, 0], times * 30 * 10, rtol=1e-5)
    assert first / 30 <= times[0] + 1e-9 < first / 30 + 1 / rate
    assert (first + 20) / 30 - 1 / rate < times[-1] <= (first + 20) / 30 + 1e-9


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_rates_that_cannot_be(fps: float) -> None:
    for track, rate in ((line(0, 5), fps), (line(0, 5, fps), 30)):
        with pytest.raises(UserError, match="cannot resample"):
            resample(track, rate)


def test_frames_of_unequal_length() -> None:
    """Steady motion stays steady where frames come at other times; gaps stay gaps."""
    times = np.cumsum([0.3, *[0.04] * 10, *[0.1] * 10, 0.04, 0.13])
    ids = np.r_[5:20, 25:33]
    positions = np.stack([100 * times, 50 - 30 * times], axis=-1)[:, None]
    track = make_track(positions, fps=15, frame_ids=ids)
    made = resample(track, 30, times)
    at = made.frame_ids / 30
    np.testing.assert_allclose(made.positions[:, 0, 0], 100 * at, atol=1e-3)
    np.testing.assert_allclose(made.positions[:, 0, 1], 50 - 30 * at, atol=1e-3)
    assert at[0] >= times[0] - 1e-6
    assert at[-1] <= times[-1] + 1e-6
    assert not ((at > times[14] + 1e-6) & (at < times[15] - 1e-6)).any()
    assert made.fps == 30

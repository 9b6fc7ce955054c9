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

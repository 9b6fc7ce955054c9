"""Motion at another frame rate, and at another pace."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.interpolate import CubicSpline

from vitpose_jax.data.motion.windows import MotionTrack, stretches
from vitpose_jax.errors import UserError

ROUNDING = 1e-6  # of a frame; times this close to a frame count as the frame's own


def resample(track: MotionTrack, fps: float, times: np.ndarray | None = None) -> MotionTrack:
    """The track at another frame rate, by a cubic spline through every stretch of seen frames.

    A joint exists at a new time only if it was seen in the frames around it, never across a gap.
    Frame n is at n / fps seconds in the old and the new track, so synchronous tracks stay so.

    Args:
        track: at its own rate.
        fps: the new rate.
        times: each frame's time in seconds (T,), strictly rising, if the old rate is not steady.

    Raises:
        UserError: a rate is not positive and finite.
    """
    if not (0 < fps < math.inf and 0 < track.fps < math.inf):
        raise UserError(f"track {track.name}: cannot resample {track.fps} to {fps} frames a second")
    if (fps == track.fps and times is None) or not len(track.frame_ids):
        return replace(track, fps=fps)
    pace = fps / track.fps
    ids = _Frames(track.frame_ids, track.frame_ids if times is None else times * track.fps)
    first = math.ceil(ids.at[0] * pace - ROUNDING)
    new_ids = np.arange(first, math.floor(ids.at[-1] * pace + ROUNDING) + 1)
    wanted = new_ids / pace  # in frames of the track
    covered = np.zeros(len(wanted), bool)
    for _, within in _seen_stretches(ids, np.ones(len(ids.at), bool), wanted):
        covered[within] = True
    wanted, new_ids = wanted[covered], new_ids[covered]

    positions, visible = _interpolate(ids, track.positions, track.visible, wanted)
    world = cameras = None
    if track.world is not None and track.cameras is not None:
        # Other views need all joints, so a frame is known completely or not at all.
        known = np.isfinite(track.world).all((1, 2)) & np.isfinite(track.cameras).all((1, 2))
        world, found = _interpolate(ids, track.world, _per_row(known, track.world), wanted)
        world = np.where(found[..., None], world, np.nan)
        cameras, _ = _interpolate(ids, track.cameras, _per_row(known, track.cameras), wanted)
    return MotionTrack(track.name, positions, visible, new_ids, float(fps), world, cameras)


@dataclass(frozen=True)
class _Frames:
    """A track's frames: their numbers (T,), and their times (T,) in frames at a steady rate."""

    ids: np.ndarray
    at: np.ndarray


def at_pace(track: MotionTrack, pace: float) -> MotionTrack:
    """The same motion, including the camera's, `pace` times as fast at the track's frame rate.

    Raises:
        UserError: the pace is not positive.
    """
    if not pace > 0:
        raise UserError(f"track {track.name}: motion cannot be shown {pace} times as fast")
    return replace(resample(track, track.fps / pace), fps=track.fps)


def _interpolate(
    frames: _Frames, values: np.ndarray, known: np.ndarray, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Values at other times, and which of them are known.

    Args:
        frames: T frames.
        values: (T, J, D).
        known: bool (T, J).
        wanted: (W,), in frames.

    Returns:
        float32 (W, J, D), 0 where unknown, and bool (W, J).
    """
    made = np.zeros((len(wanted), *values.shape[1:]), np.float32)
    found = np.zeros((len(wanted), values.shape[1]), bool)
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    for index in range(patterns.shape[1]):
        joints, seen = np.flatnonzero(group.reshape(-1) == index), patterns[:, index]
        for rows, times in _seen_stretches(frames, seen, wanted):
            knots = values[rows][:, joints]
            if len(rows) > 1:
                at = np.clip(wanted[times], frames.at[rows[0]], frames.at[rows[-1]])
                knots = CubicSpline(frames.at[rows], knots.astype(np.float64))(at)
            made[np.ix_(times, joints)] = knots
            found[np.ix_(times, joints)] = True
    return made, found


def _seen_stretches(
    frames: _Frames, seen: np.ndarray, wanted: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For every stretch of consecutive seen frames, its rows and the wanted times within it."""
    rows, found = np.flatnonzero(seen), []
    for first, end in stretches(frames.ids[rows]):
        inside = rows[first:end]
        low, high = frames.at[inside[0]] - ROUNDING, frames.at[inside[-1]] + ROUNDING
        times = np.flatnonzero((wanted >= low) & (wanted <= high))
        if len(times):
            found.append((inside, times))
    return found


def _per_row(known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Whether each frame is known (T,), spread over the rows of values (T, J, D): (T, J)."""
    return np.broadcast_to(known[:, None], values.shape[:2])

"""Motion as tracks of joints, cut into windows of observed and future frames.

Everything here works for 2D keypoints and 3D joints, and for any number of joints. A joint that was
not seen is marked in `visible`, never guessed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float, Float32

from vitpose_jax.errors import UserError
from vitpose_jax.files.fingerprint import Fingerprint, digest


@dataclass(frozen=True)
class MotionTrack:
    """One person over time.

    Attributes:
        name: where it comes from, for messages.
        positions: float32 (T, J, D), D = 2 (pixels) or 3 (metres); 0 where not `visible`.
        visible: bool (T, J).
        frame_ids: int64 (T,), consecutive; a step above 1 is a gap.
        fps: frames per second.
        world: the joints (T, J, 3) in metres, to see a 2D track from other sides; None if unknown.
        cameras: each frame's projection (T, 3, 4) from `world` to homogeneous pixels, likewise.
    """

    name: str
    positions: np.ndarray
    visible: np.ndarray
    frame_ids: np.ndarray
    fps: float
    world: np.ndarray | None = None
    cameras: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = self.positions.shape
        if len(shape) != 3 or shape[2] not in (2, 3):
            raise UserError(f"track {self.name}: positions are {shape}, not (frames, joints, 2|3)")
        if self.visible.shape != shape[:2] or self.frame_ids.shape != shape[:1]:
            raise UserError(
                f"track {self.name}: positions are {shape}, but visible {self.visible.shape} and "
                f"frame_ids {self.frame_ids.shape}"
            )
        bad = self.visible & ~np.isfinite(self.positions).all(-1)
        if bad.any():
            frame, joint = np.argwhere(bad)[0]
            raise UserError(
                f"track {self.name}: frame {frame}, joint {joint} is marked visible but its "
                "position is not a number; mark it as missing (visible = False)"
            )


def make_track(
    positions: np.ndarray,
    visible: np.ndarray | None = None,
    *,
    fps: float,
    name: str = "track",
    frame_ids: np.ndarray | None = None,
) -> MotionTrack:
    """Make a track from plain arrays; joints that are not finite count as missing.

    Args:
        positions: (T, J, D), pixels or metres.
        visible: bool (T, J), all by default.
        fps: frames per second.
        name: for messages.
        frame_ids: (T,), consecutive by default.
    """
    positions = np.asarray(positions, np.float32)
    if positions.ndim != 3:
        raise UserError(f"track {name}: positions are {positions.shape}, not (frames, joints, 2|3)")
    seen = np.isfinite(positions).all(-1)
    if visible is not None:
        seen = seen & np.asarray(visible, bool)
    ids = np.arange(len(positions)) if frame_ids is None else np.asarray(frame_ids, np.int64)
    return MotionTrack(name, np.where(seen[..., None], positions, 0), seen, ids, float(fps))


def side_by_side(tracks: Sequence[MotionTrack], people: int) -> MotionTrack:
    """A scene as one track: the joints (T, P J, D) of people who were recorded together.

    Args:
        tracks: at most `people`, over the same frames. Those that lack are missing.
        people: P.

    Raises:
        UserError: there are more, or they are not over the same frames.
    """
    first = tracks[0]
    for track in tracks:
        if len(tracks) > people or not np.array_equal(track.frame_ids, first.frame_ids):
            raise UserError(
                f"{track.name} and {first.name}: a scene is of at most {people} people, all over "
                "the same frames"
            )
    frames, joints, dims = first.positions.shape
    lack = people - len(tracks)
    nowhere = np.zeros((frames, lack * joints, dims), np.float32)
    return MotionTrack(
        first.name,
        np.concatenate([*(track.positions for track in tracks), nowhere], 1),
        np.concatenate([*(track.visible for track in tracks), nowhere[..., 0] > 0], 1),
        first.frame_ids,
        first.fps,
    )


class MotionWindows:
    """Windows of observed and future frames, never across a gap or another person.

    A random-access data set of samples: `observed` float32 (n, J, D), `observed_visible` bool
    (n, J), `future` float32 (m, J, D), `future_visible` bool (m, J), and if all tracks have them,
    `world` (n + m, J, 3) and `cameras` (n + m, 3, 4). Windows with no visible joint in the observed
    frames, or none in the future frames, are left out.
    """

    def __init__(
        self,
        tracks: Iterable[MotionTrack],
        observed: int = 10,
        future: int = 5,
        stride: int = 1,
        complete: bool = False,
    ) -> None:
        """Find the windows.

        Args:
            tracks: all with the same joints and frame rate.
            observed: n, frames to see.
            future: m, frames to predict.
            stride: frames between the starts of windows.
            complete: keep only windows in which every joint is visible in every frame.

        Raises:
            UserError: the tracks differ in joints or frame rate, or hold no window.
        """
        if min(observed, future, stride) < 1:
            raise UserError(
                f"observed, future and stride must be at least 1, not {observed}, {future}, "
                f"{stride}"
            )
        self.tracks = list(tracks)
        self.observed, self.future = observed, future
        _check_alike(self.tracks)
        self.starts = self._find(stride, complete)
        if not len(self.starts):
            raise UserError(self._why_empty(complete))
        self._positions = np.concatenate([track.positions for track in self.tracks])
        self._visible = np.concatenate([track.visible for track in self.tracks])
        lengths = [len(track.positions) for track in self.tracks]
        self._offsets = np.cumsum([0, *lengths[:-1]])
        self._views: dict[str, np.ndarray] = {}
        world = [track.world for track in self.tracks if track.world is not None]
        cameras = [track.cameras for track in self.tracks if track.cameras is not None]
        if len(world) == len(cameras) == len(self.tracks):
            self._views = {"world": np.concatenate(world), "cameras": np.concatenate(cameras)}

    def _find(self, stride: int, complete: bool) -> np.ndarray:
        """int64 (N, 2): track and first frame of every window."""
        length, found = self.observed + self.future, []
        for index, track in enumerate(self.tracks):
            for first, end in stretches(track.frame_ids):
                for start in range(first, end - length + 1, stride):
                    seen = track.visible[start : start + length]
                    if complete:
                        keep = seen.all()
                    else:
                        keep = seen[: self.observed].any() and seen[self.observed :].any()
                    if keep:
                        found.append((index, start))
        return np.array(found, np.int64).reshape(-1, 2)

    def _why_empty(self, complete: bool) -> str:
        length = self.observed + self.future
        if not self.tracks:
            return "there are no tracks to take windows from"
        if not any(track.visible.any() for track in self.tracks):
            return f"nobody is visible in any of the {len(self.tracks)} tracks"
        longest = max(end - first for t in self.tracks for first, end in stretches(t.frame_ids))
        if longest < length:
            return (
                f"a window needs {self.observed} + {self.future} = {length} frames in a row, but "
                f"the longest track has {longest}; give longer sequences or shorter windows"
            )
        where = f"no window of {length} frames in {len(self.tracks)} tracks"
        if complete:
            return f"{where} has every joint visible; allow windows with missing joints"
        return f"{where} shows anybody; check the detections"

    @property
    def num_joints(self) -> int:
        """J, the number of joints."""
        return self.tracks[0].positions.shape[1]

    @property
    def dims(self) -> int:
        """D, the number of dimensions: 2 or 3."""
        return self.tracks[0].positions.shape[2]

    @property
    def fingerprint(self) -> Fingerprint:
        """Identifies the tracks, their frames and which joints are visible, but not the positions.

        Positions are computed, and their last bits differ between machines.
        """
        parts = (part for t in self.tracks for part in ([t.name], t.frame_ids, t.visible))
        return Fingerprint(len(self), digest(parts))

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        return {key: values[0] for key, values in self.take(np.array([index])).items()}

    def take(self, indices: np.ndarray) -> dict[str, np.ndarray]:
        """Several windows at once: the samples' arrays with a leading axis."""
        track, start = self.starts[indices].T
        rows = (self._offsets[track] + start)[:, None] + np.arange(self.observed + self.future)
        positions, visible = self._positions[rows], self._visible[rows]
        return {name: values[rows] for name, values in self._views.items()} | {
            "observed": positions[:, : self.observed],
            "observed_visible": visible[:, : self.observed],
            "future": positions[:, self.observed :],
            "future_visible": visible[:, self.observed :],
        }

    def arrays(self) -> dict[str, np.ndarray]:
        """All windows."""
        return self.take(np.arange(len(self)))


def last_seen(
    observed: Float[np.ndarray, "*batch frames joints dims"],
    visible: Bool[np.ndarray, "*batch frames joints"],
) -> Float32[np.ndarray, "*batch joints dims"]:
    """The last visible position of every joint.

    A joint that was never seen gets the mean of those that were (0 if there are none).
    """
    newest = visible.shape[-2] - 1 - np.argmax(visible[..., ::-1, :], axis=-2)
    pose = np.take_along_axis(observed, newest[..., None, :, None], axis=-3)[..., 0, :, :]
    seen = np.expand_dims(visible.any(-2), -1)
    count = np.maximum(seen.sum(-2, keepdims=True), 1)
    return np.where(seen, pose, (pose * seen).sum(-2, keepdims=True) / count).astype(np.float32)


def person_size(
    pose: Float[np.ndarray, "*batch joints dims"], visible: Bool[np.ndarray, "*batch joints"]
) -> Float32[np.ndarray, "*batch"]:
    """The longest side of the box around the visible joints; 0 where there are none."""
    low = np.where(visible[..., None], pose, np.inf).min(-2)
    high = np.where(visible[..., None], pose, -np.inf).max(-2)
    return np.where(visible.any(-1), (high - low).max(-1), 0).astype(np.float32)


def stretches(frame_ids: np.ndarray) -> list[tuple[int, int]]:
    """[first, end) of every stretch of consecutive frames."""
    if not len(frame_ids):
        return []
    cuts = np.flatnonzero(np.diff(frame_ids) != 1) + 1
    return list(pairwise([0, *cuts.tolist(), len(frame_ids)]))


def _check_alike(tracks: list[MotionTrack]) -> None:
    for track in tracks[1:]:
        (_, joints, dims), (_, first_joints, first_dims) = (
            t.positions.shape for t in (track, tracks[0])
        )
        if (joints, dims) != (first_joints, first_dims):
            raise UserError(
                f"track {track.name} has {joints} joints in {dims}D, {tracks[0].name} has "
                f"{first_joints} in {first_dims}D; forecast them separately"
            )
        if track.fps != tracks[0].fps:
            raise UserError(
                f"track {track.name} has {track.fps:g} frames a second, {tracks[0].name} "
                f"{tracks[0].fps:g}; resample them to one rate"
            )

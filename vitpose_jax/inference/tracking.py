"""Tracking people from one frame of a video to the next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from vitpose_jax.inference.person import Person
from vitpose_jax.keypoints.crops import box_iou
from vitpose_jax.keypoints.oks import object_keypoint_similarity
from vitpose_jax.keypoints.skeletons import Skeleton

TIME_ROUNDING = 1e-3
"""In seconds; many containers store times in milliseconds."""


@dataclass
class _Track:
    number: int
    person: Person
    seen: float


class Tracker:
    """Numbers people throughout a video, by the overlap of their boxes and the likeness of poses.

    Each frame's people are matched to the known tracks so that the sum of similarities is largest
    (Hungarian method). The similarity is the boxes' intersection over union or, if both poses were
    found, the mean of that and their object keypoint similarity.

    Example:
        >>> box = np.array([10.0, 20, 60, 150])
        >>> person = Person(np.zeros((17, 2)), np.zeros(17), box)
        >>> tracker = Tracker(SKELETONS["coco"])
        >>> [tracker.update([person], time)[0].track for time in (0.0, 0.1, 0.2)]
        [1, 1, 1]
    """

    def __init__(
        self, skeleton: Skeleton, min_similarity: float = 0.2, patience: float = 1.0
    ) -> None:
        """Start without tracks.

        Pairs less similar than `min_similarity` (0 to 1) are different people; a person not seen
        for `patience` seconds is forgotten.
        """
        self._sigmas = np.array(skeleton.sigmas)
        self._min_similarity, self._patience = min_similarity, patience
        self._tracks: list[_Track] = []
        self._last_number = 0

    def update(self, people: Sequence[Person], time: float) -> list[Person]:
        """The same people, in the same order, with `track` set.

        `time` is the frame's time in seconds, later than the previous frame's.
        """
        similarity = np.array(
            [[self._similarity(t.person, p) for p in people] for t in self._tracks]
        ).reshape(len(self._tracks), len(people))
        numbers: dict[int, int] = {}
        for row, column in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
            if similarity[row, column] >= self._min_similarity:
                track = self._tracks[row]
                track.person, track.seen = people[column], time
                numbers[int(column)] = track.number
        earliest = time - self._patience - TIME_ROUNDING
        self._tracks = [track for track in self._tracks if track.seen >= earliest]
        return [
            replace(person, track=numbers.get(i) or self._start_track(person, time))
            for i, person in enumerate(people)
        ]

    def _start_track(self, person: Person, time: float) -> int:
        self._last_number += 1
        self._tracks.append(_Track(self._last_number, person, time))
        return self._last_number

    def _similarity(self, a: Person, b: Person) -> float:
        overlap = box_iou(a.box, b.box)
        if min(a.score, b.score) <= 0:
            return overlap
        area_a, area_b = (float(np.prod(p.box[2:])) for p in (a, b))
        poses = object_keypoint_similarity(
            a.keypoints, b.keypoints[None], area_a, np.array([area_b]), self._sigmas
        )
        return 0.5 * (overlap + float(poses[0]))

"""People keep their numbers."""

from collections.abc import Callable

import numpy as np
import pytest

from vitpose_jax.inference.person import Person
from vitpose_jax.inference.tracking import Tracker
from vitpose_jax.keypoints.skeletons import SKELETONS

MakePerson = Callable[..., Person]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(SKELETONS["coco"], patience=5 / 30)


def numbers(people: list[Person]) -> list[int | None]:
    return [person.track for person in people]


def test_two_people_walk_past_each_other(tracker: Tracker, make_person: MakePerson) -> None:
    """They overlap on the way, and come in changing order."""
    for frame in range(41):
        a = make_person(10 + 6 * frame, 20)
        b = make_person(250 - 6 * frame, 60, height=130)
        found = tracker.update([a, b] if frame % 2 == 0 else [b, a], frame / 30)
        assert numbers(found) == ([1, 2] if frame % 2 == 0 else [2, 1])


def test_order_and_poses_are_untouched(tracker: Tracker, make_person: MakePerson) -> None:
    people = [make_person(200, 0), make_person(0, 0)]
    for given_, found in zip(people, tracker.update(people, 0.0), strict=True):
        assert found.keypoints is given_.keypoints


def test_a_hidden_person_is_remembered_for_a_while(
    tracker: Tracker, make_person: MakePerson
) -> None:
    person, other = make_person(10, 10), make_person(300, 10)
    assert numbers(tracker.update([person, other], 0.0)) == [1, 2]
    for frame in range(1, 6):
        assert numbers(tracker.update([other], frame / 30)) == [2]
    assert numbers(tracker.update([person, other], 6 / 30)) == [1, 2]
    for frame in range(7, 13):
        tracker.update([other], frame / 30)
    assert numbers(tracker.update([person, other], 13 / 30)) == [3, 2]


def test_nobody_and_strangers(tracker: Tracker, make_person: MakePerson) -> None:
    assert tracker.update([], 0.0) == []
    assert numbers(tracker.update([make_person(0, 0)], 0.1)) == [1]
    assert tracker.update([], 0.2) == []
    assert numbers(tracker.update([make_person(500, 300)], 0.3)) == [2]


def test_boxes_that_show_nothing(tracker: Tracker) -> None:
    nothing = Person(np.zeros((17, 2), np.float32), np.zeros(17, np.float32), np.full(4, np.nan))
    assert numbers(tracker.update([nothing], 0.0)) == [1]
    assert numbers(tracker.update([nothing], 0.1)) == [2]


def test_patience_is_time_not_frames(make_person: MakePerson) -> None:
    """At 10 frames a second, a person is forgotten after as long as at 30."""
    for rate in (10, 30, 120):
        tracker = Tracker(SKELETONS["coco"], patience=1.0)
        tracker.update([make_person(10, 10)], 0.0)
        for frame in range(1, rate):
            tracker.update([], frame / rate)
        assert numbers(tracker.update([make_person(10, 10)], 1.0)) == [1]
        for frame in range(1, rate + rate // 5):
            tracker.update([], 1 + frame / rate)
        assert numbers(tracker.update([make_person(10, 10)], 2.5)) == [2]

"""The forecasting study's subsets, against what the data's own description counts."""

from pathlib import Path

import pytest

from experiments.forecast_study.by_motion import action, errors_by_motion


@pytest.mark.parametrize(
    ("track", "wanted"),
    [
        ("walking_extra_09__soccer_02/0", "walking"),
        ("walking_extra_09__soccer_02/1", "soccer"),
        ("directing_traffic_01/0", "directing_traffic"),
        ("downtown_walking_00/1", "downtown_walking"),
    ],
)
def test_action_of_a_track(track: str, wanted: str) -> None:
    assert action(track) == wanted


def test_subsets_of_the_test_split(shared: Path) -> None:
    subsets = errors_by_motion(str(shared / "data" / "cmu-3dpw"), [])
    count = {name: row["windows"] for name, row in subsets.items()}
    assert count.pop("all") == 1582
    assert count.pop("detections complete") == 727
    assert sum(count.values()) == 1582
    assert set(count) >= {"walking", "running", "jumping", "washwindow"}

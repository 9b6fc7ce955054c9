"""Which boxes are people: what the file calls them decides, else the user is asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.boxes import BoxFile, read_boxes

BOX = [10, 10, 40, 90]


def read(folder: Path, content: Any, *categories: str) -> BoxFile:
    (folder / "b.json").write_text(json.dumps(content))
    return read_boxes(folder / "b.json", categories=categories)


def entries(boxes: BoxFile) -> list[int]:
    return sorted(box.entry for found in boxes.boxes.values() for box in found)


def named(names: dict[Any, str], used: list[Any]) -> dict[str, Any]:
    """An object whose annotations are of the categories `used`."""
    return {
        "categories": [{"id": key, "name": name} for key, name in names.items()],
        "annotations": bare(*({"category_id": key} for key in used)),
    }


def bare(*categories: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"image_id": 1, "bbox": BOX, **category} for category in categories]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (named({0: "Person", 1: "ball"}, [0, 1, 1]), [0]),
        (named({1: "car", 4: "pedestrian"}, [4, 1]), [0]),
        (named({1: "pedestrian", 2: "people", 4: "car"}, [4, 1, 2]), [1, 2]),  # VisDrone
        (named({7: "Human"}, [7]), [0]),
        (named({1: "ball", 2: "person"}, [1, 2]), [1]),
        (named({"1": "person", "2": "ball"}, [1, 2.0, "1"]), [0, 2]),
        (bare({}, {"category_id": None}), [0, 1]),
        (bare({"category_id": 1.0}, {"category_id": "1"}, {"category_id": 3}), [0, 1]),
        (bare({"category_id": 0, "category_name": "person"}, {"category_id": 32}), None),
        (
            bare(
                {"category_id": 0, "category_name": "person"},
                {"category_id": 32, "category_name": "sports ball"},
            ),
            [0],
        ),
        (bare({"label": "Person"}, {"label": "dog"}), [0]),
        (bare({"category_id": "person"}, {"category_id": "ball"}), [0]),
        (bare({"category_id": 0}, {"category_id": 0}), None),
        (bare({"category_id": 0}, {"category_id": 1}), None),  # counted from 0: 1 is a bicycle
        (bare({"label": 3}), None),
        (bare({}, {"category_id": 2}), None),
        (named({1: "person", 2: "ball"}, [0, 1]), None),  # counted from 0, unlike its categories
        (named({0: "match", 1: "ball", 2: "player"}, [1, 2]), None),
        (named({1: "ball"}, [1]), None),
        (named({1: "ball"}, [None]), None),
        (named({1: "person", 2: "ball"}, [2]), None),
    ],
)
def test_names_decide_and_the_rest_is_asked(
    tmp_path: Path, content: Any, expected: list[int] | None
) -> None:
    if expected is not None:
        assert entries(read(tmp_path, content)) == expected
        return
    with pytest.raises(UserError, match=r"b\.json: .*; say which are people: --category NAME"):
        read(tmp_path, content)


def test_a_refusal_lists_the_names(shared: Path) -> None:
    path = shared / "field-cases/boxes_category/group.json"
    with pytest.raises(UserError) as caught:
        read_boxes(path)
    for words in ("0 of 'match'", "1 of 'ball'", "1 of 'player' (category_id 2)", "--category"):
        assert words in str(caught.value)
    for wanted in ("player", "Player", "2"):
        boxes = read_boxes(path, categories=[wanted])
        assert entries(boxes) == [0]
        assert boxes.left_out[0].endswith("1 of 'ball' (category_id 1)")
    with pytest.raises(UserError, match="no category 'referee'; it has 0 of 'match'"):
        read_boxes(path, categories=["referee"])
    with pytest.raises(UserError, match="no boxes of people; it has 0 of 'match'"):
        read_boxes(path, categories=["match"])


def test_chosen_categories(tmp_path: Path) -> None:
    content = named({1: "ball", 2: "player", 3: "goal-keeper"}, [1, 2, 3, 3])
    assert entries(read(tmp_path, content, "PLAYER", "goalkeeper")) == [1, 2, 3]
    assert entries(read(tmp_path, bare({"category_id": 0}, {"category_id": 1}), "0")) == [0]
    mixed = read(tmp_path, bare({}, {"category_id": 5}), "5")
    assert entries(mixed) == [1]
    assert "1 of no category" in mixed.left_out[0]


def test_what_is_left_out_of_a_list_with_numbers_is_told(tmp_path: Path) -> None:
    (note,) = read(tmp_path, bare({"category_id": 1}, {"category_id": 2})).left_out
    assert "1 of category_id 2 (1 is taken as people, as in COCO; --category changes it)" in note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bare({"category_id": [1]}), "category_id must be a whole number or a name"),
        (bare({"category_id": 1.5}), "category_id must be a whole number or a name"),
        (bare({"category_id": True}), "category_id must be a whole number or a name"),
        ({"annotations": bare({}), "categories": {"0": "person"}}, '"categories" must be objects'),
        ({"annotations": bare({}), "categories": ["person"]}, '"categories" must be objects'),
        ({"annotations": bare({}), "categories": [{"id": 1}]}, '"categories" must be objects'),
        (
            {"annotations": bare({}), "categories": [{"id": 1, "name": n} for n in "ab"]},
            "an id of its own",
        ),
    ],
)
def test_categories_of_another_form(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)

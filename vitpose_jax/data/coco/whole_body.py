"""COCO-WholeBody's annotations: feet, face and hands in fields beside the body's keypoints."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitpose_jax.data.coco.person import Json
from vitpose_jax.keypoints.skeletons import SKELETONS, known_skeleton

PARTS = {"foot_kpts": 6, "face_kpts": 68, "lefthand_kpts": 21, "righthand_kpts": 21}


def has_whole_bodies(category: Mapping[str, Any], people: Sequence[Json]) -> bool:
    """Whether people with COCO's keypoints also have the fields of the other parts."""
    names = category["keypoints"]
    is_body = known_skeleton(names) is SKELETONS["coco"]
    return is_body and any(part in person for person in people for part in PARTS)


def join_parts(people: Sequence[Json]) -> None:
    """Append the parts to `keypoints`, in place, and drop `num_keypoints`, which is now wrong.

    The third values of a part are flags or scores: any above 0 means labelled.
    """
    for person in people:
        body = person.get("keypoints")
        if not isinstance(body, list):
            continue
        joined = body or [0] * 51
        for part, count in PARTS.items():
            values = person.get(part) or [0] * 3 * count
            joined = joined + (_with_flags(values) if isinstance(values, list) else [values])
        person["keypoints"] = joined
        person.pop("num_keypoints", None)


def _with_flags(values: list[Any]) -> list[Any]:
    flags = values[2::3]
    if any(flag not in (0, 1, 2) for flag in flags):
        scores = [flag if isinstance(flag, int | float) else -1 for flag in flags]
        values = [*values]
        values[2::3] = [2 if score > 0 else 0 if score == 0 else score for score in scores]
    return values

"""A skeleton from what a COCO-layout file says about itself in its `categories`."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitpose_jax.data.coco.findings import NO_FLIP_PAIRS, Finding
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import (
    SKELETONS,
    Skeleton,
    flip_pairs_by_name,
    sigmas_by_name,
    upper_body_by_name,
)


def keypoint_categories(categories: Sequence[Any], where: str) -> list[Mapping[str, Any]]:
    """The first category with keypoints, and after it all others with the same ones.

    Args:
        categories: the file's list of them.
        where: the file's name, for messages.

    Raises:
        UserError: no category has keypoints.
    """
    named = [c for c in categories if isinstance(c, Mapping) and c.get("keypoints")]
    if not named:
        raise UserError(
            f"{where}: no category names its keypoints ('categories'[i]['keypoints']); "
            "is it the instances file instead of person_keypoints?"
        )
    return [c for c in named if c["keypoints"] == named[0]["keypoints"]]


def skeleton_from_category(
    category: Mapping[str, Any], where: str
) -> tuple[Skeleton, list[Finding]]:
    """Read keypoint names, flip pairs, limbs and OKS sigmas from an entry of `categories`.

    A file with the names of a known data set gets that data set's skeleton. Otherwise `keypoints`
    (names) is needed, and `skeleton` (limbs, counted from 1) is COCO's own field; `flip_pairs`
    (pairs of names, or of indices from 0), `sigmas` (one per keypoint) and `upper_body` (names or
    indices) may be added. Without them, pairs are found by names that differ in left/right, sigmas
    are those of COCO's keypoints of the same names, else 0.05, and the upper body is everything
    whose name is of no leg or foot.

    Args:
        category: the entry.
        where: the file's name, for messages.

    Returns:
        The skeleton, and what is odd about it.

    Raises:
        UserError: a field of the wrong type or length, or one that names an unknown keypoint.
    """
    names = category.get("keypoints")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise UserError(f"{where}: categories: 'keypoints' must be a list of names")
    if len(set(names)) != len(names):
        raise UserError(f"{where}: categories: a keypoint name is given twice")
    own_fields = {"flip_pairs", "sigmas", "upper_body"} & set(category)
    for known in SKELETONS.values():
        if known.keypoint_names == tuple(names) and not own_fields:
            return known, []

    found = []
    if "flip_pairs" in category:
        pairs = _pairs(category["flip_pairs"], names, where)
    else:
        pairs = flip_pairs_by_name(names)
        if not pairs and len(names) > 1:
            found.append(Finding(NO_FLIP_PAIRS, str(category.get("name"))))
    if "upper_body" in category:
        upper = _indices(category["upper_body"], names, "upper_body", where)
    else:
        upper = upper_body_by_name(names)
    skeleton = Skeleton(
        name=str(category.get("name", "custom")),
        keypoint_names=tuple(names),
        flip_pairs=pairs,
        limbs=_limbs(category.get("skeleton", []), len(names), where),
        sigmas=_sigmas(category.get("sigmas"), names, where),
        upper_body=upper,
    )
    return skeleton, found


def _pairs(value: Any, names: list[str], where: str) -> tuple[tuple[int, int], ...]:
    """Pairs of names or indices as pairs of indices."""
    if not isinstance(value, list):
        raise UserError(f"{where}: categories: 'flip_pairs' must be a list")
    if any(not isinstance(pair, list) or len(pair) != 2 for pair in value):
        raise UserError(f"{where}: categories: 'flip_pairs' must hold groups of 2")
    flat = _indices([name for pair in value for name in pair], names, "flip_pairs", where)
    if len(flat) != len(set(flat)):
        raise UserError(f"{where}: categories: 'flip_pairs' uses a keypoint twice")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _indices(value: Any, names: list[str], key: str, where: str) -> tuple[int, ...]:
    """Names or indices as indices."""
    if not isinstance(value, list):
        raise UserError(f"{where}: categories: '{key}' must be a list")
    indices = [names.index(v) if v in names else v for v in value]
    for v in indices:
        if not isinstance(v, int) or isinstance(v, bool) or not 0 <= v < len(names):
            raise UserError(f"{where}: categories: '{key}' names {v!r}, which is no keypoint")
    return tuple(indices)


def _limbs(value: Any, num_keypoints: int, where: str) -> tuple[tuple[int, int], ...]:
    """COCO counts the ends of limbs from 1."""
    if not isinstance(value, list):
        raise UserError(f"{where}: categories: 'skeleton' must be a list of pairs")
    for limb in value:
        good = isinstance(limb, list) and len(limb) == 2 and all(isinstance(i, int) for i in limb)
        if not good or not all(1 <= i <= num_keypoints for i in limb):
            raise UserError(f"{where}: categories: 'skeleton' holds {limb!r}, not two keypoints")
    return tuple((a - 1, b - 1) for a, b in value)


def _sigmas(value: Any, names: list[str], where: str) -> tuple[float, ...]:
    if value is None:
        return sigmas_by_name(names)
    numbers = isinstance(value, list) and all(isinstance(s, int | float) and s > 0 for s in value)
    if not numbers or len(value) != len(names):
        raise UserError(f"{where}: categories: 'sigmas' must be {len(names)} positive numbers")
    return tuple(float(s) for s in value)


def category_from_skeleton(skeleton: Skeleton) -> dict[str, Any]:
    """The entry of `categories` for people with a known skeleton."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoint_names),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }

"""Reading a skeleton from the `categories` of a file in COCO's layout."""

from collections.abc import Mapping, Sequence
from typing import Any

from vitpose_jax.data.coco.ids import Id, plain_id
from vitpose_jax.data.findings import BAD_LIMBS, NO_FLIP_PAIRS, NO_PARTNER, Finding
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import (
    Skeleton,
    flip_pairs_by_name,
    known_skeleton,
    plain_names,
    sigmas_by_name,
    upper_body_by_name,
    without_partner,
)


def keypoint_categories(categories: Sequence[Any], where: str) -> list[Mapping[str, Any]]:
    """The first category with keypoints, then all others with the same keypoints.

    Args:
        categories: the file's list.
        where: the file's name, for messages.

    Raises:
        UserError: no category has keypoints.
    """
    return next(iter(_by_keypoints(categories, where).values()))


def choose_categories(
    categories: Sequence[Any], used: Mapping[Id | None, int], wanted: str, where: str
) -> list[dict[str, Any]]:
    """The categories to read: those with the keypoints that most annotations have.

    Their ids are in the form of `plain_id`.

    Args:
        categories: the file's list.
        used: number of annotations by category id.
        wanted: name or id of the only category to read; empty to follow the rule above.
        where: the file's name, for messages.

    Raises:
        UserError: no category has keypoints, an id is unusable or used twice, or no category
            matches `wanted`.
    """
    groups = _by_keypoints(categories, where)
    named = [category for group in groups.values() for category in group]
    ids = [plain_id(category.get("id")) for category in named]
    for category, category_id in zip(named, ids, strict=True):
        if category_id is None or ids.count(category_id) > 1:
            raise UserError(
                f"{where}: categories: the 'id' of {category.get('name')!r} must be a unique "
                f"number, but is {category.get('id')!r}"
            )
    if wanted:
        names = [str(category.get("name")) for category in named]
        for category, name, category_id in zip(named, names, ids, strict=True):
            if wanted in (name, str(category_id)) or wanted.lower() == name.lower():
                return [{**category, "id": category_id}]
        raise UserError(
            f"{where}: config.category is {wanted!r}; its categories with keypoints are "
            f"{', '.join(dict.fromkeys(names))}"
        )
    plain = [[{**c, "id": plain_id(c["id"])} for c in group] for group in groups.values()]
    return max(plain, key=lambda group: sum(used.get(c["id"], 0) for c in group))


def _by_keypoints(
    categories: Sequence[Any], where: str
) -> dict[tuple[str, ...], list[Mapping[str, Any]]]:
    """The categories with keypoints, grouped by keypoint names, however these are spelled."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for category in categories:
        if isinstance(category, Mapping) and category.get("keypoints"):
            names = category["keypoints"]
            if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                raise UserError(f"{where}: categories: 'keypoints' must be a list of names")
            groups.setdefault(tuple(plain_names(names)), []).append(category)
    if not groups:
        raise UserError(
            f"{where}: no category names its keypoints ('categories'[i]['keypoints']); "
            "is it the instances file instead of person_keypoints?"
        )
    return groups


def skeleton_from_category(
    category: Mapping[str, Any], where: str
) -> tuple[Skeleton, list[Finding]]:
    """Read keypoint names, flip pairs, limbs and OKS sigmas from an entry of `categories`.

    A category with the keypoint names of a known data set, however they are spelled, gets that data
    set's skeleton. Otherwise `keypoints` (names) is required, and COCO's own `skeleton` (limbs,
    counted from 1) is optional. So are `flip_pairs` (pairs of names, or of indices from 0),
    `sigmas` (one per keypoint) and `upper_body` (names or indices). Without them, pairs are the
    names that differ only in left/right, sigmas are those of the COCO keypoints with the same
    names, else 0.05, and the upper body is every keypoint whose name contains no word for a part of
    the legs.

    Args:
        category: the entry.
        where: the file's name, for messages.

    Returns:
        The skeleton, and what is odd about it.

    Raises:
        UserError: a field has the wrong type or length, or names an unknown keypoint.
    """
    names = category.get("keypoints")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise UserError(f"{where}: categories: 'keypoints' must be a list of names")
    if len(set(names)) != len(names):
        raise UserError(f"{where}: categories: a keypoint name is given twice")
    limbs, bad_limbs = _limbs(category.get("skeleton") or [], names)
    found = [Finding(BAD_LIMBS, repr(limb)) for limb in bad_limbs]
    own_fields = {"flip_pairs", "sigmas", "upper_body"} & set(category)
    known = known_skeleton(names)
    if known and not own_fields:
        return known, found

    if "flip_pairs" in category:
        pairs = _pairs(category["flip_pairs"], names, where)
    else:
        pairs = known.flip_pairs if known else flip_pairs_by_name(names)
        if not pairs and len(names) > 1:
            found.append(Finding(NO_FLIP_PAIRS, str(category.get("name"))))
    found += [Finding(NO_PARTNER, name) for name in without_partner(names, pairs)]
    if "upper_body" in category:
        upper = _indices(category["upper_body"], names, "upper_body", where)
    else:
        upper = upper_body_by_name(names)
    skeleton = Skeleton(
        name=str(category.get("name", "custom")),
        keypoint_names=tuple(names),
        flip_pairs=pairs,
        limbs=limbs,
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
            raise UserError(f"{where}: categories: '{key}' names {v!r}, which is not a keypoint")
    return tuple(indices)


def _limbs(value: Any, names: list[str]) -> tuple[tuple[tuple[int, int], ...], list[Any]]:
    """The limbs as pairs of indices, and the entries that are not limbs.

    COCO counts keypoints from 1; if a 0 occurs, they are counted from 0. Names are accepted too.
    """
    if not isinstance(value, list):
        return (), [value]
    ends = [end for limb in value if isinstance(limb, list) for end in limb]
    first = 0 if any(type(end) is int and end == 0 for end in ends) else 1
    index: dict[Any, int] = {name: i for i, name in enumerate(names)}
    index |= {i + first: i for i in range(len(names))}
    limbs, bad = [], []
    for limb in value:
        plain = isinstance(limb, list) and all(type(end) in (int, str) for end in limb)
        ends = [index[end] for end in limb if end in index] if plain else []
        if plain and len(limb) == len(set(ends)) == 2:
            limbs.append((ends[0], ends[1]))
        else:
            bad.append(limb)
    return tuple(limbs), bad


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

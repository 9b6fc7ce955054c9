"""Reading one person's fields as annotation tools write them, and putting them in COCO's form."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from vitpose_jax.data import findings
from vitpose_jax.data.findings import Kind

Json = dict[str, Any]
"""A JSON object from the file."""


class Malformed(Exception):
    """An annotation that cannot be used; the message says why."""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of the file is a number of magnitude below 1e9, as all coordinates are."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


class Joints(NamedTuple):
    """A person's keypoints.

    Attributes:
        points: (K, 3), x, y and visibility (0, 1 or 2).
        labelled: how many are labelled.
        low: smallest x and y of the labelled ones.
        high: largest x and y of the labelled ones.
        found: what had to be changed.
    """

    points: np.ndarray
    labelled: int
    low: list[float]
    high: list[float]
    found: list[Kind]


_CHUNK = 4096
_NUMBERS = frozenset((int, float))


def read_joints(people: Sequence[Json], num_keypoints: int) -> Iterator[Joints | Malformed]:
    """Check the keypoints of many people; any that change are written back in COCO's form."""
    for start in range(0, len(people), _CHUNK):
        chunk = people[start : start + _CHUNK]
        fields: list[Any] = [person.get("keypoints") for person in chunk]
        try:
            block = np.array(fields)
        except (ValueError, OverflowError):  # lists of different lengths, or huge numbers
            block = np.zeros(0)
        if block.dtype.kind not in "if" or block.shape != (len(chunk), 3 * num_keypoints):
            for person in chunk:
                yield _joints_of(person, num_keypoints)
            continue
        points = block.astype(np.float64).reshape(-1, num_keypoints, 3)
        for values, person, odd, joints in zip(
            fields, chunk, _are_odd(points), _measured(points), strict=True
        ):
            mixed = not _NUMBERS.issuperset(map(type, values))
            yield _joints_of(person, num_keypoints) if odd or mixed else joints


def _joints_of(person: Json, num_keypoints: int) -> Joints | Malformed:
    found: list[Kind] = []
    try:
        points = _points(person, num_keypoints, found)
    except Malformed as problem:
        return problem
    return next(_measured(points[None]))._replace(found=found)


def _nowhere(points: np.ndarray) -> np.ndarray:
    """Which points (..., 3) have no coordinates."""
    return ~(np.abs(points[..., :2]) < 1e9).all(-1)


def _at_origin(points: np.ndarray) -> np.ndarray:
    """Which points (..., 3) are labelled at (0, 0) or (-1, -1), as tools often mark absent ones."""
    x, y, flags = np.moveaxis(points, -1, 0)
    return (x == y) & ((x == 0) | (x == -1)) & (flags > 0)


def _are_odd(points: np.ndarray) -> list[bool]:
    """Which people (N, K, 3) need a second look."""
    flags = points[..., 2]
    wrong = (flags != 0) & (flags != 1) & (flags != 2)
    odd = (wrong | _nowhere(points) | _at_origin(points)).any(-1)
    return list(odd.tolist())


def _measured(points: np.ndarray) -> Iterator[Joints]:
    labelled = points[..., 2] > 0
    low = np.where(labelled[..., None], points[..., :2], np.inf).min(1)
    high = np.where(labelled[..., None], points[..., :2], -np.inf).max(1)
    counts = labelled.sum(1)
    for row in zip(points, counts.tolist(), low.tolist(), high.tolist(), strict=True):
        yield Joints(*row, [])


def read_person(person: Json, joints: Joints) -> list[Kind]:
    """Check a person's other fields, and fill in what evaluation needs.

    Returns:
        What is odd about them, and about the keypoints.

    Raises:
        Malformed: a field has the wrong type or length.
    """
    found, count = list(joints.found), joints.labelled
    crowd = person.get("iscrowd")
    if crowd not in (None, 0, 1):
        raise Malformed(f"'iscrowd' must be 0 or 1, not {short(crowd)}")
    person["iscrowd"] = int(crowd or 0)
    claimed = person.get("num_keypoints")
    if claimed is not None and not (isinstance(claimed, int) or is_number(claimed)):
        raise Malformed(f"'num_keypoints' must be an integer, not {short(claimed)}")
    area = person.get("area")
    if area is not None and not is_number(area):
        raise Malformed(f"'area' must be a number, not {short(area)}")

    odd = bool(claimed) if count == 0 else claimed not in (None, count) and not found
    if odd and not crowd:
        found.append(findings.WRONG_COUNT if count else findings.LABELS_MISSING)
    person["num_keypoints"] = count

    box = person.get("bbox")
    if box is None or box == []:
        person["bbox"] = box = _box_around(joints)
        if count and not crowd:
            found.append(findings.NO_BOX)
    if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
        raise Malformed(f"'bbox' must be four numbers (x, y, width, height), not {short(box)}")
    person["area"] = box[2] * box[3] if area is None else max(area, 0)
    if area is None and count and not crowd:
        found.append(findings.NO_AREA)
    return found


def _points(person: Json, num_keypoints: int, found: list[Kind]) -> np.ndarray:
    """Read the keypoints (K, 3) of a person whose field needs correcting; correct it in place."""
    values = person.get("keypoints")
    if values is None and not person.get("iscrowd"):
        found.append(findings.NO_KEYPOINTS)
    flat = [] if values is None else values
    if isinstance(flat, list) and flat and all(isinstance(point, list) for point in flat):
        flat = [number for point in flat for number in point]
    if not isinstance(flat, list) or len(flat) not in (0, 2 * num_keypoints, 3 * num_keypoints):
        count = f"{len(flat)} values" if isinstance(flat, list) else short(values)
        raise Malformed(f"'keypoints' must be {3 * num_keypoints} numbers, not {count}")
    try:
        raw = np.array(flat or [0] * 3 * num_keypoints, np.float64).reshape(num_keypoints, -1)
    except (TypeError, ValueError, OverflowError):
        raise Malformed("'keypoints' holds something that is not a finite number") from None
    if {bool, str} & set(map(type, flat)):
        found.append(findings.NO_JSON_NUMBERS)
    points = raw
    if raw.shape[1] == 2:
        points = np.column_stack([raw, 2 * np.isfinite(raw).all(1)])
        found.append(findings.NO_VISIBILITY)
    nowhere = _nowhere(points)
    points[nowhere & np.isnan(points[:, 2]), 2] = 0
    labelled = points[:, 2] > 0
    if (lost := nowhere & labelled).any():
        if (lost == labelled).all():
            raise Malformed("'keypoints' holds something that is not a finite number")
        found.append(findings.NO_NUMBERS)
        points[lost, 2] = 0
    points[nowhere, :2] = 0
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise Malformed(
            "a visibility flag in 'keypoints' is not 0, 1 or 2 (unlabelled, hidden, visible)"
        )
    if (origin := _at_origin(points)).any():
        points[origin] = 0
        if findings.NO_VISIBILITY not in found:
            found.append(findings.AT_ORIGIN)
    person["keypoints"] = points.ravel().tolist()
    return points


def _box_around(joints: Joints) -> list[float]:
    """A box with a margin, as people are larger than their joints; zeros if none are labelled."""
    if not joints.labelled:
        return [0.0] * 4
    (left, top), (right, bottom) = joints.low, joints.high
    margin = 0.15 * max(right - left, bottom - top)
    return [left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin]


def short(value: Any) -> str:
    """A value as it is shown in a message."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def why_not_used(person: Json, joints: Joints, width: int, height: int) -> Kind | None:
    """Why a person is left out; None if it is used."""
    if person["iscrowd"]:
        return findings.CROWD
    if not joints.labelled:
        return findings.UNLABELLED
    (x0, y0), (x1, y1) = joints.low, joints.high
    if joints.labelled > 1 and x0 >= 0 <= y0 and x1 <= 1 >= y1 and min(width, height) > 1:
        return findings.NORMALIZED_POINTS
    x, y, w, h = person["bbox"]
    left, top = max(0, x), max(0, y)
    right = min(width - 1, left + max(0, w - 1))
    bottom = min(height - 1, top + max(0, h - 1))
    if right <= left or bottom <= top:
        fraction = min(x, y) >= 0 < min(w, h) and max(x, y, w, h) <= 1
        return findings.NORMALIZED_BOX if fraction else findings.OFF_IMAGE
    if person["area"] <= 0:
        return findings.ZERO_AREA
    reach = max(w, h)  # beyond one box size no crop contains a keypoint
    far_x, far_y = x + w + reach, y + h + reach
    if x0 >= x - reach and y0 >= y - reach and x1 <= far_x and y1 <= far_y:
        return None
    labelled = joints.points[joints.points[:, 2] > 0, :2]
    near = (labelled >= (x - reach, y - reach)) & (labelled <= (far_x, far_y))
    return None if near.all(1).any() else findings.POINTS_OFF_BOX


def oddities(person: Json, joints: Joints, width: int, height: int) -> Iterator[Kind]:
    """What is odd about a person that is used nevertheless."""
    if min(joints.low) < 0 or joints.high[0] > width or joints.high[1] > height:
        yield findings.POINTS_OFF_IMAGE
    if person["area"] > 1.1 * person["bbox"][2] * person["bbox"][3] + 10:
        yield findings.LARGE_AREA

"""What a study measures beside the evaluation's own figures: pure functions of predictions."""

from collections.abc import Sequence

import numpy as np

from vitpose_jax.data.people import People
from vitpose_jax.evaluation.pck import torso_sizes
from vitpose_jax.keypoints.skeletons import Skeleton

THRESHOLD = 0.2  # of the torso, as everywhere in the study
FINE = 0.05
SMALL = ("nose", "eye", "ear", "wrist", "ankle")
CROWDED = 0.1  # a person counts as overlapped from this IoU with another one's box on
KINDS = ("exact", "imprecise", "swapped side", "other person", "missed")


def distances(keypoints: np.ndarray, people: People, names: Sequence[str]) -> np.ndarray:
    """(N, K) distances from the truth over the torso; NaN where unlabelled or without a torso."""
    torso = torso_sizes(people.keypoints, people.visible, names)
    distance = np.linalg.norm(keypoints - people.keypoints, axis=-1)
    judged = (people.visible > 0) & (torso[:, None] > 0)
    return np.where(judged, distance / np.where(torso > 0, torso, 1)[:, None], np.nan)


def hits(distance: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a distance is within the threshold, 0 where not, NaN where it is NaN."""
    return np.where(np.isnan(distance), np.nan, distance <= threshold)


def error_kinds(keypoints: np.ndarray, people: People, skeleton: Skeleton) -> np.ndarray:
    """(N, K) index into KINDS for every judged joint, -1 elsewhere.

    Within 0.05 of the torso: exact; within 0.2: imprecise. Farther off, but within 0.2 of the same
    joint on the person's other side: swapped side; of any joint of another annotated person: other
    person; of neither: missed.
    """
    names = skeleton.keypoint_names
    distance = distances(keypoints, people, names)
    reach = THRESHOLD * torso_sizes(people.keypoints, people.visible, names)
    kinds = np.full(distance.shape, KINDS.index("missed"))
    for i in range(len(people)):
        others = np.flatnonzero(people.image_id == people.image_id[i])
        others = others[others != i]
        theirs = people.keypoints[others][people.visible[others] > 0]
        if len(theirs):
            gaps = np.linalg.norm(keypoints[i][:, None] - theirs, axis=-1).min(1)
            kinds[i, gaps <= reach[i]] = KINDS.index("other person")
    mirrored = np.asarray(skeleton.flip_index)
    gaps = np.linalg.norm(keypoints - people.keypoints[:, mirrored], axis=-1)
    paired = (mirrored != np.arange(len(mirrored))) & (people.visible[:, mirrored] > 0)
    kinds[paired & (gaps <= reach[:, None])] = KINDS.index("swapped side")
    kinds[distance <= THRESHOLD] = KINDS.index("imprecise")
    kinds[distance <= FINE] = KINDS.index("exact")
    return np.where(np.isnan(distance), -1, kinds)


def overlaps(people: People) -> np.ndarray:
    """(N,) largest IoU of each person's box with that of another annotated one on the image."""
    best = np.zeros(len(people))
    corners = np.concatenate([people.box[:, :2], people.box[:, :2] + people.box[:, 2:]], 1)
    areas = people.box[:, 2:].prod(1)
    for i in range(len(people)):
        others = np.flatnonzero(people.image_id == people.image_id[i])
        others = others[others != i]
        low = np.maximum(corners[i, :2], corners[others, :2])
        high = np.minimum(corners[i, 2:], corners[others, 2:])
        inside = np.clip(high - low, 0, None).prod(1)
        iou = inside / (areas[i] + areas[others] - inside)
        best[i] = iou.max(initial=0.0)
    return best


def groups(people: People, names) -> dict[str, np.ndarray]:
    """(N, K) masks: which joints of which people make up each group."""
    small = np.array([any(part in name for part in SMALL) for name in names])
    everyone = np.ones((len(people), len(names)), bool)
    crowded = overlaps(people) >= CROWDED
    area = people.box[:, 2:].prod(1)
    tiny = area <= np.quantile(area, 1 / 3)
    masks = {"small joints": everyone & small, "large joints": everyone & ~small}
    masks["smallest third of people"] = everyone & tiny[:, None]
    if crowded.any():
        masks["overlapped people"] = everyone & crowded[:, None]
        masks["people apart"] = everyone & ~crowded[:, None]
    return masks

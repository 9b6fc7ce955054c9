"""What a data set holds, on one screen: people, keypoints, sizes and findings."""

from collections.abc import Sequence

import numpy as np

from vitpose_jax.data.dataset import PoseDataset
from vitpose_jax.keypoints.skeletons import SKELETONS, Skeleton

_MOST = 20
"""The most names or pairs to list; whole bodies have more than a screen holds."""


def describe(dataset: PoseDataset, full: bool = False) -> str:
    """Describe a data set in a few lines; a rendered one by its keypoints alone.

    With `full`, keypoints of known skeletons are listed by name too.
    """
    if dataset.report is None:
        head = f"{dataset.name}: {len(dataset)} samples, rendered when needed"
        return "\n".join([head, *describe_skeleton(dataset.skeleton, full)])
    lines = [dataset.report.summary(), f"  categories: {_few(dataset.categories)}"]
    lines += describe_skeleton(dataset.skeleton, full)
    people = dataset.people
    if len(people):
        lines += [_visibility(people.visible, dataset.skeleton), _sizes(people.box)]
    return "\n".join(lines)


def describe_skeleton(skeleton: Skeleton, full: bool = True) -> list[str]:
    """Keypoints, pairs and limbs by name; those of known skeletons only with `full`."""
    names = skeleton.keypoint_names
    known = SKELETONS.get(skeleton.name) == skeleton
    of = f"of {skeleton.name}" if known else f"of its own ({skeleton.name})"
    pairs = [f"{names[a]}/{names[b]}" for a, b in skeleton.flip_pairs]
    limbs = [f"{names[a]}-{names[b]}" for a, b in skeleton.limbs]
    if known and not full:
        return [f"  {len(names)} keypoints {of}, {len(pairs)} left-right pairs"]
    return [
        f"  {len(names)} keypoints {of}: {_few(names)}",
        f"  {len(pairs)} left-right pairs: {_few(pairs)}",
        f"  {len(limbs)} limbs: {_few(limbs)}",
    ]


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return (", ".join(texts[:_MOST]) + more) or "none"


def _visibility(visible: np.ndarray, skeleton: Skeleton) -> str:
    """How many keypoints are labelled, and which never are."""
    labelled = visible > 0
    never = [skeleton.keypoint_names[k] for k in np.flatnonzero(~labelled.any(axis=0))]
    hidden = float((visible[labelled] == 1).mean()) if labelled.any() else 0.0
    text = f"  labelled: {labelled.mean():.0%} of the keypoints, {hidden:.0%} of them hidden"
    return text + (f"; never: {_few(never)}" if never else "")


def _sizes(box: np.ndarray) -> str:
    low, middle, high = np.percentile(box[:, 2:].max(axis=1), (0, 50, 100))
    return f"  longer side of boxes: {low:.0f} to {high:.0f} pixels, median {middle:.0f}"

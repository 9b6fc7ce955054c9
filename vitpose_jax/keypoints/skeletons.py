"""Skeletons: keypoint names, left-right pairs, limbs and OKS constants of known data sets.

The numbers are those of mmpose 0.24's `dataset_info`, with which ViTPose was trained. COCO's OKS
sigmas are those of the COCO API; the others are the data sets' own or adapted by mmpose.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from vitpose_jax.errors import UserError

Side = Literal["left", "right", "centre"]


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one data set.

    Attributes:
        name: key in `SKELETONS`, or the category's name in other data.
        keypoint_names: K names, in the order of the heatmaps' channels.
        flip_pairs: index pairs that swap places when the image is mirrored.
        limbs: index pairs to draw a line between.
        sigmas: K falloff constants of the object keypoint similarity (OKS), relative to the square
            root of the object's area.
        upper_body: indices that count as upper body for the half-body augmentation.

    Example:
        >>> coco = SKELETONS["coco"]
        >>> coco.keypoint_names[5], coco.side(5)
        ('left_shoulder', 'left')
        >>> list(SKELETONS)
        ['coco', 'aic', 'mpii', 'ap10k', 'apt36k', 'wholebody']
    """

    name: str
    keypoint_names: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    upper_body: tuple[int, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Skeleton":
        """From the dict of `dataclasses.asdict`, also after JSON; TypeError for unknown keys."""
        return cls(**{name: _frozen(value) for name, value in values.items()})

    def check(self) -> None:
        """Raise UserError if names, pairs, limbs, sigmas and upper body do not fit together."""
        count, pairs = len(self.keypoint_names), [i for pair in self.flip_pairs for i in pair]
        groups = {
            "flip_pairs": pairs,
            "limbs": [i for limb in self.limbs for i in limb],
            "upper_body": self.upper_body,
        }
        for name, indices in groups.items():
            if outside := [i for i in indices if not 0 <= i < count]:
                raise UserError(
                    f"skeleton: {name} has the index {outside[0]}, but there are {count} keypoints"
                )
        if len(set(pairs)) != len(pairs) or len(set(self.keypoint_names)) != count:
            raise UserError("skeleton: a keypoint name or an index in flip_pairs occurs twice")
        if len(self.sigmas) != count:
            raise UserError(f"skeleton: has {len(self.sigmas)} sigmas for {count} keypoints")

    @property
    def num_keypoints(self) -> int:
        """K, the number of keypoints."""
        return len(self.keypoint_names)

    @cached_property
    def flip_index(self) -> np.ndarray:
        """int32 (K,), read-only: a mirrored image's channel i shows keypoint flip_index[i]."""
        return mirrored_order(self.num_keypoints, self.flip_pairs)

    def side(self, keypoint: int) -> Side:
        """The side of the body that a keypoint is on, by its name."""
        return self._sides[keypoint]

    @cached_property
    def _sides(self) -> tuple[Side, ...]:
        return tuple(
            sides[0] if sides else "centre" for sides, _ in split_names(self.keypoint_names)
        )


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


_SIDES: dict[str, Side] = {"left": "left", "l": "left", "lt": "left", "左": "left"}
_SIDES.update(right="right", r="right", rt="right", 右="right")
_MIRRORED: dict[Side, Side] = {"left": "right", "right": "left"}
_WORDS = re.compile(r"[左右]|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W_a-zA-Z0-9左右]+")
_GLUED = re.compile(r"(left|right)(.+)")  # leftknee
_AFFIXES = (("l", ""), ("", "l"), ("", "left"), ("r", ""), ("", "r"), ("", "right"))
_SYNONYMS = {"f_paw": "front_paw", "b_paw": "back_paw"}
_SYNONYMS |= dict.fromkeys(("head", "top_head", "top_of_head", "headtop"), "head_top")

NameParts = tuple[tuple[Side, ...], str]
"""The sides in a keypoint's name, and the rest of the name in lower case, joined by `_`."""


def split_names(names: Sequence[str]) -> list[NameParts]:
    """Split a skeleton's names into sides and the rest, however they are spelled.

    leftKnee, LKnee, knee.L, "Left Knee", knee_left and l-knee are all (("left",), "knee"). A single
    letter that is joined to a word (lknee, KNEEL) means a side only if the mirrored name exists
    too: a larynx is on no side.
    """
    parts = [_split_name(name) for name in names]
    plain = {rest for sides, rest in parts if not sides}
    for index, (sides, rest) in enumerate(parts):
        for before, after in () if sides else _AFFIXES:
            inner = rest.removeprefix(before).removesuffix(after)
            side = _SIDES[before or after]
            other = "r" if side == "left" else "l"
            other = _MIRRORED[side] if len(before + after) > 1 else other
            whole = len(before) + len(inner) + len(after) == len(rest)
            partner = f"{other if before else ''}{inner}{other if after else ''}"
            if inner and whole and partner in plain:
                parts[index] = ((side,), inner)
    return parts


def _split_name(name: str) -> NameParts:
    words = [word.lower() for word in _WORDS.findall(name)]
    words = [part for word in words for part in _unglued(word)]
    sides = tuple(_SIDES[word] for word in words if word in _SIDES)
    rest = [word for word in words if word not in _SIDES]
    if all(word.isdecimal() for word in rest) and not {"left", "right"} & set(words):
        sides, rest = (), words  # L5 is a vertebra
    joined = "_".join(rest)
    return sides, _SYNONYMS.get(joined, joined)


def _unglued(word: str) -> tuple[str, ...]:
    match = _GLUED.fullmatch(word)
    return match.groups() if match else (word,)


def plain_names(names: Sequence[str]) -> list[str]:
    """Keypoint names in one spelling: Left-Eye, leftEye and L_Eye become left_eye."""
    return ["_".join(filter(None, (*sides, rest))) for sides, rest in split_names(names)]


def mirrored_order(count: int, flip_pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """int32 (count,), read-only: 0, 1, ... with the two of each pair swapped."""
    index = np.arange(count, dtype=np.int32)
    for a, b in flip_pairs:
        index[[a, b]] = b, a
    index.setflags(write=False)
    return index


def flip_pairs_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Index pairs of names that differ only in left and right."""
    index: dict[NameParts, list[int]] = {}
    parts = split_names(names)
    for i, part in enumerate(parts):
        index.setdefault(part, []).append(i)
    pairs = []
    for i, (sides, rest) in enumerate(parts):
        partners = index.get((tuple(_MIRRORED[side] for side in sides), rest), [])
        if sides and len(partners) == len(index[sides, rest]) == 1 and i < partners[0]:
            pairs.append((i, partners[0]))
    return tuple(pairs)


def without_partner(names: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """The names that have a side but are in no flip pair."""
    paired = {index for pair in pairs for index in pair}
    parts = enumerate(split_names(names))
    return [names[i] for i, (sides, _) in parts if sides and i not in paired]


def known_skeleton(names: Sequence[str]) -> "Skeleton | None":
    """The known skeleton with these names in this order, however they are spelled, or None."""
    wanted = plain_names(names)
    return next((s for s in KNOWN if plain_names(s.keypoint_names) == wanted), None)


def named_skeleton(names: Sequence[str], name: str = "custom") -> "Skeleton":
    """A skeleton from names alone: a known one, or a new one without limbs."""
    return known_skeleton(names) or Skeleton(
        name=name,
        keypoint_names=tuple(names),
        flip_pairs=flip_pairs_by_name(names),
        limbs=(),
        sigmas=sigmas_by_name(names),
        upper_body=upper_body_by_name(names),
    )


DEFAULT_SIGMA = 0.05
"""OKS falloff if a data set gives none (COCO's range from 0.025, eyes, to 0.107, hips)."""
_LOWER_BODY = ("hip", "thigh", "knee", "shin", "ankle", "foot", "feet", "heel", "toe", "hind")


def sigmas_by_name(names: Sequence[str]) -> tuple[float, ...]:
    """OKS sigmas of the known skeleton with the same names in any order, else of COCO's keypoints.

    Keypoints that COCO lacks get `DEFAULT_SIGMA`. AIC and CrowdPose have the same names; the sigmas
    used are CrowdPose's, which are COCO's.
    """
    plain = plain_names(names)
    same = (s for s in reversed(KNOWN) if set(plain_names(s.keypoint_names)) == set(plain))
    source = next(same, SKELETONS["coco"])
    known = dict(zip(plain_names(source.keypoint_names), source.sigmas, strict=True))
    return tuple(known.get(name, DEFAULT_SIGMA) for name in plain)


def upper_body_by_name(names: Sequence[str]) -> tuple[int, ...]:
    """Indices of the names without a word for a part of the legs."""
    parts = (name.lower() for name in names)
    return tuple(i for i, n in enumerate(parts) if not any(low in n for low in _LOWER_BODY))


def _chain(*indices: int) -> tuple[tuple[int, int], ...]:
    return tuple(pairwise(indices))


def _coco() -> Skeleton:
    names = (
        *("nose", "left_eye", "right_eye", "left_ear", "right_ear"),
        *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow"),
        *("left_wrist", "right_wrist", "left_hip", "right_hip"),
        *("left_knee", "right_knee", "left_ankle", "right_ankle"),
    )
    legs = ((15, 13), (13, 11), (16, 14), (14, 12))
    torso = ((11, 12), (5, 11), (6, 12), (5, 6))
    arms = ((5, 7), (6, 8), (7, 9), (8, 10))
    head = ((1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6))
    return Skeleton(
        name="coco",
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=legs + torso + arms + head,
        sigmas=(
            *(0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072),
            *(0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089),
        ),
        upper_body=tuple(range(11)),
    )


def _aic() -> Skeleton:
    names = (
        *("right_shoulder", "right_elbow", "right_wrist"),
        *("left_shoulder", "left_elbow", "left_wrist"),
        *("right_hip", "right_knee", "right_ankle"),
        *("left_hip", "left_knee", "left_ankle"),
        *("head_top", "neck"),
    )
    return Skeleton(
        name="aic",
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=(
            *_chain(2, 1, 0, 13, 3, 4, 5),
            *_chain(8, 7, 6, 9, 10, 11),
            *((12, 13), (0, 6), (3, 9)),
        ),
        sigmas=(
            *(0.01388152, 0.01515228, 0.01057665, 0.01417709, 0.01497891, 0.01402144, 0.03909642),
            *(0.03686941, 0.01981803, 0.03843971, 0.03412318, 0.02415081, 0.01291456, 0.01236173),
        ),
        upper_body=(0, 1, 2, 3, 4, 5, 12, 13),
    )


def _mpii() -> Skeleton:
    names = (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
        *("pelvis", "thorax", "upper_neck", "head_top"),
        *("right_wrist", "right_elbow", "right_shoulder"),
        *("left_shoulder", "left_elbow", "left_wrist"),
    )
    return Skeleton(
        name="mpii",
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=(
            *_chain(0, 1, 2, 6, 3, 4, 5),
            *_chain(6, 7, 8, 9),
            *_chain(8, 12, 11, 10),
            *_chain(8, 13, 14, 15),
        ),
        sigmas=(
            *(0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026),
            *(0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
        ),
        upper_body=tuple(range(7, 16)),
    )


def _animal(name: str) -> Skeleton:
    """AP-10K's and APT-36K's common skeleton (its right front paw counts as lower body)."""
    names = (
        *("L_Eye", "R_Eye", "Nose", "Neck", "Root of tail"),
        *("L_Shoulder", "L_Elbow", "L_F_Paw", "R_Shoulder", "R_Elbow", "R_F_Paw"),
        *("L_Hip", "L_Knee", "L_B_Paw", "R_Hip", "R_Knee", "R_B_Paw"),
    )
    return Skeleton(
        name=name,
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=(
            *((0, 1), (0, 2), (1, 2)),
            *_chain(2, 3, 4),
            *_chain(3, 5, 6, 7),
            *_chain(3, 8, 9, 10),
            *_chain(4, 11, 12, 13),
            *_chain(4, 14, 15, 16),
        ),
        sigmas=(
            *(0.025, 0.025, 0.026, 0.035, 0.035, 0.079, 0.072, 0.062),
            *(0.079, 0.072, 0.062, 0.107, 0.087, 0.089, 0.107, 0.087, 0.089),
        ),
        upper_body=(0, 1, 2, 3, 5, 6, 7, 8, 9),
    )


_FINGERS = ("thumb", "forefinger", "middle_finger", "ring_finger", "pinky_finger")


def _hand(side: str) -> tuple[str, ...]:
    return (f"{side}_hand_root", *(f"{side}_{f}{i}" for f in _FINGERS for i in range(1, 5)))


def _hand_limbs(root: int) -> tuple[tuple[int, int], ...]:
    starts = range(root + 1, root + 21, 4)
    return tuple(limb for s in starts for limb in _chain(root, s, s + 1, s + 2, s + 3))


def _face_pairs(first: int) -> tuple[tuple[int, int], ...]:
    """Mirror pairs of the 68-point face: jaw, brows, nostrils, eyes (crosswise), lips."""
    jaw = [(i, 16 - i) for i in range(8)]
    brows = [(i, 43 - i) for i in range(17, 22)]
    nostrils = [(31, 35), (32, 34)]
    eyes = [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    lips = [(48, 54), (49, 53), (50, 52), (55, 59), (56, 58), (60, 64), (61, 63), (65, 67)]
    return tuple((first + i, first + j) for i, j in jaw + brows + nostrils + eyes + lips)


def _wholebody() -> Skeleton:
    body = _coco()
    feet = (
        *("left_big_toe", "left_small_toe", "left_heel"),
        *("right_big_toe", "right_small_toe", "right_heel"),
    )
    face = tuple(f"face-{i}" for i in range(68))
    names = (*body.keypoint_names, *feet, *face, *_hand("left"), *_hand("right"))
    foot_sigmas = (0.068, 0.066, 0.066, 0.092, 0.094, 0.094)
    face_sigmas = (
        *(0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032),
        *(0.037, 0.038, 0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011),
        *(0.011, 0.013, 0.015, 0.009, 0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010),
        *(0.017, 0.011, 0.009, 0.011, 0.009, 0.007, 0.013, 0.008, 0.011, 0.012, 0.010, 0.034),
        *(0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008, 0.009, 0.009, 0.009, 0.007),
        *(0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008),
    )
    hand_sigmas = (
        *(0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024),
        *(0.022, 0.026, 0.017, 0.021, 0.021, 0.032, 0.020, 0.019, 0.022, 0.031),
    )
    pairs = {*flip_pairs_by_name(names), *_face_pairs(23)}
    return Skeleton(
        name="wholebody",
        keypoint_names=names,
        flip_pairs=tuple(sorted(pairs)),
        limbs=(
            *body.limbs,
            *((15, 17), (15, 18), (15, 19), (16, 20), (16, 21), (16, 22)),
            *_hand_limbs(91),
            *_hand_limbs(112),
        ),
        sigmas=body.sigmas + foot_sigmas + face_sigmas + hand_sigmas + hand_sigmas,
        upper_body=body.upper_body,
    )


def _crowdpose() -> Skeleton:
    names = (*_coco().keypoint_names[5:], "head", "neck")
    coco = _coco()
    shifted = ((a - 5, b - 5) for a, b in coco.limbs)
    return Skeleton(
        name="crowdpose",
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=(*(limb for limb in shifted if min(limb) >= 0), (12, 13), (0, 13), (1, 13)),
        sigmas=(*coco.sigmas[5:], 0.079, 0.079),
        upper_body=(*range(6), 12, 13),
    )


def _halpe26() -> Skeleton:
    coco = _coco()
    feet = (f"{side}_{part}" for part in ("big_toe", "small_toe", "heel") for side in _MIRRORED)
    names = (*coco.keypoint_names, "head", "neck", "hip", *feet)
    limbs = {*coco.limbs} - {(11, 12), (5, 11), (6, 12), (5, 6)}
    spine = ((17, 18), (18, 19), (18, 5), (18, 6), (11, 19), (12, 19))
    return Skeleton(
        name="halpe26",
        keypoint_names=names,
        flip_pairs=flip_pairs_by_name(names),
        limbs=(*sorted(limbs), *spine, *((15 + i % 2, i) for i in range(20, 26))),
        sigmas=(*coco.sigmas, 0.026, 0.026, 0.066, *(0.079,) * 6),
        upper_body=(*coco.upper_body, 17, 18),
    )


def _halpe() -> Skeleton:
    """Halpe's 136 keypoints: its 26, then WholeBody's face and hands, rooted at the wrists."""
    body = _halpe26()
    face = tuple(f"face-{i}" for i in range(68))
    names = (*body.keypoint_names, *face, *_hand("left"), *_hand("right"))
    return Skeleton(
        name="halpe",
        keypoint_names=names,
        flip_pairs=tuple(sorted({*flip_pairs_by_name(names), *_face_pairs(26)})),
        limbs=(*body.limbs, *_hand_limbs(94), *_hand_limbs(115)),
        sigmas=(*body.sigmas[:17], *(0.08,) * 3, *(0.089,) * 6, *(0.015,) * 110),
        upper_body=body.upper_body,
    )


SKELETONS: dict[str, Skeleton] = {
    s.name: s for s in (_coco(), _aic(), _mpii(), _animal("ap10k"), _animal("apt36k"), _wholebody())
}

KNOWN = (*SKELETONS.values(), _crowdpose(), _halpe26(), _halpe())
"""All skeletons that are recognised by their keypoint names."""

EXPERT_DATASETS = tuple(SKELETONS)
"""The data sets of ViTPose+, in the order of its experts."""


def expert_index(dataset: str) -> int:
    """The position of a data set among ViTPose+'s experts.

    Raises:
        UserError: there is no expert for it.
    """
    if dataset not in SKELETONS:
        raise UserError(f"no data set {dataset!r}: choose one of {', '.join(EXPERT_DATASETS)}")
    return EXPERT_DATASETS.index(dataset)

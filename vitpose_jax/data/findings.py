"""Findings: what is odd about a data set's files, as values that can be counted and reported."""

from dataclasses import dataclass, field
from typing import Any

from vitpose_jax.keypoints.box_forms import BEYOND_WORDS, CORNERS_WORDS, NORMALIZED_WORDS


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        words: completes "<count> ...".
        left_out: whether the data concerned are left out.
        usual: whether COCO's own files have it too.
        doubtful: whether the data are kept but may be wrong.
    """

    words: str
    left_out: bool
    usual: bool = False
    doubtful: bool = False

    @property
    def costs(self) -> bool:
        """Whether useful data are lost, or wrong data may be kept."""
        return self.doubtful or (self.left_out and not self.usual)


CROWD = Kind("crowd regions", left_out=True, usual=True)
UNLABELLED = Kind("people without a labelled keypoint", left_out=True, usual=True)
OTHER_CATEGORY = Kind("annotations of other categories", left_out=True, usual=True)
UNKNOWN_CATEGORY = Kind("annotations of a category that the file does not list", left_out=True)
OTHER_KEYPOINTS = Kind(
    "annotations of categories with other keypoints (config.category chooses)", left_out=True
)
UNNAMED_KEYPOINTS = Kind("annotations with keypoints whose category names none", left_out=True)
NO_KEYPOINTS = Kind("people without the field 'keypoints'", left_out=True)
LABELS_MISSING = Kind(
    "people without a labelled keypoint although num_keypoints is not 0", left_out=True
)
OFF_IMAGE = Kind("boxes that are empty or off their image", left_out=True)
ZERO_AREA = Kind("people whose area is 0 or less", left_out=True)
MALFORMED = Kind("malformed annotations", left_out=True)
REPEATED_ID = Kind("annotations whose id was used before", left_out=True)
POINTS_OFF_BOX = Kind("people with no labelled keypoint anywhere near their box", left_out=True)
NORMALIZED_POINTS = Kind(
    "people whose keypoints lie between 0 and 1, as if divided by the image's size, instead of in "
    "pixels",
    left_out=True,
)
NORMALIZED_BOX = Kind(NORMALIZED_WORDS, left_out=True)
CORNERS = Kind(CORNERS_WORDS, left_out=False, doubtful=True)
POINTS_OUTSIDE_BOX = Kind(
    "people with most of their keypoints outside their box (is it x and y of the upper left "
    "corner, width and height, in the picture's pixels?)",
    left_out=False,
    doubtful=True,
)
BEYOND_IMAGE = Kind(BEYOND_WORDS, left_out=False)
NO_BOX = Kind("people without a box (one is drawn around their keypoints)", left_out=False)
WRONG_COUNT = Kind(
    "annotations whose num_keypoints contradicts their visibility flags (the flags are used)",
    left_out=False,
)
AT_ORIGIN = Kind(
    "people with labelled keypoints at exactly (0, 0) or (-1, -1), treated as unlabelled",
    left_out=False,
    doubtful=True,
)
NO_NUMBERS = Kind(
    "people with labelled keypoints that have no coordinates, treated as unlabelled",
    left_out=False,
    doubtful=True,
)
NO_JSON_NUMBERS = Kind(
    "people whose keypoints contain strings or booleans, which are read as numbers",
    left_out=False,
)
NO_VISIBILITY = Kind(
    "people whose keypoints have no visibility flags and count as labelled, except at (0, 0)",
    left_out=False,
    doubtful=True,
)
POINTS_OFF_IMAGE = Kind("people with a labelled keypoint outside the image", left_out=False)
NO_AREA = Kind(
    "people without an area (the box's area is used; a person's own is about half of it)",
    left_out=False,
)
LARGE_AREA = Kind("people whose area is larger than their box", left_out=False, doubtful=True)
SAME_PERSON = Kind(
    "annotations that repeat another one's keypoints on the same image", left_out=False
)
CROWDED = Kind(
    "images with more than 20 labelled people (AP and AR look at 20 predictions per image: "
    "config.eval.max_people)",
    left_out=False,
    usual=True,
)
SAME_FILE = Kind("images that share their file with another image", left_out=False)
NO_SIZE = Kind("images without width and height, which are read from the files", left_out=False)
RENAMED_FILE = Kind("images found under another spelling of their file name", left_out=False)
NO_FLIP_PAIRS = Kind(
    "categories without left-right pairs (no names that differ in left/right, no 'flip_pairs'): "
    "mirroring an image swaps no keypoints",
    left_out=False,
)
NO_PARTNER = Kind(
    "keypoints on one side without a partner on the other: mirrored images teach the wrong side "
    "(name both sides alike, or give 'flip_pairs')",
    left_out=False,
    doubtful=True,
)
BAD_PICTURE = Kind(
    "images that cannot be read or differ in size from the annotations, with the people on them",
    left_out=True,
)
NO_PICTURE = Kind("images that are missing, with the people on them", left_out=True)
SOURCE_CHANGED = Kind(
    "sets of records whose source has changed since they were prepared (prepare them again)",
    left_out=False,
    doubtful=True,
)
NO_LABEL_FILE = Kind("images without a label file, taken to show nobody", left_out=False)
LABELS_WITHOUT_IMAGE = Kind("label files without an image", left_out=True)
NUMBERED_KEYPOINTS = Kind(
    "data sets whose keypoints have no names (kpt_names) and are numbered", left_out=False
)
ASSUMED_COCO = Kind(
    "data sets whose keypoints have no names (kpt_names) but COCO's number and flip_idx, and get "
    "COCO's names",
    left_out=False,
)
WHOLE_BODY = Kind(
    "categories with COCO-WholeBody's fields for feet, face and hands: all 133 keypoints are read "
    "(without these fields, the body's 17)",
    left_out=False,
)
BAD_LIMBS = Kind("limbs that do not join two keypoints and are not drawn", left_out=False)


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        kind: what was found.
        where: the annotation, file or field concerned.
        annotation: the annotation itself, to show it.
    """

    kind: Kind
    where: str
    annotation: Any = field(default=None, repr=False, compare=False)


@dataclass
class Report:
    """All findings of one file.

    Attributes:
        source: the file.
        num_annotations: annotations in the file.
        num_images: images in the file.
        num_used: annotations that are used.
        findings: in the file's order.
    """

    source: str
    num_annotations: int
    num_images: int
    num_used: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: Kind, where: str, annotation: Any = None) -> None:
        """Add one finding."""
        self.findings.append(Finding(kind, where, annotation))

    def by_kind(self) -> dict[Kind, list[str]]:
        """Where each kind was found."""
        places: dict[Kind, list[str]] = {}
        for finding in self.findings:
            places.setdefault(finding.kind, []).append(finding.where)
        return places

    def count(self, kind: Kind) -> int:
        """How many findings of a kind there are."""
        return len(self.by_kind().get(kind, ()))

    @property
    def costs(self) -> bool:
        """Whether any finding `costs`: useful data are lost, or wrong data may be kept."""
        return any(kind.costs for kind in self.by_kind())

    @property
    def is_unusual(self) -> bool:
        """Whether anything was found that COCO's own files do not have."""
        return any(not kind.usual for kind in self.by_kind())

    def summary(self) -> str:
        """The report in a few lines, with examples of what is unusual."""
        lines = [
            f"{self.source}: {self.num_used} of {self.num_annotations} annotations "
            f"on {self.num_images} images are used."
        ]
        for verb, left_out in (("left out", True), ("kept", False)):
            for kind, where in self.by_kind().items():
                if kind.left_out == left_out:
                    example = "" if kind.usual else f", for instance {'; '.join(where[:3])}"
                    lines.append(f"  {verb}: {len(where)} {kind.words}{example}")
        return "\n".join(lines)

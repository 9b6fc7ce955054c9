"""What reading an annotation file finds: values that can be counted and told in words."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        words: completes "<count> ...".
        left_out: whether the annotations concerned are left out.
        usual: whether COCO's own files have it.
    """

    words: str
    left_out: bool = False
    usual: bool = False


CROWD = Kind("crowd regions", left_out=True, usual=True)
UNLABELLED = Kind("people without a labelled keypoint", left_out=True, usual=True)
OTHER_CATEGORY = Kind("annotations of other categories", left_out=True, usual=True)
OFF_IMAGE = Kind("boxes that are empty or off their image", left_out=True)
MALFORMED = Kind("malformed annotations", left_out=True)
REPEATED_ID = Kind("annotations whose id was used before", left_out=True)
POINTS_OFF_BOX = Kind("people with no labelled keypoint anywhere near their box", left_out=True)
WRONG_COUNT = Kind("annotations whose num_keypoints contradicts their visibility flags")
POINTS_OFF_IMAGE = Kind("people with a labelled keypoint outside the image")
NO_AREA = Kind(
    "people without an area, for whom their box's is taken (objects' are about half of it)"
)
SAME_PERSON = Kind("annotations that repeat another one's keypoints on the same image")
NO_FLIP_PAIRS = Kind(
    "categories without left-right pairs (no names that differ in left/right, no 'flip_pairs'): "
    "mirrored images keep every keypoint's name"
)


@dataclass(frozen=True)
class Finding:
    """One finding, and the annotation or field it concerns."""

    kind: Kind
    where: str


@dataclass
class Report:
    """All findings of one file.

    Attributes:
        source: the file.
        num_annotations: all that are in it.
        num_used: those that people are made of.
        num_images: images in it.
        findings: in the order of the file.
    """

    source: str
    num_annotations: int
    num_images: int
    num_used: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: Kind, where: str) -> None:
        """Note one finding."""
        self.findings.append(Finding(kind, where))

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
    def is_unusual(self) -> bool:
        """Whether there is anything that COCO's own files do not have."""
        return any(not kind.usual for kind in self.by_kind())

    def summary(self) -> str:
        """The report on a few lines, with examples of what is unusual."""
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

"""How much of a data set may be unusable before all of it is refused."""

MAX_BAD_SHARE = 0.05
"""Above this share of malformed annotations, or of unreadable images, a data set is refused."""

FEW = 2
"""So many are skipped however small the data set is, unless the share is 0."""


def too_many(bad: int, total: int, max_share: float) -> bool:
    """Whether so many bad ones of `total` are more than a share of it (0 to 1); all are always."""
    tolerated = max(max_share * total, FEW if max_share else 0)
    return bad > tolerated or 0 < total <= bad

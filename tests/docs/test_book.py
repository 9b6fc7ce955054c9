"""The book: every page is in its contents, and the reference has every public name."""

import re
from pathlib import Path

import vitpose_jax

DOCS = Path(__file__).parents[2] / "docs"


def test_every_page_is_in_the_contents() -> None:
    patterns = re.findall(r"^([a-z_*\[\]]+)$", (DOCS / "index.md").read_text(), flags=re.M)
    listed = [page.stem for pattern in patterns for page in DOCS.glob(f"{pattern}.md")]
    assert sorted([*listed, "index"]) == sorted(page.stem for page in DOCS.glob("*.md"))
    assert all("*" in pattern or (DOCS / f"{pattern}.md").exists() for pattern in patterns)


def test_every_public_name_is_in_the_reference() -> None:
    named = re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", (DOCS / "api.md").read_text(), flags=re.M)
    assert sorted(named) == sorted(vitpose_jax.__all__)

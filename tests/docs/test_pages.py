"""Every command and snippet of README.md and of the pages in docs/ runs, on tiny models.

The blocks of a page run in order, in the folder `world` (see conftest.py): `bash` line by line,
`python` as one script over all blocks of the page (or as a doctest, if it starts with >>>). Blocks
in other languages are only shown. One that cannot run here has a line above it:
`<!-- not run: REASON -->`.
"""

import doctest
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(<!-- not run: (?P<reason>.+?) -->\n+)?^```(?P<language>\w+)\n(?P<text>.*?)^```", re.S | re.M
)
READERS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}
NAMES = [str(page.relative_to(REPOSITORY)) for page in PAGES]
QUICK = ("README.md", "docs/start.md", "docs/weights.md")
"""Pages that run with all tests; the others run with `-m slow`, as .ci/run does."""


MARKED = [
    pytest.param(page, id=name, marks=() if name in QUICK else pytest.mark.slow)
    for page, name in zip(PAGES, NAMES, strict=True)
]


def blocks(page: Path) -> list[re.Match]:
    return [block for block in BLOCK.finditer(page.read_text()) if not block["reason"]]


@pytest.mark.parametrize("page", MARKED)
def test_every_block_runs(page: Path, run_line: Callable[[str], None]) -> None:
    names: dict[str, object] = {"__name__": "__page__"}
    for block in blocks(page):
        text, language = block["text"], block["language"]
        if language == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                run_line(line)
        elif language == "python" and text.startswith(">>>"):
            example = doctest.DocTestParser().get_doctest(text, names, page.name, None, None)
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            assert runner.run(example, clear_globs=False).failed == 0
            names |= example.globs
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif language in READERS:
            assert READERS[language](text)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if not re.match(r"\w+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"

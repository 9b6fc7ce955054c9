"""The pages on poses and models: their tables are those of the code."""

import re
from pathlib import Path

import pytest

from docs import models_page
from vitpose_jax.cli import main

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.S)


def test_the_options_of_the_table_exist(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["predict", "--help"])
    told = capsys.readouterr().out
    rows = re.findall(r"^\| `(--[\w-]+)", (DOCS / "poses.md").read_text(), flags=re.M)
    assert rows
    assert [option for option in rows if option not in told] == []


def test_the_table_of_models_is_that_of_the_code() -> None:
    assert (DOCS / "models.md").read_text() == models_page.page()


def test_ours_is_the_shortest_way_to_a_picture() -> None:
    """Our row has the numbers of the commands shown, and no other is shorter."""
    text = (DOCS / "compare.md").read_text()
    (commands,) = blocks("compare.md", "bash")
    rows = [
        (int(lines), int(characters))
        for lines, characters in re.findall(r"^\| [^|]+ \| (\d+) \| (\d+) \|", text, flags=re.M)
    ]
    assert rows[0] == (len(commands.splitlines()), len(commands))
    assert len(rows) == 5
    assert rows[0] == (min(lines for lines, _ in rows), min(count for _, count in rows))

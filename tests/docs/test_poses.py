"""The pages on poses and models: commands and snippets run, tables are those of the code."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs import models_page
from vitpose_jax.cli import main
from vitpose_jax.files.videos import VideoReader, VideoWriter
from vitpose_jax.inference import show

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.S)


@pytest.fixture
def here(tmp_path: Path, default_models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has everything the page names, and a camera that shows the clip."""
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[40:200, 100:180] = 250
    monkeypatch.chdir(tmp_path)
    Image.fromarray(pixels).save("people.jpg")
    Path("photos").mkdir()
    shutil.copy("people.jpg", "photos/a.jpg")
    box = {"file_name": "people.jpg", "bbox": [100, 40, 80, 160]}
    Path("boxes.json").write_text(json.dumps([box]))
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for _ in range(3):
            writer.write(pixels)
    monkeypatch.setattr(show.Window, "__init__", lambda self: None)
    monkeypatch.setattr(show.Window, "is_open", True)
    monkeypatch.setattr(show.Window, "show", lambda *_: None)
    monkeypatch.setattr(show.Window, "close", lambda self: None)
    opened = "vitpose_jax.inference.pipeline._open_video"
    monkeypatch.setattr(opened, lambda source: VideoReader(tmp_path / "clip.mp4"))
    return tmp_path


def test_every_command(here: Path) -> None:
    lines = "".join(blocks("poses.md", "bash")).splitlines()
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "vitpose"
        assert main(words) == 0, line
    assert len(lines) >= 8
    assert (here / "predictions/drawn/people.jpg").exists()
    assert (here / "predictions-2/drawn/clip.mp4").exists()
    assert (here / "clip/keypoints.json").exists()


def test_every_snippet(here: Path) -> None:
    pytest.importorskip("supervision")
    names: dict[str, object] = {}
    for snippet in blocks("poses.md", "python"):
        exec(snippet, names)
    assert (here / "drawn.png").exists()
    assert len(names["keypoints"]) == 1


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

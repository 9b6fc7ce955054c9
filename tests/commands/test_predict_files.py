"""`vitpose predict` on other people's files: nothing is lost, mixed up or overwritten silently."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.cli import main

Run = Callable[..., int]
BOX = [10, 10, 40, 90]


def results(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "out/keypoints.json").read_text())


def picture(path: Path | str) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((120, 160, 3), np.uint8)).save(path, "PNG")
    return path


def test_the_ball_is_never_a_person_without_a_word(
    run: Run, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = shared / "field-cases/boxes_category"
    command = (folder / "pic.jpg", "--boxes", folder / "group.json")
    assert run(*command) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "1 of 'ball' (category_id 1), 1 of 'player' (category_id 2)" in told
    assert run(*command, "--category", "player") == 0
    (result,) = results(tmp_path)
    assert (result["image_id"], result["category_id"]) == (0, 2)
    assert "left out" in capsys.readouterr().out
    assert run(folder / "pic.jpg", "--detector", "none", "--category", "1") == 2
    assert "--category says which boxes of --boxes FILE" in capsys.readouterr().err


def test_results_carry_the_ids_of_the_boxes_file(
    run: Run, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for number in (1, 2, 3):
        picture(tmp_path / f"photos/00000{number}.jpg")
    run(tmp_path / "photos", "--boxes", shared / "field-cases/image_ids/own.json")
    own = {"000001.jpg": 3, "000002.jpg": 1, "000003.jpg": 2}
    assert {r["file_name"]: r["image_id"] for r in results(tmp_path)} == own
    assert "gives another size for 3 picture(s)" in "".join(capsys.readouterr())


def test_boxes_in_other_units_end_with_status_1(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photo, boxes = picture(tmp_path / "a.png"), tmp_path / "b.json"
    boxes.write_text(json.dumps([{"file_name": "a.png", "bbox": [0.1, 0.1, 0.4, 0.8]}]))
    assert run(photo, "--boxes", boxes) == 1
    assert "1 of 1 boxes lie between 0 and 1" in capsys.readouterr().err
    resized = {"images": [{"id": 1, "file_name": "a.png", "width": 320, "height": 240}]}
    resized["annotations"] = [{"image_id": 1, "bbox": BOX}]
    boxes.write_text(json.dumps(resized))
    assert run(photo, "--boxes", boxes) == 1
    assert "a.png would be 320x240, but is 160x120" in capsys.readouterr().err


def test_no_input_is_written_to(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    photo = picture("out/drawn/a.png")
    before = photo.read_bytes()
    assert run("out/drawn", "--detector", "none", "--draw") == 2
    assert "drawn/a.png: would be written, but is the input" in capsys.readouterr().err
    boxes = Path("out/keypoints.json")
    boxes.write_text(json.dumps([{"file_name": "a.png", "bbox": BOX}]))
    assert run("out/drawn", "--boxes", boxes) == 2
    assert "keypoints.json: would be written, but is the input" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_drawn_pictures_are_told_apart(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "p"
    for name in ("a.bmp", "a.bmp.jpg", "x.jpg"):
        picture(folder / name)
    (tmp_path / "out/drawn/x.jpg").mkdir(parents=True)
    assert run(folder, "--detector", "none", "--draw") == 0
    drawn = {path.name for path in (tmp_path / "out/drawn").iterdir() if path.is_file()}
    assert drawn == {"a.bmp-2.jpg", "a.bmp.jpg", "x-2.jpg"}
    assert "2 drawn under another name, such as x.jpg as x-2.jpg" in capsys.readouterr().out


def test_names_that_are_no_text(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Bytes that are not UTF-8, and commands to the terminal, are neither printed nor written."""
    photos = tmp_path / "photos"
    picture(photos / "caf\udce9.png")
    picture(photos / "\x1b[31mred\n.png").write_bytes(b"no picture")
    assert run(photos, "--detector", "none", "--draw") == 1
    said, told = capsys.readouterr()
    assert "\x1b" not in said + told
    assert r"\x1b[31mred\x0a.png: is not a picture" in told
    (result,) = results(tmp_path)
    assert result["file_name"] == r"caf\xe9.png"
    assert os.fsencode(tmp_path / "out/drawn/caf\udce9.png").endswith(b"caf\xe9.png")
    assert (tmp_path / "out/drawn/caf\udce9.png").exists()
    again = (tmp_path / "out/keypoints.json").rename(tmp_path / "again.json")
    assert run(photos / "caf\udce9.png", "--boxes", again) == 0
    assert [r["file_name"] for r in results(tmp_path)] == [r"caf\xe9.png"]
    assert run(tmp_path / "\x1b[31mred.png", "--detector", "none") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_scores_beyond_every_number_are_no_warning(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    boxes = tmp_path / "b.json"
    entries = [{"file_name": "a.png", "bbox": BOX, "score": score} for score in (1e308, -1e308)]
    boxes.write_text(json.dumps(entries))
    assert run(picture(tmp_path / "a.png"), "--boxes", boxes, "--nms", "--draw", "--heatmaps") == 0
    assert capsys.readouterr().err == ""
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]


def test_a_terminated_run_keeps_what_it_has(weights: Path, tmp_path: Path) -> None:
    """SIGTERM: status 143, and the results so far."""
    for number in range(400):
        picture(tmp_path / f"photos/{number:03d}.png")
    options = ["--weights", weights, "--num-heads", 3, "--out", tmp_path / "out"]
    command = ["predict", tmp_path / "photos", "--detector", "none", "--draw", *options]
    program = (
        f"import sys; from vitpose_jax.cli import main; sys.exit(main({[*map(str, command)]}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/drawn/*.png")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert 0 < len(results(tmp_path)) < 400
    assert f"stopped after {len(results(tmp_path))} images; their results are in" in told


def test_bad_words_are_refused_by_name(capsys: pytest.CaptureFixture) -> None:
    assert main(["predict", "\x1bgone.jpg", "--weights", "w"]) == 2
    assert r"\x1bgone.jpg: no such file" in capsys.readouterr().err

"""`vitpose predict --resume`: a run that was stopped anywhere ends like one that was not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitpose_jax.files.videos import VideoWriter
from vitpose_jax.inference.journal import JOURNAL_FILE, read_journal

Run = Callable[..., int]
OUT = ("keypoints.json", "keypoints.jsonl", "keypoints.csv")
FORMATS = ("--format", "json", "--format", "jsonl", "--format", "csv")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Eleven small pictures, a damaged one, and two videos."""
    folder, random = tmp_path / "inputs", np.random.default_rng(0)
    folder.mkdir()
    for number in range(11):
        pixels = random.integers(0, 255, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (folder / "05b.jpg").write_bytes(b"no picture")
    for name in ("v.mp4", "w.mp4"):
        with VideoWriter(folder / name, 10) as writer:
            for _ in range(4):
                writer.write(random.integers(0, 255, (64, 64, 3), np.uint8))
    return folder


@pytest.fixture
def boxes(inputs: Path) -> Path:
    """Nought to four boxes a picture, two a frame."""
    names = sorted(path.name for path in inputs.iterdir())
    entries = [
        {"file_name": name, "bbox": [5 + 3 * i, 4, 30, 40]}
        for number, name in enumerate(names[:-2])
        for i in range(number * 7 % 5)
    ]
    entries += [
        {"file_name": name, "frame": frame, "bbox": [5 + 20 * i, 4, 15, 40]}
        for name in names[-2:]
        for frame in range(4)
        for i in range(2)
    ]
    path = inputs.parent / "boxes.json"
    path.write_text(json.dumps(entries))
    return path


def files(out: Path) -> dict[str, bytes]:
    """Everything a run has written; of videos, whose encoder uses threads, only that they exist."""
    return {
        str(path.relative_to(out)): b"" if path.suffix == ".mp4" else path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def test_from_every_place(run: Run, inputs: Path, boxes: Path, tmp_path: Path) -> None:
    """The journal is cut at every entry and in the middle of lines; nothing else is left."""
    command = (inputs, "--boxes", boxes, "--draw", *FORMATS)
    out = tmp_path / "out"
    assert run(*command) == 1
    whole = files(out)
    assert len(json.loads(whole["keypoints.json"])) == 20 + 16
    assert len([name for name in whole if name.startswith("drawn/")]) == 11 + 2
    journal = whole[JOURNAL_FILE]
    ends = [entry.after for entry in read_journal(out / JOURNAL_FILE)[1]]
    for cut in (60, ends[8], ends[-3] + 70):
        shutil.rmtree(out)
        (out / "drawn").mkdir(parents=True)
        (out / JOURNAL_FILE).write_bytes(journal[:cut])
        (out / "drawn/.part-1-00.png").write_bytes(b"half a picture")
        assert run(*command, "--resume") == 1
        found = files(out)
        assert not [name for name in found if ".part-" in name]
        assert {name: found[name] for name in (JOURNAL_FILE, *OUT)} == {
            name: whole[name] for name in (JOURNAL_FILE, *OUT)
        }


def test_boxes_in_other_units_are_told_after_a_resume(
    run: Run, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """What is wrong with the boxes as a whole is seen from those of both runs."""
    boxes = tmp_path / "unit.json"
    rows = [{"file_name": f"{number:02d}.png", "bbox": [0.1, 0.1, 0.8, 0.8]} for number in range(9)]
    boxes.write_text(json.dumps(rows))
    assert run(inputs, "--boxes", boxes) == 1
    said = capsys.readouterr().err
    assert "9 of 9 boxes lie between 0 and 1" in said
    journal = tmp_path / "out" / JOURNAL_FILE
    ends = [entry.after for entry in read_journal(journal)[1] if entry.head.get("restart")]
    os.truncate(journal, ends[-4])
    assert run(inputs, "--boxes", boxes, "--resume") == 1
    resumed, told = capsys.readouterr().err.split("\n", 1)
    assert resumed.startswith("resuming: ")
    assert told == said


def test_a_stopped_run_says_how_to_go_on(
    run: Run,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    from vitpose_jax.inference import results

    command = (inputs, "--detector", "none", "--draw")
    assert run(*command) == 1
    whole = files(tmp_path / "out")
    said = capsys.readouterr().err
    original, taken = results.coco_result, []

    def interrupt(*arguments: object) -> dict:
        taken.append(1)
        if len(taken) == 14:
            raise KeyboardInterrupt
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(results, "coco_result", interrupt)
        assert run(*command) == 130
    found = json.loads((tmp_path / "out/keypoints.json").read_text())
    assert len(found) == 13
    told = capsys.readouterr().err
    assert "stopped after 13 images; their results are in" in told
    assert "--resume goes on" in told
    assert run(inputs, "--detector", "none", "--draw", "--resume", "--smooth") == 2
    assert "the earlier run differs in --smooth (false, now true)" in capsys.readouterr().err
    (inputs / "10.png").rename(inputs / "11.png")
    assert run(*command, "--resume") == 2
    assert "differs in digest of the inputs" in capsys.readouterr().err
    (inputs / "11.png").rename(inputs / "10.png")
    assert run(*command, "--resume") == 1
    assert capsys.readouterr().err == "resuming: 2 of 14 inputs are left\n" + said
    assert files(tmp_path / "out") == whole
    assert run(*command, "--resume", "--format", "csv") == 1  # another format, nothing computed
    assert len((tmp_path / "out/keypoints.csv").read_text().splitlines()) == 1 + 19


def test_earlier_results_are_not_overwritten_silently(
    weights: Path, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from vitpose_jax.cli import main

    command = ["predict", inputs / "00.png", "--detector", "none", "--weights", weights]
    words = [str(word) for word in [*command, "--num-heads", 3, "--out", tmp_path / "out"]]
    assert main([*words, "--resume"]) == 0  # nothing to go on with: from the start
    before = files(tmp_path / "out")
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--resume" in told
    assert "--overwrite" in told
    assert files(tmp_path / "out") == before
    (tmp_path / "out" / JOURNAL_FILE).unlink()
    for more in ([], ["--resume"]):
        assert main([*words, *more]) == 2
        assert "keypoints.json: is there already" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--format", "csv"]) == 0
    assert [*files(tmp_path / "out")] == ["drawn/00.png", "keypoints.csv", JOURNAL_FILE]


def predict(*words: object) -> subprocess.Popen:
    """The command as a process of its own, which writes down a few pictures at a time."""
    program = (
        "import sys; from vitpose_jax.cli import main; from vitpose_jax.inference import sinks; "
        "sinks.SETTLE_SECONDS = 0.05; sys.exit(main(['predict', *sys.argv[1:]]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True
    )


def test_kill_9(weights: Path, tmp_path: Path) -> None:
    """Names of one file are pictures of their own."""
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    for number in range(150):
        if number < 5:
            Image.fromarray(pixels[:, number:]).save(folder / f"{number}.png")
        else:
            os.link(folder / f"{number % 5}.png", folder / f"{number}.png")
    options = ["--weights", weights, "--num-heads", 3, "--detector", "none", "--draw"]
    command = [folder, *options, "--no-flip-test", "--input-size", "64x48", "--resume"]
    journal = out / JOURNAL_FILE
    process, deadline = predict(*command, "--out", out), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size > 30_000:
            break
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "keypoints.json").exists()
    process = predict(*command, "--out", out)
    assert "resuming: " in process.communicate(timeout=300)[1]
    assert process.returncode == 0
    assert predict(*command, "--out", tmp_path / "whole").wait(timeout=300) == 0
    assert files(out) == files(tmp_path / "whole")
    found = json.loads((out / "keypoints.json").read_text())
    assert [entry["image_id"] for entry in found] == sorted(range(150), key=str)

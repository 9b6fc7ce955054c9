"""A short part of the fault campaigns at every run of the tests; more of them on demand."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
QUICK = ("pictures", "videos", "annotations", "yolo", "boxes", "results", "journal", "3dpw")


def campaign(state: Path, name: str, *options: str) -> str:
    """Run a campaign; what it prints."""
    command = [sys.executable, "-m", f"tests.faults.{name}", "--state", str(state), *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


def test_some_damaged_inputs_of_the_quick_kinds(tmp_path: Path) -> None:
    options = ("--inputs", "80", "--seed", "100", "--show", "--kinds", *QUICK)
    assert "| all | 8" in campaign(tmp_path / "a.jsonl", "campaign", *options)


@pytest.mark.slow
def test_more_damaged_inputs(tmp_path: Path) -> None:
    for seed in ("101", "102"):
        campaign(tmp_path / "a.jsonl", "campaign", "--inputs", "200", "--seed", seed, "--show")
    state = tmp_path / "a.jsonl"
    lines = state.read_text().splitlines()
    campaign(state, "campaign", "--inputs", "200", "--seed", "102")
    assert state.read_text().splitlines() == lines, "what was done is not done again"


@pytest.mark.slow
def test_some_kills(tmp_path: Path) -> None:
    assert "| 0 |" in campaign(tmp_path / "k.jsonl", "kills", "--kills", "9", "--seed", "100")


def test_a_judge_who_sees(tmp_path: Path) -> None:
    """Every bad ending is called what it is, or the campaign would prove nothing."""
    code = """
import os, sys, time
from pathlib import Path
import tests.faults.judge as judge
judge.MOST_SECONDS, judge.MOST_BYTES = 1.0, 3 * 10**8
def act(folder):
    name = folder.name
    if name == "traceback": raise KeyError("x")
    if name == "hang":
        while True: pass
    if name == "memory": bytearray(5 * 10**8); time.sleep(1)
    if name == "crash": os.abort()
    if name == "noise": os.write(2, b"Corrupt JPEG data: 3 bytes\\n")
    return (1 if name == "1" else 0), name
names = ["0", "traceback", "hang", "1", "memory", "crash", "noise", "0"]
folders = [Path(sys.argv[1], str(i), name) for i, name in enumerate(names)]
for folder in folders: folder.mkdir(parents=True)
found = [ending.how for ending in judge.run_all(act, folders)]
assert found == names, found
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True)

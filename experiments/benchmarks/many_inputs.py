"""A long run killed at nine tenths and resumed: memory, and whether each picture is done once.

    python experiments/benchmarks/many_inputs.py --weights SMALL_MODEL [--inputs 100000]

Links to ten pictures stand for many. `vitpose predict` runs in processes of its own: over 2,000
inputs; over all of them until `kill -9` at nine tenths; and again with `--resume`. At the end every
input must have exactly one line, equal to that of the other links to its picture.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from harness import keep, table

FEW = 2000
PICTURES = 10
KILL_AT = 0.9


def make_inputs(folder: Path, count: int) -> Path:
    """A folder of links to ten pictures of noise."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(PICTURES):
        noise = random.integers(0, 255, (120, 160, 3), dtype=np.uint8)
        cv2.imwrite(str(folder.parent / f"picture{index}.jpg"), noise)
    for index in range(count):
        (folder / f"{index:06d}.jpg").symlink_to(f"../picture{index % PICTURES}.jpg")
    return folder


def predict(inputs: Path, out: Path, weights: str, *options: str) -> subprocess.Popen[bytes]:
    """Start the command on a folder; each picture is taken as one person."""
    command = [sys.executable, "-m", "vitpose_jax.cli", "predict", str(inputs), "--out", str(out)]
    command += ["--weights", weights, "--detector", "none", "--no-draw", "--format", "jsonl"]
    command += ["--no-flip-test", "--input-size", "64x48"]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)


def peak(process: subprocess.Popen[bytes], expected: int) -> float:
    """Wait for a process to end with a status; its peak memory in MB."""
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) != expected:
        raise SystemExit(f"ended with {os.waitstatus_to_exitcode(status)}, not {expected}")
    return usage.ru_maxrss / 1024


def done(out: Path) -> int:
    """The number of pictures in the journal."""
    journal = out / "keypoints.journal"
    return journal.read_bytes().count(b'\n{"image"') if journal.exists() else 0


def check(out: Path, count: int) -> None:
    """Every input has one person, equal to that of the other links to its picture."""
    seen, answers = set[str](), dict[int, Any]()
    with open(out / "keypoints.jsonl") as file:
        for line in file:
            row = json.loads(line)
            name = row.pop("file_name")
            row.pop("image_id", None)
            if name in seen:
                raise SystemExit(f"{name}: done twice")
            seen.add(name)
            if answers.setdefault(int(name[:-4]) % PICTURES, row) != row:
                raise SystemExit(f"{name}: differs from other links to its picture")
    if len(seen) != count:
        raise SystemExit(f"{len(seen)} of {count} inputs have a result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--out", help="results file (results/many_inputs.json)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = peak(
            predict(make_inputs(folder / "few", FEW), folder / "out_few", options.weights), 0
        )
        many, out = make_inputs(folder / "many", options.inputs), folder / "out"
        process = predict(many, out, options.weights)
        while done(out) < KILL_AT * options.inputs:
            time.sleep(2)
        process.send_signal(signal.SIGKILL)
        killed = peak(process, -signal.SIGKILL)
        kept = done(out)
        resumed = peak(predict(many, out, options.weights, "--resume"), 0)
        check(out, options.inputs)
    row = {
        "inputs": options.inputs,
        "done when killed": kept,
        f"peak MB, {FEW} inputs": few,
        "peak MB until killed": killed,
        "peak MB of the rest": resumed,
        "peak over that of few": max(killed, resumed) / few,
    }
    title = "Killed at nine tenths and resumed: every input once, alike links alike"
    keep("many_inputs", {"many": row}, {title: table([row], list(row))}, options.out)


if __name__ == "__main__":
    main()

"""Kills runs at named and at random moments, repeats them, and compares with an undisturbed one.

    python -m tests.faults.kills --kills 50 --seed 0 --table docs/faults.md

Runs train a pose model, train a forecaster, or predict with `--resume`, by their commands. A killed
run is repeated as its user would, without any repair, until it ends; parameters, rows of the log,
pictures and results must then be the undisturbed run's, bit by bit. Kill i of a seed is always the
same, up to the machine's speed. What is done is kept in `--state`; repeat the command to go on.
"""

import argparse
import datetime
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # for tiny_config

from tests.faults.campaign import put_table
from tests.faults.kinds import prepare_process
from tests.faults.sound import pixels, write_video, write_weights

TESTS = Path(__file__).parents[1]


def train_pose(folder: Path) -> int:
    from vitpose_jax.main import main

    changes = {"steps": 8, "eval_every": 4, "checkpoint_every": 2, "batch_size": 8}
    words = [f"--config.{name}={value}" for name, value in changes.items()]
    return main([f"--config={TESTS / 'tiny_config.py'}", f"--workdir={folder / 'run'}", *words])


def train_forecaster(folder: Path) -> int:
    from vitpose_jax.main import main

    changes = {"steps": 8, "eval_every": 4, "checkpoint_every": 2, "batch_size": 8, "stride": 50}
    changes |= {"model.width": 16, "model.num_heads": 2, "model.readout_width": 32}
    changes |= {"model.readout_depth": 1, "log_every": 1, "schedule.warmup_steps": 2}
    words = [f"--config.{name}={value}" for name, value in {**changes, "eval.stride": 40}.items()]
    return main(["--config=forecast_3dpw:synthetic", f"--workdir={folder / 'run'}", *words])


def predict(folder: Path) -> int:
    from vitpose_jax.cli import main

    place = folder.parent / "inputs"
    words = [str(place), "--weights", str(folder.parent / "weights" / "w"), "--detector", "none"]
    words += ["--batch-size", "2", "--draw", "--out", str(folder / "out"), "--resume"]
    return main(["predict", *words])


Moment = tuple[str, int, bool]
"""module.Owner.function, which call of it, and whether it is killed after that or before."""

_TRAINING: tuple[Moment, ...] = (
    ("training.run_lock.RunLock._take", 1, True),
    ("training.workdir..claim", 1, True),
    ("training.workdir..write_json", 2, False),
    ("training.checkpoints.Checkpoints.save", 2, True),
    ("training.checkpoints..write_checksums", 1, False),
    ("training.checkpoints..write_checksums", 2, True),
    ("training.metrics_log.MetricsLog.write", 4, False),
    ("training.metrics_log.MetricsLog.write", 5, True),
    ("training.checkpoints.Checkpoints.rate", 1, False),
    ("training.checkpoints.Checkpoints.rate", 1, True),
    ("training.curves..draw_curves", 1, False),
    ("training.curves..draw_curves", 1, True),
)
_PREDICTION: tuple[Moment, ...] = (
    ("inference.journal.Journal.write", 1, False),
    ("inference.journal.Journal.write", 2, True),
    ("inference.journal.Journal.write", 4, False),
    ("inference.journal.Journal.write", 7, True),
    ("commands.people..make_results", 1, False),
    ("commands.people..make_results", 1, True),
)


@dataclass(frozen=True)
class Work:
    """A command, what it leaves, and the moments at which it is killed."""

    act: Callable[[Path], int]
    moments: tuple[Moment, ...]
    out: str


WORKS = {
    "pose training": Work(train_pose, _TRAINING, "run"),
    "forecaster training": Work(train_forecaster, _TRAINING, "run"),
    "predict --resume": Work(predict, _PREDICTION, "out"),
}


def start(work: Work, folder: Path, moment: Moment | None = None) -> int:
    """Start the work in a process of its own; gives its number."""
    child = os.fork()
    if child:
        return child
    status = 99
    try:
        os.setsid()
        text = os.open(folder / "printed.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(text, 1)
        os.dup2(text, 2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1) for n in (1, 2))
        if moment:
            _arm(*moment)
        status = work.act(folder)
    finally:
        os._exit(status)


def _arm(where: str, call: int, after: bool) -> None:
    """End this process by `kill -9` at a call of a function."""
    module, owner, name = where.rsplit(".", 2)
    holder = importlib.import_module(f"vitpose_jax.{module}")
    holder = getattr(holder, owner) if owner else holder
    original, calls = getattr(holder, name), []

    def killed(*arguments: object, **named: object) -> object:
        calls.append(1)
        if len(calls) == call and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments, **named)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(holder, name, killed)


def finish(process: int) -> int:
    """Wait for its end: the exit status, or a signal's number with a minus."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def outcome(folder: Path) -> dict[str, str]:
    """What a finished work left, by name; hashes of what a user has of it."""
    found = {}
    if (folder / "run").is_dir():
        from vitpose_jax.training.checkpoints import read_parameters
        from vitpose_jax.training.metrics_log import read_metrics

        step, arrays = read_parameters(folder / "run" / "checkpoints", "latest")
        for name, array in arrays.items():
            found[f"{step} {name}"] = hashlib.sha256(array.tobytes()).hexdigest()
        rows = read_metrics(folder / "run")
        for index, row in enumerate(rows):
            kept = {key: value for key, value in row.items() if key != "train/per_second"}
            found[f"row {index}"] = json.dumps(kept)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        pictured = path.suffix in (".jpg", ".png", ".mp4") and path.name != "curves.png"
        if pictured or path.name == "keypoints.json":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _away(process: Callable[[], dict[str, str]], report: Path) -> dict[str, str]:
    """Do it in a process of its own, so that this one stays free of JAX's threads."""
    child = os.fork()
    if not child:
        try:
            report.write_text(json.dumps(process()))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return json.loads(report.read_text())


def kill_once(
    name: str, place: Path, index: int, seed: int, seconds: float, right: dict[str, str]
) -> dict[str, object]:
    """One kill of one work; the row of the table."""
    work, rng = WORKS[name], np.random.default_rng([seed, index])
    folder = place / f"{name.split()[0]}-{seed}-{index}"
    folder.mkdir()
    moment = work.moments[(index // 2) % len(work.moments)] if index % 2 == 0 else None
    process = start(work, folder, moment)
    if moment is None:
        until = time.monotonic() + rng.uniform(0.02, 0.95) * seconds
        while time.monotonic() < until and not os.waitid(
            os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT
        ):
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
    was_killed = finish(process) == -signal.SIGKILL
    status = finish(start(work, folder))
    found = _away(lambda: outcome(folder), folder / "outcome.json") if status == 0 else {}
    differing = sorted(k for k in right.keys() | found.keys() if right.get(k) != found.get(k))
    label = (
        "{}, call {}, {}".format(*moment[:2], "after" if moment[2] else "before") if moment else ""
    )
    text = (folder / "printed.txt").read_text(errors="replace")
    row: dict[str, object] = {"work": name, "seed": seed, "index": index, "killed": was_killed}
    row |= {"moment": label or "random", "status": status, "differing": differing[:5]}
    return row | {"same": status == 0 and not differing, "traceback": "Traceback" in text}


def table(rows: list[dict]) -> str:
    """The counts as Markdown."""
    lines = [
        f"{sum(row['killed'] for row in rows)} kills; {datetime.date.today()}.",
        "",
        "| work | killed at named moments | killed at random ones | ended the same | differing |",
        "|---|---|---|---|---|",
    ]
    for name in WORKS:
        mine = [row for row in rows if row["work"] == name and row["killed"]]
        named = sum(row["moment"] != "random" for row in mine)
        same = sum(row["same"] for row in mine)
        lines.append(f"| {name} | {named} | {len(mine) - named} | {same} | {len(mine) - same} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the campaign; the exit status is 1 if any run ended in another way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--kills", type=int, default=50)
    add("--seed", type=int, default=0)
    add("--works", nargs="+", default=list(WORKS), choices=list(WORKS))
    add("--state", type=Path, default=Path(tempfile.gettempdir()) / "kills.jsonl")
    add("--table", type=Path)
    options = parser.parse_args()
    rows = []
    if options.state.exists():
        rows = [json.loads(line) for line in options.state.read_text().splitlines()]
    done = {(row["work"], row["seed"], row["index"]) for row in rows}
    with tempfile.TemporaryDirectory() as name, options.state.open("a") as state:
        place = Path(name)
        os.environ["XDG_CACHE_HOME"] = str(place / "cache")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(place / "cache" / "jax")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # every run compiles alike
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
        prepare_process()
        (place / "weights").mkdir()
        (place / "inputs").mkdir()
        _away(lambda: _inputs(place), place / "inputs.json")
        truth: dict[str, tuple[float, dict[str, str]]] = {}
        for number in range(options.kills):
            work, index = options.works[number % len(options.works)], number // len(options.works)
            if (work, options.seed, index) in done:
                continue
            if work not in truth:
                truth[work] = _undisturbed(work, place)
            row = kill_once(work, place, index, options.seed, *truth[work])
            rows.append(row)
            print(json.dumps(row), file=state, flush=True)
            if not row["same"] or row["traceback"]:
                print(json.dumps(row), file=sys.stderr)
    if options.table:
        put_table(options.table, "kills", table(rows))
    print(table(rows))
    return int(not all(row["same"] and not row["traceback"] for row in rows))


def _undisturbed(work: str, place: Path) -> tuple[float, dict[str, str]]:
    """Seconds and outcome of a run that nothing happens to; the first one fills caches."""
    for attempt in ("first", "second"):
        folder = place / f"undisturbed-{work.split()[0]}-{attempt}"
        folder.mkdir()
        started = time.monotonic()
        status = finish(start(WORKS[work], folder))
        assert status == 0, (folder / "printed.txt").read_text()
    return time.monotonic() - started, _away(lambda: outcome(folder), folder / "outcome.json")


def _inputs(place: Path) -> dict[str, str]:
    from PIL import Image

    write_weights(place / "weights")
    for index in range(8):
        Image.fromarray(pixels(index)).save(place / "inputs" / f"{index}.png")
    write_video(place / "inputs", 0)
    return {}


if __name__ == "__main__":
    sys.exit(main())

"""Runs that something happens to: other processes, kills, damaged files, full disks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from regression_run import make_config, make_task, start

from vitpose_jax.errors import UserError
from vitpose_jax.training import loop, workdir
from vitpose_jax.training.checkpoints import read_parameters
from vitpose_jax.training.metrics_log import METRICS_FILE, read_metrics
from vitpose_jax.training.run_lock import LOCK_FILE, RunLock

PAUSE = """
import pathlib, sys, time
from vitpose_jax.training.loop import Run
go_on = Run.go_on
def pause(self, *arguments):
    pathlib.Path(self.folder, "started").touch()
    while not pathlib.Path(self.folder, "go").exists(): time.sleep(0.02)
    return go_on(self, *arguments)
Run.go_on = pause
"""
"""Waits in the running run for a file called `go`."""


def finish(process, status=0):
    """What the process printed; it must end with this status, without a traceback."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, err[-3000:]
    assert "Traceback" not in err
    return out + err


def wait_for(condition, process):
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        time.sleep(0.02)


def test_one_process_trains_in_a_folder_and_its_lock_dies_with_it(tmp_path):
    first = start(tmp_path, before=PAUSE)
    wait_for((tmp_path / "started").exists, first)
    text = finish(start(tmp_path), 2)
    (line,) = text.splitlines()
    assert f"{tmp_path}: another process trains there (pid {first.pid} on " in line
    assert "since 20" in line
    with pytest.raises(UserError, match=f"pid {first.pid} on"):
        loop.train(make_task(), make_config(), tmp_path)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == first.pid
    loop.train(make_task(), make_config(), tmp_path)
    assert json.loads((tmp_path / LOCK_FILE).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("again", [False, True])
def test_a_folder_removed_in_mid_run_is_told_and_is_not_success(tmp_path, again):
    folder = tmp_path / "run"
    process = start(folder, before=PAUSE)
    wait_for((folder / "started").exists, process)
    folder.rename(tmp_path / "away")
    if again:
        shutil.copytree(tmp_path / "away", folder)
        (folder / LOCK_FILE).unlink()
        (folder / LOCK_FILE).write_text("{}")
    (tmp_path / "away" / "go").touch()
    folder.mkdir(exist_ok=True)
    (folder / "go").touch()
    line = finish(process, 2).splitlines()[-1]
    assert f"step 1: {folder} was removed or replaced while this run was writing to it" in line
    assert not (folder / "curves.png").exists()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("vitpose_jax.training.run_lock.fcntl.lockf", refuse)
    with RunLock(tmp_path) as lock:
        lock.check(1)
    assert "cannot be locked (No locks available)" in caplog.text


def test_a_bucket_is_no_folder():
    line = finish(start("gs://bucket/run"), 2).splitlines()[-1]
    assert "--workdir=gs://bucket/run: a run needs a folder" in line


def flip(file, at=0.5):
    data = bytearray(file.read_bytes())
    data[int(at * (len(data) - 1))] ^= 4
    file.write_bytes(data)


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def largest(checkpoint):
    files = [path for path in (checkpoint / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def checkpoint_folder(folder):
    return folder / workdir.CHECKPOINT_FOLDER


def same_end(one, other):
    """Parameters and rows of two finished runs are the same, bit by bit."""
    (step, ours), (there, theirs) = (
        read_parameters(checkpoint_folder(run), "latest") for run in (one, other)
    )
    assert step == there == 30
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert rows(one) == rows(other)
    pictures = [sorted(path.name for path in (run / "pictures").iterdir()) for run in (one, other)]
    assert pictures[0] == pictures[1]


def rows(folder):
    """The rows of the log, without what depends on time."""
    return [
        {name: value for name, value in row.items() if name != "train/per_second"}
        for row in read_metrics(folder)
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    loop.train(make_task(), make_config(), folder)
    return folder


@pytest.mark.parametrize("harm", [flip, cut, lambda file: file.unlink()])
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_gone_on_from(
    undisturbed, tmp_path, harm, caplog
):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    checkpoints = checkpoint_folder(folder)
    before = sorted(int(path.name) for path in checkpoints.iterdir())
    harm(largest(checkpoints / "30"))
    caplog.clear()
    loop.train(make_task(), make_config(), folder)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    assert line.startswith("checkpoint 30 is damaged (state/")
    assert line.endswith(f"was renamed to damaged-30; resuming from step {before[-2]}")
    assert (checkpoints / "damaged-30" / "state").is_dir()
    same_end(undisturbed, folder)


@pytest.mark.parametrize("name", ["checksums.json", "data/data"])
def test_every_file_of_a_checkpoint_counts(undisturbed, tmp_path, name, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    checkpoint = checkpoint_folder(folder) / "30"
    file = checkpoint / name
    cut(file if file.is_file() else next(p for p in file.parent.rglob("*") if p.is_file()))
    loop.train(make_task(), make_config(), folder)
    assert "checkpoint 30 is damaged" in caplog.text
    same_end(undisturbed, folder)


def test_no_sound_checkpoint_is_one_line_and_nothing_is_moved(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    checkpoints = checkpoint_folder(folder)
    names = {path.name for path in checkpoints.iterdir()}
    for checkpoint in checkpoints.iterdir():
        flip(largest(checkpoint))
    with pytest.raises(UserError, match=r"no checkpoint in .* is sound \(30: state/.*changed") as e:
        loop.train(make_task(), make_config(), folder)
    assert "\n" not in str(e.value)
    assert {path.name for path in checkpoints.iterdir()} == names


def test_a_damaged_best_is_refused_with_the_sound_ones_named(undisturbed, tmp_path):
    checkpoints = shutil.copytree(checkpoint_folder(undisturbed), tmp_path / "checkpoints")
    best = read_parameters(checkpoints, "best", "error", maximize=False)[0]
    flip(largest(checkpoints / str(best)))
    (sound,) = [path.name for path in checkpoints.iterdir() if path.name != str(best)]
    with pytest.raises(UserError, match=rf"{best} is damaged \(.*changed.*; sound ones: {sound}$"):
        read_parameters(checkpoints, "best", "error", maximize=False)
    assert read_parameters(checkpoints, sound)[0] == int(sound)


def test_a_checkpoint_of_an_older_version_has_no_checksums(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    for file in checkpoint_folder(folder).glob("*/checksums.json"):
        file.unlink()
    loop.train(make_task(), make_config(), folder)
    same_end(undisturbed, folder)


def test_a_run_without_ratings_keeps_two_checkpoints(tmp_path):
    config = make_config(eval_every=30, steps=20)
    task = make_task(evaluate=lambda model: {"error": float("nan")})
    loop.train(task, config, tmp_path)
    assert sorted(path.name for path in checkpoint_folder(tmp_path).iterdir()) == ["15", "20"]


KILL = """
import importlib, os, signal
module = importlib.import_module("vitpose_jax.training.{module}")
owner = getattr(module, "{owner}", module)
original, calls = owner.{name}, []
def {name}(*arguments, **named):
    calls.append(1)
    die = lambda: os.kill(os.getpid(), signal.SIGKILL)
    if len(calls) == {call} and not {after}: die()
    result = original(*arguments, **named)
    if len(calls) == {call}: die()
    return result
owner.{name} = {name}
"""
"""Ends the process by `kill -9` at a call of a function, before or after what it does."""


MOMENTS = [
    ("checkpoints.Checkpoints.rate", 2, False),  # the evaluation was logged but not kept
    ("curves..save_picture", 2, False),
    ("metrics_log.MetricsLog.write", 22, False),  # step 20's evaluation: rows, and one before it
    ("checkpoints..write_checksums", 3, True),  # a checkpoint that has not got its name yet
]
MORE_MOMENTS = [
    ("checkpoints.Checkpoints.rate", 2, True),
    ("curves..save_picture", 2, True),
    ("metrics_log.MetricsLog.write", 22, True),
    ("metrics_log.MetricsLog.write", 13, False),
    ("checkpoints..write_checksums", 1, False),
    ("checkpoints.Checkpoints.save", 4, True),
    ("workdir..claim", 1, True),
    ("workdir..write_json", 2, False),
    ("run_lock.RunLock._take", 1, True),
    ("curves..draw_curves", 1, False),
    ("curves..draw_curves", 1, True),
]


@pytest.mark.parametrize(
    ("where", "call", "after"),
    MOMENTS + [pytest.param(*moment, marks=pytest.mark.slow) for moment in MORE_MOMENTS],
)
def test_a_run_killed_at_any_moment_loses_and_doubles_nothing(
    undisturbed, tmp_path, where, call, after
):
    module, owner, name = where.split(".")
    before = KILL.format(module=module, owner=owner, name=name, call=call, after=after)
    process = start(tmp_path, before=before)
    process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL
    loop.train(make_task(), make_config(), tmp_path)
    same_end(undisturbed, tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"error": "x"}', b"\xff", b'{"error": 0.1'])
def test_a_damaged_rating_is_read_from_the_log(undisturbed, tmp_path, content, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    checkpoints = checkpoint_folder(folder)
    best = read_parameters(checkpoints, "best", "error", maximize=False)[0]
    kept = checkpoints / str(best) / "metrics" / "metrics"
    before = kept.read_bytes()
    kept.write_bytes(content)
    assert read_parameters(checkpoints, "best", "error", maximize=False)[0] == best
    caplog.clear()
    loop.train(make_task(), make_config(), folder)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    assert line.startswith(str(kept))
    assert line.endswith("read from the log")
    assert kept.read_bytes() == before
    same_end(undisturbed, folder)


def test_a_damaged_rating_that_nothing_else_has_is_made_again(undisturbed, tmp_path, caplog):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (checkpoint_folder(folder) / "30" / "metrics" / "metrics").write_text("{")
    log = folder / METRICS_FILE
    lines = log.read_text().splitlines(keepends=True)
    assert '"eval/error"' in lines[-1]
    log.write_text("".join(lines[:-1]))
    loop.train(make_task(), make_config(), folder)
    assert "it counts as not evaluated" in caplog.text
    same_end(undisturbed, folder)


def test_lines_of_the_log_that_are_no_rows_are_told_and_kept_elsewhere(
    undisturbed, tmp_path, caplog
):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    log = folder / METRICS_FILE
    damage = [b"[]", b"3", b"\xff\xfe", b'{"loss": 1}', b'{"step": "1"}', b'{"step": 1, "a": []}']
    damage += [b'{"step": true}', b"[" * 100_000]
    lines = log.read_bytes().split(b"\n")
    log.write_bytes(b"\n".join([*damage[:4], *lines[:-1], *damage[4:], b'{"step": 3']))
    assert rows(folder) == rows(undisturbed)
    loop.train(make_task(), make_config(), folder)
    (line,) = [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")]
    assert f"{log}: 8 of {len(lines) - 1 + 8} lines are no rows of figures" in line
    assert (folder / "metrics.damaged").read_bytes().split(b"\n")[:-1] == damage
    same_end(undisturbed, folder)


def test_a_log_that_cannot_be_read_is_one_line(undisturbed, tmp_path):
    folder = shutil.copytree(undisturbed, tmp_path / "run")
    (folder / METRICS_FILE).unlink()
    (folder / METRICS_FILE).mkdir()
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read \(Is a directory\)"):
        loop.train(make_task(), make_config(), folder)


FULL = """
import resource
from vitpose_jax.training.checkpoints import Checkpoints
rate = Checkpoints.rate
def fill(self, *arguments):
    rate(self, *arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
Checkpoints.rate = fill
"""
"""After the first evaluation, files cannot grow beyond some bytes."""


@pytest.mark.parametrize("room", [0, 1500])
def test_a_full_disk_is_told_once_at_once_and_once_at_the_end(undisturbed, tmp_path, room):
    lines = finish(start(tmp_path, before=FULL.format(room=room)), 2).splitlines()
    first, missing, last = [line for line in lines if "writt" in line]
    assert "cannot be written (File too large): make room; the run goes on, and its end" in first
    assert "not written: " in missing
    assert "checkpoints (" in missing
    assert missing.endswith(
        f"for File too large; the last good checkpoint is step 10 in {tmp_path}/checkpoints"
    )
    assert "training is done but its last checkpoint could not be written (File too large)" in last
    assert f"step {30} of 30" in lines[lines.index(missing) - 1]
    assert all(type(row["step"]) is int for row in read_metrics(tmp_path))
    loop.train(make_task(), make_config(), tmp_path)
    same_end(undisturbed, tmp_path)


def test_a_row_is_written_whole_or_not_at_all(tmp_path):
    """As much room as a disk has left, then more again."""
    code = """
import resource, sys
from pathlib import Path
from vitpose_jax.training.failures import Failures
from vitpose_jax.training.metrics_log import MetricsLog
log = MetricsLog(Path(sys.argv[1]), Failures())
for step in range(1, 10):
    room = 110 if step < 7 else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
    log.write(step, {"loss": 0.5})
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 4, 7, 8, 9]
    assert len((tmp_path / METRICS_FILE).read_bytes().splitlines()) == 7

"""Runs that something happens to: other processes, kills, damaged files, full disks."""

import json
import os
import shutil
import signal
import time

import pytest
from regression_run import make_config, make_task, start

from vitpose_jax.errors import UserError
from vitpose_jax.training import loop
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

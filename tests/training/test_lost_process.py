"""Several processes of one run, of which one is lost: the others end, with one line."""

import signal
import socket
import time

import pytest
from regression_run import start

LONG = [f"--config.{name}=100000" for name in ("steps", "eval_every", "checkpoint_every")]
LONG.append("--config.batch_size=24")
COUNT = 3

FAILURE = """
import jax
from vitpose_jax.errors import UserError
from vitpose_jax.training.loop import Run
write = Run._write_log
def fail(self, step, values):
    write(self, step, values)
    if step == 20 and jax.process_index() == {index}:
        raise UserError("sample 7 of mine is \\x1b damaged")
Run._write_log = fail
"""


def start_all(folder, before=""):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    join = [f"--coordinator=localhost:{port}", f"--num_processes={COUNT}", *LONG]
    ids = [f"--process_id={index}" for index in range(COUNT)]
    return [start(folder, "--distributed", *join, number, before=before) for number in ids]


def last_words(process):
    """The lines after the last one about a step."""
    _, err = process.communicate(timeout=600)
    lines = err.splitlines()
    steps = [i for i, line in enumerate(lines) if " step " in line or line.startswith("total")]
    return lines[max(steps, default=-1) + 1 :]


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_one_of_several_processes_is_killed(tmp_path, lost):
    processes = start_all(tmp_path)
    while not (tmp_path / "metrics.jsonl").exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    processes[lost].send_signal(signal.SIGKILL)
    for index in {0, 1, 2} - {lost}:
        (line,) = last_words(processes[index])
        assert f"process {lost} of 3 (pid {processes[lost].pid} on " in line
        assert "was lost" in line
        assert "with the same command, to resume from the last checkpoint" in line
        assert processes[index].returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("failing", [2, 0])
def test_one_of_several_processes_fails(tmp_path, failing):
    processes = start_all(tmp_path, FAILURE.format(index=failing))
    for index, process in enumerate(processes):
        (line,) = last_words(process)
        assert process.returncode == 2
        if index == failing:
            assert r"sample 7 of mine is \x1b damaged" in line
        else:
            assert f"process {failing} of 3 (pid {processes[failing].pid} on " in line
            assert "stopped with an error" in line

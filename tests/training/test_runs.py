"""Whole runs through the command line: killed, terminated, spread over processes, disk full."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.training.checkpoints import read_parameters
from vitpose_jax.training.interrupt import Interrupt

CONFIG = Path(__file__).parents[1] / "tiny_config.py"


def start(workdir, *options, devices=1, before="", **kwargs):
    """`python -m vitpose_jax.main` on the tiny configuration, in another process."""
    code = f"{before}\nimport runpy; runpy.run_module('vitpose_jax.main', run_name='__main__')"
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", code, f"--config={CONFIG}", f"--workdir={workdir}", *options]
    return subprocess.Popen(
        command,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def finish(process, status=0):
    out, err = process.communicate(timeout=1500)
    assert process.returncode == status, err[-3000:]
    return out + err


def wait_for(condition, process, seconds=1200):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < until, "the run does not get there"
        time.sleep(0.02)


def rows(workdir):
    file = Path(workdir) / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def losses(workdir):
    found = [(row["step"], row["train/loss"]) for row in rows(workdir) if "train/loss" in row]
    assert [step for step, _ in found] == list(range(1, len(found) + 1)), "a step twice or missing"
    return np.array([loss for _, loss in found])


def latest(workdir):
    folder = Path(workdir) / "checkpoints"
    return max((int(p.name) for p in folder.glob("*") if p.name.isdigit()), default=0)


def parameters(workdir):
    return read_parameters(Path(workdir) / "checkpoints", "latest")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    assert "WARNING" not in finish(start(folder))
    return folder


def same_parameters(one, other):
    (step, ours), (step_there, theirs) = parameters(one), parameters(other)
    assert step == step_there == 20
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_killed_run_ends_with_the_same_parameters(uninterrupted, tmp_path):
    process = start(tmp_path)
    wait_for(lambda: latest(tmp_path) >= 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert latest(tmp_path) < 20, "it was already done"
    assert "resuming from step" in finish(start(tmp_path))
    same_parameters(uninterrupted, tmp_path)
    np.testing.assert_array_equal(losses(tmp_path), losses(uninterrupted))


def test_terminated_run_saves_first(uninterrupted, tmp_path):
    process = start(tmp_path, "--config.checkpoint_every=4")
    wait_for(lambda: len(rows(tmp_path)) >= 5, process)
    process.terminate()
    assert "stopped by a signal at step" in finish(process, 143)
    stopped = latest(tmp_path)
    assert stopped >= 5
    assert len(losses(tmp_path)) in (stopped, stopped - 1)
    finish(start(tmp_path, "--config.checkpoint_every=4"))
    same_parameters(uninterrupted, tmp_path)


def test_ctrl_c_saves_first(uninterrupted, tmp_path):
    process = start(tmp_path)
    wait_for(lambda: len(rows(tmp_path)) >= 5, process)
    process.send_signal(signal.SIGINT)
    text = finish(process, 130)
    assert "stopped; repeat the command to resume from the last checkpoint" in text
    assert "Traceback" not in text
    assert latest(tmp_path) >= 5
    finish(start(tmp_path))
    same_parameters(uninterrupted, tmp_path)


def test_second_ctrl_c_stops_at_once():
    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGINT)
        assert interrupt.requested(1)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_export_prints_one_line(uninterrupted, tmp_path):
    command = [sys.executable, "-m", "vitpose_jax.cli", "export", str(uninterrupted)]
    out = ["--out", str(tmp_path / "weights")]
    done = subprocess.run([*command, *out], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("step ")


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    text = finish(start(tmp_path / "file" / "run"), 2)
    assert "run: the folder cannot be made (Not a directory)" in text
    assert "Traceback" not in text


def test_two_processes_give_the_same_losses(tmp_path):
    # A batch's rows lie in another order on two processes: stochastic depth would hit other people.
    still = "--config.model.backbone.drop_path_rate=0.0"
    alone, together = tmp_path / "alone", tmp_path / "together"
    finish(start(alone, still))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    join = [still, "--distributed", f"--coordinator=localhost:{port}", "--num_processes=2"]
    both = [start(together, *join, f"--process_id={i}", devices=2) for i in range(2)]
    for process in both:
        finish(process)
    np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-5)
    evaluations = [
        [row["eval/PCK_box"] for row in rows(folder) if "eval/PCK_box" in row]
        for folder in (together, alone)
    ]
    assert evaluations[0] == pytest.approx(evaluations[1], abs=2e-3)


def test_folder_of_another_configuration_is_refused(uninterrupted):
    text = finish(start(uninterrupted, "--config.optimizer.lr=0.5"), 2)
    assert "optimizer.lr was 0.003, now 0.5" in text
    assert "Traceback" not in text


def test_batch_that_does_not_divide_is_refused(tmp_path):
    text = finish(start(tmp_path, devices=3), 2)
    assert "batch_size 16 does not divide into 3 device(s)" in text
    assert "multiple of 3" in text


FULL_DISK = """
import resource, threading, time, pathlib
def fill():
    while not pathlib.Path({workdir!r}, 'checkpoints', '4').exists(): time.sleep(0.01)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
threading.Thread(target=fill, daemon=True).start()
"""


def test_full_disk_keeps_the_last_good_checkpoint(uninterrupted, tmp_path):
    # Files may not grow beyond 4 kB from some moment on: every later save fails in the middle.
    text = finish(start(tmp_path, before=FULL_DISK.format(workdir=str(tmp_path))), 2)
    assert "could not be written" in text
    assert 4 <= latest(tmp_path) < 20
    finish(start(tmp_path))
    same_parameters(uninterrupted, tmp_path)

"""The training entry point's own work: reading options, and one-line errors."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parent.parent / "configs"
QUICKSTART = f"--config={CONFIGS / 'quickstart.py'}"


def run_main(*options):
    command = [sys.executable, "-m", "vitpose_jax.main", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_missing_data_is_one_line(tmp_path):
    config = f"--config={CONFIGS / 'lspet_small.py'}:{tmp_path / 'nothing'}"
    done = run_main(config, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "there is no data set at" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config=configs/nope.py"], "No such file or directory: 'configs/nope.py'"),
        (["--config=configs/nope.py", "--config.loss=mse"], "directory: 'configs/nope.py'"),
        ([QUICKSTART, "--config.nope=3"], "--config.nope=3: the configuration has no such value"),
        ([QUICKSTART, "--config.optimizer.lrr=3"], 'Did you mean "lr" instead of "lrr"?'),
        ([QUICKSTART, "--config.model.neck.kind=simple"], 'field "neck" is None'),
        ([QUICKSTART, "--config.dtype=float99"], "config.dtype is 'float99'; choose one of float"),
        ([QUICKSTART, "--config.eval.decode=foo"], "config.eval.decode is 'foo'; choose one of u"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(tmp_path, options, words):
    done = run_main(*options, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


def test_a_bug_in_a_configuration_file_keeps_its_traceback(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("import ml_collections\ndef get_config():\n  ml_collections.ConfigDict().x\n")
    done = run_main(f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert "mine.py" in done.stderr
    assert "Traceback" in done.stderr


def test_every_configuration_takes_its_data_set():
    import importlib.util

    for file in sorted(CONFIGS.glob("[a-z]*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert "--config=configs/" in module.__doc__, file
        config = module.get_config("some/folder")
        assert config.data == "some/folder", file
        assert config.get("task") in ("pose", "forecast"), file
        assert "paces" in config.augmentation or "shift" in config.augmentation, file
        config.lock()


def test_workdir_is_required():
    done = run_main(f"--config={CONFIGS / 'quickstart.py'}")
    assert done.returncode != 0
    assert "workdir" in done.stdout + done.stderr


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    config = f"--config={Path(__file__).parent / 'tiny_config.py'}"
    done = run_main(config, "--workdir=~/file/run")
    assert f"{tmp_path / 'file' / 'run'} cannot be made a folder" in done.stderr

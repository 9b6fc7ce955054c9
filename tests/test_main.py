"""The training entry point's own work: reading options, and one-line errors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.tasks.configuration import load_configuration

CONFIGS = Path(__file__).parent.parent / "configs"
HERE = os.environ | {"PYTHONPATH": str(CONFIGS.parent)}
QUICKSTART = f"--config={CONFIGS / 'quickstart.py'}"


def run_main(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vitpose_jax.main", *options]
    return subprocess.run(command, capture_output=True, text=True)


def test_missing_data_is_one_line(tmp_path: Path) -> None:
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
        ([f"--config={CONFIGS / 'vitpose.py'}:bse"], "'bse' is no size (small, base, la"),
        ([QUICKSTART, "--config.nope=3"], "config.nope=3: the configuration has no such value"),
        ([QUICKSTART, "--config.optimizer.lrr=3"], "did you mean config.optimizer.lr?"),
        (
            [QUICKSTART, "--config.model.neck.kind=simple"],
            "config.model.neck is None; give",
        ),
        ([QUICKSTART, "--config.dtype=float99"], "config.dtype is 'float99'; choose one of float"),
        ([QUICKSTART, "--config.eval.decode=foo"], "config.eval.decode is 'foo'; choose one of u"),
    ],
)
def test_a_mistake_in_the_options_is_one_line(
    tmp_path: Path, options: list[str], words: str
) -> None:
    done = run_main(*options, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "body", ["ml_collections.ConfigDict().x", "int('x')", "{}['x']", "open('x.txt')"]
)
def test_a_bug_in_a_configuration_file_keeps_its_traceback(tmp_path: Path, body: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"import ml_collections\ndef get_config():\n  {body}\n")
    done = run_main(f"--config={file}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 1
    assert f'{file}", line 3, in get_config' in done.stderr
    assert "Traceback" in done.stderr


def test_a_file_without_a_configuration_says_so(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("config = {}\n")
    with pytest.raises(UserError, match=r"mine\.py defines no function get_config"):
        load_configuration(str(tmp_path / "mine.py"))


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("[a-z]*.py")), ids=lambda file: file.stem)
def test_every_configuration_takes_its_data_set(file: Path) -> None:
    assert f"--config=configs/{file.name}" in file.read_text()
    config = load_configuration(f"{file}:some/folder")
    assert config.data == "some/folder"
    assert config.task in ("pose", "forecast", "scenes")
    varied = config if config.task == "scenes" else config.augmentation
    assert "paces" in varied or "shift" in varied
    assert config.is_locked


def test_the_folder_is_named_after_the_configuration(tmp_path: Path) -> None:
    """Two runs cannot share it silently: the second is another one."""
    command = [sys.executable, "-m", "vitpose_jax.main", "--config=quickstart", "--config.dtype=x"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=HERE)
    assert "the folder of the run is runs/quickstart (--workdir" in done.stderr
    assert "config.dtype is 'x'" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--nope=1", "unknown option '--nope=1'"),
        ("--mode=x", "argument --mode: invalid choice: 'x'"),
        ("--num_processes=x", "argument --num_processes: invalid int value: 'x'"),
        ("extra", "unexpected argument 'extra'"),
    ],
)
def test_a_wrong_option_is_one_line(tmp_path: Path, option: str, words: str) -> None:
    done = run_main(QUICKSTART, f"--workdir={tmp_path / 'run'}", option)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert words in line


def test_help_is_success() -> None:
    done = run_main("--help")
    assert done.returncode == 0
    assert "--workdir" in done.stdout + done.stderr


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "file").write_text("")
    config = f"--config={Path(__file__).parent / 'tiny_config.py'}"
    done = run_main(config, "--workdir=~/file/run")
    assert f"{tmp_path / 'file' / 'run'}: the folder cannot be made" in done.stderr

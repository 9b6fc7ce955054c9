"""The training entry point's own work: reading options, and one-line errors."""

import subprocess
import sys
from pathlib import Path

CONFIGS = Path(__file__).parent.parent / "configs"


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


def test_every_configuration_takes_its_data_set():
    import importlib.util

    for file in sorted(CONFIGS.glob("*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert "--config=configs/" in module.__doc__, file
        config = module.get_config("some/folder")
        assert config.data == "some/folder", file
        assert config.get("task") in ("pose", "forecast"), file
        config.lock()


def test_workdir_is_required():
    done = run_main(f"--config={CONFIGS / 'quickstart.py'}")
    assert done.returncode != 0
    assert "workdir" in done.stdout + done.stderr

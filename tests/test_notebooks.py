"""Every notebook runs from its first cell to its last, in a small setting."""

import json
import re
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
TINY = Path(__file__).parent / "tiny_config.py"


def run_notebook(file: Path, settings: dict[str, object]) -> dict[str, object]:
    """Run all code cells except the installation, with `settings` in place of the notebook's.

    Returns:
        The names that the cells defined.
    """
    names: dict[str, object] = {"_shell": _shell}
    for cell in json.loads(file.read_text())["cells"]:
        tags = cell["metadata"].get("tags", [])
        if cell["cell_type"] == "markdown" or "install" in tags:
            continue
        code = re.sub(r"(?m)^!(.*)$", r"_shell(f'''\1''')", "".join(cell["source"]))
        exec(compile(code, f"{file.name} {cell['id']}", "exec"), names)
        if "settings" in tags:
            assert settings.keys() <= names.keys()
            names |= settings
    return names


def _shell(command: str) -> None:
    command = re.sub(r"^python ", f"{sys.executable} ", command)
    command = re.sub(r"^vitpose ", f"{sys.executable} -m vitpose_jax.cli ", command)
    done = subprocess.run(command, shell=True, cwd=NOTEBOOKS.parent, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(autouse=True)
def no_windows() -> None:
    matplotlib.use("agg")


def test_train_on_tpu(tmp_path: Path) -> None:
    options = "steps=4 eval_every=4 eval.batch_size=64"
    settings = {
        "CONFIG": TINY,
        "DATA": "synthetic",
        "OPTIONS": options,
        "WORKDIR": tmp_path / "run",
    }
    names = run_notebook(NOTEBOOKS / "train_on_tpu.ipynb", settings)
    assert names["people"]
    assert all(person.keypoints.shape == (17, 2) for person in names["people"])


def test_poses_from_pictures(golden: Path, tmp_path: Path) -> None:
    picture, weights = golden / "pictures/1.png", golden / "hf_vitpose_tiny"
    settings = {"WEIGHTS": weights, "PICTURE": picture, "FIND_PEOPLE": False, "OUT": tmp_path}
    names = run_notebook(NOTEBOOKS / "poses_from_pictures.ipynb", settings)
    assert len(names["people"]) == 1
    assert (tmp_path / "keypoints.json").exists()


def test_forecast_motion(tmp_path: Path) -> None:
    options = "steps=4 eval_every=4 checkpoint_every=4"
    settings = {"OPTIONS": options, "WORKDIR": tmp_path / "run"}
    run_notebook(NOTEBOOKS / "forecast_motion.ipynb", settings)
    assert (tmp_path / "run" / "forecast.png").stat().st_size > 1000


def test_notebooks_hold_no_outputs_and_one_address() -> None:
    """The address of the repository is a line of the first cell, and part of the badge."""
    addresses = set()
    for file in NOTEBOOKS.glob("*.ipynb"):
        for cell in json.loads(file.read_text())["cells"]:
            assert not cell.get("outputs"), f"{file.name}: clear its outputs"
        addresses |= set(re.findall(r"/github(?:\.com)?/([\w-]+/vitpose_jax)", file.read_text()))
        assert f"blob/main/notebooks/{file.name}" in file.read_text()
    assert len(addresses) == 1

"""The wheel: what it installs, and that it works without the checkout."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = {"vitpose_jax": "vitpose_jax", **{f: f"vitpose_jax/{f}" for f in ("configs", "convert")}}
"""The checkout's folders with Python code, and where the wheel has them."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the wheel's content, as an installation does."""
    version = importlib.metadata.version("setuptools")
    if int(version.split(".")[0]) < 77:
        pytest.skip(f"building the wheel needs setuptools 77 or newer; this is {version}")
    folder = tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / "source" / name, ignore=leave_out)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder / "source")
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", check=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def run(installed: Path, cwd: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python on the installed package, away from the checkout."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )


def test_everything_is_below_the_package(installed: Path) -> None:
    assert [path.name for path in installed.iterdir() if path.suffix != ".dist-info"] == [
        "vitpose_jax"
    ]
    assert (installed / "vitpose_jax" / "py.typed").exists()


@pytest.mark.parametrize(("source", "target"), FOLDERS.items())
def test_no_module_is_left_out(installed: Path, source: str, target: str) -> None:
    """A new package has to be named in pyproject.toml."""
    modules = [
        path.relative_to(REPOSITORY / source) for path in (REPOSITORY / source).rglob("*.py")
    ]
    assert modules
    assert [str(path) for path in modules if not (installed / target / path).exists()] == []


def test_configurations_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    code = (
        "from vitpose_jax.configs import fpn_dense\n"
        "from vitpose_jax.tasks.configuration import load_configuration as load\n"
        "assert load('fpn_dense:coco').to_json() == fpn_dense.get_config().to_json()\n"
        "assert load('vitpose:large,some/folder').data == 'some/folder'\n"
        "load('vitpose_b')"
    )
    done = run(installed, tmp_path, "-c", code)
    assert done.stderr.splitlines()[-1] == (
        "vitpose_jax.errors.UserError: no configuration 'vitpose_b'; choose one of forecast_3dpw, "
        "forecast_somof, fpn, fpn_dense, fpn_detail, lspet_small, quickstart, vitpose, or a file "
        "NAME.py"
    )


def test_scripts_run_as_modules(installed: Path, tmp_path: Path) -> None:
    done = run(installed, tmp_path, "-m", "vitpose_jax.convert.torch_to_flax", "no.pth", "--out=x")
    assert done.returncode == 2
    assert done.stderr.startswith("torch_to_flax: ")
    assert done.stderr.count("\n") == 1

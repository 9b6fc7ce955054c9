"""The package as a whole: what importing it costs and drags in."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "jax", "flax", "tensorflow", "cv2", "grain")


@pytest.mark.parametrize("statement", ["import vitpose_jax", "import vitpose_jax.cli"])
def test_import_is_light(statement: str) -> None:
    code = f"{statement}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_public_names_exist() -> None:
    import vitpose_jax

    for name in vitpose_jax.__all__:
        assert getattr(vitpose_jax, name).__name__ == name


def test_help_lists_subcommands() -> None:
    out = subprocess.run(
        [sys.executable, "-m", "vitpose_jax.cli", "--help"], capture_output=True, text=True
    )
    assert out.returncode == 0
    for command in ("predict", "prepare", "quickstart", "export", "forecast"):
        assert command in out.stdout


@pytest.mark.parametrize("folder", ["configs", "convert"])
def test_commands_in_docstrings_keep_their_lines(folder: str) -> None:
    """A single backslash at a line's end would join it with the next."""
    for path in (REPOSITORY / folder).glob("*.py"):
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert max(map(len, docstring.splitlines())) <= 100, path


def test_the_test_extra_installs_what_tests_skip_without() -> None:
    """Else a clean machine would skip them for ever."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    names = {re.match(r"\w+", line).group() for line in extras["optional-dependencies"]["test"]}
    code = "".join(path.read_text() for path in (REPOSITORY / "tests").rglob("*.py"))
    skipped_without = set(re.findall(r'importorskip\("([a-z]+)', code))  # imageio_ffmpeg: imageio
    assert {"torch", "onnx"} <= skipped_without <= names

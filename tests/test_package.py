"""The package as a whole: what importing it costs and drags in."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vitpose_jax.cli import COMMANDS, load_command, main

Capsys = pytest.CaptureFixture
REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "jax", "flax", "tensorflow", "cv2", "grain", "numpy", "etils")


@pytest.mark.parametrize("statement", ["", *(f"load_command({name!r})" for name in COMMANDS)])
def test_import_is_light(statement: str) -> None:
    """So that help and mistakes in the options are shown at once."""
    code = f"from vitpose_jax.cli import main, load_command; main(['--help']); {statement}\n"
    code += f"import sys; print([m for m in {HEAVY} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_public_names_exist() -> None:
    import vitpose_jax

    assert sorted(name for names in vitpose_jax._HOMES.values() for name in names) == sorted(
        vitpose_jax.__all__
    )
    for name in vitpose_jax.__all__:
        value = getattr(vitpose_jax, name)
        assert value is vitpose_jax.SKELETONS or value.__name__ == name


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_the_bare_command_lists_subcommands(words: list[str], capsys: Capsys) -> None:
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in COMMANDS.items():
        assert [name, *line.split()] in [shown.split() for shown in lines]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(name: str, capsys: Capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: vitpose {name} ")
    _, parser = load_command(name)
    assert parser.description
    assert all(action.help for action in parser._actions if not action.option_strings)


def test_a_command_that_is_not_there(capsys: Capsys) -> None:
    assert main(["predcit", "a.jpg"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "did you mean 'predict'?" in line


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


@pytest.mark.parametrize("first", ["import jax", "import jax; jax.jit(lambda x: x * 3)(2)", "pass"])
def test_compilation_cache_is_filled_before_or_after_jax_is_imported(
    first: str, tmp_path: Path
) -> None:
    code = f"{first}\nimport vitpose_jax; vitpose_jax.enable_compilation_cache()\n"
    code += "import jax, jax.numpy as jnp\njax.jit(lambda x: jnp.linalg.svd(x @ x))(jnp.eye(9))"
    kept = {"JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"}
    environment = {k: v for k, v in os.environ.items() if k not in kept}
    environment |= {"VITPOSE_COMPILATION_CACHE": str(tmp_path)}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert any(path.name.startswith("jit__lambda") for path in tmp_path.iterdir())


LEAVES_THE_PROCESS_ALONE = """
import ast, importlib, logging, os, pkgutil, signal, sys, warnings
from pathlib import Path
import cv2
import vitpose_jax

for path in Path(vitpose_jax.__path__[0]).rglob("*.py"):  # what libraries do is their own affair
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import | ast.ImportFrom) and "vitpose_jax" not in ast.unparse(node):
            exec(ast.unparse(node))

def state():
    loggers = {"": logging.getLogger(), **logging.Logger.manager.loggerDict}
    yield from warnings.filters
    yield from os.environ.items()
    yield from ((s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM))
    yield from (cv2.getNumThreads(), cv2.utils.logging.getLogLevel())
    for name, logger in loggers.items():
        if isinstance(logger, logging.Logger) and (logger.level or logger.handlers):
            yield name, logger.level, tuple(logger.handlers)

before = list(state())
for module in pkgutil.walk_packages(vitpose_jax.__path__, "vitpose_jax."):
    importlib.import_module(module.name)
assert "vitpose_jax.keypoints.warping" in sys.modules
print(set(before) ^ set(state()))
"""


def test_importing_any_submodule_changes_nothing_in_the_process() -> None:
    code = LEAVES_THE_PROCESS_ALONE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr

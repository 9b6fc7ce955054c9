"""The order of the rooms, and that ARCHITECTURE.md tells the truth about them."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

REPOSITORY = Path(__file__).resolve().parent.parent
PYPROJECT = REPOSITORY / "pyproject.toml"


def test_imports_point_down_the_list_of_rooms(monkeypatch):
    # It would silence the loggers of the tests that follow.
    monkeypatch.setattr("importlinter.cli.logging_config.dictConfig", lambda config: None)
    assert lint_imports(config_filename=str(PYPROJECT), cache_dir=None) == EXIT_STATUS_SUCCESS


def test_no_modules_import_each_other():
    graph = grimp.build_graph("vitpose_jax", cache_dir=None)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, with the circle


def named_in_architecture() -> list[str]:
    """What its numbered lists call `room.module.Class.method`."""
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    steps = "\n".join(re.findall(r"^\d+\. .*$", text, re.M))
    return sorted(set(re.findall(r"`([a-z_]+(?:\.[A-Za-z_]+)+)`", steps)))


@pytest.mark.parametrize("name", named_in_architecture())
def test_what_the_architecture_names_exists(name):
    parts, module = name.split("."), REPOSITORY / "vitpose_jax"
    while parts and not module.is_file():
        module /= parts.pop(0)
        module = module if module.is_dir() else module.with_suffix(".py")
    body = ast.parse(module.read_text()).body
    for part in parts:
        (found,) = [node for node in body if getattr(node, "name", None) == part]
        body = getattr(found, "body", [])
    assert parts, f"{name} is a module, not a function"


def test_the_lives_are_told_in_ten_steps():
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    lives = re.split(r"^## ", text, flags=re.M)[1:-1]
    counts = {life.split("\n")[0]: len(re.findall(r"^\d+\. ", life, re.M)) for life in lives}
    assert len(counts) == 3
    assert all(0 < count <= 10 for count in counts.values()), counts

"""The order of the rooms: imports point one way, and nowhere in a circle."""

from graphlib import TopologicalSorter
from pathlib import Path

import grimp
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def test_imports_point_down_the_list_of_rooms(monkeypatch):
    # It would silence the loggers of the tests that follow.
    monkeypatch.setattr("importlinter.cli.logging_config.dictConfig", lambda config: None)
    assert lint_imports(config_filename=str(PYPROJECT), cache_dir=None) == EXIT_STATUS_SUCCESS


def test_no_modules_import_each_other():
    graph = grimp.build_graph("vitpose_jax", cache_dir=None)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, with the circle

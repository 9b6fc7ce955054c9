"""What the tests of commands share."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vitpose_jax.cli import main

Run = Callable[..., int]


@pytest.fixture
def run(weights: Path, tmp_path: Path) -> Run:
    """Predict into tmp_path/out, replacing what is there; gives the exit status."""

    def run(*arguments: object) -> int:
        options = ["--weights", weights, "--num-heads", 3, "--out", tmp_path / "out"]
        options += [] if "--resume" in arguments else ["--overwrite"]
        options += [] if "--draw" in arguments else ["--no-draw"]
        return main(["predict", *map(str, [*arguments, *options])])

    return run

"""Fixtures every test may use: the folder of real data and reference outputs."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs (`golden`) and real data (`data`); skips where absent."""
    folder = Path(os.environ.get("VITPOSE_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference data at {folder} (set VITPOSE_SHARED to its folder)")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Outputs of the original PyTorch code."""
    return shared / "golden"

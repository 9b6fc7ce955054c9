"""A cache of converted weights for these tests alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Conversions go here instead of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="session")
def crops(golden: Path) -> np.ndarray:
    """The four golden model inputs, (4, 256, 192, 3)."""
    return np.load(golden / "inputs.npz")["x"].transpose(0, 2, 3, 1)

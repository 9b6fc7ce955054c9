"""The user's cache folder, and compiled programs in it, so that a network is compiled once."""

import os
import platform
import sys
from pathlib import Path

CACHE_VARIABLE = "VITPOSE_COMPILATION_CACHE"
SHORTEST = 0.1  # seconds; JAX keeps what took one to compile, a start has much that takes less


def cache_folder(kind: str) -> Path:
    """Where this package keeps one kind of file for the user, below $XDG_CACHE_HOME or ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "vitpose_jax" / kind


def enable_compilation_cache() -> None:
    """Turn JAX's persistent compilation cache on, for all that this process compiles from now on.

    The project's commands do so themselves; from Python it is for the caller to decide, since the
    setting is the whole process's. It may come before or after JAX is imported.

    The cache lies in the user's cache folder, apart for every machine, since programs for one
    processor may not run on another. The environment variable VITPOSE_COMPILATION_CACHE names
    another folder, or turns it off where it is "off". What JAX's own variables or settings say is
    left as it is.

    Example:
        >>> enable_compilation_cache()
        >>> estimator = PoseEstimator.from_pretrained("weights/vitpose-b")
    """
    choice = os.environ.get(CACHE_VARIABLE)
    if choice == "off":
        return
    folder = choice or cache_folder("compiled") / (platform.node() or "machine")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    shortest = os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(SHORTEST))
    jax = sys.modules.get("jax")  # which reads these variables when it is imported
    if jax is not None and not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(shortest))

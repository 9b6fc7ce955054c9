"""The user's cache folder, and JAX's compiled programs in it."""

import os
import platform
import sys
from pathlib import Path

CACHE_VARIABLE = "VITPOSE_COMPILATION_CACHE"
SHORTEST = 0.1  # seconds; JAX keeps what took a second to compile, but much at a start takes less


def cache_folder(kind: str) -> Path:
    """Return the folder for one kind of cached file, below $XDG_CACHE_HOME or ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "vitpose_jax" / kind


def enable_compilation_cache() -> None:
    """Keep compiled programs on disk, so that a network is compiled once and not in every process.

    Commands do this themselves. In Python it is up to the caller, before or after importing JAX,
    because JAX's setting holds for the whole process.

    The programs lie in the user's cache folder, apart for each machine, since one processor's may
    not run on another. The environment variable VITPOSE_COMPILATION_CACHE names another folder, or
    "off" for none. JAX's own variables and settings take precedence.
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

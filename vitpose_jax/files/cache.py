"""The user's cache folder, and JAX's compilation cache in it."""

import os
import platform
import sys
from pathlib import Path

CACHE_VARIABLE = "VITPOSE_COMPILATION_CACHE"
SHORTEST = 0.1  # seconds; JAX's default of 1 skips many programs that are compiled at every start


def cache_folder(kind: str) -> Path:
    """The folder for one kind of cached file, below $XDG_CACHE_HOME or ~/.cache."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "vitpose_jax" / kind


def enable_compilation_cache() -> None:
    """Turn on JAX's persistent compilation cache for everything that this process compiles next.

    The commands call this themselves; in Python it is up to the caller, since it affects the whole
    process. It may be called before or after JAX is imported.

    The cache is in the user's cache folder, with a subfolder for each machine, since programs for
    one processor may not run on another. The environment variable VITPOSE_COMPILATION_CACHE names
    another folder, or turns the cache off if it is "off". JAX's own variables and settings take
    precedence.

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

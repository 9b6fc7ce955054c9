"""Compiled programs kept on the disk: a command compiles its network once, not every time."""

import os
import platform
from pathlib import Path

CACHE_VARIABLE = "VITPOSE_COMPILATION_CACHE"


def enable_compilation_cache() -> None:
    """Turn JAX's persistent compilation cache on; to be called before JAX is imported.

    It lies in the user's cache folder, apart for every machine, since programs for one processor
    may not run on another. The environment variable VITPOSE_COMPILATION_CACHE names another folder,
    or turns it off where it is "off". What JAX's own variables say is left as it is.
    """
    choice = os.environ.get(CACHE_VARIABLE)
    if choice == "off":
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = choice or home / "vitpose_jax" / "compiled" / (platform.node() or "machine")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    # By default only what took a second to compile is kept; a start compiles much that is smaller.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

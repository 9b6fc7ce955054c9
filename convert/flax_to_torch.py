"""Convert weights of vitpose_jax to PyTorch, as `vitpose convert` does.

    python convert/flax_to_torch.py weights/vitpose-b --out vitpose-b.pth
    python convert/flax_to_torch.py weights/vitpose-b --out vitpose-b-transformers

The first is for the original code, the second for transformers. Without a checkout it is `vitpose
convert`, or `python -m vitpose_jax.convert.flax_to_torch`.
"""

import argparse
import sys
from collections.abc import Sequence

from vitpose_jax.commands.convert import add_source, run_script, to_torch


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(description="Convert weights of vitpose_jax to PyTorch.")
    add_source(parser, "folder written by vitpose_jax")
    return run_script("flax_to_torch", parser, to_torch, argv)


if __name__ == "__main__":
    sys.exit(main())

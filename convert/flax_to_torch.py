"""Convert weights of vitpose_jax to a .pth for the original code or a folder for transformers.

    python convert/flax_to_torch.py weights/vitpose-b --out vitpose-b.pth
    python convert/flax_to_torch.py weights/vitpose-b --out vitpose-b-transformers

Without a checkout it is `python -m vitpose_jax.convert.flax_to_torch`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vitpose_jax.errors import UserError
from vitpose_jax.weights.huggingface import write_huggingface
from vitpose_jax.weights.loading import load_stored
from vitpose_jax.weights.original import write_original


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Convert weights of vitpose_jax to PyTorch.")
    parser.add_argument("source", metavar="SRC", help="folder written by vitpose_jax")
    parser.add_argument(
        "--out",
        required=True,
        metavar="PATH",
        help="NAME.pth, a file for the original code, or a folder for transformers",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""
    options = parse(argv)
    try:
        stored = load_stored(options.source)
        if Path(options.out).suffix == ".pth":
            for note in write_original(stored, options.out):
                print(f"note: {note}")
        else:
            write_huggingface(stored, options.out)
    except UserError as error:
        print(f"flax_to_torch: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

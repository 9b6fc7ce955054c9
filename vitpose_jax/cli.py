"""The `vitpose` command: parse the options, hand them to the part that does the work.

Handlers import what they need when they run, so that `vitpose --help` stays instant.
"""

import argparse
import sys
from collections.abc import Sequence

from vitpose_jax import __version__
from vitpose_jax.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every subcommand sets `handler`, called with the parsed options."""
    parser = argparse.ArgumentParser(
        prog="vitpose",
        description="Human pose estimation and motion forecasting with ViTPose in JAX.",
    )
    parser.add_argument("--version", action="version", version=f"vitpose-jax {__version__}")
    parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 a mistake the user can put right)."""
    options = build_parser().parse_args(argv)
    try:
        return options.handler(options) or 0
    except UserError as error:
        print(f"vitpose {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""The `vitpose` command: find the subcommand and run it.

Subcommands import what they need when they run, so that `vitpose --help` stays instant.
"""

import argparse
import signal
import sys
import warnings
from collections.abc import Sequence

from vitpose_jax import __version__
from vitpose_jax.commands import (
    check,
    export,
    forecast,
    predict,
    prepare,
    prepare_3dpw,
    quickstart,
)
from vitpose_jax.errors import Terminated, UserError, printable
from vitpose_jax.files.cache import enable_compilation_cache


def build_parser() -> argparse.ArgumentParser:
    """Assemble the command line; every subcommand sets `run`, which takes the parsed options."""
    parser = argparse.ArgumentParser(
        prog="vitpose",
        description="Human pose estimation and motion forecasting with ViTPose in JAX.",
    )
    parser.add_argument("--version", action="version", version=f"vitpose-jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (predict, quickstart, check, export, forecast, prepare, prepare_3dpw):
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    0: all went well; 1: something was skipped or cut short; 2: nothing was done, for a reason that
    the user can fix; 130 or 143: stopped by Ctrl-C or SIGTERM.
    """
    options = build_parser().parse_args(argv)
    enable_compilation_cache()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # our errors say more about damaged pictures
    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        return options.run(options)
    except UserError as error:
        print(printable(f"vitpose {options.command}: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, handler)


def _terminate(*_: object) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())

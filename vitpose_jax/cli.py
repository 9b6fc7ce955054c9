"""The `vitpose` command: find the subcommand and run it.

A subcommand is a module of `vitpose_jax.commands`, imported when it is asked for, and imports what
it needs when it runs, so that `vitpose --help` stays instant.
"""

import argparse
import difflib
import importlib
import signal
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

from vitpose_jax import __version__
from vitpose_jax.errors import Terminated, UserError, printable, shown
from vitpose_jax.files.cache import enable_compilation_cache
from vitpose_jax.files.native_messages import native_messages

COMMANDS = {
    "predict": "find people's poses in pictures and videos",
    "forecast": "forecast people's next poses in a video",
    "train": "train a model, on your own data or others'",
    "eval": "measure a training run, or weights, on a data set",
    "check": "show what a data set, boxes or weights contain, and what is wrong with them",
    "convert": "convert weights from PyTorch, and back",
    "export": "write a model as weights, ONNX or StableHLO, or check such a file",
    "serve": "serve poses over HTTP, with a page for the browser",
    "prepare": "write a data set's people as ArrayRecord crops, for fast training",
    "prepare-3dpw": "find the keypoints of 3DPW's people with a pose model",
    "models": "list the published models that can be named",
    "quickstart": "train a small model on synthetic people, in minutes",
}
"""The subcommands, with what each does."""


def overview() -> str:
    """Describe the command and list the subcommands."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vitpose COMMAND ...",
            "\nHuman pose estimation and motion forecasting with ViTPose in JAX.\n",
            *lines,
            "\n`vitpose COMMAND --help` shows a command's options.",
        ]
    )


def load_command(name: str) -> tuple[ModuleType, argparse.ArgumentParser]:
    """Return a subcommand's module and the parser of its options.

    Raises:
        UserError: there is no such subcommand.
    """
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"there is no command {name!r}; {meant}`vitpose` lists the commands")
    module = importlib.import_module(f"vitpose_jax.commands.{name.replace('-', '_')}")
    parser = argparse.ArgumentParser(prog=f"vitpose {name}")
    module.add_options(parser)
    return module, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit status.

    0: all went well; 1: something was skipped or cut short; 2: nothing was done, for a reason that
    the user can fix; 130 or 143: stopped by Ctrl-C or SIGTERM.
    """
    name, *words = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help", "--version"):
        print(f"vitpose-jax {__version__}" if name == "--version" else overview())
        return 0
    enable_compilation_cache()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # our errors say more about damaged pictures
    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        command, parser = load_command(name)
        options = parser.parse_intermixed_args(words)
        with native_messages():
            return command.run(options)
    except UserError as error:
        print(shown(error, f"vitpose {printable(name)}: "), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return 143 if isinstance(stop, Terminated) else 130
    finally:
        signal.signal(signal.SIGTERM, handler)


def _terminate(*_: object) -> None:
    raise Terminated


if __name__ == "__main__":
    sys.exit(main())

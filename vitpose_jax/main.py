"""Train or evaluate what a configuration describes; `vitpose train` and `vitpose eval` do the same.

    python -m vitpose_jax.main --config=vitpose:base,coco --workdir=runs/vitpose_b

`--config` takes the name of a configuration in `vitpose_jax.configs` or a file
(`configs/vitpose.py:base,coco`, `my/own.py`), and after a colon its argument.
`--config.name=value` changes any value. With `--config.epochs=0 --config.steps=N`, the length of
the run, its milestones and its intervals count in steps instead of epochs. `--mode=eval` evaluates
the run's best checkpoint, or the weights `--config.init_from` where there is no run. To resume a
stopped run, repeat the command. With several hosts, start it on each with `--distributed`.

Exit status: 0 all is well; 2 it could not be done, and a line for each reason says why; 130 or 143
stopped by Ctrl-C or SIGTERM.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from typing import NoReturn

from vitpose_jax.errors import UserError, shown
from vitpose_jax.files.cache import enable_compilation_cache
from vitpose_jax.files.native_messages import native_messages


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (--help lists the options)")


def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Return the options, and the changes to the configuration as `config.key=value`.

    Raises:
        UserError: a mistake in the options.
    """
    parser = _Parser(
        prog="python -m vitpose_jax.main",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", required=True, metavar="NAME[:ARGUMENT]", help="a name or file, see above")
    add("--workdir", metavar="DIR", help="folder of the run (default: runs/NAME)")
    add("--mode", choices=("train", "eval"), default="train", help="what to do")
    add("--distributed", action="store_true", help="this is one of several processes")
    add("--coordinator", metavar="HOST:PORT", help="of process 0; detected on clusters")
    add("--num_processes", type=int, metavar="N", help="how many; detected on clusters")
    add("--process_id", type=int, metavar="I", help="which one this is; detected on clusters")
    options, words = parser.parse_known_args(argv)
    changes: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--config."):
            kind = "unknown option" if word.startswith("-") else "unexpected argument"
            raise UserError(f"{kind} {word!r} (--help lists the options)")
        if "=" not in word and words:
            word += f"={words.pop(0)}"
        changes.append(word.removeprefix("--"))
    return options, changes


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the options say; return the exit status."""
    try:
        options, changes = parse(argv)
        enable_compilation_cache()
        warnings.filterwarnings("ignore", module=r"PIL\.")  # our errors say more about pictures
        from vitpose_jax.tasks import launch, run

        run.log_plainly()
        action = {"train": launch.train, "eval": launch.evaluate}[options.mode]
        several = options.coordinator, options.num_processes, options.process_id
        with native_messages(), run.processes(options.distributed, *several):
            action(options.config, changes, options.workdir)
    except UserError as error:
        print(shown(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume from the last checkpoint", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

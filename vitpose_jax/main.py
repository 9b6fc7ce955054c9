"""Train or evaluate what a configuration describes.

    python -m vitpose_jax.main --config=vitpose:base,coco --workdir=runs/vitpose_b

`--config` takes the name of a configuration in `vitpose_jax.configs` or a file
(`configs/vitpose.py:base,coco`, `my/own.py`), and after a colon its argument.
`--config.name=value` overrides any value. With `--config.epochs=0 --config.steps=N`, the length of
the run, its milestones and its intervals count in steps instead of epochs. `--mode=eval` evaluates
the run's best checkpoint, or the weights `--config.init_from` where there is no run. To resume a
stopped run, repeat the command. With several hosts, start it on each with `--distributed`.

Exit status: 0 all is well; 2 it could not be done, and one line says why; 130 or 143 stopped by
Ctrl-C or SIGTERM.
"""

import importlib
import logging
import pkgutil
import runpy
import sys
import warnings
from pathlib import Path

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from vitpose_jax.errors import UserError, printable
from vitpose_jax.files.cache import enable_compilation_cache

_CONFIG = config_flags.DEFINE_config_file("config", None, "name or file of a configuration")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "what to do")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "this is one of several processes")
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0; detected on clusters"
)
_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "number of processes; detected on clusters"
)
_PROCESS = flags.DEFINE_integer("process_id", None, "index of this process; detected on clusters")


def load_configuration(value: str) -> ml_collections.ConfigDict:
    """Make the configuration of `NAME:ARGUMENT` or `FILE.py:ARGUMENT`.

    Raises:
        UserError: there is no such configuration, or it rejects its argument.
    """
    name, *argument = value.split(":", 1)
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UserError(f"No such file or directory: {name!r}")
        names = runpy.run_path(name)
    else:
        package = importlib.import_module("vitpose_jax.configs")
        known = [module.name for module in pkgutil.iter_modules(package.__path__)]
        if name not in known:
            raise UserError(
                f"no configuration {name!r}; choose one of {', '.join(known)}, or a file NAME.py"
            )
        names = vars(importlib.import_module(f"vitpose_jax.configs.{name}"))
    if "get_config" not in names:
        raise UserError(f"{name} defines no function get_config")
    return names["get_config"](*argument).lock()


class ConfigurationError(Exception):
    """Wraps what `load_configuration` raised, to tell it apart from mistakes in the options."""


class _ConfigurationParser(flags.ArgumentParser):
    def parse(self, argument: str) -> ml_collections.ConfigDict:
        try:
            return load_configuration(argument)
        except Exception as error:
            raise ConfigurationError from error


flags.FLAGS["config"].parser = _ConfigurationParser()


def parse_options(argv: list[str]) -> list[str]:
    """Read the options into absl's flags; a mistake is one line and exit status 2, --help 0.

    Errors in a configuration's own code keep their traceback.
    """
    try:
        names = flags.FLAGS(argv)
        if len(names) == 1:
            return names
        problem = f"unexpected argument {names[1]!r}"
    except SystemExit:  # absl's own status is 1 after its help
        sys.exit(0)
    except flags.Error as error:
        problem = f"{' '.join(str(error).split())} (--help lists the options)"
    except ConfigurationError as error:
        cause = error.__cause__
        if cause is not None and not isinstance(cause, UserError):
            raise cause from None
        problem = f"--config: {cause}"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        given = " ".join(option for option in argv if option.startswith("--config."))
        reason = error.args[0].args[0] if isinstance(error.args[0], KeyError) else error
        problem = f"{given}: the configuration has no such value: {' '.join(str(reason).split())}"
    print(problem, file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    """Do what the parsed options say."""
    assert _WORKDIR.value is not None  # it is required
    enable_compilation_cache()
    warnings.filterwarnings("ignore", module=r"PIL\.")  # our errors say more about damaged pictures
    from vitpose_jax.tasks import run

    run.log_plainly()
    try:
        if "://" in _WORKDIR.value:
            raise UserError(
                f"--workdir={_WORKDIR.value}: a run needs a folder that can be locked; mount the "
                "bucket, or choose a local one"
            )
        if _DISTRIBUTED.value:
            run.join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        action = {"train": run.train, "eval": run.evaluate}[_MODE.value]
        action(_CONFIG.value, Path(_WORKDIR.value).expanduser())
    except UserError as error:
        logging.getLogger(__name__).error("%s", printable(str(error)))
        sys.exit(2)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    try:
        app.run(main, flags_parser=parse_options)
    except KeyboardInterrupt:
        print("stopped; repeat the command to resume from the last checkpoint", file=sys.stderr)
        sys.exit(130)

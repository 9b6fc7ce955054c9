"""Train or evaluate by a configuration file.

    python -m vitpose_jax.main --config=configs/vitpose.py:base,coco --workdir=runs/vitpose_b

`--mode=eval` evaluates the run's best checkpoint, or `--config.init_from` where there is no run.
Any value is overridden by `--config.name=value`; `--config.epochs=0 --config.steps=N` counts in
steps what a configuration counts in epochs, its milestones and intervals too. Run the same command
again to go on with a run that was stopped. On several hosts start it on each, with --distributed.
"""

import logging
import sys
import traceback
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from vitpose_jax.errors import UserError
from vitpose_jax.files.compilation_cache import enable_compilation_cache

_CONFIG = config_flags.DEFINE_config_file("config", None, "configuration file, :data set")
_WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "what to do")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "this is one of several processes")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "host:port of process 0; found on clusters")
_PROCESSES = flags.DEFINE_integer("num_processes", None, "their number; found on clusters")
_PROCESS = flags.DEFINE_integer("process_id", None, "which one this is; found on clusters")


def parse_options(argv: list[str]) -> list[str]:
    """The options into absl's flags; a mistake in them is one line and exit status 2.

    What goes wrong inside the configuration file's own code keeps its traceback.
    """
    try:
        rest = app.parse_flags_with_usage(argv)
        _CONFIG.value.get("task")  # a file that could not be read says so only now
    except UserError as error:
        problem = str(error)
    except OSError as error:
        problem = f"--config: {str(error).splitlines()[-1].strip()}"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if any(frame.name == "get_config" for frame in traceback.extract_tb(error.__traceback__)):
            raise
        given = " ".join(option for option in argv if option.startswith("--config."))
        reason = error.args[0].args[0] if isinstance(error.args[0], KeyError) else error
        problem = f"{given}: the configuration has no such value: {' '.join(str(reason).split())}"
    else:
        return rest
    print(problem, file=sys.stderr)
    sys.exit(2)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"what is {argv[1]!r}?")
    enable_compilation_cache()
    from vitpose_jax.tasks import run

    run.log_plainly()
    try:
        if _DISTRIBUTED.value:
            run.join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        action = {"train": run.train, "eval": run.evaluate}[_MODE.value]
        action(_CONFIG.value, Path(_WORKDIR.value).expanduser())
    except UserError as error:
        logging.getLogger(__name__).error("%s", error)
        sys.exit(2)


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    try:
        app.run(main, flags_parser=parse_options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from a run's last checkpoint", file=sys.stderr)
        sys.exit(130)

"""`vitpose train`: train what a configuration describes, or go on with a run."""

import argparse

from vitpose_jax.commands.options import add_configuration, split_words
from vitpose_jax.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Trains what a configuration describes, in a folder that holds everything about the run: "
        "settings, checkpoints, scores, curves and pictures. If it was stopped, `vitpose train "
        "--resume DIR` goes on from its newest checkpoint."
    )
    add = parser.add_argument
    add_configuration(parser)
    add(
        "--weights",
        metavar="W",
        default="",
        help="start from these weights; the model gets their shape where CONFIG leaves it open",
    )
    add("--workdir", metavar="DIR", help="folder of the run (default: runs/CONFIG)")
    add("--resume", metavar="DIR", help="go on with the run in this folder, with its own settings")
    several = parser.add_argument_group("several processes (TPU pods and Slurm need no numbers)")
    add = several.add_argument
    add("--distributed", action="store_true", help="this is one of several processes")
    add("--coordinator", metavar="HOST:PORT", help="of process 0")
    add("--num-processes", type=int, metavar="N", help="how many there are")
    add("--process-id", type=int, metavar="I", help="which one this is, from 0")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.tasks import launch
    from vitpose_jax.tasks.run import log_plainly, processes

    log_plainly()
    name, changes = split_words(options.words)
    if options.resume is not None:
        if given := [word for word in ("data", "weights", "workdir") if getattr(options, word)]:
            raise UserError(f"--resume goes on with a run as it is; leave out --{given[0]}")
        if name:
            raise UserError(f"--resume takes the run's own configuration; leave out {name}")
    elif not name:
        if not (options.data or options.weights):
            raise UserError(f"give a configuration: {launch.choices()}")
        name = launch.FINE_TUNING
    several = options.coordinator, options.num_processes, options.process_id
    with processes(options.distributed, *several):
        if options.resume is not None:
            launch.resume(options.resume, changes)
        else:
            launch.train(name, changes, options.workdir, data=options.data, weights=options.weights)
    return 0

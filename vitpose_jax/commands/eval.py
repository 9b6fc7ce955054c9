"""`vitpose eval`: measure a training run, or weights, on a data set."""

import argparse

from vitpose_jax.commands.options import add_configuration, split_words
from vitpose_jax.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Measures a run's best checkpoint on its validation data, or weights on the validation "
        "data of a configuration or of --data. Prints the metrics and writes evaluation.json."
    )
    add = parser.add_argument
    add_configuration(parser, "RUN | CONFIG")
    add("--weights", metavar="W", default="", help="measure these weights")
    add("--workdir", metavar="DIR", help="folder for evaluation.json (default: runs/eval)")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.tasks import launch
    from vitpose_jax.tasks.run import log_plainly
    from vitpose_jax.weights.sources import is_run

    log_plainly()
    name, changes = split_words(options.words)
    if name and is_run(name):
        if options.weights or options.workdir:
            raise UserError(
                f"{name} is a run, measured as it is: leave out --weights and --workdir"
            )
        launch.evaluate_run(name, changes, options.data)
        return 0
    if not (options.weights or name):
        raise UserError("give the folder of a run, or --weights W with a configuration or --data D")
    launch.evaluate(
        name or launch.FINE_TUNING,
        changes,
        options.workdir,
        data=options.data,
        weights=options.weights,
    )
    return 0

"""`vitpose export`: the model of a training run as a weights folder."""

import argparse

from vitpose_jax.commands.options import Commands


def add_parser(commands: Commands) -> None:
    """Add the command's options."""
    parser = commands.add_parser(
        "export",
        help="turn a training run into weights",
        description="Writes the model of a training run as a weights folder, for use with "
        "--weights and config.init_from.",
    )
    add = parser.add_argument
    add("workdir", metavar="WORKDIR", help="the run's folder")
    add("--out", metavar="DIR", required=True, help="weights folder to write")
    add(
        "--step",
        metavar="STEP",
        default="best",
        help="which checkpoint: best (by the run's metric; the default), latest, or a step",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.tasks.run import export_run, log_plainly

    log_plainly()
    step = export_run(options.workdir, options.out, options.step)
    print(f"step {step} of {options.workdir} -> {options.out}")
    return 0

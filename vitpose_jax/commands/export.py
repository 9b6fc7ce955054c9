"""`vitpose export`: the model of a training run as a weights folder."""

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Writes the model of a training run as a weights folder, for use with "
        "--weights and config.init_from."
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


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.tasks.run import export_run, log_plainly

    log_plainly()
    step = export_run(options.workdir, options.out, options.step)
    print(f"step {step} of {options.workdir} -> {options.out}")
    return 0

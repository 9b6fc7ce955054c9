"""`vitpose quickstart`: a small model that learns synthetic people, on a laptop, in minutes."""

import argparse
import time
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Trains a small ViTPose on synthetic people (nothing is downloaded), evaluates "
        "it before and after, and draws its predictions. To resume, repeat the command."
    )
    parser.add_argument(
        "--out", metavar="DIR", default="runs/quickstart", help="folder of the run (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Train, evaluate before and after, export, and list the results."""
    from vitpose_jax.data.synthetic.samples import write_samples
    from vitpose_jax.tasks.recipes import quickstart_recipe
    from vitpose_jax.tasks.run import export_run, log_plainly, train
    from vitpose_jax.training.metrics_log import read_metrics

    log_plainly()
    folder = Path(options.out).expanduser()
    start = time.monotonic()
    print("Training a small ViTPose on synthetic people. Ctrl-C stops; repeat to resume.")
    train(quickstart_recipe(), folder)
    export_run(folder, folder / "weights")
    write_samples(folder / "samples", SAMPLES)
    print(f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes. AP on held-out people:")
    for row in read_metrics(folder):
        if "eval/AP" in row:
            print(f"  after {row['step']:5d} steps: {row['eval/AP']:.3f}")
    print(SUMMARY.format(folder=folder))
    return 0


SAMPLES = 8
"""Pictures to try the model on."""

SUMMARY = """
In {folder}:
  pictures/       predictions for the same 16 people beside the truth, before and after
  curves.png      loss and scores over the run
  metrics.jsonl   all metrics (or: tensorboard --logdir {folder})
  weights/        the model, for --weights
  samples/        pictures to try it on, with people.json: where the people are
  checkpoints/    for resuming training

Next:
  poses in the samples, by the model just trained:
    vitpose predict {folder}/samples --boxes {folder}/samples/people.json \\
      --weights {folder}/weights --draw --out {folder}/found
  training on your own people (a folder in COCO's layout, checked first):
    vitpose check FOLDER
    vitpose train vitpose:small --data FOLDER --workdir runs/mine"""

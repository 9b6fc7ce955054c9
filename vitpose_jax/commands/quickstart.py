"""`vitpose quickstart`: a small model that learns synthetic people, on a laptop, in minutes."""

import logging
import time
from pathlib import Path

from vitpose_jax.tasks import run
from vitpose_jax.tasks.export import export_run
from vitpose_jax.tasks.recipes import quickstart_recipe
from vitpose_jax.training.workdir import read_metrics

log = logging.getLogger(__name__)


def quickstart(out: str | Path, data: str = "synthetic-solo") -> dict[str, float]:
    """Train, evaluate before and after, export, and say what there is; goes on if stopped."""
    folder = Path(out).expanduser()
    start = time.monotonic()
    print(f"Training a small ViTPose on {data}. Stop with Ctrl-C; the same command goes on.")
    run.train(quickstart_recipe(data), folder)
    export_run(folder, folder / "weights")
    scores = [(r["step"], r["eval/AP"]) for r in read_metrics(folder) if "eval/AP" in r]
    print(f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes. AP on people not trained on:")
    for step, score in scores:
        print(f"  after {step:5d} steps: {score:.3f}")
    print(_WHERE.format(folder=folder))
    return {"before": scores[0][1], "after": scores[-1][1]}


_WHERE = """
In {folder}:
  pictures/       what the model sees in the same 16 people, before and after
  curves.png      loss and scores over the run
  metrics.jsonl   every number (or: tensorboard --logdir {folder})
  weights/        the model, for --weights
  checkpoints/    to go on training from

Next:
  poses in your own pictures, with the published weights:
    vitpose predict people.jpg --weights usyd-community/vitpose-base-simple
  training on your own people (a folder in COCO's layout):
    python -m vitpose_jax.main --config=vitpose:small,FOLDER --workdir=runs/mine"""

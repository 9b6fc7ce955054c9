"""`vitpose quickstart`: a small model that learns synthetic people, on a laptop, in minutes."""

import logging
import time
from dataclasses import asdict
from pathlib import Path

import ml_collections

from vitpose_jax.data.augmentation import NO_AUGMENTATION
from vitpose_jax.tasks import run
from vitpose_jax.tasks.export import export_run
from vitpose_jax.tasks.recipes import small_recipe
from vitpose_jax.training.workdir import read_metrics

log = logging.getLogger(__name__)


def get_config(data: str = "synthetic-solo") -> ml_collections.ConfigDict:
    """A few minutes of training; evaluated before, on the way and after.

    A million parameters, and crops that are mirrored but not moved.
    """
    config = small_recipe(data, width=128, depth=4, steps=1500)
    config.augmentation = asdict(NO_AUGMENTATION) | {"flip_probability": 0.5}
    config.schedule.warmup_steps = 60
    config.eval_first = True
    config.eval_every = 500
    config.checkpoint_every = 100
    config.log_every = 25
    return config


def quickstart(out: str | Path, data: str = "synthetic-solo") -> dict[str, float]:
    """Train, evaluate before and after, export, and say what there is; goes on if stopped."""
    folder = Path(out).expanduser()
    start = time.monotonic()
    print(f"Training a small ViTPose on {data}. Stop with Ctrl-C; the same command goes on.")
    run.train(get_config(data), folder)
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
    python -m vitpose_jax.main --config=configs/vitpose_s.py:FOLDER --workdir=runs/mine"""

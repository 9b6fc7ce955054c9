"""A training problem small enough to see through: linear regression with a batch norm.

`start` trains it in a process of its own, through the command line.
"""

import os
import subprocess
import sys
from pathlib import Path

import grain
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vitpose_jax.models.layers import BatchNorm
from vitpose_jax.tasks.recipes import training_recipe
from vitpose_jax.training.task import Problem

TRUTH = np.array([[1.0], [-2.0], [0.5]], np.float32)


class Regression(nnx.Module):
    def __init__(self):
        self.backbone = nnx.Linear(3, 3, rngs=nnx.Rngs(0))
        self.norm = BatchNorm(3)
        self.head = nnx.Linear(3, 1, rngs=nnx.Rngs(1))

    def __call__(self, x, train=False):
        return self.head(self.norm(self.backbone(x), train=train))


def loss_fn(model, batch, key):
    return jnp.mean(jnp.square(model(batch["x"], train=True) - batch["y"])), {}


def sample(index, broken=()):
    x = np.random.default_rng(int(index)).standard_normal(3).astype(np.float32)
    y = np.full(1, np.nan, np.float32) if index in broken else x @ TRUTH
    return {"x": x, "y": y, "image_id": np.int64(1000 + index)}


def make_task(batch_size=8, broken=(), evaluate=None):
    source = grain.MapDataset.source(np.arange(64)).seed(0).shuffle().repeat()
    stream = source.map(lambda i: sample(i, broken)).batch(batch_size).to_iter_dataset()
    held_out = [sample(i) for i in range(64, 96)]
    x, y = (jnp.stack([s[name] for s in held_out]) for name in ("x", "y"))

    def error(model):
        return {"error": float(jnp.mean(jnp.square(model(x) - y)))}

    return Problem(
        model=Regression(),
        model_config={"kind": "regression"},
        loss_fn=loss_fn,
        train_batches=stream,
        train_size=64,
        evaluate=evaluate or error,
        metric="error",
        maximize=False,
        draw=lambda model: np.zeros((8, 8, 3), np.uint8),
    )


def make_config(**changes):
    config = training_recipe("regression", "random")
    config.update(batch_size=8, epochs=None, steps=30, log_every=1)
    config.update(eval_every=10, checkpoint_every=5)
    config.optimizer.update(lr=0.05, weight_decay=0.0)
    config.schedule.update(kind="cosine", milestones=(), warmup_steps=0)
    config.update(changes)
    return config


def get_config():
    return make_config()


def complete(config):
    """Nothing is left open."""


def build_problem(config, initialize=True):
    return make_task()


PROGRAM = """
import runpy
import regression_run
from vitpose_jax.tasks import run
run.TASKS["regression"] = regression_run
{before}
runpy.run_module("vitpose_jax.main", run_name="__main__")
"""


def start(folder, *options, before=""):
    """Start `python -m vitpose_jax.main` on it; `before` is code that runs first."""
    config = [f"--config={__file__}", f"--workdir={folder}"]
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(before=before), *config, *options],
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

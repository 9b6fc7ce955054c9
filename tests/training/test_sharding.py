"""One device or eight, replicated or fully sharded: the same training."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
import jax, numpy as np
sys.path.insert(0, {folder!r})
from jax.sharding import Mesh
from tiny_config import get_config
from vitpose_jax.training import sharding
from vitpose_jax.training.settings import RunSettings, read_part
from vitpose_jax.training.trainer import Trainer
from vitpose_jax.tasks.pose import build_problem

def losses(optimizer, devices, kind):
    mesh = Mesh(np.asarray(jax.devices()[:devices]), (sharding.AXIS,))
    sharding.device_mesh = lambda: mesh
    config = get_config()
    config.sharding, config.ema = kind, 0.9
    config.optimizer.kind, config.optimizer.lr = optimizer, 1e-3
    trainer = Trainer(task, read_part(RunSettings, config))
    state, found = trainer.state, []
    for batch in batches:
        state, metrics = trainer.step(state, trainer.shard(batch), trainer.key)
        found.append(float(metrics["loss"]))
    kernel = state.trainable["backbone.blocks.0.mlp.fc1.kernel"]
    shard = kernel.addressable_shards[0].data.shape
    return np.array(found), kernel.size // np.prod(shard), state

task = build_problem(get_config())
stream = iter(task.train_batches)
batches = [next(stream) for _ in range(20)]
for optimizer in ("adamw", "muon"):
    one, parts, _ = losses(optimizer, 1, "data")
    assert parts == 1
    eight, parts, _ = losses(optimizer, 8, "data")
    assert parts == 1
    np.testing.assert_allclose(eight, one, rtol=1e-5)
    full, parts, state = losses(optimizer, 8, "full")
    assert parts == 8, parts
    np.testing.assert_allclose(full, one, rtol=1e-5)
    moments = 0
    for path, value in jax.tree_util.tree_leaves_with_path(state.optimizer):
        name = getattr(path[-1], "key", None)
        if name in state.trainable:
            moments += 1
            assert value.sharding == state.trainable[name].sharding, path
    assert moments >= len(state.trainable)
    assert one[-1] < one[0]
"""


def test_eight_devices_train_as_one():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    script = SCRIPT.format(folder=str(Path(__file__).parents[1]))
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]

"""Forecasting SoMoF's scenes: 14 frames of two people's 3D joints from 16, 15 frames a second.

    python -m vitpose_jax.main --config=configs/forecast_somof.py:data/3dpw --workdir=runs/somof
    python -m vitpose_jax.main --config=configs/forecast_somof.py:data/3dpw,benchmark \\
        --workdir=runs/somof_3dpw

The argument is a folder with `sequenceFiles` in 3DPW's layout. By default its train split trains,
which suits other motion in that layout; `benchmark` swaps the splits of 3DPW itself as SoMoF does.
Synthetic motion is added. The scenes are made up of people from different recordings, before a
moving camera, and so are those that choose the checkpoint. docs/forecasting.md has the benchmark.
"""

import ml_collections

from vitpose_jax.data.motion import somof
from vitpose_jax.tasks.recipes import training_recipe


def get_config(argument: str = "data/3dpw", data: str = "") -> ml_collections.ConfigDict:
    named, _, use = argument.partition(",")
    config = training_recipe("scenes", data or named)
    own = {name: name for name in ("train", "validation")}
    swapped = {name: somof.THREEDPW_SPLIT[name] for name in own}
    config.splits = swapped if use == "benchmark" else own
    config.synthetic = 24
    config.paces = (0.5, 0.7, 0.85, 1.2)
    config.observed, config.future, config.fps = somof.OBSERVED, somof.FUTURE, somof.FPS

    config.model = {
        "kind": "forecaster",
        "differences": 3,
        "width": 64,
        "depth": 1,
        "num_heads": 4,
        "readout_width": 256,
        "readout_depth": 3,
        "dropout": 0.1,
        "mixture": True,
        "path": True,
        "heading": (0, 1),
        "spread": True,
    }
    config.scenes = {
        "company": 0.6,
        "distance": (0.5, 3.0),
        "proportions": 0.05,
        "smpl": 0.6,
        "drift": 0.4,
        "swing": 0.1,
        "jitter": 0.002,
        "flip": 0.5,
        "reverse": 0.2,
        "swap": 0.2,
        "damp": 0.3,
    }

    config.batch_size = 64
    config.epochs, config.steps = None, 2000
    config.optimizer.update(lr=1e-3, weight_decay=0.05, b2=0.99)
    config.schedule.update(kind="cosine", milestones=(), warmup_steps=100, final_ratio=0.001)
    config.ema = 0.995

    config.eval_every = config.checkpoint_every = 500
    config.log_every = 100
    return config

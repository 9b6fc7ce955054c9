"""Forecasting 5 frames of motion from 10: our transformer on 3DPW's 2D detections.

    python -m vitpose_jax.main --config=configs/forecast_3dpw.py:data/3dpw --workdir=runs/forecast
    python -m vitpose_jax.main --config=configs/forecast_3dpw.py:synthetic --workdir=runs/synthetic
    python -m vitpose_jax.main --config=configs/forecast_3dpw.py:data/3dpw,projected \\
        --workdir=runs/projected

The argument is the folder with `sequenceFiles`, then after a comma what to forecast: detections
(the default), projected, joints3d, keypoints (see `vitpose prepare-3dpw`), or a paper's protocol:
centred (3DPW's 23 joints around the pelvis, 30 frames from 10) or cmu (the folder cmu_mocap of CMU
motion capture, 25 frames from 10). Or it is `synthetic`: generated 2D motion.

`--config.init_from` is a weights folder to start from, written by a forecaster
with the same `config.model`. Training ends with a table of the run and the baselines on the test
split; `--mode=eval` prints it again, and `--config.compare` adds other runs, weights folders or the
original's PyTorch files.
"""

import ml_collections

from vitpose_jax.data.motion import cmu_mocap
from vitpose_jax.tasks.recipes import training_recipe

PAPERS = {
    "centred": (10, 30, 30.0),
    "cmu": (cmu_mocap.OBSERVED, cmu_mocap.FUTURE, cmu_mocap.FPS),
}
"""Frames observed and forecast, and their rate, in papers' protocols; docs/forecasting.md."""


def get_config(argument: str = "data/3dpw", data: str = "") -> ml_collections.ConfigDict:
    named, _, kind = argument.partition(",")
    data = data or named
    config = training_recipe("forecast", data)
    config.input = kind or ("synthetic" if data == "synthetic" else "detections")
    config.observed, config.future, config.stride = 10, 5, 1
    config.fps = 30.0
    if config.input in PAPERS:
        config.observed, config.future, config.fps = PAPERS[config.input]
    projected = config.input == "projected"
    exact = config.input in ("projected", "joints3d", *PAPERS)  # without a detector's noise

    config.model = {
        "kind": "forecaster",
        "differences": 4 if exact else 1,
        "width": 128 if exact else 64,
        "depth": 1,
        "num_heads": 4,
        "readout_width": 384,
        "readout_depth": 4,
        "dropout": 0.0 if exact else 0.05,
        "members": 3 if projected else 1,
        "mixture": False,
        "spread": False,
    }
    config.synthetic = 0
    config.augmentation = {
        "flip": 0.5,
        "view": 1.0 if exact else 0.6,
        "rotation": 0.03,
        "reverse": 0.0,
        "missing": 0.0 if exact else 0.1,
        "paces": (0.8, 0.9, 1.1, 1.25) if projected else (),
    }

    config.batch_size = 128
    config.epochs, config.steps = None, 5000 if projected else 4000
    config.optimizer.update(lr=1e-3, weight_decay=0.05, b2=0.99)
    config.schedule.update(kind="cosine", milestones=(), warmup_steps=200, final_ratio=0.001)
    config.ema = 0.998

    config.eval_every = config.checkpoint_every = 500
    config.log_every = 100
    config.eval = {"split": "test", "stride": 2, "complete": True}
    config.compare = ()
    return config

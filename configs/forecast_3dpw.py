"""Forecasting 5 frames of motion from 10: our transformer on 3DPW's 2D detections.

python -m vitpose_jax.main --config=configs/forecast_3dpw.py:data/3dpw --workdir=runs/forecast
python -m vitpose_jax.main --config=configs/forecast_3dpw.py:synthetic --workdir=runs/synthetic
python -m vitpose_jax.main --config=configs/forecast_3dpw.py:data/3dpw,projected --workdir=runs/3d

The argument is the folder with `sequenceFiles` (or `synthetic`), and after a comma what to
forecast: detections, projected, joints3d or keypoints (see `vitpose prepare-3dpw`); synthetic
motion is of 2D keypoints alone, and nothing is said after it. `--config.init_from` is a weights
folder to start from, of a forecaster with the same `config.model`. Training ends with a table of
the run and the baselines on the test split; `--mode=eval` prints it again, with `--config.compare`
any number of other runs, weights folders and PyTorch files of the original.
"""

import ml_collections


def get_config(argument: str = "data/3dpw") -> ml_collections.ConfigDict:
    data, _, kind = argument.partition(",")
    config = ml_collections.ConfigDict()
    config.task = "forecast"
    config.seed = 0
    config.data = data
    config.input = kind or ("synthetic" if data == "synthetic" else "detections")
    config.observed, config.future, config.stride = 10, 5, 1
    config.fps = 30.0
    projected = config.input == "projected"
    exact = projected or config.input == "joints3d"  # no detector's noise in it

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
    }
    config.init_from = ""
    config.frozen = ()
    config.augmentation = {
        "flip": 0.5,
        "view": 1.0 if exact else 0.6,
        "rotation": 0.03,
        "reverse": 0.0,
        "missing": 0.0 if exact else 0.1,
        "paces": (0.8, 0.9, 1.1, 1.25) if projected else (),
    }

    config.batch_size = 128
    config.steps = 5000 if projected else 4000
    config.optimizer = {"lr": 1e-3, "weight_decay": 0.05, "clip_norm": 1.0, "b2": 0.99}
    config.schedule = {"kind": "cosine", "warmup_steps": 200, "final_ratio": 0.001}
    config.ema = 0.998

    config.eval_every = config.checkpoint_every = 500
    config.log_every = 100
    config.eval = {"split": "test", "stride": 2, "complete": True}
    config.compare = ()
    return config

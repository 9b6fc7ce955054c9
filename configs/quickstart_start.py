"""The half-trained weights that `vitpose quickstart` starts from, made from nothing.

    python -m vitpose_jax.main --config=configs/quickstart_start.py:synthetic-solo \
        --workdir=runs/quickstart_start
    vitpose export runs/quickstart_start --step latest --out vitpose_jax/training/quickstart_start

The learning rate is left high at the end, so that there is something to learn afterwards.
"""

import ml_collections

from vitpose_jax.training.quickstart import small_config


def get_config(data: str = "synthetic-solo") -> ml_collections.ConfigDict:
    config = small_config(data, steps=3000)
    config.schedule.final_ratio = 0.3
    config.eval_every = 500
    config.checkpoint_every = 250
    return config

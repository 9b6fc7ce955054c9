"""A pyramid that sees the picture again, on a frozen ViTPose-B with its decoder.

    python -m vitpose_jax.main --config=configs/fpn_detail.py:coco --workdir=runs/fpn_detail

It starts out as exactly ViTPose-B, and only the pyramid learns. The argument is the data set. For
the comparison with the other pyramids, see fpn.py and experiments/fpn_study.
"""

import ml_collections

from configs import fpn


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    config = fpn.get_config(f"detail,{data}")
    config.train_share, config.epochs = 1.0, 10.0
    config.optimizer.lr = 2e-3
    config.schedule.update(kind="cosine", milestones=())
    config.eval_every = 1.0
    return config

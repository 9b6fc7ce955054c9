"""A pyramid that sees the picture again, on a frozen ViTPose-B with its decoder.

    python -m vitpose_jax.main --config=configs/fpn_detail.py:coco --workdir=runs/fpn_detail

It starts out as exactly ViTPose-B, and only the pyramid learns. The argument is the data set. For
the comparison with the other pyramids, see fpn.py and experiments/fpn_study.
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    config = frozen_backbone_recipe(data, {"kind": "detail", "channels": 64})
    config.init_parts = config.follow_weights = config.frozen = ("backbone", "decoder")
    config.train_share, config.epochs = 1.0, 10.0
    config.optimizer.lr = 2e-3
    config.schedule.update(kind="cosine", milestones=())
    config.eval_every = 1.0
    return config

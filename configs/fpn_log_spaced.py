"""Log-spaced strides 1, 3, 9, 27 (not published).

The pyramid as the ViTPose-FPN study coded it, over the last map of a frozen ViTPose-B.

python -m vitpose_jax.main --config=configs/fpn_log_spaced.py:coco --workdir=runs/fpn_log_spaced
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    neck = {
        "kind": "strided",
        "strides": (1, 3, 9, 27),
        "cumulative": True,
        "downsample": "subsample",
        "top_down": "coarsest",
        "init_std": 0.001,
    }
    return frozen_backbone_recipe(data, neck)

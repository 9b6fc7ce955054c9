"""Wide-gap strides 1, 2, 8, 32 (not published).

The pyramid as the ViTPose-FPN study coded it, over the last map of a frozen ViTPose-B.

python -m vitpose_jax.main --config=configs/fpn_wide_gap.py:coco --workdir=runs/fpn_wide_gap
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    neck = {
        "kind": "strided",
        "strides": (1, 2, 8, 32),
        "cumulative": True,
        "downsample": "subsample",
        "top_down": "coarsest",
        "init_std": 0.001,
    }
    return frozen_backbone_recipe(data, neck)

"""Dense strides 1, 2, 4, 8 (published: AP 74.87, AR 80.32).

The pyramid as the ViTPose-FPN study coded it, over the last map of a frozen ViTPose-B.

python -m vitpose_jax.main --config=configs/fpn_dense.py:coco --workdir=runs/fpn_dense
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    neck = {
        "kind": "strided",
        "strides": (1, 2, 4, 8),
        "cumulative": True,
        "downsample": "subsample",
        "top_down": "coarsest",
        "init_std": 0.001,
    }
    return frozen_backbone_recipe(data, neck)

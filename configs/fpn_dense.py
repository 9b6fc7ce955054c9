"""The published pyramid with strides 1, 2, 4, 8 on a frozen ViTPose-B: AP 74.87, AR 80.32.

    python -m vitpose_jax.main --config=configs/fpn_dense.py:coco --workdir=runs/fpn_dense

The argument is the data set. The other pyramids are in fpn.py.
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe, published_pyramid


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    return frozen_backbone_recipe(data, published_pyramid(1, 2, 4, 8))

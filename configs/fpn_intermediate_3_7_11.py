"""Blocks 3, 7, 11 (published: AP 26.53, AR 35.95).

Blocks fused as the ViTPose-FPN study coded it, on a frozen ViTPose-B: its backbone had no row for
the class token's position, so a random position embedding took the pretrained one's place, and its
stochastic depth stayed on.

python -m vitpose_jax.main --config=configs/fpn_intermediate_3_7_11.py:coco --workdir=runs/fpn
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    neck = {
        "kind": "blocks",
        "taps": (3, 7, 11),
        "strides": (9, 3, 1),
        "tap_norm": False,
        "init_std": 0.001,
    }
    config = frozen_backbone_recipe(data, neck)
    config.random_positions = True
    config.drop_in_frozen = True
    return config

"""The classic decoder, trained anew on a frozen ViTPose-B: what the pyramids' budget alone gives.

python -m vitpose_jax.main --config=configs/head_baseline.py:coco --workdir=runs/head_baseline
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    return frozen_backbone_recipe(data)

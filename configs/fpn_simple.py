"""ViTDet's simple pyramid from the last map of a frozen ViTPose-B, up to the heatmaps' size.

python -m vitpose_jax.main --config=configs/fpn_simple.py:coco --workdir=runs/fpn_simple
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    return frozen_backbone_recipe(data, {"kind": "simple", "channels": 256}, {"filters": ()})

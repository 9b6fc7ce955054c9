"""A residual pyramid over blocks 3, 7 and 11 on a frozen ViTPose-B with its own decoder.

It starts as exactly ViTPose-B; the decoder is frozen too, so that only the pyramid learns.

python -m vitpose_jax.main --config=configs/fpn_residual.py:coco --workdir=runs/fpn_residual
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    neck = {"kind": "residual", "taps": (3, 7), "strides": (1, 2, 4), "channels": 256}
    config = frozen_backbone_recipe(data, neck)
    config.init_parts = ("backbone", "decoder")
    config.frozen = ("backbone", "decoder")
    return config

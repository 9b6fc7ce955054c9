"""A small ViT on 4,500 photographs of gymnastics, parkour and athletics, on a laptop CPU.

python -m vitpose_jax.main --config=configs/lspet_small.py:data/lspet-coco --workdir=runs/lspet
"""

import ml_collections

from vitpose_jax.training.recipes import small_recipe


def get_config(data: str = "data/lspet-coco") -> ml_collections.ConfigDict:
    config = small_recipe(data, steps=4000)
    config.eval.metrics = ("pck_torso",)
    return config

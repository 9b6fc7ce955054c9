"""A small ViT on 4,500 photographs of gymnastics, parkour and athletics, on a laptop CPU.

    python convert/lspet_to_coco.py lspet_dataset --out data/lspet-coco
    python -m vitpose_jax.main --config=configs/lspet_small.py:synthetic --workdir=runs/synthetic
    vitpose export runs/synthetic --out weights/synthetic
    python -m vitpose_jax.main --config=configs/lspet_small.py:data/lspet-coco \\
        --workdir=runs/lspet --config.init_from=weights/synthetic

The first line converts the official release of Leeds Sports Pose Extended (lspet_dataset.zip,
unpacked: `images/` and `joints.mat`) to COCO's layout. Training starts on synthetic people (for
which there are fewer steps, and the metric is AP) and continues on the photographs, where the
metric is PCK@0.2 of the torso.
"""

import ml_collections

from vitpose_jax.tasks.recipes import small_recipe


def get_config(data: str = "data/lspet-coco") -> ml_collections.ConfigDict:
    synthetic = data.startswith("synthetic")
    config = small_recipe(data, steps=4000 if synthetic else 8000)
    config.init_parts = ("backbone", "decoder")
    config.eval.metrics = ("coco", "pck_torso") if synthetic else ("pck_torso",)
    return config

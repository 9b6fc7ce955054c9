"""Pyramids between a frozen ViTPose-B and its decoder.

    python -m vitpose_jax.main --config=configs/fpn.py:residual,coco --workdir=runs/fpn_residual

The argument gives a row of this table and a data set, in either order (default: `residual` and
`coco`). AP and AR are those that the ViTPose-FPN study published.

| row                  | what                                                    | AP    | AR    |
|----------------------|---------------------------------------------------------|-------|-------|
| dense                | strides 1, 2, 4, 8 on the last map; also fpn_dense.py   | 74.87 | 80.32 |
| log_spaced           | strides 1, 3, 9, 27                                     |       |       |
| wide_gap             | strides 1, 2, 8, 32                                     |       |       |
| intermediate_9_10_11 | blocks 9, 10 and 11, fused                              | 30.52 | 38.72 |
| intermediate_3_7_11  | blocks 3, 7 and 11, fused                               | 26.53 | 35.95 |
| simple               | ViTDet's simple pyramid, up to the heatmaps' size       |       |       |
| residual             | blocks 3, 7 and 11, added to the last map; starts as    |       |       |
|                      | exactly ViTPose-B, and only the pyramid learns          |       |       |
| detail               | sees the picture again and corrects the heatmaps; also  |       |       |
|                      | starts as exactly ViTPose-B; also fpn_detail.py         |       |       |
| head_baseline        | no pyramid: what training a new decoder alone achieves  |       |       |

The first five are as the study coded them. For intermediate maps, its backbone had no row for the
class token's position, so a random position embedding replaced the pretrained one, and its
stochastic depth stayed on.
"""

import ml_collections

from vitpose_jax.tasks.recipes import frozen_backbone_recipe, published_pyramid, read_words

FUSED = {"kind": "blocks", "strides": (9, 3, 1), "tap_norm": False, "init_std": 0.001}
NECKS = {
    "dense": published_pyramid(1, 2, 4, 8),
    "log_spaced": published_pyramid(1, 3, 9, 27),
    "wide_gap": published_pyramid(1, 2, 8, 32),
    "intermediate_9_10_11": FUSED | {"taps": (9, 10, 11)},
    "intermediate_3_7_11": FUSED | {"taps": (3, 7, 11)},
    "simple": {"kind": "simple", "channels": 256},
    "residual": {"kind": "residual", "taps": (3, 7), "strides": (1, 2, 4), "channels": 256},
    "detail": {"kind": "detail", "channels": 64},
    "head_baseline": None,
}


def get_config(argument: str = "", data: str = "") -> ml_collections.ConfigDict:
    row, named = read_words(argument, "residual,coco", row=NECKS)
    config = frozen_backbone_recipe(data or named, NECKS[row])
    if row.startswith("intermediate"):
        config.random_positions = config.drop_in_frozen = True
    elif row == "simple":
        config.model.decoder.filters = ()
    elif row in ("residual", "detail"):
        config.init_parts = config.follow_weights = config.frozen = ("backbone", "decoder")
    return config

"""ViTPose on COCO by the original's recipe, in four sizes and with two decoders.

    python -m vitpose_jax.main --config=configs/vitpose.py:base,simple,coco \\
        --workdir=runs/vitpose_b_simple --config.init_from=mae_pretrain_vit_base.pth

The argument gives a size, a decoder and a data set, in any order; the defaults are `base`,
`classic` and `coco`. The data set is `coco` ($COCO_DIR or data/coco), `synthetic` (which needs no
files), or a folder in COCO's layout or written by `vitpose prepare` (write ./NAME if the folder has
the name of a size, decoder or data set).

Published results on COCO val2017, with flip test and the boxes of the 56 AP detector
(`--config.eval.boxes=FILE`); not reproduced here for lack of COCO:

| size  | classic: AP, AR | simple: AP, AR |
|-------|-----------------|----------------|
| small | 73.8, 79.2      | 73.5, 78.9     |
| base  | 75.8, 81.1      | 75.5, 80.9     |
| large | 78.3, 83.5      | 78.2, 83.4     |
| huge  | 79.1, 84.1      | 78.9, 84.0     |

`init_from` takes published weights of ViTPose, whose size and decoder the model then has unless the
argument names others, or MAE's pretrained weights (the 14x14 patches of ViT-H are padded to 16x16,
as in the original). `--config.sharding=full` splits the parameters over the devices, and
`--config.accumulate=4` accumulates the gradients of each batch over four parts.
"""

import ml_collections

from vitpose_jax.models.decoders import DECODERS
from vitpose_jax.models.vit import VIT_SIZES
from vitpose_jax.tasks.recipes import original_recipe, read_words


def get_config(argument: str = "", data: str = "") -> ml_collections.ConfigDict:
    size, decoder, named = read_words(argument, ",,", size=VIT_SIZES, decoder=DECODERS)
    config = original_recipe(size or "base", data or named or "coco", decoder or "classic")
    open_parts = {"backbone": not size, "neck": not decoder, "decoder": not decoder}
    config.follow_weights = tuple(part for part, is_open in open_parts.items() if is_open)
    return config

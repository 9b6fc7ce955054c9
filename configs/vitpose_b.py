"""ViTPose-B, classic decoder, on COCO: the original's recipe.

    python -m vitpose_jax.main --config=configs/vitpose_b.py:coco \\
        --workdir=runs/vitpose_b --config.init_from=mae_pretrain_vit_base.pth

The argument is the data set: `coco` ($COCO_DIR or data/coco), `synthetic`, or a folder in COCO's
layout. Expected on COCO val2017 with flip test and the boxes of the 56 AP detector
(`--config.eval.boxes=FILE`): AP 75.8, AR 81.1, by the table in the ViTPose repository; not repeated
here for want of COCO. `--config.sharding=full` splits the parameters over the devices, and
`--config.accumulate=4` takes each batch in four parts.
"""

import ml_collections

from vitpose_jax.tasks.recipes import original_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    return original_recipe("base", data)

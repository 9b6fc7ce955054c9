"""ViTPose-H, classic decoder, on COCO: the original's recipe.

    python -m vitpose_jax.main --config=configs/vitpose_h.py:coco \\
        --workdir=runs/vitpose_h --config.init_from=mae_pretrain_vit_huge.pth

The argument is the data set: `coco` ($COCO_DIR or data/coco), `synthetic`, or a folder in COCO's
layout. Expected on COCO val2017 with flip test and the boxes of the 56 AP detector
(`--config.eval.boxes=FILE`): AP 79.1, AR 84.1, by the table in the ViTPose repository; not repeated
here for want of COCO. MAE's 14x14 patches are padded to 16x16, as there.
`--config.sharding=full` splits the parameters over the devices, and `--config.accumulate=4` takes
each batch in four parts.
"""

import ml_collections

from vitpose_jax.tasks.recipes import original_recipe


def get_config(data: str = "coco") -> ml_collections.ConfigDict:
    return original_recipe("huge", data)

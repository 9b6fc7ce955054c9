"""The smallest run that has every part: attention, stochastic depth, batch norm, real batches."""

import ml_collections

from vitpose_jax.tasks.recipes import small_recipe


def get_config(data: str = "synthetic") -> ml_collections.ConfigDict:
    config = small_recipe(data, width=32, depth=2, steps=20)
    config.model.backbone.update(input_size=(64, 48), drop_path_rate=0.2)
    config.model.decoder.filters = (8, 8)
    config.batch_size = 16
    config.schedule.warmup_steps = 5
    config.eval_every = 20
    config.checkpoint_every = 4
    config.log_every = 1
    config.eval.update(metrics=("pck_box",), flip_test=False)
    return config

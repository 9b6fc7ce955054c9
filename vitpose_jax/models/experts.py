"""A mixture of experts as the plain model that it is for one data set."""

from dataclasses import replace

import jax.numpy as jnp
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS, expert_index
from vitpose_jax.models.pose import PoseModel


def with_one_expert(model: PoseModel) -> PoseModel:
    """The model with the expert of its data set built in; a model without experts as it is.

    In ViTPose+ the expert's output stands beside the shared output of each MLP's second layer, so
    for one data set the two are one layer.

    Raises:
        UserError: the model has experts but no data set.
    """
    config = model.config
    if not config.backbone.num_experts:
        return model
    if config.dataset is None:
        raise UserError(
            "these weights have an expert for each data set: choose one (--dataset) of "
            f"{', '.join(EXPERT_DATASETS[: config.backbone.num_experts])}"
        )
    index, backbone = expert_index(config.dataset), config.backbone
    backbone = replace(backbone, num_experts=0, part_features=0)
    plain = nnx.eval_shape(
        lambda: PoseModel(replace(config, backbone=backbone), dtype=model.dtype, rngs=nnx.Rngs(0))
    )
    arrays = dict(nnx.to_flat_state(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat))))
    graph, state = nnx.split(plain)
    for path, variable in nnx.to_flat_state(state):
        value = arrays[path][...]
        if path[-2:-1] == ("fc2",):
            expert = arrays[*path[:-2], "experts", path[-1]][...][index]
            value = jnp.concatenate([value, expert], axis=-1)
        variable.set_value(value)
    return nnx.merge(graph, state)

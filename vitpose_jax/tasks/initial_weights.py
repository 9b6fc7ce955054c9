"""Where a pose model's weights come from before training or evaluation."""

from pathlib import Path

import jax
import ml_collections

from vitpose_jax.models.pose import PoseModel
from vitpose_jax.weights import load_weights_into


def load_initial_weights(model: PoseModel, config: ml_collections.ConfigDict) -> None:
    """Load the parts `config.init_parts` ("backbone" when not set) of `config.init_from`.

    With `config.random_positions` the position embedding is random instead.

    Raises:
        UserError: the weights do not fit, as in `load_weights_into`.
    """
    if config.get("init_from"):
        parts = tuple(config.get("init_parts", ("backbone",)))
        load_weights_into(model, config.init_from, parts)
    if config.get("random_positions", False):
        positions = model.backbone.pos_embed
        key = jax.random.key(config.get("seed", 0))
        positions[...] = 0.02 * jax.random.truncated_normal(key, -2, 2, positions.shape)


def load_whole(model: PoseModel, source: str | Path) -> None:
    """Load every part, for a model that is evaluated as it is; raises as `load_weights_into`."""
    parts = ("backbone", "decoder") if model.neck is None else ("backbone", "neck", "decoder")
    load_weights_into(model, source, parts)

"""Where a pose model's weights come from before training or evaluation, and whether they fit."""

from pathlib import Path

import jax
import ml_collections

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS, plain_name
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.loading import load_parts, set_parts
from vitpose_jax.weights.sources import refuse_run


def load_initial_weights(model: PoseModel, config: ml_collections.ConfigDict) -> None:
    """`config.init_from`, into the parts `config.init_parts` ("backbone" when not set).

    With `config.random_positions` the position embedding is random instead.
    Raises UserError where the weights do not fit, as in `take_over`.
    """
    if config.get("init_from"):
        take_over(model, config.init_from, tuple(config.get("init_parts", ("backbone",))))
    if config.get("random_positions", False):
        positions = model.backbone.pos_embed
        key = jax.random.key(config.get("seed", 0))
        positions[...] = 0.02 * jax.random.truncated_normal(key, -2, 2, positions.shape)


def load_whole(model: PoseModel, source: str | Path) -> None:
    """The weights of every part, for a model that is evaluated as it is. Raises as `take_over`."""
    neck = () if model.neck is None else ("neck",)
    take_over(model, source, ("backbone", *neck, "decoder"))


def take_over(model: PoseModel, source: str | Path, parts: tuple[str, ...]) -> None:
    """Parts of `source` in place of the model's.

    Raises UserError: a training run, parts that are missing or of another shape, or a decoder of
    other keypoints.
    """
    refuse_run(source)
    stored = load_parts(model.config, source, parts)
    if "decoder" in parts:
        check_keypoints(stored.config, model.config, source)
    set_parts(model, stored, parts, str(source))


def check_keypoints(there: PoseConfig | ViTConfig, here: PoseConfig, source: str | Path) -> None:
    """Raises UserError where the decoder of `source` is known to find others than the data's."""
    if isinstance(there, ViTConfig):
        return
    theirs, ours = _keypoint_names(there), _keypoint_names(here)
    if not theirs or not ours or list(map(plain_name, theirs)) == list(map(plain_name, ours)):
        return
    if len(theirs) != len(ours):
        difference = f"{len(theirs)} ({', '.join(theirs)}), not {len(ours)} ({', '.join(ours)})"
    else:
        pairs = enumerate(zip(theirs, ours, strict=True))
        index, (one, other) = next(
            (index, pair) for index, pair in pairs if plain_name(pair[0]) != plain_name(pair[1])
        )
        difference = f"number {index} is {one!r}, not {other!r}"
    raise UserError(
        f"the decoder of {source} finds other keypoints than the data has: {difference}. Give data "
        "with the same keypoints in the same order, or train from its backbone alone "
        "(config.init_parts)"
    )


def _keypoint_names(config: PoseConfig) -> tuple[str, ...]:
    """What the decoder finds, in the order of its heatmaps; empty where that is not known."""
    skeleton = config.skeleton or SKELETONS.get(config.dataset)
    return skeleton.keypoint_names if skeleton else ()

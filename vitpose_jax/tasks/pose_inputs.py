"""What a pose configuration needs: data and weights that are there, and the weights' shape."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import ml_collections

from vitpose_jax.data.opening import find_place
from vitpose_jax.errors import UserError, together
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.tasks.recipes import LAYER_DECAY
from vitpose_jax.weights.loading import load_for_training
from vitpose_jax.weights.native import Stored
from vitpose_jax.weights.original import HEADS_OF_WIDTH
from vitpose_jax.weights.sources import resolve_source

log = logging.getLogger(__name__)


def complete(config: ml_collections.ConfigDict) -> None:
    """Make sure that data and weights are there, and give the model the weights' shape, in place.

    Weights on the hub are downloaded.

    Raises:
        UserError: something is missing or cannot be read, with a message for each.
    """
    looks: list[Callable[[], object]] = [partial(_find_boxes, config.eval.boxes)]
    for source in {str(source): source for source in (config.data, config.val_data)}.values():
        if isinstance(source, str) and source:
            looks.append(partial(find_place, source))
    backbone = ViTConfig(**config.model.backbone.to_dict())
    load = partial(load_for_training, config.init_from, backbone, tuple(config.init_parts))
    *_, stored = together(*looks, *([load] if config.init_from else []))
    if isinstance(stored, Stored):
        _follow(config, stored, backbone)


def _find_boxes(path: str) -> None:
    if path != "gt" and not Path(path).expanduser().is_file():
        raise UserError(f"config.eval.boxes: there is no file {path}")


def _follow(config: ml_collections.ConfigDict, stored: Stored, ours: ViTConfig) -> None:
    """Give the model the shape of these weights, in the parts `config.follow_weights`.

    A backbone alone says nothing on the size of crops. Stochastic depth and the layers' decay are
    the recipe's for the backbone's size.
    """
    model, parts, source = config.model, config.follow_weights, config.init_from
    found, size = stored.backbone, _size_of(stored.backbone)
    untold = found.width not in (ours.width, *HEADS_OF_WIDTH)
    if "backbone" in parts and untold and not resolve_source(source).is_dir():
        raise UserError(
            f"{source} does not say how many attention heads its backbone has, which is "
            f"{found.width} wide: set config.model.backbone.width={found.width} and .num_heads"
        )
    if "backbone" in parts or (size and size == _size_of(ours)):
        rate = VIT_SIZES[size].drop_path_rate if size else ours.drop_path_rate
        crop = found.input_size if isinstance(stored.config, PoseConfig) else ours.input_size
        found = replace(found, drop_path_rate=rate, remat=ours.remat, input_size=crop)
        if found != ours:
            log.info("the backbone is that of %s: %s", source, _describe(found))
            model.backbone.update(asdict(found))
            if size and config.optimizer.layer_decay != 1.0:
                config.optimizer.layer_decay = LAYER_DECAY[size]
    if not isinstance(stored.config, PoseConfig):
        return
    decoder, neck = stored.config.decoder, stored.config.neck
    if "decoder" in parts:
        log.info("the decoder is that of %s: %s", source, decoder.kind)
        model.decoder.update(kind=decoder.kind, filters=decoder.filters)
    if "neck" in parts and neck is not None:
        log.info("the neck is that of %s: %s", source, neck.kind)
        model.neck = asdict(neck)


def _size_of(backbone: ViTConfig) -> str:
    """The name of the published size that a backbone has; empty if it has none."""
    sizes = {(size.width, size.depth): name for name, size in VIT_SIZES.items()}
    return sizes.get((backbone.width, backbone.depth), "")


def _describe(backbone: ViTConfig) -> str:
    height, width = backbone.input_size
    name = f"ViT-{size[0].upper()}, " if (size := _size_of(backbone)) else ""
    return f"{name}{backbone.width} wide, {backbone.depth} blocks, crops of {height}x{width}"

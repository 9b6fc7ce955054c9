"""Freezing, layer-wise decay, learning-rate schedules and optimisers.

The rules are those of the original's `LayerDecayOptimizerConstructor` with `torch.optim.AdamW`,
gradient clipping and mmcv's linear warm-up.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import optax
import optax.contrib

from vitpose_jax.errors import UserError

Parameters = dict[str, jax.Array]
"""Arrays by dotted path, for example `backbone.blocks.0.attn.qkv.kernel`."""

_BLOCK = re.compile(r"backbone\.blocks\.(\d+)\.")
_EMBEDDINGS = ("backbone.pos_embed", "backbone.patch_embed.")
_NO_DECAY = ("bias", "pos_embed")

MUON_RMS = 0.2
"""Root mean square of AdamW's updates divided by the learning rate (Liu et al., 2025)."""


@dataclass(frozen=True)
class ParameterLabel:
    """How one parameter is trained; `lr_scale` multiplies the learning rate."""

    trainable: bool
    lr_scale: float
    decayed: bool


def is_under(name: str, prefixes: Sequence[str]) -> bool:
    """Whether a dotted name is one of the prefixes or lies below one."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def label_parameters(
    parameters: Mapping[str, jax.Array],
    *,
    layer_decay: float = 1.0,
    frozen: Sequence[str] = (),
) -> dict[str, ParameterLabel]:
    """Label every parameter by its name and rank. Vectors and positions have no weight decay.

    Args:
        parameters: arrays by dotted name.
        layer_decay: with depth d, the learning rate is multiplied by layer_decay^(d+1) for the
            embeddings, by layer_decay^(d-i) for block i, and by 1 for everything after the blocks.
        frozen: parts that are not trained ("backbone", "decoder.final", ...).

    Raises:
        UserError: a frozen part does not exist.
    """
    for part in frozen:
        if not any(is_under(name, [part]) for name in parameters):
            tops = sorted({name.split(".")[0] for name in parameters})
            raise UserError(f"config.frozen: the model has no {part!r}; its parts are {tops}")
    blocks = [int(match[1]) for name in parameters if (match := _BLOCK.match(name))]
    depth = max(blocks, default=-1) + 1

    def distance_from_head(name: str) -> int:
        if match := _BLOCK.match(name):
            return depth - int(match[1])
        return depth + 1 if name.startswith(_EMBEDDINGS) else 0

    return {
        name: ParameterLabel(
            trainable=not is_under(name, frozen),
            lr_scale=layer_decay ** distance_from_head(name),
            decayed=value.ndim > 1 and not name.endswith(_NO_DECAY),
        )
        for name, value in parameters.items()
    }


def step_schedule(
    lr: float, *, milestones: Sequence[int], gamma: float = 0.1, warmup: int, warmup_ratio: float
) -> optax.Schedule:
    """Return a schedule that is multiplied by `gamma` at every milestone, with a warm-up."""
    steps = optax.piecewise_constant_schedule(lr, dict.fromkeys(milestones, gamma))
    return _warm_up(steps, warmup, warmup_ratio)


def cosine_schedule(
    lr: float, *, total: int, final_ratio: float = 0.0, warmup: int, warmup_ratio: float
) -> optax.Schedule:
    """Return half a cosine from lr to lr x final_ratio over `total` steps, with a warm-up."""
    cosine = optax.cosine_decay_schedule(lr, max(total, 1), alpha=final_ratio)
    return _warm_up(cosine, warmup, warmup_ratio)


def _warm_up(schedule: optax.Schedule, warmup: int, ratio: float) -> optax.Schedule:
    """As mmcv: multiply the schedule by a factor that rises linearly from `ratio` to 1."""
    if warmup <= 0:
        return schedule
    rise = optax.linear_schedule(ratio, 1.0, warmup)
    return lambda step: schedule(step) * rise(step)


def make_optimizer(
    kind: str,
    labels: Mapping[str, ParameterLabel],
    schedule: optax.Schedule,
    *,
    weight_decay: float,
    clip_norm: float | None = 1.0,
    b2: float = 0.999,
) -> optax.GradientTransformation:
    """Return an optimiser over flat parameters, with decoupled weight decay.

    Args:
        kind: a key of DIRECTIONS.
        labels: of the trainable parameters, by dotted name.
        schedule: learning rate by step.
        weight_decay: for the parameters labelled `decayed`; multiplied by the learning rate.
        clip_norm: bound of the global gradient norm, or None.
        b2: decay of the average of squared gradients.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in DIRECTIONS:
        raise UserError(f"config.optimizer.kind is {kind!r}; choose one of {', '.join(DIRECTIONS)}")

    def scale_layers(
        updates: Parameters, state: optax.OptState, params: Parameters | None = None
    ) -> tuple[Parameters, optax.OptState]:
        return {name: update * labels[name].lr_scale for name, update in updates.items()}, state

    return optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        DIRECTIONS[kind](labels, b2),
        optax.add_decayed_weights(
            weight_decay, mask={name: label.decayed for name, label in labels.items()}
        ),
        optax.GradientTransformation(lambda params: optax.EmptyState(), scale_layers),
        optax.scale_by_learning_rate(schedule),
    )


def _adam(labels: Mapping[str, ParameterLabel], b2: float) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=0.9, b2=b2, eps=1e-8)


def _muon(labels: Mapping[str, ParameterLabel], b2: float) -> optax.GradientTransformation:
    """Muon (Jordan, 2024) for the matrices of the backbone's blocks, AdamW for everything else.

    Muon's orthogonal updates are multiplied by 0.2 sqrt(longer side), which gives them the root
    mean square of AdamW's, so that one learning rate suits both (Liu et al., "Muon is Scalable for
    LLM Training", 2025).
    """
    kinds = {
        name: "muon" if _BLOCK.match(name) and label.decayed else "adam"
        for name, label in labels.items()
    }

    def match_adam(
        updates: Parameters, state: optax.OptState, params: Parameters | None = None
    ) -> tuple[Parameters, optax.OptState]:
        scaled = jax.tree.map(lambda x: x * MUON_RMS * max(x.shape[-2:]) ** 0.5, updates)
        return scaled, state

    def as_matrices(params: Parameters) -> Any:
        matrix = optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
        return jax.tree.map(lambda x: matrix, params)  # axes before these two are experts

    matched = optax.GradientTransformation(lambda params: optax.EmptyState(), match_adam)
    orthogonal = optax.contrib.scale_by_muon(weight_dimension_numbers=as_matrices)
    directions = {"muon": optax.chain(orthogonal, matched), "adam": _adam(labels, b2)}
    return optax.partition(directions, kinds)


DIRECTIONS: dict[
    str, Callable[[Mapping[str, ParameterLabel], float], optax.GradientTransformation]
] = {"adamw": _adam, "muon": _muon}
"""The choices of `config.optimizer.kind`; the original uses adamw."""


def parameter_table(
    parameters: Mapping[str, jax.Array], labels: Mapping[str, ParameterLabel]
) -> str:
    """Describe each part (a block, the embeddings, ...) in one line: size, trained or not, rate."""
    rows: dict[tuple[str, bool, float], int] = {}
    for name, value in parameters.items():
        label = labels[name]
        key = (_part(name), label.trainable, round(label.lr_scale, 6))
        rows[key] = rows.get(key, 0) + value.size
    lines = [f"{'part':<28}{'parameters':>14}  {'trained':<8}{'lr scale':>10}"]
    for (part, trainable, scale), count in rows.items():
        rate = f"{scale:.4g}" if trainable else "-"
        lines.append(f"{part:<28}{count:>14,}  {'yes' if trainable else 'frozen':<8}{rate:>10}")
    total = sum(value.size for value in parameters.values())
    trained = sum(value.size for name, value in parameters.items() if labels[name].trainable)
    lines.append(f"{'total':<28}{total:>14,}  {trained:,} trained")
    return "\n".join(lines)


def _part(name: str) -> str:
    pieces = name.split(".")
    numbered = next((i for i, piece in enumerate(pieces) if piece.isdigit()), None)
    return ".".join(pieces[: 2 if numbered is None else numbered + 1])

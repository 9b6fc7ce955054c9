"""Configurations as typed dataclasses: reading them, and the part that is the engine's.

The dataclasses hold no defaults; those are the recipes'.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import ml_collections

from vitpose_jax.errors import UserError

Section = TypeVar("Section")


def read_section(kind: type[Section], values: Any, where: str) -> Section:
    """Return `kind(**values)`, fields that are dataclasses themselves read in the same way.

    Args:
        kind: a dataclass.
        values: the section.
        where: its name in messages, such as "config.augmentation".

    Raises:
        UserError: `kind` has no such field, or one without a default is not set.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}; it must be a section")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # TypeVar cannot be bound to dataclasses
    if unknown := [name for name in values if name not in fields]:
        raise UserError(f"{where} has no {unknown[0]!r}; its fields are {', '.join(fields)}")
    nothing = dataclasses.MISSING
    for name, field in fields.items():
        if name not in values and field.default is nothing and field.default_factory is nothing:
            raise UserError(f"{where}.{name} is not set")
    types = get_type_hints(kind)
    return kind(
        **{
            name: read_section(types[name], value, f"{where}.{name}")
            if dataclasses.is_dataclass(types[name])
            else value
            for name, value in values.items()
        }
    )


def read_part(kind: type[Section], config: ml_collections.ConfigDict) -> Section:
    """Return the part of a configuration that `kind` has fields for.

    Raises:
        UserError: as for `read_section`.
    """
    names = get_type_hints(kind)
    values = {name: value for name, value in config.to_dict().items() if name in names}
    return read_section(kind, values, "config")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """`config.optimizer`.

    Attributes:
        kind: a key of `optimizer.OPTIMIZERS`.
        lr: the peak learning rate.
        weight_decay: decoupled, times the learning rate.
        layer_decay: factor of the learning rate from one block to the one before it.
        clip_norm: bound of the gradient's global norm; None leaves it.
        b2: decay of the squared gradients' average.
    """

    kind: str
    lr: float
    weight_decay: float
    layer_decay: float
    clip_norm: float | None
    b2: float


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """`config.schedule`.

    Attributes:
        kind: step or cosine.
        milestones: where a step schedule divides the rate by 10, in epochs or steps.
        warmup_steps: how long the rate rises linearly from `warmup_ratio` of its value.
        warmup_ratio: see `warmup_steps`.
        final_ratio: the share of the peak rate that a cosine ends on.
    """

    kind: str
    milestones: tuple[float, ...]
    warmup_steps: int
    warmup_ratio: float
    final_ratio: float


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What the engine reads of a configuration, the same for every task.

    Attributes:
        seed: of all randomness.
        frozen: parts of the model that are not trained ("backbone", "decoder.final").
        batch_size: samples in a step, over all devices.
        accumulate: into how many parts, taken one after another, a batch is split.
        sharding: a member of `sharding.SHARDINGS`.
        epochs, steps: the run's length; one of them is None or 0.
        ema: decay of the moving average of the parameters; 0 keeps none.
        eval_every, checkpoint_every: in epochs where `epochs` is set, else in steps.
        eval_first: also evaluate before the first step.
        log_every: in steps.
    """

    seed: int
    frozen: tuple[str, ...]
    batch_size: int
    accumulate: int
    sharding: str
    optimizer: OptimizerSettings
    epochs: float | None
    steps: int | None
    schedule: ScheduleSettings
    ema: float
    eval_every: float
    checkpoint_every: float
    eval_first: bool
    log_every: int


class RunLength:
    """A run's length and intervals in steps, whether its settings count in epochs or in steps.

    Attributes:
        total: steps of the run.
        eval_every, save_every: steps between evaluations and between checkpoints.
    """

    def __init__(self, settings: RunSettings, train_size: int) -> None:
        """Convert the settings, for an epoch of `train_size` samples.

        Raises:
            UserError: an amount that is not positive, or both or none of epochs and steps.
        """
        epochs, steps = settings.epochs, settings.steps
        if bool(epochs) == bool(steps):
            raise UserError(
                f"set either config.epochs or config.steps and the other one to 0, not {epochs} "
                f"and {steps}; milestones, eval_every and checkpoint_every count in the same unit"
            )
        self._unit = max(train_size // settings.batch_size, 1) if epochs else 1
        self.total = self.in_steps("epochs" if epochs else "steps", epochs or steps or 0)
        self.eval_every = self.in_steps("eval_every", settings.eval_every)
        self.save_every = self.in_steps("checkpoint_every", settings.checkpoint_every)
        if settings.log_every < 1:
            raise UserError(f"config.log_every is {settings.log_every}; it must be at least 1")

    def in_steps(self, name: str, amount: float) -> int:
        """Convert an amount to whole steps, at least 1; `name` is its place in the configuration.

        Raises:
            UserError: it is not positive.
        """
        if amount <= 0:
            raise UserError(f"config.{name} is {amount:g}; it must be above 0")
        return max(round(amount * self._unit), 1)

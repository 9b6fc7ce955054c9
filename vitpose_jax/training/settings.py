"""Configurations read into typed dataclasses, and the settings of the training engine.

The dataclasses have no defaults; the recipes set all values.
"""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_type_hints

import ml_collections

from vitpose_jax.errors import UserError

Section = TypeVar("Section")

OTHER_ENTRIES = ("task", "allow_changed_data")
"""Entries of a configuration that no dataclass has: who reads it, and how a run resumes."""


def read_section(kind: type[Section], values: Any, where: str) -> Section:
    """Return `kind(**values)`, reading fields that are dataclasses in the same way.

    Args:
        kind: a dataclass.
        values: the section.
        where: its name in messages, such as "config.augmentation".

    Raises:
        UserError: `kind` has no such field, or a field without a default is not set.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}; it must be a section")
    types, nothing = get_type_hints(kind), dataclasses.MISSING
    if unknown := [name for name in values if name not in types]:
        near = difflib.get_close_matches(unknown[0], types, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; its fields are {', '.join(types)}"
        raise UserError(f"{where} has no {unknown[0]!r}{meant}")
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # there is no bound for it
        required = field.default is nothing and field.default_factory is nothing
        if required and field.name not in values:
            raise UserError(f"{where}.{field.name} is not set")
    sections = {
        name: read_section(types[name], value, f"{where}.{name}")
        for name, value in values.items()
        if dataclasses.is_dataclass(types[name])
    }
    return kind(**{**values, **sections})


def read_part(kind: type[Section], config: ml_collections.ConfigDict) -> Section:
    """Read the entries of a configuration that are fields of `kind`; raises as `read_section`."""
    names = get_type_hints(kind)
    values = {name: value for name, value in config.to_dict().items() if name in names}
    return read_section(kind, values, "config")


def check_names(config: ml_collections.ConfigDict, kind: type) -> None:
    """Make sure that the engine or the task, whose entries are the fields of `kind`, reads all.

    Raises:
        UserError: nothing reads an entry, so it may be misspelt; the message names the nearest.
    """
    names = {*get_type_hints(kind), *get_type_hints(RunSettings), *OTHER_ENTRIES}
    for name in config:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            meant = f"; did you mean config.{near[0]}?" if near else ""
            raise UserError(f"config.{name} is not an entry that training reads{meant}")


@dataclasses.dataclass(frozen=True)
class OptimizerSettings:
    """`config.optimizer`."""

    kind: str  # a key of `optimizer.DIRECTIONS`
    lr: float  # peak learning rate
    weight_decay: float  # decoupled, times the learning rate
    layer_decay: float  # learning rate of a block over that of the next
    clip_norm: float | None  # bound of the global gradient norm
    b2: float  # decay of the average of squared gradients


@dataclasses.dataclass(frozen=True)
class ScheduleSettings:
    """`config.schedule`."""

    kind: str  # step or cosine
    milestones: tuple[float, ...]  # for step: when the rate falls to a tenth
    warmup_steps: int
    warmup_ratio: float  # share of the rate at which warm-up starts
    final_ratio: float  # for cosine: share of the peak at which it ends


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """The entries of a configuration that the engine reads, the same for every task."""

    seed: int
    frozen: tuple[str, ...]  # parts that are not trained: "backbone", "decoder.final"
    batch_size: int  # over all devices
    accumulate: int  # parts of a batch over which gradients are accumulated
    sharding: str  # a member of `sharding.SHARDINGS`
    optimizer: OptimizerSettings
    epochs: float | None  # the run's length, unless `steps` is set; the unused one is None or 0
    steps: int | None
    schedule: ScheduleSettings
    ema: float  # decay of the parameters' moving average; 0 keeps none
    eval_every: float  # like `checkpoint_every` and milestones, in the unit of the run's length
    checkpoint_every: float
    eval_first: bool  # evaluate before the first step too
    log_every: int  # in steps


class RunLength:
    """A run's length and intervals in steps, whether its settings count in epochs or in steps.

    Attributes:
        total: steps of the run.
        eval_every, save_every: steps between evaluations and between checkpoints.
    """

    def __init__(self, settings: RunSettings, train_size: int) -> None:
        """Convert the settings; `train_size` is the number of samples in an epoch.

        Raises:
            UserError: an amount is not positive, or both or neither of epochs and steps are set.
        """
        epochs, steps = settings.epochs, settings.steps
        if bool(epochs) == bool(steps):
            raise UserError(
                f"set either config.epochs or config.steps, and the other to 0, not {epochs} "
                f"and {steps}; milestones, eval_every and checkpoint_every count in the same unit"
            )
        self._unit = max(train_size // settings.batch_size, 1) if epochs else 1
        self.total = self.in_steps("epochs" if epochs else "steps", epochs or steps or 0)
        self.eval_every = self.in_steps("eval_every", settings.eval_every)
        self.save_every = self.in_steps("checkpoint_every", settings.checkpoint_every)
        if settings.log_every < 1:
            raise UserError(f"config.log_every is {settings.log_every}; it must be at least 1")

    def in_steps(self, name: str, amount: float) -> int:
        """Convert `config.<name>` to whole steps, at least 1."""
        if amount <= 0:
            raise UserError(f"config.{name} is {amount:g}; it must be above 0")
        return max(round(amount * self._unit), 1)

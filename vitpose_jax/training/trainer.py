"""Everything needed to train a problem: mesh, optimiser, compiled step, initial state."""

import logging
from collections.abc import Mapping
from typing import Generic

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vitpose_jax.errors import UserError
from vitpose_jax.training import optimizer, sharding
from vitpose_jax.training.settings import RunLength, RunSettings
from vitpose_jax.training.state import Model, TrainState, create_state, merge_model, split_model
from vitpose_jax.training.step import compile_step, make_train_step
from vitpose_jax.training.task import Problem

log = logging.getLogger(__name__)


def learning_rate(settings: RunSettings, length: RunLength) -> optax.Schedule:
    """Return the schedule that `config.schedule` describes; UserError on an unknown kind.

    A warm-up longer than the run is shortened to a tenth of it, which is logged: the rate would
    never reach its peak.
    """
    schedule, lr = settings.schedule, settings.optimizer.lr
    warmup, ratio = schedule.warmup_steps, schedule.warmup_ratio
    if warmup > length.total:
        short = length.total // 10
        log.warning(
            "config.schedule.warmup_steps is %d, but the run has only %d steps: it is shortened to "
            "%d",
            *(warmup, length.total, short),
        )
        warmup = short
    if schedule.kind == "step":
        steps = [length.in_steps("schedule.milestones", value) for value in schedule.milestones]
        return optimizer.step_schedule(lr, milestones=steps, warmup=warmup, warmup_ratio=ratio)
    if schedule.kind == "cosine":
        total, final = length.total, schedule.final_ratio
        return optimizer.cosine_schedule(
            lr, total=total, final_ratio=final, warmup=warmup, warmup_ratio=ratio
        )
    raise UserError(f"config.schedule.kind is {schedule.kind!r}; choose step or cosine")


class Trainer(Generic[Model]):
    """What a run needs before its first step.

    Attributes:
        length: length and intervals of the run, in steps.
        schedule: learning rate by step.
        labels: how each parameter is trained.
        step: the compiled step; the state passed to it is donated.
        state: the initial state, on the devices.
        key: the run's random key.
    """

    def __init__(self, problem: Problem[Model], settings: RunSettings) -> None:
        """Check the settings and prepare everything; UserError if a setting is wrong."""
        self.problem, self.settings = problem, settings
        self._mesh = sharding.device_mesh()
        sharding.check_batch_size(settings.batch_size, settings.accumulate, self._mesh)
        self.length = RunLength(settings, problem.train_size)
        self.schedule = learning_rate(settings, self.length)
        self._graph, self._parameters, other = split_model(problem.model)
        self.labels = optimizer.label_parameters(
            self._parameters, layer_decay=settings.optimizer.layer_decay, frozen=settings.frozen
        )
        trained = {name: label for name, label in self.labels.items() if label.trainable}
        if not trained:
            raise UserError("config.frozen leaves nothing to train")
        update = optimizer.make_optimizer(
            settings.optimizer.kind,
            trained,
            self.schedule,
            weight_decay=settings.optimizer.weight_decay,
            clip_norm=settings.optimizer.clip_norm,
            b2=settings.optimizer.b2,
        )
        state = create_state(self._parameters, other, self.labels, update, bool(settings.ema))
        step = make_train_step(
            self._graph,
            problem.loss_fn,
            update,
            accumulate=settings.accumulate,
            ema_decay=settings.ema,
        )
        self.step = compile_step(step, state, self._mesh, settings.sharding)
        # jit copies, unlike device_put: the step donates its input, but not the model's arrays.
        places = sharding.state_sharding(state, self._mesh, settings.sharding)
        copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=places)
        self.state: TrainState = copy(jax.tree.map(np.asarray, state))
        self.key = jax.random.key(settings.seed)

    def shard(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Put this process's rows of a batch on the devices."""
        return sharding.shard_batch(batch, self._mesh)

    def evaluation_model(self, state: TrainState) -> Model:
        """The model with a state's parameters, or with their moving average if there is one."""
        return merge_model(self._graph, state.trainable, state.frozen, state.other, state.ema)

    def parameter_table(self) -> str:
        """A table of which parameters are trained, and how."""
        return optimizer.parameter_table(self._parameters, self.labels)

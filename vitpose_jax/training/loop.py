"""The training loop, the same for every task and from one CPU to many hosts."""

import json
import logging
import math
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.training import curves, optimizer, sharding, workdir
from vitpose_jax.training.checkpoints import Checkpoints
from vitpose_jax.training.interrupt import Interrupt
from vitpose_jax.training.progress import Progress
from vitpose_jax.training.state import (
    ModelGraph,
    TrainState,
    create_state,
    merge_model,
    split_model,
)
from vitpose_jax.training.step import compile_step, make_train_step
from vitpose_jax.training.task import Task

log = logging.getLogger(__name__)

IN_FLIGHT = 2
"""Steps that may run before the loss of an earlier one is looked at."""


class Length:
    """The run's length and intervals in steps: the configuration counts in epochs or in steps.

    The one that is None or 0 is not set; on the command line only the latter can be given.
    """

    def __init__(self, config: ml_collections.ConfigDict, train_size: int) -> None:
        epochs, steps = config.get("epochs"), config.get("steps")
        if bool(epochs) == bool(steps):
            raise UserError(
                f"the configuration sets either `epochs` or `steps`, the other is 0; here they are "
                f"{epochs} and {steps}. Milestones, eval_every and checkpoint_every count in the "
                "same unit"
            )
        self.unit = max(train_size // config.batch_size, 1) if epochs else 1
        self.total = self.steps("epochs" if epochs else "steps", epochs or steps)
        self.eval_every = self.steps("eval_every", config.eval_every)
        save_every = config.get("checkpoint_every", config.eval_every)
        self.save_every = self.steps("checkpoint_every", save_every)
        self.log_every = config.get("log_every", 50)  # in steps always
        if self.log_every < 1:
            raise UserError(f"config.log_every is {self.log_every}; it must be at least 1")

    def steps(self, name: str, amount: float) -> int:
        """The amount in the configuration's unit that `name` holds -> whole steps, at least 1."""
        if amount <= 0:
            raise UserError(f"config.{name} is {amount}; it must be above 0")
        return max(round(amount * self.unit), 1)


def learning_rate(config: ml_collections.ConfigDict, length: Length):
    """The schedule that `config.schedule` names; `milestones` are in the configuration's unit."""
    schedule, lr = config.schedule, config.optimizer.lr
    warmup = {"warmup": schedule.warmup_steps, "warmup_ratio": schedule.get("warmup_ratio", 0.001)}
    if schedule.kind == "step":
        milestones = [length.steps("schedule.milestones", value) for value in schedule.milestones]
        return optimizer.step_schedule(lr, milestones=milestones, **warmup)
    if schedule.kind == "cosine":
        final = schedule.get("final_ratio", 0.0)
        return optimizer.cosine_schedule(lr, total=length.total, final_ratio=final, **warmup)
    raise UserError(f"config.schedule.kind is {schedule.kind!r}; choose step or cosine")


class Trainer:
    """A task made ready to run: mesh, compiled step, initial state."""

    def __init__(self, task: Task, config: ml_collections.ConfigDict) -> None:
        self.mesh = sharding.device_mesh()
        accumulate = config.get("accumulate", 1)
        sharding.check_batch_size(config.batch_size, accumulate, self.mesh)
        self.length = Length(config, task.train_size)
        self.schedule = learning_rate(config, self.length)
        self.graph, self.parameters, other = split_model(task.model)
        settings = config.optimizer
        self.labels = optimizer.label_parameters(
            self.parameters,
            layer_decay=settings.get("layer_decay", 1.0),
            frozen=config.get("frozen", ()),
        )
        trained = {name: label for name, label in self.labels.items() if label.trainable}
        if not trained:
            raise UserError("config.frozen leaves nothing to train")
        kind = settings.get("kind", "adamw")
        if kind not in optimizer.OPTIMIZERS:
            known = ", ".join(optimizer.OPTIMIZERS)
            raise UserError(f"config.optimizer.kind is {kind!r}; choose one of {known}")
        update = optimizer.OPTIMIZERS[kind](
            trained,
            self.schedule,
            weight_decay=settings.weight_decay,
            clip_norm=settings.get("clip_norm", 1.0),
            b2=settings.get("b2", 0.999),
        )
        ema = config.get("ema", 0.0)
        kind = config.get("sharding", "data")
        state = create_state(self.parameters, other, self.labels, update, bool(ema))
        step = make_train_step(
            self.graph, task.loss_fn, update, accumulate=accumulate, ema_decay=ema
        )
        self.step = compile_step(step, state, self.mesh, kind)
        # jit, not device_put: the step gives its input's buffers away, and these must be its own.
        places = sharding.state_sharding(state, self.mesh, kind)
        self.state = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree), out_shardings=places)(
            jax.tree.map(np.asarray, state)
        )
        self.key = jax.random.key(config.get("seed", 0))

    def shard(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        return sharding.shard_batch(batch, self.mesh)


def evaluation_model(graph: ModelGraph, state: TrainState) -> nnx.Module:
    """The model as it is evaluated: with the moving average where there is one."""
    return merge_model(graph, state.trainable, state.frozen, state.other, state.ema)


class LossWatch:
    """Looks at each step's metrics a little later, so that the device never waits for the host.

    write: called with (step, means) at every `every`-th step and the last, the means over the steps
    since the call before (after a restart over those since then), `train/` before each name.
    """

    def __init__(
        self, id_key: str, folder: Path, every: int, last: int, write: Callable[..., None]
    ) -> None:
        self._pending: deque = deque()
        self._id_key, self._folder = id_key, folder
        self._every, self._last, self._write = every, last, write
        self._recent: list[dict[str, float]] = []

    def add(self, step: int, metrics: Mapping[str, jax.Array], batch: Mapping) -> None:
        self._pending.append((step, metrics, batch.get(self._id_key)))
        while len(self._pending) > IN_FLIGHT:
            self._look()

    def drain(self) -> None:
        """Look at everything; afterwards all steps so far are known to be sound."""
        while self._pending:
            self._look()

    def _look(self) -> None:
        step, metrics, ids = self._pending.popleft()
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                self._stop(step, name, values[name], ids)
        self._recent.append(values)
        if step % self._every == 0 or step == self._last:
            recent, self._recent = self._recent, []
            means = {name: float(np.mean([row[name] for row in recent])) for name in values}
            self._write(step, {f"train/{name}": value for name, value in means.items()})

    def _stop(self, step: int, name: str, value: float, ids: np.ndarray | None) -> None:
        what = "gradient" if name == "grad_norm" else "loss"
        whose, look = "", ""
        if ids is not None:
            listed = list(map(str, np.asarray(ids).tolist()))
            file = self._folder / f"stopped_at_step_{step}.txt"
            file.write_text("\n".join(listed) + "\n")
            shown = ", ".join(listed[:16]) + (", ..." if len(listed) > 16 else "")
            whose = f"; the batch's {self._id_key}s: {shown} (all in {file})"
            look = "Look at these, or lower"
        raise UserError(
            f"the {what} became {value} at step {step}{whose}. {look or 'Lower'} "
            "config.optimizer.lr; the same command goes on from the last good checkpoint"
        )


def train(task: Task, config: ml_collections.ConfigDict, folder: str | Path) -> dict[str, float]:
    """Train to the end, or on from the newest checkpoint in `folder`; returns the last metrics.

    Raises UserError: folder of another configuration, a batch size that does not divide, a loss
    that is not finite, a last checkpoint (after the last step, or a signal) that could not be
    written. SIGTERM saves and raises SystemExit(143), Ctrl-C saves and raises KeyboardInterrupt.
    """
    folder = Path(folder)
    trainer = Trainer(task, config)
    workdir.claim(folder, config, task)
    checkpoints = Checkpoints(
        folder / workdir.CHECKPOINT_FOLDER, metric=task.metric, maximize=task.maximize
    )
    batches = iter(task.train_batches)
    state, start = trainer.state, 0
    del trainer.state
    if checkpoints.latest is not None:
        state, position = checkpoints.restore(state)
        batches.set_state(position)
        start = int(state.step)
        log.info("going on from step %d of %d", start, trainer.length.total)
    elif jax.process_index() == 0:
        log.info("configuration:\n%s", json.dumps(workdir.plain(config), indent=2))
        log.info("%s", optimizer.parameter_table(trainer.parameters, trainer.labels))
    with Interrupt() as interrupt:
        run = Run(task, config, folder, trainer, checkpoints, interrupt, start)
        try:
            return run.go_on(state, batches)
        finally:
            run.close()


class Run:
    """The part of a training run between its start (or restart) and its end."""

    def __init__(self, task, config, folder, trainer, checkpoints, interrupt, start) -> None:
        self.task, self.config, self.folder = task, config, folder
        self.trainer, self.checkpoints, self.interrupt = trainer, checkpoints, interrupt
        self.length, self.start, self.total = trainer.length, start, trainer.length.total
        every = self.length.log_every
        self.metrics = checkpoints.metrics(start)  # empty: stopped before or in the evaluation
        self.log = workdir.MetricsLog(folder, start, evaluated=bool(self.metrics))
        self.watch = LossWatch(task.id_key, folder, every, self.total, self.write_log)
        self.progress = Progress(start, self.total, config.batch_size, task.samples, every)

    def go_on(self, state: TrainState, batches) -> dict[str, float]:
        if not self.metrics and self.evaluates_at(self.start):
            self.evaluate(self.start, state, batches)
        for step in range(self.start + 1, self.total + 1):
            batch = next(batches)
            state, values = self.trainer.step(state, self.trainer.shard(batch), self.trainer.key)
            self.watch.add(step, values, batch)
            self.progress.advance()
            if step % self.length.save_every == 0 or self.evaluates_at(step):
                self.save(step, state, batches)
            if self.evaluates_at(step):
                self.evaluate(step, state, batches)
            if self.interrupt.requested(step):
                self.leave(step, state, batches)
        return self.finish(state, batches)

    def evaluates_at(self, step: int) -> bool:
        if step == 0:
            return self.config.get("eval_first", False)
        return step % self.length.eval_every == 0 or step == self.total

    def write_log(self, step: int, values: dict[str, float]) -> None:
        rate = float(self.trainer.schedule(step - 1))
        values |= {"train/lr": rate, "train/per_second": self.progress.rate()}
        self.log.write(step, values)
        self.progress.show(step, values)

    def save(self, step, state, batches) -> None:
        self.watch.drain()
        self.checkpoints.save(step, state, batches.get_state())

    def evaluate(self, step, state, batches) -> None:
        """Metrics of the model as it stands, kept with its checkpoint and logged, and a picture.

        The checkpoint comes first: an evaluation that fails or is stopped costs no steps, and is
        made up for at the next start.
        """
        try:
            with self.progress.paused(), self.interrupt.immediate():
                model = evaluation_model(self.trainer.graph, state)
                self.metrics = self.task.evaluate(model)
                picture = self.task.draw(model)
        except Interrupt.Requested:
            self.leave(step, state, batches)
        self.checkpoints.rate(step, self.metrics)
        self.log.write(step, {f"eval/{name}": value for name, value in self.metrics.items()})
        if picture is not None and jax.process_index() == 0:
            self.log.picture(step, "predictions", picture)
            curves.save_picture(self.folder / "pictures" / f"step_{step:07d}.jpg", picture)
        totals = {name: value for name, value in self.metrics.items() if "/" not in name}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in totals.items())
        log.info("step %d of %d: %s", step, self.total, shown)

    def leave(self, step, state, batches) -> None:
        """Save, then end as a process does that was interrupted or terminated."""
        self.save(step, state, batches)
        if not (self.checkpoints.wait() and self.checkpoints.latest == step):
            raise UserError(
                f"stopped by a signal at step {step}, which could not be saved "
                f"({self.checkpoints.failure}); make room: the same command goes on from the last "
                f"good checkpoint, {self.checkpoints.describe_latest()}"
            )
        log.info("stopped by a signal at step %d; the same command goes on from there", step)
        if self.interrupt.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.interrupt.signal)

    def finish(self, state, batches) -> dict[str, float]:
        if not self.is_kept():  # perhaps there is room again
            self.save(self.total, state, batches)
            self.checkpoints.rate(self.total, self.metrics)
        if not self.is_kept():
            raise UserError(
                f"training is done but its last checkpoint could not be written "
                f"({self.checkpoints.failure}); make room and run the same command again: it goes "
                f"on from {self.checkpoints.describe_latest()}"
            )
        if jax.process_index() == 0:
            curves.draw_curves(workdir.read_metrics(self.folder), self.folder / "curves.png")
        return self.metrics

    def is_kept(self) -> bool:
        """Whether the run's end and its evaluation are on the disk."""
        written = self.checkpoints.wait() and self.checkpoints.latest == self.total
        return written and bool(self.checkpoints.metrics(self.total))

    def close(self) -> None:
        self.progress.close()
        self.log.close()
        self.checkpoints.close()

"""The training loop, the same for every task and any number of hosts."""

import json
import logging
import signal
from pathlib import Path
from typing import Generic, NoReturn

import jax
import ml_collections

from vitpose_jax.errors import UserError
from vitpose_jax.training import curves, workdir
from vitpose_jax.training.checkpoints import Checkpoints
from vitpose_jax.training.failures import Failures
from vitpose_jax.training.interrupt import Interrupt
from vitpose_jax.training.loss_watch import LossWatch
from vitpose_jax.training.metrics_log import MetricsLog, read_metrics
from vitpose_jax.training.progress import Progress
from vitpose_jax.training.run_lock import RunLock
from vitpose_jax.training.settings import RunSettings, read_part
from vitpose_jax.training.state import Model, TrainState
from vitpose_jax.training.task import BatchIterator, Problem
from vitpose_jax.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(
    problem: Problem[Model], config: ml_collections.ConfigDict, folder: Path
) -> dict[str, float]:
    """Train to the end, from the newest checkpoint in `folder` if any; return the last metrics.

    Raises:
        UserError: the configuration has a wrong value, the folder belongs to another configuration
            or another process trains there, the loss is not finite, or the last checkpoint could
            not be written.
        SystemExit, KeyboardInterrupt: after SIGTERM or Ctrl-C, once a checkpoint is saved.
    """
    trainer = Trainer(problem, read_part(RunSettings, config))
    with RunLock(folder) as lock:
        workdir.claim(folder, config, problem)
        return _train(trainer, config, folder, lock)


def _train(
    trainer: Trainer[Model], config: ml_collections.ConfigDict, folder: Path, lock: RunLock
) -> dict[str, float]:
    problem, failures = trainer.problem, Failures()
    checkpoints = Checkpoints(
        folder / workdir.CHECKPOINT_FOLDER,
        failures,
        metric=problem.metric,
        maximize=problem.maximize,
    )
    batches = iter(problem.train_batches)
    state, start = trainer.state, 0
    del trainer.state  # so that the first step can take over its buffers
    if checkpoints.latest is not None:
        state, position = checkpoints.restore(state)
        batches.set_state(position)
        start = int(state.step)
        log.info("resuming from step %d of %d", start, trainer.length.total)
        if start >= trainer.length.total:
            log.info("this run is finished; raise config.steps or config.epochs to train on")
    elif jax.process_index() == 0:
        log.info("configuration:\n%s", json.dumps(workdir.plain(config), indent=2))
        log.info("%s", trainer.parameter_table())
    with Interrupt() as interrupt:
        run = Run(trainer, folder, lock, failures, checkpoints, interrupt, start)
        try:
            return run.go_on(state, batches)
        finally:
            run.close()


class Run(Generic[Model]):
    """A training run from its start, or from the step at which it resumes."""

    def __init__(
        self,
        trainer: Trainer[Model],
        folder: Path,
        lock: RunLock,
        failures: Failures,
        checkpoints: Checkpoints,
        interrupt: Interrupt,
        start: int,
    ) -> None:
        """Open the logs in `folder`, to go on after the step `start`."""
        self.trainer, self.folder, self.lock, self.start = trainer, folder, lock, start
        self.failures, self.checkpoints, self.interrupt = failures, checkpoints, interrupt
        self.problem, self.length = trainer.problem, trainer.length
        self.total = self.length.total
        every = trainer.settings.log_every
        self.metrics = checkpoints.metrics(start)  # empty: stopped before or in the evaluation
        self.log = MetricsLog(folder, failures, start, evaluated=bool(self.metrics))
        self.watch = LossWatch(
            self.problem.id_key, folder, every=every, last=self.total, write=self._write_log
        )
        self.progress = Progress(
            start, self.total, trainer.settings.batch_size, self.problem.samples, every
        )

    def go_on(self, state: TrainState, batches: BatchIterator) -> dict[str, float]:
        """Train to the end; returns the last metrics."""
        trainer = self.trainer
        if not self.metrics and self._evaluates_at(self.start):
            self._evaluate(self.start, state, batches)
        for step in range(self.start + 1, self.total + 1):
            batch = next(batches)
            state, values = trainer.step(state, trainer.shard(batch), trainer.key)
            self.watch.add(step, values, batch)
            self.progress.advance()
            if step % self.length.save_every == 0 or self._evaluates_at(step):
                self._save(step, state, batches)
            if self._evaluates_at(step):
                self._evaluate(step, state, batches)
            if self.interrupt.requested(step):
                self._leave(step, state, batches)
        return self._finish(state, batches)

    def _evaluates_at(self, step: int) -> bool:
        if step == 0:
            return self.trainer.settings.eval_first
        return step % self.length.eval_every == 0 or step == self.total

    def _write_log(self, step: int, values: dict[str, float]) -> None:
        self.lock.check(step)
        rate = float(self.trainer.schedule(step - 1))
        values |= {"train/lr": rate, "train/per_second": self.progress.rate()}
        self.log.write(step, values)
        self.progress.show(step, values)

    def _save(self, step: int, state: TrainState, batches: BatchIterator) -> None:
        self.watch.drain()
        self.lock.check(step)
        self.checkpoints.save(step, state, batches.get_state())

    def _evaluate(self, step: int, state: TrainState, batches: BatchIterator) -> None:
        """Evaluate the current model, and log the metrics and a picture.

        The checkpoint is already saved, so an evaluation that fails or is stopped loses no steps;
        the next start repeats it.
        """
        try:
            with self.progress.paused(), self.interrupt.immediate():
                model = self.trainer.evaluation_model(state)
                self.metrics = self.problem.evaluate(model)
                picture = self.problem.draw(model)
        except Interrupt.Requested:
            self._leave(step, state, batches)
        self.lock.check(step)
        self.log.write(step, {f"eval/{name}": value for name, value in self.metrics.items()})
        if picture is not None and jax.process_index() == 0:
            self.log.picture(step, "predictions", picture)
            file = self.folder / "pictures" / f"step_{step:07d}.jpg"
            curves.save_picture(file, picture, self.failures)
        # Last: whatever is killed before this evaluates again at its next start.
        self.checkpoints.rate(step, self.metrics)
        totals = {name: value for name, value in self.metrics.items() if "/" not in name}
        shown = ", ".join(f"{name} {value:.4g}" for name, value in totals.items())
        log.info("step %d of %d: %s", step, self.total, shown)

    def _leave(self, step: int, state: TrainState, batches: BatchIterator) -> NoReturn:
        """Save, then exit as after the signal received."""
        self._save(step, state, batches)
        if not (self.checkpoints.wait() and self.checkpoints.latest == step):
            raise UserError(
                f"stopped by a signal at step {step}, which could not be saved "
                f"({self.checkpoints.failure}); free some space and repeat the command to resume "
                f"from the last good checkpoint, {self.checkpoints.describe_latest()}"
            )
        log.info("stopped by a signal at step %d; repeat the command to resume", step)
        if self.interrupt.signal == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + self.interrupt.signal)

    def _finish(self, state: TrainState, batches: BatchIterator) -> dict[str, float]:
        self.lock.check(self.total)
        if not self._is_kept():  # there may be enough space now
            self._save(self.total, state, batches)
            self.checkpoints.rate(self.total, self.metrics)
        if not self._is_kept():
            raise UserError(
                f"training is done but its last checkpoint could not be written "
                f"({self.checkpoints.failure}); free some space and repeat the command to resume "
                f"from {self.checkpoints.describe_latest()}"
            )
        self.lock.check(self.total)
        if jax.process_index() == 0:
            rows, file = read_metrics(self.folder), self.folder / "curves.png"
            curves.draw_curves(rows, self.problem.metric, file, self.failures)
        return self.metrics

    def _is_kept(self) -> bool:
        """Whether the run's last step and its evaluation are on disk."""
        written = self.checkpoints.wait() and self.checkpoints.latest == self.total
        return written and bool(self.checkpoints.metrics(self.total))

    def close(self) -> None:
        """Finish pending writes and close the logs."""
        self.progress.close()
        self.log.close()
        self.checkpoints.close()
        self.failures.tell(f"the last good checkpoint is {self.checkpoints.describe_latest()}")

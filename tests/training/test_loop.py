"""The loop, on a linear regression."""

import json
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx
from regression_run import Regression, loss_fn, make_config, make_task

from vitpose_jax.errors import UserError
from vitpose_jax.files.fingerprint import Fingerprint
from vitpose_jax.training import loop, workdir
from vitpose_jax.training.checkpoints import Checkpoints, read_parameters
from vitpose_jax.training.failures import Failures
from vitpose_jax.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics
from vitpose_jax.training.progress import Progress
from vitpose_jax.training.settings import RunLength, RunSettings, read_part
from vitpose_jax.training.trainer import Trainer


def settings(**changes):
    return read_part(RunSettings, make_config(**changes))


def test_it_learns_and_leaves_everything_behind(tmp_path):
    metrics = loop.train(make_task(), make_config(), tmp_path)
    rows = read_metrics(tmp_path)
    assert metrics["error"] < 0.5
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 30
    assert losses[-1] < 0.2 * losses[0]
    assert [row["step"] for row in rows if "eval/error" in row] == [10, 20, 30]
    assert (tmp_path / "curves.png").stat().st_size > 1000
    assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 3
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_best_and_latest_are_kept(tmp_path):
    scores = iter([3.0, 1.0, 2.0])
    task = make_task(evaluate=lambda model: {"error": next(scores)})
    loop.train(task, make_config(), tmp_path)
    folder = tmp_path / workdir.CHECKPOINT_FOLDER
    assert {int(p.name) for p in folder.iterdir() if p.name.isdigit()} == {20, 30}
    assert read_parameters(folder, "best", "error", maximize=False)[0] == 20
    assert read_parameters(folder, "latest")[0] == 30
    with pytest.raises(UserError, match="no checkpoint '7'"):
        read_parameters(folder, "7")


def evaluations(folder):
    rows = read_metrics(folder)
    return [(row["step"], row["eval/error"]) for row in rows if "eval/error" in row]


@pytest.mark.parametrize("stopped_at", [2, 3])
def test_a_stopped_evaluation_is_made_up_for(tmp_path, stopped_at):
    scores = iter([3.0, 2.0, 1.0])

    def evaluate(model):
        if len(evaluations(tmp_path)) + 1 == stopped_at and not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGINT)
        return {"error": next(scores)}

    stopped = []
    with pytest.raises(KeyboardInterrupt):
        loop.train(make_task(evaluate=evaluate), make_config(), tmp_path)
    assert loop.train(make_task(evaluate=evaluate), make_config(), tmp_path) == {"error": 1.0}
    assert evaluations(tmp_path) == [(10, 3.0), (20, 2.0), (30, 1.0)]
    folder = tmp_path / workdir.CHECKPOINT_FOLDER
    assert read_parameters(folder, "best", "error", maximize=False)[0] == 30


def test_a_failed_evaluation_costs_no_steps(tmp_path):
    def fail(model):
        raise UserError("no pictures")

    with pytest.raises(UserError, match="no pictures"):
        loop.train(make_task(evaluate=fail), make_config(checkpoint_every=30), tmp_path)
    assert read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "latest")[0] == 10
    loop.train(make_task(), make_config(checkpoint_every=30), tmp_path)
    assert [step for step, _ in evaluations(tmp_path)] == [10, 20, 30]


def test_a_stop_that_cannot_be_saved_is_said(tmp_path, monkeypatch):
    def evaluate(model):
        signal.raise_signal(signal.SIGTERM)

    def save(self, step, *args):
        if step != 10:
            return saves(self, step, *args)
        self.wait()
        return self._failed(step, OSError("No space left"))

    saves = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    said = r"step 10, which could not be saved \(No space left\).*checkpoint, step 5 in"
    with pytest.raises(UserError, match=said):
        loop.train(make_task(evaluate=evaluate), make_config(), tmp_path)


def test_the_evaluation_before_training_is_logged_once(tmp_path, monkeypatch):
    def killed(*args):
        raise RuntimeError

    config = make_config(eval_first=True)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", killed)
        with pytest.raises(RuntimeError):
            loop.train(make_task(), config, tmp_path)
    assert [step for step, _ in evaluations(tmp_path)] == [0]
    loop.train(make_task(), config, tmp_path)
    assert [step for step, _ in evaluations(tmp_path)] == [0, 10, 20, 30]


def test_finished_run_is_not_trained_further(tmp_path):
    first = loop.train(make_task(), make_config(), tmp_path)
    before = read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "latest")
    rows = read_metrics(tmp_path)
    assert loop.train(make_task(), make_config(), tmp_path) == pytest.approx(first)
    after = read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "latest")
    assert read_metrics(tmp_path) == rows
    assert before[0] == after[0] == 30
    np.testing.assert_array_equal(before[1]["head.kernel"], after[1]["head.kernel"])


def test_nan_stops_with_step_and_ids_and_keeps_the_last_good_checkpoint(tmp_path):
    task = make_task()
    position = next(i for i, b in enumerate(task.train_batches) if 17 + 1000 in b["image_id"])
    config = make_config(steps=60)
    broken = make_task(broken=(17,))
    with pytest.raises(UserError, match=rf"became nan at step {position + 1}; .*1017") as stopped:
        loop.train(broken, config, tmp_path)
    assert "image_id" in str(stopped.value)
    folder = tmp_path / workdir.CHECKPOINT_FOLDER
    saved = [int(p.name) for p in folder.glob("*") if p.name.isdigit()]
    assert all(step <= position for step in saved)
    for step in saved:
        arrays = read_parameters(folder, str(step))[1]
        assert all(np.isfinite(value).all() for value in arrays.values())
    assert str(1017) in (tmp_path / f"stopped_at_step_{position + 1}.txt").read_text().split()


def test_rows_that_nobody_named_are_not_listed(tmp_path):
    task = make_task(broken=range(64))
    with pytest.raises(UserError, match=r"nan at step 1\. Lower config\.optimizer\.lr"):
        loop.train(replace(task, id_key="name"), make_config(), tmp_path)
    assert not list(tmp_path.glob("stopped_at*"))


def test_a_damaged_checkpoint_is_named(tmp_path):
    loop.train(make_task(), make_config(), tmp_path)
    for file in (tmp_path / workdir.CHECKPOINT_FOLDER / "30" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"30 is damaged .* sound ones: "):
        read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "30")
    (tmp_path / workdir.CHECKPOINT_FOLDER / "30" / "checksums.json").unlink()  # older version's
    with pytest.raises(UserError, match=r"30 cannot be read .* remove that folder"):
        read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "30")
    (tmp_path / workdir.CONFIG_FILE).write_text("{")
    with pytest.raises(UserError, match=r"config\.json: is not JSON that can be read"):
        loop.train(make_task(), make_config(), tmp_path)


def test_rates_of_rows_looked_at_together(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("vitpose_jax.training.progress.time.monotonic", lambda: now[0])
    progress = Progress(0, 100, batch_size=8, samples="people", every=1)
    for _ in range(20):
        now[0] += 0.5
        progress.advance()
    with progress.paused():
        now[0] += 1000
    assert progress.rate() == progress.rate() == 16
    now[0] += 0.5
    progress.advance()
    assert progress.rate() == 16


def test_epochs_and_steps_are_told_apart_by_zero():
    assert RunLength(settings(epochs=0.0), 64).total == 30
    length = RunLength(settings(epochs=3.0, steps=0), 64)
    assert (length.total, length.eval_every) == (24, 80)


def test_frozen_parts_have_no_state_and_do_not_move(tmp_path):
    task, config = make_task(), make_config(frozen=("backbone",), weight_decay=0.1)
    trainer = Trainer(task, read_part(RunSettings, config))
    assert set(trainer.state.frozen) == {"backbone.kernel", "backbone.bias"}
    shapes = [leaf.shape for leaf in jax.tree.leaves(trainer.state.optimizer)]
    assert (3, 3) not in shapes
    before = np.asarray(trainer.state.frozen["backbone.kernel"])
    batch = next(iter(task.train_batches))
    state, _ = trainer.step(trainer.state, trainer.shard(batch), trainer.key)
    np.testing.assert_array_equal(state.frozen["backbone.kernel"], before)
    with pytest.raises(UserError, match="nothing to train"):
        Trainer(task, settings(frozen=("backbone", "norm", "head")))


def one_step(**changes):
    task = make_task(batch_size=8)
    trainer = Trainer(task, settings(**changes))
    batch = next(iter(task.train_batches))
    return trainer.step(trainer.state, trainer.shard(batch), trainer.key)


def test_accumulated_gradient_is_the_mean_over_the_parts():
    task = make_task()
    batch = next(iter(task.train_batches))
    halves = [{name: value[i::2] for name, value in batch.items()} for i in range(2)]

    def gradient(part):
        model = Regression()
        return nnx.grad(lambda m: loss_fn(m, part, None)[0])(model)["head"]["kernel"][...]

    expected = np.mean([gradient(half) for half in halves], axis=0)
    state, metrics = one_step(accumulate=2)
    momentum = state.optimizer[1].mu["head.kernel"]
    clipped = min(1.0, 1.0 / float(metrics["grad_norm"]))
    np.testing.assert_allclose(momentum, 0.1 * clipped * expected, rtol=1e-4)


def test_moving_average_is_evaluated_and_exported(tmp_path):
    seen = []
    task = make_task(evaluate=lambda model: seen.append(model) or {"error": 1.0})
    loop.train(task, make_config(ema=0.9), tmp_path)
    _, arrays = read_parameters(tmp_path / workdir.CHECKPOINT_FOLDER, "latest")
    np.testing.assert_allclose(arrays["head.kernel"], seen[-1].head.kernel[...], rtol=1e-6)
    plain = tmp_path / "plain"
    loop.train(make_task(), make_config(), plain)
    _, without = read_parameters(plain / workdir.CHECKPOINT_FOLDER, "latest")
    assert np.abs(arrays["head.kernel"] - without["head.kernel"]).max() > 1e-4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3.0}, "either config.epochs or config.steps"),
        ({"steps": 0}, "not None and 0"),
        ({"eval_every": 0}, "config.eval_every is 0; it must be above 0"),
        ({"log_every": 0}, "config.log_every is 0; it must be at least 1"),
        ({"accumulate": 3}, "multiple of 3"),
        ({"sharding": "half"}, "choose one of data, full"),
        ({"schedule": {"kind": "sometimes", "warmup_steps": 0}}, "choose step or cosine"),
    ],
)
def test_wrong_values_are_named(changes, message, tmp_path):
    with pytest.raises(UserError, match=message):
        loop.train(make_task(), make_config(**changes), tmp_path)


def test_torn_log_line_is_dropped(tmp_path):
    file = tmp_path / METRICS_FILE
    file.write_text('{"step": 1, "a": 1}\n{"step": 2, "a": 2}\n{"step": 3, "a"')
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    MetricsLog(tmp_path, Failures(), start=1).close()
    assert file.read_text() == '{"step": 1, "a": 1}\n'


def test_a_run_is_not_continued_on_other_data_unawares(tmp_path, caplog):
    began = replace(make_task(), data={"train": Fingerprint(64, "a"), "val": Fingerprint(8, "b")})
    loop.train(began, make_config(), tmp_path)
    loop.train(began, make_config(), tmp_path)
    fewer = replace(began, data=began.data | {"train": Fingerprint(63, "c")})
    with pytest.raises(UserError, match=r"train had 64 samples and has 63\. .*allow_changed_data"):
        loop.train(fewer, make_config(), tmp_path)
    other = replace(began, data=began.data | {"val": Fingerprint(8, "c")})
    with pytest.raises(UserError, match=r"val still has 8 samples, but other contents"):
        loop.train(other, make_config(), tmp_path)
    loop.train(other, make_config(allow_changed_data=True), tmp_path)
    assert "val still has" in caplog.text
    loop.train(other, make_config(), tmp_path)  # these are its data from now on
    (tmp_path / "task.json").write_text(
        json.dumps({"metric": "error", "maximize": False, "model": {}})
    )
    loop.train(fewer, make_config(), tmp_path)  # a run of an older version

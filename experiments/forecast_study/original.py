"""The original pose predictor trained as it was published, and with its faults mended.

One training serves several rows of the table: every epoch is scored with both ways of reading the
outputs and on all splits, so that "which outputs" and "which epoch" are decided afterwards.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from configs.forecast_3dpw import get_config
from vitpose_jax.data.motion.batches import train_batches
from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.data.motion.threedpw import detection_tracks, read_split
from vitpose_jax.data.motion.windows import MotionTrack, MotionWindows
from vitpose_jax.models.pose_predictor import PIXEL_SCALE, PosePredictor, PredictorConfig
from vitpose_jax.training import loop
from vitpose_jax.training.metrics_log import read_metrics
from vitpose_jax.training.task import Problem
from vitpose_jax.weights.forecaster import describe_forecaster

FUTURE = 5
OUTPUTS = {"first": slice(0, FUTURE), "last": slice(-FUTURE, None)}


@dataclasses.dataclass(frozen=True)
class Mended:
    """Which faults are mended in training."""

    positions: bool = False
    centred: bool = False
    tracks: bool = False


TRAININGS = {
    "published": Mended(),
    "positions": Mended(positions=True),
    "centred": Mended(centred=True),
    "tracks": Mended(tracks=True),
    "all": Mended(True, True, True),
}

ROWS = {  # row: training, outputs scored, split whose PCK picks the epoch, split it is scored on
    "original, as published": ("published", "first", "train", "test_mixed"),
    "the same, on test windows of one person": ("published", "first", "train", "test"),
    "its outputs 5..9 scored, as trained": ("published", "last", "train", "test"),
    "the epoch picked on validation": ("published", "first", "validation", "test"),
    "with position embedding": ("positions", "first", "train", "test"),
    "person-centred input and output": ("centred", "first", "train", "test"),
    "one person per track": ("tracks", "first", "train", "test"),
    "all five mended": ("all", "last", "validation", "test"),
}


def first_person_tracks(folder: str, split: str) -> list[MotionTrack]:
    """One track a sequence: in every frame the most confidently detected person."""
    mixed = []
    for sequence in read_split(folder, split):
        tracks = detection_tracks(sequence)
        scores = np.stack([actor.scores.mean(1) for actor in sequence.actors])
        best, frames = scores.argmax(0), np.arange(scores.shape[1])
        positions = np.stack([track.positions for track in tracks])[best, frames]
        visible = np.stack([track.visible for track in tracks])[best, frames]
        mixed.append(dataclasses.replace(tracks[0], positions=positions, visible=visible))
    return mixed


def run(name: str, data: str, folder: Path, epochs: float) -> list[dict[str, float]]:
    """Trains (or goes on, or finds it done); the metrics of every epoch."""
    mended = TRAININGS[name]
    config = get_config(data)
    config.model = {"kind": "predictor", "num_frames": 10 if mended.positions else 0}
    config.batch_size, config.steps, config.epochs, config.ema = 32, None, epochs, 0.0
    config.optimizer.update(weight_decay=0.0, clip_norm=None, b2=0.999)
    config.schedule.update(kind="step", warmup_steps=0)
    config.eval_every = config.checkpoint_every = 1
    rows = read_metrics(folder)
    task = _task(mended, data)
    steps = round(epochs * (task.train_size // config.batch_size))
    if not any(row["step"] >= steps and "eval/test_last_px_5" in row for row in rows):
        loop.train(task, config, folder)
        rows = read_metrics(folder)
    return [row for row in rows if "eval/test_last_px_5" in row]


def pick(row: str, epochs: list[dict[str, float]]) -> dict[str, list[float]]:
    """PCK@50px and error in px on test of a row of the table, per future frame."""
    _, outputs, picked_on, scored_on = ROWS[row]
    best = max(epochs, key=lambda epoch: epoch[f"eval/{picked_on}_{outputs}_pck"])
    return {
        metric: [best[f"eval/{scored_on}_{outputs}_{short}_{k}"] for k in range(1, FUTURE + 1)]
        for metric, short in (("pck_50px", "pck"), ("error_px", "px"))
    }


def _task(mended: Mended, data: str) -> Problem:
    mixed = first_person_tracks(data, "train")
    train = _windows(open_tracks(data, "train") if mended.tracks else mixed)
    splits = {
        "train": train.take(np.arange(0, len(train), 4)),
        "validation": _windows(open_tracks(data, "validation")).arrays(),
        "test": _windows(open_tracks(data, "test")).arrays(),
        "test_mixed": _windows(first_person_tracks(data, "test")).arrays(),
    }
    config = PredictorConfig(num_frames=10 if mended.positions else 0)
    model = PosePredictor(config, rngs=nnx.Rngs(0))
    outputs_of = nnx.jit(lambda model, frames: model(frames))

    def loss_fn(model, batch, key):
        frame = _frame(batch["observed"], mended.centred)
        observed = _flat((batch["observed"] - frame[0]) / frame[1])
        future = _flat((batch["future"] - frame[0]) / frame[1])
        return jnp.square(model(observed, key=key)[:, -FUTURE:] - future).mean(), {}

    def evaluate(model) -> dict[str, float]:
        metrics = {}
        for split, arrays in splits.items():
            origin, unit = _frame(arrays["observed"], mended.centred)
            outputs = np.asarray(outputs_of(model, _flat((arrays["observed"] - origin) / unit)))
            for name, part in OUTPUTS.items():
                future = outputs[:, part].reshape(arrays["future"].shape) * unit + origin
                metrics |= _scores(f"{split}_{name}", future, arrays["future"])
        return metrics

    return Problem(
        model=model,
        model_config=describe_forecaster(model),
        loss_fn=loss_fn,
        train_batches=train_batches(train, 32),
        train_size=len(train),
        evaluate=evaluate,
        metric="validation_last_pck",
        samples="windows",
    )


def _windows(tracks: list[MotionTrack]) -> MotionWindows:
    return MotionWindows(tracks, stride=2, complete=True)


def _frame(observed: np.ndarray | jax.Array, centred: bool):
    """(origin, unit) of the coordinates the network sees; complete windows only."""
    if not centred:
        return 0.0, PIXEL_SCALE
    last = observed[:, -1]
    size = (last.max(1) - last.min(1)).max(-1)
    return last.mean(1)[:, None, None], size[:, None, None, None]


def _flat(x):
    return x.reshape(*x.shape[:2], -1)


def _scores(name: str, future: np.ndarray, truth: np.ndarray) -> Mapping[str, float]:
    error = np.linalg.norm(future - truth, axis=-1)
    scores = {f"{name}_pck": float((error < 50).mean())}
    for k in range(FUTURE):
        scores[f"{name}_pck_{k + 1}"] = float((error[:, k] < 50).mean())
        scores[f"{name}_px_{k + 1}"] = float(error[:, k].mean())
    return scores

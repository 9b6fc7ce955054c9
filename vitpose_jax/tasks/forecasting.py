"""Motion forecasting as a training task: model, loss, data, evaluation against the baselines."""

import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from vitpose_jax.data.motion.augmentation import MotionAugmentation
from vitpose_jax.data.motion.batches import train_batches
from vitpose_jax.data.motion.resampling import at_pace, resample
from vitpose_jax.data.motion.sources import INPUTS, open_tracks
from vitpose_jax.data.motion.threedpw import SPLITS
from vitpose_jax.data.motion.windows import MotionWindows
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation import forecasting
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.models.forecaster import Forecaster, normalize_motion
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.tasks.sections import read_section
from vitpose_jax.training import workdir
from vitpose_jax.training.sharding import local_batch_size, process_shard
from vitpose_jax.training.task import Task
from vitpose_jax.weights.forecaster import (
    build_forecaster,
    describe_forecaster,
    load_forecaster,
    save_forecaster,
)
from vitpose_jax.weights.sources import is_run

log = logging.getLogger(__name__)

METRIC = "error_heights_last"
"""By which the best checkpoint is kept."""

EPS = 1e-3  # square of a distance, in person sizes, below which the loss is smooth

_forecast = nnx.jit(lambda model, observed, visible: model.forecast(observed, visible))


def as_forecast(model: Forecaster | PosePredictor) -> forecasting.Forecast:
    """The model as a compiled function on arrays."""
    return lambda observed, visible: _forecast(model, observed, visible)


def open_windows(
    config: ml_collections.ConfigDict,
    split: str,
    *,
    stride: int,
    complete: bool,
    paces: Sequence[float] = (),
) -> MotionWindows:
    """The windows that `config.data`, `config.input`, `config.observed`, `config.future` name.

    Every track is there as it is and once more for each of `paces`, so many times as fast.
    Raises UserError where there are no windows.
    """
    if (config.data == "synthetic") != (config.input == "synthetic"):
        raise UserError(
            f"config.input is {config.input!r}, config.data {config.data!r}: synthetic motion goes "
            "with the input 'synthetic' (2D keypoints) alone, and this with it"
        )
    tracks = open_tracks(config.data, split, config.input)
    tracks = [resample(track, config.fps) for track in tracks]
    tracks += [at_pace(track, pace) for pace in paces for track in tracks]
    return MotionWindows(tracks, config.observed, config.future, stride, complete)


def model_config(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """`config.model` made whole with the problem's sizes."""
    source = INPUTS[config.input]
    values = {
        "num_joints": len(source.joint_names),
        "dims": source.dims,
        "observed": config.observed,
        "future": config.future,
        "flip_pairs": source.flip_pairs,
        "fps": config.fps,
    }
    return values | config.model.to_dict()


def build_model(
    config: ml_collections.ConfigDict, model_config: Mapping[str, Any]
) -> Forecaster | PosePredictor:
    """The model with random weights by `config.seed`."""
    return build_forecaster(model_config, config.get("seed", 0), "config.model")


def save_model(model: Forecaster | PosePredictor, folder: str | Path) -> None:
    """A weights folder, as `load_forecaster` opens it."""
    save_forecaster(model, folder)


def forecast_loss(
    model: Forecaster, batch: Mapping[str, jax.Array], key: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Mean distance of visible future joints from the truth, as a share of the mean person size.

    Distances are averaged in the data's units (large people count for more, as they do in the
    metrics), then divided by the mean size in the batch; of several members, each one's counts.
    """
    observed, visible = batch["observed"], batch["observed_visible"]
    future, counted = batch["future"], batch["future_visible"].astype(jnp.float32)
    scale = normalize_motion(observed, visible).scale.mean()
    predicted = model.by_member(observed, visible, key=key)
    squared = jnp.square((predicted - future) / scale).sum(-1)
    distance = jnp.sqrt(squared + EPS**2).mean(0) * counted
    return distance.sum() / jnp.maximum(counted.sum(), 1), {}


def build_task(config: ml_collections.ConfigDict) -> Task:
    """Opens the data, builds the model. Raises UserError on what the configuration has wrong."""
    augmentation = read_section(MotionAugmentation, config.augmentation, "config.augmentation")
    options = config.eval
    if options.split not in SPLITS:
        raise UserError(
            f"config.eval.split is {options.split!r}; choose one of {', '.join(SPLITS)}"
        )
    train = open_windows(
        config, "train", stride=config.stride, complete=False, paces=augmentation.paces
    )
    held_out = open_windows(
        config, "validation", stride=options.stride, complete=options.complete
    ).arrays()

    def score(forecast: forecasting.Forecast) -> dict[str, float]:
        predicted = forecasting.forecast_windows(forecast, held_out)
        return forecasting.summarize(forecasting.evaluate_forecast(predicted, held_out))

    if not math.isfinite(score(forecasting.baseline("zero_velocity", config.future))[METRIC]):
        raise UserError(
            f"{config.data}: the last future frame of no validation window shows a joint of a "
            "person whose size was seen, so there is nothing to find the best model by; give a "
            "shorter config.future or other windows"
        )
    model = initial_model(config)
    return Task(
        model=model,
        model_config=describe_forecaster(model),
        loss_fn=forecast_loss,
        train_batches=train_batches(
            train,
            local_batch_size(config.batch_size),
            seed=config.get("seed", 0),
            augmentation=augmentation,
            flip_index=INPUTS[config.input].flip_index,
            shard=process_shard(),
        ),
        train_size=len(train),
        evaluate=lambda model: score(as_forecast(model)),
        metric=METRIC,
        maximize=False,
        samples="windows",
    )


def initial_model(config: ml_collections.ConfigDict) -> Forecaster:
    """The model that `config.model` describes, with the weights `config.init_from` if set.

    Raises UserError where these are not a forecaster's, or of another one.
    """
    model = build_model(config, model_config(config))
    if not isinstance(model, Forecaster):
        raise UserError("config.model.kind: only a 'forecaster' is trained here")
    source = config.get("init_from")
    if source:
        loaded = load_forecaster(source)
        if not isinstance(loaded, Forecaster):
            raise UserError(
                f"config.init_from: {source} holds the original's predictor, which can be compared "
                "with (config.compare) but not trained further"
            )
        there, here = (dataclasses.asdict(forecaster.config) for forecaster in (loaded, model))
        free = {name: there[name] for name in ("dropout", "fps")}  # no array depends on them
        changes = workdir.differences(there, here | free, "config.model")
        if changes:
            raise UserError(
                f"config.init_from: {source} holds another forecaster: {'; '.join(changes)}"
            )
        nnx.update(model, nnx.state(loaded, nnx.Param))
    return model


def report(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Compares the run in `folder` with baselines and `config.compare` on `config.eval.split`.

    Prints one table per metric, writes evaluation.json (per future frame and per joint), and
    returns the summary of the run, or of the last row where there is no run.
    Raises UserError when a checkpoint cannot be loaded or does not fit the data, or the file cannot
    be written.
    """
    options = config.eval
    windows = open_windows(config, options.split, stride=options.stride, complete=options.complete)
    forecasts = {name: forecasting.baseline(name, config.future) for name in forecasting.BASELINES}
    forecasts |= {str(source): _checked(source, windows) for source in config.compare}
    if (folder / workdir.CONFIG_FILE).exists():
        forecasts[str(folder)] = _checked(folder, windows)
    make_folder(folder)
    results = forecasting.compare(forecasts, windows)
    if jax.process_index() == 0:
        print(f"{len(windows)} windows of {config.data}, {options.split} split")
        for metric in next(iter(results.values())):
            if metric not in forecasting.COUNTS:
                print("\n" + forecasting.table(results, metric))
        about = {"data": config.data, "split": options.split, "windows": len(windows)}
        values = about | {"results": _rounded(results)}
        write_json(folder / workdir.EVALUATION_FILE, values)
    return forecasting.summarize(list(results.values())[-1])


def open_forecaster(source: str | Path) -> Forecaster | PosePredictor:
    """A forecaster from a folder of weights, the original's PyTorch file, or a training run.

    Raises UserError where it is something else, a pose model's run for example.
    """
    from vitpose_jax.tasks.export import load_trained

    if not is_run(source):
        return load_forecaster(source)
    model = load_trained(source)[1]
    if not isinstance(model, Forecaster | PosePredictor):
        raise UserError(f"{source} is the run of a pose model: give that of a forecaster")
    return model


def _checked(source: str | Path, windows: MotionWindows) -> forecasting.Forecast:
    """A checkpoint as a forecast; UserError where it was made for another problem."""
    model = open_forecaster(source)
    for name in ("num_joints", "dims", "observed", "future"):
        have, want = getattr(model.config, name), getattr(windows, name)
        if have != want:
            raise UserError(f"{source} was trained with {name} {have}, the data has {want}")
    if model.config.fps != windows.fps:
        log.warning(
            "%s was trained at %g frames a second, the data has %g: set config.fps=%g to resample",
            *(source, model.config.fps, windows.fps, model.config.fps),
        )
    return as_forecast(model)


def _rounded(results: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, list]]:
    """Metrics by forecast as JSON has them: None for NaN."""
    return {
        name: {
            metric: np.where(np.isnan(values), None, np.round(values, 5).astype(object)).tolist()
            for metric, values in metrics.items()
        }
        for name, metrics in results.items()
    }

"""The forecasting task: model, loss, data, and evaluation against baselines."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from vitpose_jax.data.motion.augmentation import MotionAugmentation
from vitpose_jax.data.motion.batches import train_batches
from vitpose_jax.data.motion.cmu_mocap import find_files
from vitpose_jax.data.motion.resampling import at_pace, resample
from vitpose_jax.data.motion.sources import INPUTS, open_tracks
from vitpose_jax.data.motion.synthetic import noisy_tracks
from vitpose_jax.data.motion.threedpw import SPLITS, sequence_files
from vitpose_jax.data.motion.windows import MotionWindows
from vitpose_jax.errors import UserError, together
from vitpose_jax.evaluation import forecasting
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.models.forecaster import Forecaster, normalize_motion
from vitpose_jax.models.forecaster_config import COVERAGES
from vitpose_jax.models.pose_predictor import PosePredictor
from vitpose_jax.training import workdir
from vitpose_jax.training.checkpoints import restore_model
from vitpose_jax.training.settings import check_names, read_part
from vitpose_jax.training.sharding import local_batch_size, process_shard
from vitpose_jax.training.step import Batch, Metrics
from vitpose_jax.training.task import Problem
from vitpose_jax.weights.forecaster import (
    build_forecaster,
    describe_forecaster,
    load_forecaster,
    save_forecaster,
)
from vitpose_jax.weights.sources import is_run

log = logging.getLogger(__name__)

METRIC = "error_heights_last"
"""The metric that decides which checkpoint is best."""

SMOOTH = 1e-3
"""Distance in person sizes below which the loss is smooth."""

_forecast = nnx.jit(lambda model, observed, visible: model.forecast(observed, visible))


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """`config.eval`: the windows used for evaluation."""

    split: str  # for the comparison after training; during training it is validation
    stride: int  # frames between the starts of windows
    complete: bool  # only windows in which all joints are visible


@dataclasses.dataclass(frozen=True)
class ForecastSettings:
    """Entries that the forecasting task reads; configs/forecast_3dpw.py explains them."""

    seed: int
    data: str
    input: str
    observed: int
    future: int
    stride: int
    fps: float
    model: Mapping[str, Any]
    init_from: str
    augmentation: MotionAugmentation
    batch_size: int
    eval: WindowSettings
    compare: tuple[str, ...]
    synthetic: int = 0  # recordings of made-up motion beside the files', for training on detections


def complete(config: ml_collections.ConfigDict) -> None:
    """Make sure that data and weights are there, and give the model the weights' shape, in place.

    Raises:
        UserError: something is missing or cannot be read, with a message for each.
    """
    looks: list[Callable[[], object]] = []
    if config.input == "cmu":
        looks.append(partial(find_files, config.data, "train"))
    elif config.input != "synthetic":
        looks.append(partial(sequence_files, config.data, "train"))
    if config.init_from:
        looks.append(partial(load_forecaster, config.init_from))
    found = together(*looks)
    if config.init_from and isinstance(found[-1], Forecaster):
        shape = describe_forecaster(found[-1])
        config.model.update({name: shape[name] for name in config.model if name in shape})


def build_problem(
    config: ml_collections.ConfigDict, *, initialize: bool = True
) -> Problem[Forecaster]:
    """Open the data and build the model, with the weights `config.init_from` if `initialize`.

    Raises:
        UserError: a mistake in the configuration, or data or weights that cannot be used.
    """
    check_names(config, ForecastSettings)
    settings = read_part(ForecastSettings, config)
    if settings.eval.split not in SPLITS:
        raise UserError(
            f"config.eval.split is {settings.eval.split!r}; choose one of {', '.join(SPLITS)}"
        )
    train = open_windows(
        *(settings, "train"),
        stride=settings.stride,
        complete=False,
        paces=settings.augmentation.paces,
    )
    validation = _evaluated_windows(settings, "validation")
    held_out = validation.arrays()

    def score(forecast: forecasting.Forecast) -> dict[str, float]:
        predicted = forecasting.forecast_windows(forecast, held_out)
        return forecasting.summarize(forecasting.evaluate_forecast(predicted, held_out))

    if not math.isfinite(score(forecasting.baseline("zero_velocity", settings.future))[METRIC]):
        raise UserError(
            f"{settings.data}: no validation window's last future frame shows a joint of a person "
            "of known size, so the best checkpoint cannot be chosen; set a shorter config.future "
            "or use other windows"
        )
    model = initial_model(settings, initialize)
    return Problem(
        model=model,
        model_config=describe_forecaster(model),
        loss_fn=forecast_loss,
        train_batches=train_batches(
            train,
            local_batch_size(settings.batch_size),
            seed=settings.seed,
            augmentation=settings.augmentation,
            flip_index=INPUTS[settings.input].flip_index,
            shard=process_shard(),
        ),
        train_size=len(train),
        evaluate=lambda model: score(as_forecast(model)),
        metric=METRIC,
        maximize=False,
        report=partial(evaluate, config),
        samples="windows",
        data={"train": train.fingerprint, "val": validation.fingerprint},
    )


def open_windows(
    settings: ForecastSettings,
    split: str,
    *,
    stride: int,
    complete: bool,
    paces: Sequence[float] = (),
) -> MotionWindows:
    """Open the windows of a split of `config.data`; see `MotionWindows`.

    Every track is included as it is, and again with its speed multiplied by each of `paces`.

    Raises:
        UserError: there are none, or the data do not match `config.input`.
    """
    if (settings.data == "synthetic") != (settings.input == "synthetic"):
        raise UserError(
            f"config.input is {settings.input!r}, config.data {settings.data!r}: synthetic motion "
            "requires the input 'synthetic' (2D keypoints), and the reverse"
        )
    tracks = open_tracks(settings.data, split, settings.input)
    if settings.synthetic and split == "train":
        if settings.input != "detections":
            raise UserError("config.synthetic: only config.input='detections' takes made-up motion")
        tracks += noisy_tracks(split, settings.synthetic)
    tracks = [resample(track, settings.fps) for track in tracks]
    tracks += [at_pace(track, pace) for pace in paces for track in tracks]
    return MotionWindows(tracks, settings.observed, settings.future, stride, complete)


def _evaluated_windows(settings: ForecastSettings, split: str) -> MotionWindows:
    options = settings.eval
    return open_windows(settings, split, stride=options.stride, complete=options.complete)


def forecast_loss(model: Forecaster, batch: Batch, key: jax.Array) -> tuple[jax.Array, Metrics]:
    """Compute the mean distance of visible future joints from the truth, in mean person sizes.

    Distances are averaged in the data's units (large people count for more, as they do in the
    metrics), then divided by the batch's mean person size. Each of several members is trained on
    its own error.
    """
    observed, visible = batch["observed"], batch["observed_visible"]
    future, counted = batch["future"], batch["future_visible"].astype(jnp.float32)
    scale = normalize_motion(observed, visible).scale.mean()
    predicted, radii = model.with_radii(observed, visible, key=key)
    squared = jnp.square((predicted - future) / scale).sum(-1)
    distance = jnp.sqrt(squared + SMOOTH**2)
    counts = jnp.maximum(counted.sum(), 1)
    loss = (distance.mean(0) * counted).sum() / counts
    if radii is not None:
        loss = loss + quantile_loss(distance, radii / scale, counted)
    return loss, {}


def quantile_loss(
    distance: Float[Array, "members *batch"],
    radii: Float[Array, "members *batch radii"],
    counted: Float[Array, "*batch"],
) -> jax.Array:
    """Least where each of the radii holds its share, of `COVERAGES`, of the distances."""
    over = jax.lax.stop_gradient(distance)[..., None] - radii
    shares = jnp.asarray(COVERAGES)
    loss = jnp.maximum(shares * over, (shares - 1) * over).sum(-1).mean(0) * counted
    return loss.sum() / jnp.maximum(counted.sum(), 1)


def model_config(settings: ForecastSettings) -> dict[str, Any]:
    """Complete `config.model` with the sizes of the problem."""
    source = INPUTS[settings.input]
    values = {
        "num_joints": len(source.joint_names),
        "dims": source.dims,
        "observed": settings.observed,
        "future": settings.future,
        "flip_pairs": source.flip_pairs,
        "fps": settings.fps,
    }
    return values | dict(settings.model)


def initial_model(settings: ForecastSettings, initialize: bool = True) -> Forecaster:
    """Build the model that `config.model` describes.

    Args:
        settings: the task's settings.
        initialize: load the weights `config.init_from`, if set.

    Raises:
        UserError: the weights cannot be loaded, or are those of another forecaster.
    """
    model = build_forecaster(model_config(settings), settings.seed, "config.model")
    if not isinstance(model, Forecaster):
        raise UserError("config.model.kind: only a 'forecaster' can be trained")
    if initialize and (source := settings.init_from):
        loaded = load_forecaster(source)
        if not isinstance(loaded, Forecaster):
            raise UserError(
                f"config.init_from: {source} holds the original's predictor, which can be compared "
                "with (config.compare), but not trained"
            )
        there, here = (dataclasses.asdict(forecaster.config) for forecaster in (loaded, model))
        free = {name: there[name] for name in ("dropout", "fps")}  # no array depends on them
        if changes := workdir.differences(there, here | free, "config.model"):
            raise UserError(
                f"config.init_from: {source} holds another forecaster: {'; '.join(changes)}"
            )
        nnx.update(model, nnx.state(loaded, nnx.Param))
    return model


def build_model(
    config: ml_collections.ConfigDict, model_config: Mapping[str, Any]
) -> Forecaster | PosePredictor:
    """Build a run's model with random weights."""
    return build_forecaster(model_config, config.seed, "config.model")


def save_model(model: Forecaster | PosePredictor, folder: Path) -> None:
    """Write a folder of weights, as `load_forecaster` opens it."""
    save_forecaster(model, folder)


def evaluate(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Compare the run in `folder` with baselines and `config.compare` on `config.eval.split`.

    Where there is no run, the weights `config.init_from` are compared. Prints a table for each
    metric and writes evaluation.json (by future frame and joint).

    Returns:
        The summary of the run, or if there is no run, of the last row.

    Raises:
        UserError: a checkpoint cannot be loaded or does not fit the data, or the file cannot be
            written.
    """
    settings = read_part(ForecastSettings, config)
    split = settings.eval.split
    windows = _evaluated_windows(settings, split)
    forecasts = {
        name: forecasting.baseline(name, settings.future) for name in forecasting.BASELINES
    }
    forecasts |= {
        str(source): _forecast_of(source, windows, settings.fps) for source in settings.compare
    }
    if workdir.is_claimed(folder):
        forecasts[str(folder)] = _forecast_of(folder, windows, settings.fps)
    elif settings.init_from:
        forecasts[settings.init_from] = _forecast_of(settings.init_from, windows, settings.fps)
    make_folder(folder)
    results = forecasting.compare(forecasts, windows)
    if jax.process_index() == 0:
        print(f"{len(windows)} windows of {settings.data}, {split} split")
        for metric in next(iter(results.values())):
            if metric not in forecasting.COUNTS:
                print("\n" + forecasting.table(results, metric))
        about = {"data": settings.data, "split": split, "windows": len(windows)}
        values = about | {"results": _as_json(results)}
        write_json(folder / workdir.EVALUATION_FILE, values)
    return forecasting.summarize(list(results.values())[-1])


def as_forecast(model: Forecaster | PosePredictor) -> forecasting.Forecast:
    """Return the model as a compiled function on arrays."""
    return lambda observed, visible: _forecast(model, observed, visible)


def open_forecaster(source: str | Path) -> Forecaster | PosePredictor:
    """Open a folder of weights, the original's PyTorch file, or a training run.

    Raises:
        UserError: it is something else, such as a pose model's run.
    """
    if not is_run(source):
        return load_forecaster(source)
    folder = Path(source).expanduser()
    run = workdir.read_run(folder)
    if run.config.task not in ("forecast", "scenes"):
        raise UserError(f"{source} is the run of a {run.config.task} model; give a forecaster's")
    return restore_model(build_model(run.config, run.model_config), folder)[1]


def _forecast_of(source: str | Path, windows: MotionWindows, fps: float) -> forecasting.Forecast:
    """The forecaster from a source, which must fit these windows."""
    model = open_forecaster(source)
    for name in ("num_joints", "dims", "observed", "future"):
        have, want = getattr(model.config, name), getattr(windows, name)
        if have != want:
            raise UserError(f"{source} was trained with {name} {have}, but the data has {want}")
    if model.config.fps != fps:
        log.warning(
            "%s was trained at %g frames a second, but the data has %g: set config.fps=%g to "
            "resample",
            *(source, model.config.fps, fps, model.config.fps),
        )
    return as_forecast(model)


def _as_json(results: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, dict[str, list[Any]]]:
    """Round, and replace NaN by None."""
    nothing = np.array(None)
    return {
        name: {
            metric: np.where(np.isnan(values), nothing, np.round(values, 5).astype(object)).tolist()
            for metric, values in metrics.items()
        }
        for name, metrics in results.items()
    }

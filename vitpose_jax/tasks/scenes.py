"""The task of forecasting scenes of people in 3D, as SoMoF does, trained on made-up scenes."""

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from flax import nnx

from vitpose_jax.data.motion import somof, threedpw
from vitpose_jax.data.motion.augmentation import Batch
from vitpose_jax.data.motion.resampling import at_pace, resample
from vitpose_jax.data.motion.scenes import ComposeScenes, SceneSettings
from vitpose_jax.data.motion.sources import INPUTS
from vitpose_jax.data.motion.synthetic import synthetic_joint_tracks
from vitpose_jax.data.motion.windows import MotionTrack, MotionWindows, side_by_side
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation import forecasting
from vitpose_jax.files.writing import make_folder, write_json
from vitpose_jax.models.forecaster import Forecaster
from vitpose_jax.tasks.forecasting import (
    build_model,
    open_forecaster,
    quantile_loss,
    save_model,
)
from vitpose_jax.training import workdir
from vitpose_jax.training.settings import read_part
from vitpose_jax.training.sharding import local_batch_size, process_shard
from vitpose_jax.training.step import Metrics
from vitpose_jax.training.task import Problem
from vitpose_jax.weights.forecaster import build_forecaster, describe_forecaster

__all__ = ["build_model", "build_problem", "complete", "evaluate", "save_model"]

log = logging.getLogger(__name__)

METRIC = "vim"
VALIDATION_SCENES = 600
SYNTHETIC_PACE = 0.6
"""Made-up motion is livelier than people's."""

SMOOTH = 0.01
"""Metres below which a person's error is smooth."""

_forecast = nnx.jit(lambda model, observed, visible: model.forecast(observed, visible))


@dataclasses.dataclass(frozen=True)
class ScenesSettings:
    """Entries that this task reads; configs/forecast_somof.py explains them."""

    seed: int
    data: str
    splits: Mapping[str, str]  # for each of ours, that of 3DPW's files
    synthetic: int  # recordings of made-up motion beside the files'
    paces: tuple[float, ...]
    observed: int
    future: int
    fps: float
    model: Mapping[str, Any]
    scenes: SceneSettings
    batch_size: int


def complete(config: ml_collections.ConfigDict) -> None:
    """Make sure that the files are there.

    Raises:
        UserError: they are not.
    """
    settings = read_part(ScenesSettings, config)
    for split in settings.splits.values():
        threedpw.sequence_files(settings.data, split)


def build_problem(
    config: ml_collections.ConfigDict, *, initialize: bool = True
) -> Problem[Forecaster]:
    """Open the data and build the model; there are no weights to start from.

    Raises:
        UserError: a mistake in the configuration, or data that cannot be used.
    """
    settings = read_part(ScenesSettings, config)
    train = open_windows(settings, "train", settings.paces)
    validation = validation_scenes(settings)
    source = INPUTS["somof"]
    values = {
        "num_joints": len(source.joint_names),
        "dims": source.dims,
        "observed": settings.observed,
        "future": settings.future,
        "flip_pairs": source.flip_pairs,
        "fps": settings.fps,
        "people": True,
    }
    model = build_forecaster(values | dict(settings.model), settings.seed, "config.model")
    if not isinstance(model, Forecaster):
        raise UserError("config.model.kind: only a 'forecaster' can be trained")
    index, count = process_shard()
    order = grain.MapDataset.range(len(train)).seed(settings.seed).shuffle().repeat()
    batches = order[index::count].batch(local_batch_size(settings.batch_size)).map(train.take)
    batches = batches.random_map(_composer(settings))
    return Problem(
        model=model,
        model_config=describe_forecaster(model),
        loss_fn=scene_loss,
        train_batches=batches.to_iter_dataset(
            grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        ),
        train_size=len(train),
        evaluate=lambda model: score(as_forecast(model), validation),
        metric=METRIC,
        maximize=False,
        report=lambda folder: evaluate(config, folder),
        samples="scenes",
        data={"train": train.fingerprint},
    )


def open_windows(
    settings: ScenesSettings, split: str, paces: tuple[float, ...] = ()
) -> MotionWindows:
    """The windows of a split's scenes of two people; those of people alone lack the second.

    Raises:
        UserError: the files cannot be read.
    """
    scenes: list[list[MotionTrack]] = [
        [somof.from_smpl(track) for track in threedpw.joint_tracks(sequence)]
        for sequence in threedpw.read_split(settings.data, settings.splits[split])
    ]
    made_up = synthetic_joint_tracks(split, settings.synthetic)
    scenes += [[at_pace(track, SYNTHETIC_PACE)] for track in made_up]
    tracks = [side_by_side(people[: somof.PEOPLE], somof.PEOPLE) for people in scenes if people]
    tracks = [resample(track, settings.fps) for track in tracks]
    tracks += [at_pace(track, pace) for pace in paces for track in tracks]
    length = settings.observed + settings.future
    tracks = [track for track in tracks if len(track.frame_ids) >= length]
    return MotionWindows(tracks, settings.observed, settings.future)


def validation_scenes(settings: ScenesSettings) -> Batch:
    """Made-up scenes of the validation split, the same each time, evenly from its tracks."""
    windows = open_windows(settings, "validation")
    kept = np.unique(np.linspace(0, len(windows) - 1, VALIDATION_SCENES).astype(int))
    return _composer(settings).random_map(windows.take(kept), np.random.default_rng(0))


def score(forecast: forecasting.Forecast, scenes: Batch) -> dict[str, float]:
    """VIM of a forecast of scenes side by side, mean and by frame."""
    predicted = forecasting.forecast_windows(forecast, scenes)
    figures = forecasting.vim(apart(predicted), apart(scenes["future"]))
    names = [*(f"vim_{frame}" for frame in forecasting.VIM_FRAMES), METRIC]
    return dict(zip(names, figures.tolist(), strict=True))


def apart(joints: np.ndarray) -> np.ndarray:
    """Scenes (N, T, P J, 3) of people side by side as (N, P, T, J, 3)."""
    size, frames, _, dims = joints.shape
    return np.moveaxis(joints.reshape(size, frames, -1, len(somof.JOINTS), dims), 2, 1)


def together(joints: np.ndarray) -> np.ndarray:
    """The reverse of `apart`."""
    return np.moveaxis(joints, 1, 2).reshape(len(joints), joints.shape[2], -1, joints.shape[-1])


def as_forecast(model: Forecaster) -> forecasting.Forecast:
    """The model as a compiled function on scenes of people side by side."""

    def forecast(observed: np.ndarray, visible: np.ndarray) -> np.ndarray:
        seen = apart(visible[..., None])[..., 0]
        return together(np.asarray(_forecast(model, apart(observed), seen)))

    return forecast


def scene_loss(
    model: Forecaster, batch: Mapping[str, jax.Array], key: jax.Array
) -> tuple[jax.Array, Metrics]:
    """The metric itself over all future frames: the root of a person's summed squared errors.

    With `spread`, also the quantile loss of the radii.
    """
    joints = model.config.num_joints

    def split(values: jax.Array) -> jax.Array:
        size, frames = values.shape[:2]
        return jnp.moveaxis(values.reshape(size, frames, -1, joints, *values.shape[3:]), 2, 1)

    observed, visible = split(batch["observed"]), split(batch["observed_visible"])
    future, counted = split(batch["future"]), split(batch["future_visible"]).astype(jnp.float32)
    futures, radii = model.with_radii(observed, visible, key=key)
    squared = jnp.square(futures - future).sum(-1) * counted
    person = jnp.sqrt(squared.sum(-1) + SMOOTH**2).mean(0)
    whole = counted.min(-1)
    loss = (person * whole).sum() / jnp.maximum(whole.sum(), 1)
    if radii is not None:
        loss = loss + quantile_loss(jnp.sqrt(squared), radii, counted)
    return loss, {}


def evaluate(config: ml_collections.ConfigDict, folder: Path) -> dict[str, float]:
    """Score the run in `folder` and the baselines on made-up validation scenes.

    Prints a table and writes evaluation.json.

    Raises:
        UserError: a checkpoint cannot be loaded, or the file cannot be written.
    """
    settings = read_part(ScenesSettings, config)
    scenes = validation_scenes(settings)
    rows = {
        name: score(as_scenes(forecasting.baseline(name, settings.future)), scenes)
        for name in forecasting.SCENE_BASELINES
    }
    if workdir.is_claimed(folder):
        model = open_forecaster(folder)
        assert isinstance(model, Forecaster)
        rows[str(folder)] = score(as_forecast(model), scenes)
    make_folder(folder)
    if jax.process_index() == 0:
        print(forecasting.vim_table(rows))
        write_json(folder / workdir.EVALUATION_FILE, {"data": settings.data, "results": rows})
    return list(rows.values())[-1]


def as_scenes(forecast: forecasting.Forecast) -> forecasting.Forecast:
    """A forecast of one person at a time as one of scenes of people side by side."""

    def forecast_scenes(observed: np.ndarray, visible: np.ndarray) -> np.ndarray:
        people = apart(observed)
        seen = apart(visible[..., None])[..., 0]
        flat = forecast(people.reshape(-1, *people.shape[2:]), seen.reshape(-1, *seen.shape[2:]))
        return together(flat.reshape(*people.shape[:2], *flat.shape[1:]))

    return forecast_scenes


def _composer(settings: ScenesSettings) -> ComposeScenes:
    flip = INPUTS["somof"].flip_index
    return ComposeScenes(settings.scenes, flip, settings.observed, settings.fps)

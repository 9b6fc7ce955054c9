"""Small models with lively weights, so that heatmaps have clear peaks."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.export.writing import export_pose
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.models.necks import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.pose_predictor import PosePredictor, PredictorConfig
from vitpose_jax.models.vit import ViTConfig

VIT = ViTConfig(width=24, depth=1, num_heads=3, input_size=(64, 48))
CLASSIC = DecoderConfig(in_channels=24, filters=(8, 8))
PYRAMID = {"width": 24, "strides": (1, 2), "channels": 8}

CONFIGS = {
    "classic": PoseConfig(VIT, CLASSIC, dataset="coco"),
    "simple": PoseConfig(VIT, DecoderConfig("simple", in_channels=24), dataset="coco"),
    "experts": PoseConfig(
        replace(VIT, num_experts=6, part_features=6),
        replace(CLASSIC, num_keypoints=133),
        dataset="wholebody",
    ),
    "residual": PoseConfig(VIT, CLASSIC, NeckConfig("residual", taps=(0,), **PYRAMID), "coco"),
    "detail": PoseConfig(VIT, CLASSIC, NeckConfig("detail", width=24, channels=8), "coco"),
    "strided": PoseConfig(
        VIT, replace(CLASSIC, in_channels=48), NeckConfig("strided", **PYRAMID), "coco"
    ),
}


def lively(module: nnx.Module, seed: int = 0) -> nnx.Module:
    """Replace a module's weights, in place, by random ones that keep the values' size."""
    rng = np.random.default_rng(seed)
    _, state = nnx.split(module)

    def fresh(path: tuple, leaf: jax.Array) -> jax.Array:
        name, shape = jax.tree_util.keystr(path, simple=True, separator="."), leaf.shape
        drawn = rng.standard_normal(shape).astype(np.float32)
        if len(shape) >= 2:
            fan = 10.0 if "pos_embed" in name else float(np.prod(shape[:-1]))
            return jnp.asarray(drawn / np.float32(fan**0.5))
        is_factor = "bias" not in name and "mean" not in name
        return jnp.asarray(
            np.abs(drawn) * np.float32(0.2) + np.float32(0.8) if is_factor else drawn / 8
        )

    nnx.update(module, jax.tree_util.tree_map_with_path(fresh, state))
    return module


def pose_model(name: str) -> PoseModel:
    """One of `CONFIGS`, in float32."""
    return lively(PoseModel(CONFIGS[name], rngs=nnx.Rngs(0)))


def forecaster(kind: str) -> Forecaster | PosePredictor:
    """A small forecaster with mirroring and members, or the original's predictor."""
    if kind == "predictor":
        config = PredictorConfig(width=24, depth=1, num_heads=4, mlp_width=32)
        return lively(PosePredictor(config, rngs=nnx.Rngs(0)))
    pairs = tuple((i, i + 1) for i in range(1, 17, 2))
    sizes = {"width": 16, "num_heads": 2, "readout_width": 24, "readout_depth": 2}
    config = ForecasterConfig(flip_pairs=pairs, members=2, differences=2, **sizes)
    return lively(Forecaster(config, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """exported(name, runtime) -> path of a small pose model, exported once for all tests."""
    folder, done = tmp_path_factory.mktemp("exported"), {}

    def export(name: str, runtime: str) -> Path:
        if (name, runtime) not in done:
            path = folder / f"{name}.{runtime}"
            export_pose(pose_model(name), path, runtime, source=name)
            done[name, runtime] = path
        return done[name, runtime]

    return export

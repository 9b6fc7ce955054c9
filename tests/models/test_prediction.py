"""The prediction program: its two ways with mirrored crops, and experts."""

import numpy as np
import pytest
from flax import nnx

from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.prediction import PredictionOptions, cast_matrices, prediction_program
from vitpose_jax.models.vit import ViTConfig

FLIP = tuple(map(int, SKELETONS["coco"].flip_index))


@pytest.fixture(scope="module")
def model() -> PoseModel:
    backbone = ViTConfig(
        *(32, 1, 2), input_size=(64, 48), num_experts=6, part_features=8, drop_path_rate=0.0
    )
    model = PoseModel(
        PoseConfig(backbone, DecoderConfig(in_channels=32, filters=(8, 8)), dataset="mpii"),
        rngs=nnx.Rngs(0),
    )
    model.decoder.final.kernel[...] *= 500
    return model


def predict(model: PoseModel, **changes: object) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    batch = {
        "crop": rng.integers(0, 255, (3, 64, 48, 3), np.uint8),
        "center": np.full((3, 2), 100, np.float32),
        "scale": np.ones((3, 2), np.float32),
    }
    if experts := changes.pop("experts", None):
        batch["dataset_index"] = np.array(experts)
    graph, state = nnx.split(model)
    options = PredictionOptions(FLIP, keep_heatmaps=True, **changes)
    program = prediction_program(model.dtype, 6)
    return list(map(np.asarray, program(graph, cast_matrices(state, model.dtype), batch, options)))


def test_mirrored_crops_in_the_same_batch_or_in_another(model: PoseModel) -> None:
    together, apart = (predict(model, mirrored_apart=x, experts=[0, 2, 4]) for x in (False, True))
    for ours, theirs in zip(together, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize("apart", [False, True])
def test_the_expert_is_the_batchs_else_the_models(model: PoseModel, apart: bool) -> None:
    own, second, first = (
        predict(model, mirrored_apart=apart, experts=experts)[-1]
        for experts in (None, [2, 2, 2], [2, 0, 2])
    )
    np.testing.assert_array_equal(own, second)
    assert (own != first).any(axis=(1, 2, 3)).tolist() == [False, True, False]

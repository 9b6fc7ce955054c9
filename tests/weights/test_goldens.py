"""Feature maps and heatmaps against those of the original code and of transformers."""

import json
import math
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vitpose_jax.keypoints.decoding import flip_average
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.weights import load_backbone, load_pose_model

pytest.importorskip("torch")
TOLERANCE = 1e-4  # of the largest reference value


def assert_close(ours: jax.Array, reference: np.ndarray, channels_first: bool = True) -> None:
    """Compares NHWC with the golden's NCHW."""
    if channels_first:
        reference = reference.transpose(0, 2, 3, 1)
    assert ours.shape == reference.shape
    error = np.abs(np.asarray(ours) - reference).max() / np.abs(reference).max()
    assert error <= TOLERANCE, f"off by {error:.1e} of the largest value"


forward = nnx.jit(lambda model, crops: model(crops))


@pytest.mark.parametrize("name", ["classic", "simple"])
def test_tiny(golden: Path, crops: np.ndarray, name: str) -> None:
    model = load_pose_model(golden / f"vitpose_tiny_{name}.pth", num_heads=3)
    reference = np.load(golden / f"vitpose_tiny_{name}.npz")
    assert_close(model.backbone(crops), reference["features"])
    heatmaps = model(crops)
    assert_close(heatmaps, reference["heatmaps"])

    average = flip_average(heatmaps, model(crops[:, :, ::-1]), SKELETONS["coco"].flip_index)
    expected = reference["heatmaps_flip_avg"]
    assert_close(average[: len(expected)], expected)


def test_tiny_inside(golden: Path, crops: np.ndarray) -> None:
    vit = load_backbone(golden / "vitpose_tiny_classic.pth", num_heads=3)
    reference = np.load(golden / "vitpose_tiny_classic.npz")
    assert_close(vit.embed(crops[:2]), reference["tokens_embedded"], channels_first=False)
    _, taps = vit.with_taps(crops[:2], blocks=range(4))
    tokens = jnp.stack(taps).reshape(4, 2, 192, 96)
    assert_close(tokens, reference["blocks"], channels_first=False)


def test_experts(golden: Path, crops: np.ndarray) -> None:
    vit = load_backbone(golden / "vitpose_plus_tiny.pth", num_heads=3)
    reference = np.load(golden / "vitpose_plus_tiny.npz")
    for dataset in (0, 3):
        assert_close(vit(crops[:2], dataset), reference[f"features_dataset{dataset}"])
    assert_close(vit(crops[:2], reference["mixed_index"]), reference["features_mixed"])


@pytest.mark.parametrize("name", ["tiny", "tiny_simple"])
def test_transformers(golden: Path, crops: np.ndarray, name: str) -> None:
    folder = golden / f"hf_vitpose_{name}"
    reference = np.load(folder / "outputs.npz")
    model = load_pose_model(folder)
    assert model.config.backbone.layer_norm_eps == 1e-12
    assert_close(model(crops[:2]), reference["heatmaps"])
    features = model.backbone(crops[:1]).reshape(1, 192, -1)
    assert_close(features, reference["features"], channels_first=False)
    flipped_back = model(crops[:1, :, ::-1])[:, :, ::-1, SKELETONS["coco"].flip_index]
    assert_close(flipped_back, reference["heatmaps_flip_back"])


def test_transformers_experts(golden: Path, crops: np.ndarray) -> None:
    folder = golden / "hf_vitpose_plus_tiny"
    reference = np.load(folder / "outputs.npz")
    model = load_pose_model(folder)
    assert model.config.backbone.layer_norm_eps == 1e-6
    for dataset in (0, 3):
        expected = reference[f"heatmaps_dataset{dataset}"]
        assert_close(model(crops[:1], dataset_index=dataset), expected)
    mixed = model(crops[:2], dataset_index=reference["mixed_index"])
    assert_close(mixed, reference["heatmaps_mixed"])


def test_layer_norm_eps_of_the_folder_is_used(
    golden: Path, crops: np.ndarray, tmp_path: Path
) -> None:
    """1e-12 against 1e-6 is invisible on ordinary crops; a large eps is not."""
    folder = golden / "hf_vitpose_tiny_simple"
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    outputs = []
    for eps in (None, 0.1):
        config["backbone_config"].pop("layer_norm_eps", None)
        if eps is not None:
            config["backbone_config"]["layer_norm_eps"] = eps
        (tmp_path / "config.json").write_text(json.dumps(config))
        model = load_pose_model(tmp_path)
        assert model.config.backbone.layer_norm_eps == (eps or 1e-12)
        outputs.append(np.asarray(model(crops[:1])))
    assert np.abs(outputs[0] - outputs[1]).max() > 1e-2


def formula_value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The formula of the golden's README."""
    z = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape, dtype=np.float32)
    if key.endswith("running_mean"):
        return z * np.float32(0.1)
    if key.endswith("running_var"):
        return np.abs(z) + np.float32(0.5)
    if key.endswith("pos_embed"):
        return z * np.float32(0.1)
    if len(shape) >= 2:
        fan = shape[0] * 4 if ".deconv_layers." in key else int(np.prod(shape[1:]))
        return z * np.float32(1 / math.sqrt(fan))
    if key.endswith("bias"):
        return z * np.float32(0.1)
    return np.float32(1) + z * np.float32(0.1)


def formula_model(golden: Path, size: str, kind: str, folder: Path) -> PoseModel:
    """A full-size model with the formula's weights, by way of a checkpoint file."""
    import torch

    shapes = json.loads((golden / f"vitpose_{size}_formula_keys.json").read_text())[kind]
    tensors = {
        key: torch.tensor(0)
        if key.endswith("num_batches_tracked")
        else torch.from_numpy(formula_value(key, tuple(shape)))
        for key, shape in shapes.items()
    }
    file = folder / f"vitpose_{size}_{kind}.pth"
    torch.save({"state_dict": tensors}, file)
    return load_pose_model(file)


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ("s", "classic"),
        ("s", "simple"),
        ("b", "classic"),
        ("b", "simple"),
        pytest.param("l", "classic", marks=pytest.mark.slow),
    ],
)
def test_full_sizes(golden: Path, tmp_path: Path, size: str, kind: str) -> None:
    model = formula_model(golden, size, kind, tmp_path)
    reference = np.load(golden / f"vitpose_{size}_formula.npz")
    heatmaps = reference[f"heatmaps_{kind}"]
    x = np.random.default_rng(zlib.crc32(b"input")).standard_normal(
        (2, 3, 256, 192), dtype=np.float32
    )
    crops = x[: len(heatmaps)].transpose(0, 2, 3, 1)
    assert_close(forward(model, crops), heatmaps)
    features = forward(model.backbone, crops[:1])[..., :32]
    assert_close(features, reference[f"features_{kind}_ch0_31"])

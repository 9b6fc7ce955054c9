"""Feature maps and heatmaps against those of the original code and of transformers."""

import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_fixtures import formula_weights, tensors_of

from vitpose_jax.keypoints.decoding import flip_average
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.weights import load_backbone, load_pose_model

torch = pytest.importorskip("torch")
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
    assert_close(model.backbone(crops[:2]), reference["features"])
    crops = crops[:2]
    heatmaps = model(crops)
    assert_close(heatmaps, reference["heatmaps"])

    average = flip_average(heatmaps, model(crops[:, :, ::-1]), SKELETONS["coco"].flip_index)
    expected = reference["heatmaps_flip_avg"]
    assert_close(average[: len(expected)], expected)


def test_tiny_inside(golden: Path, crops: np.ndarray) -> None:
    vit = load_backbone(golden / "vitpose_tiny_classic.pth", num_heads=3)
    reference = np.load(golden / "vitpose_tiny_classic.npz")
    assert_close(vit.embed(crops[:1]), reference["tokens_embedded"], channels_first=False)
    _, taps = vit.with_taps(crops[:1], blocks=(0, 3))
    tokens = jnp.stack(taps).reshape(2, 1, 192, 96)
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


@pytest.mark.parametrize("kind", ["classic", "simple"])
def test_full_size(golden: Path, tmp_path: Path, kind: str) -> None:
    check_full_size(golden, formula_weights(f"vitpose_s_{kind}"), "s", kind, tmp_path)


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        ("b", "classic"),
        ("b", "simple"),
        pytest.param("l", "classic", marks=pytest.mark.slow),
    ],
)
def test_larger_sizes(shared: Path, tmp_path: Path, size: str, kind: str) -> None:
    shapes = json.loads((shared / f"golden/vitpose_{size}_formula_keys.json").read_text())[kind]
    check_full_size(shared / "golden", tensors_of(shapes), size, kind, tmp_path)


def check_full_size(folder: Path, tensors: dict, size: str, kind: str, tmp_path: Path) -> None:
    """A full-size model with the formula's weights, by way of a checkpoint file."""
    torch.save({"state_dict": tensors}, tmp_path / "weights.pth")
    model = load_pose_model(tmp_path / "weights.pth")
    reference = np.load(folder / f"vitpose_{size}_formula.npz")
    heatmaps = reference[f"heatmaps_{kind}"]
    x = np.random.default_rng(zlib.crc32(b"input")).standard_normal(
        (2, 3, 256, 192), dtype=np.float32
    )
    crops = x[: len(heatmaps)].transpose(0, 2, 3, 1)
    assert_close(forward(model, crops), heatmaps)
    features = forward(model.backbone, crops[:1])[..., :32]
    assert_close(features, reference[f"features_{kind}_ch0_31"])

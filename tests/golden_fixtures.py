"""Outputs of the original code, on networks whose weights come from a formula.

`tests/golden` holds numbers that the original PyTorch code computed (README.md there), and the
shapes of its networks. Their weights are a formula's values, written as checkpoints when the tests
start. For transformers' models, transformers itself computes the numbers then.
"""

import json
import math
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import torch

STORED = Path(__file__).parent / "golden"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def formula_value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weights under the original's name `key`: normal numbers whose seed is the name."""
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


def formula_weights(name: str) -> "dict[str, torch.Tensor]":
    """All tensors of a network of shapes.json, by the original's names."""
    return tensors_of(json.loads((STORED / "shapes.json").read_text())[name])


def tensors_of(shapes: dict[str, list[int]]) -> "dict[str, torch.Tensor]":
    """The formula's tensors of these names and shapes."""
    import torch

    return {
        key: torch.tensor(0)
        if key.endswith("num_batches_tracked")
        else torch.from_numpy(formula_value(key, tuple(shape)))
        for key, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def golden(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with outputs of the original code, and the checkpoints that gave them."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("golden") / "golden"
    shutil.copytree(STORED, folder)
    inputs = dict(np.load(folder / "inputs.npz"))
    inputs["x"] = as_input(inputs["crop"])
    np.savez(folder / "inputs.npz", **inputs)
    for name in json.loads((STORED / "shapes.json").read_text()):
        if name == "pose_predictor":  # the only one that is saved bare
            torch.save(formula_weights(name), folder / f"{name}.pth")
        elif not name.startswith("vitpose_s"):  # large: made by the test that needs it
            torch.save({"state_dict": formula_weights(name)}, folder / f"{name}.pth")
    for config in STORED.glob("hf_*/config.json"):
        run_transformers(folder / config.parent.name, torch.from_numpy(inputs["x"]))
    return folder


def as_input(crops: np.ndarray) -> np.ndarray:
    """RGB crops (N, H, W, 3) as the original's networks take them, (N, 3, H, W) float32."""
    unit = crops.astype(np.float32) / np.float32(255)
    return ((unit - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2)


def run_transformers(folder: Path, x: "torch.Tensor") -> None:
    """Write transformers' model of the folder's config.json, and what it says of the first crops.

    `outputs.npz` has its heatmaps (N, K, h, w), those of the mirror image turned back, and the
    tokens of the backbone; for ViTPose+ its heatmaps by data set.
    """
    import torch
    from transformers import VitPoseConfig, VitPoseForPoseEstimation

    config = VitPoseConfig.from_pretrained(folder)
    model = VitPoseForPoseEstimation(config).eval()
    state = {
        key: value
        if key.endswith("num_batches_tracked")
        else torch.from_numpy(formula_value(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    model.save_pretrained(folder)
    pairs = torch.tensor([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14], [15, 16]])
    outputs = {"pixel_values_index": np.array([0, 1])}
    with torch.no_grad():
        if config.backbone_config.num_experts > 1:
            outputs["mixed_index"] = np.array([5, 1])
            for name, count, index in (
                ("dataset0", 1, [0]),
                ("dataset3", 1, [3]),
                ("mixed", 2, [5, 1]),
            ):
                found = model(x[:count], dataset_index=torch.tensor(index))
                outputs[f"heatmaps_{name}"] = found.heatmaps.numpy()
        else:
            outputs["heatmaps"] = model(x[:2]).heatmaps.numpy()
            mirrored = model(x[:1].flip(3), flip_pairs=pairs)
            outputs["heatmaps_flip_back"] = mirrored.heatmaps.numpy()
            outputs["features"] = model.backbone(x[:1]).feature_maps[-1].numpy()
    np.savez(folder / "outputs.npz", **outputs)

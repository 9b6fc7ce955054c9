"""Checkpoints of the ViTPose-FPN code, through the converter, give its heatmaps."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from convert import torch_to_flax
from vitpose_jax.weights import load_pose_model

torch = pytest.importorskip("torch")
TOLERANCE = 1e-4  # of the largest reference value

forward = nnx.jit(lambda model, crops: model(crops))


def _check(source: Path, options: list[str], tmp_path: Path, crops, reference: np.ndarray) -> None:
    arguments = [str(source), "--num-heads", "3", "--out", str(tmp_path / "weights"), *options]
    assert torch_to_flax.main(arguments) == 0
    model = load_pose_model(tmp_path / "weights")
    heatmaps = np.asarray(forward(model, jnp.asarray(crops[: len(reference)])))
    reference = reference.transpose(0, 2, 3, 1)
    error = np.abs(heatmaps - reference).max() / np.abs(reference).max()
    assert error <= TOLERANCE, f"off by {error:.1e} of the largest value"


def _state(file: Path) -> dict:
    return torch.load(file, weights_only=True)["state_dict"]


@pytest.mark.parametrize("strides", ["1 2 4 8", "1 3 9 27", "1 2 8 32"])
def test_strided_pyramid(golden: Path, tmp_path: Path, crops: np.ndarray, strides: str) -> None:
    reference = np.load(golden / "fpn_neck.npz")[f"heatmaps_s{strides.replace(' ', '_')}"]
    options = [] if strides == "1 2 4 8" else ["--fpn-strides", *strides.split()]
    _check(golden / "fpn_neck_model.pth", options, tmp_path, crops, reference)


def test_pyramid_of_which_one_map_is_read(golden: Path, tmp_path: Path, crops: np.ndarray) -> None:
    state = _state(golden / "fpn_neck_model.pth")
    key = "keypoint_head.deconv_layers.0.weight"
    state[key] = state[key][:96].clone()
    torch.save({"state_dict": state}, tmp_path / "single.pth")
    reference = np.load(golden / "fpn_neck.npz")["heatmaps_single_s1_2_8_32"]
    options = ["--fpn-strides", "1", "2", "8", "32"]
    _check(tmp_path / "single.pth", options, tmp_path, crops, reference)


@pytest.mark.parametrize("taps", ["3 7 11", "9 10 11"])
@pytest.mark.parametrize("strides", ["default", "4 2 1"])
def test_fused_blocks(
    golden: Path, tmp_path: Path, crops: np.ndarray, taps: str, strides: str
) -> None:
    name = f"heatmaps_o{taps.replace(' ', '_')}_s{strides.replace(' ', '_')}"
    reference = np.load(golden / "fpn_intermediate.npz")[name]
    options = ["--fpn-taps", *taps.split()]
    if strides != "default":
        options += ["--fpn-strides", *strides.split()]
    _check(golden / "fpn_intermediate.pth", options, tmp_path, crops, reference)


def test_fused_blocks_without_transposed_convolutions(
    golden: Path, tmp_path: Path, crops: np.ndarray
) -> None:
    state = _state(golden / "fpn_intermediate.pth")
    for name in ("weight", "bias"):
        final = state.pop(f"extra_final_layer_no_deconv.{name}")
        state[f"keypoint_head.final_layer.0.{name}"] = final
    state = {key: value for key, value in state.items() if ".deconv_layers." not in key}
    torch.save({"state_dict": state}, tmp_path / "plain.pth")
    reference = np.load(golden / "fpn_intermediate.npz")["heatmaps_nodeconv_o9_10_11_sdefault"]
    options = ["--fpn-taps", "9", "10", "11"]
    _check(tmp_path / "plain.pth", options, tmp_path, crops, reference)


def test_wrong_number_of_strides(golden: Path, tmp_path: Path, capsys) -> None:
    arguments = [str(golden / "fpn_neck_model.pth"), "--num-heads", "3", "--fpn-strides", "1", "2"]
    assert torch_to_flax.main([*arguments, "--out", str(tmp_path / "weights")]) == 2
    assert "4 levels" in capsys.readouterr().err

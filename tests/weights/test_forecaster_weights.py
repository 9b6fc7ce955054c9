"""Forecasters to disk and back; what is no forecaster is refused in words."""

import json
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.models.forecaster import ForecasterConfig
from vitpose_jax.weights.forecaster import (
    build_forecaster,
    describe_forecaster,
    load_forecaster,
    predictor_from_torch,
    save_forecaster,
)

TINY = {"kind": "forecaster", "width": 8, "num_heads": 2, "readout_width": 8, "readout_depth": 1}


def test_there_and_back(tmp_path: Path) -> None:
    for config in (
        TINY | {"flip_pairs": [[1, 2]], "future": 7, "fps": 25.0, "members": 2},
        {"kind": "predictor", "depth": 1, "mlp_width": 16, "num_frames": 10},
    ):
        model = build_forecaster(config, seed=3)
        save_forecaster(model, tmp_path / config["kind"])
        again = load_forecaster(tmp_path / config["kind"])
        assert again.config == model.config
        rng = np.random.default_rng(0)
        observed = rng.normal(500, 50, (2, 10, 17, 2)).astype(np.float32)
        visible = rng.random((2, 10, 17)) < 0.8
        np.testing.assert_array_equal(
            again.forecast(observed, visible), model.forecast(observed, visible)
        )
        json.dumps(describe_forecaster(model))


def test_full_sized_original(golden: Path) -> None:
    shapes = json.loads((golden / "pose_predictor_full_keys.json").read_text())
    rng = np.random.default_rng(0)
    tensors = {key: rng.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    model = predictor_from_torch(tensors, "made up")
    assert model.config.depth == 6
    np.testing.assert_array_equal(
        model.layers[5].fc2.kernel[...], tensors["encoder.layers.5.linear2.weight"].T
    )
    del tensors["encoder.layers.3.norm1.bias"]
    with pytest.raises(UserError, match=r"layers\.3\.norm1\.bias"):
        predictor_from_torch(tensors, "made up")


def test_a_forecaster_has_members() -> None:
    with pytest.raises(UserError, match="members is 0"):
        build_forecaster(TINY | {"members": 0})


def test_refusals(tmp_path: Path, golden: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_forecaster(tmp_path / "nothing")
    with pytest.raises(UserError, match="not a tensor of the original pose predictor"):
        load_forecaster(golden / "vitpose_tiny_classic.pth")
    with pytest.raises(UserError, match="not a forecaster's"):
        load_forecaster(golden / "hf_vitpose_tiny")
    with pytest.raises(UserError, match="holds another kind of model"):
        save_forecaster(build_forecaster(TINY), _pose_folder(tmp_path))
    with pytest.raises(UserError, match="no forecaster of kind 'x'"):
        build_forecaster({"kind": "x"})
    with pytest.raises(UserError, match="nonsense"):
        build_forecaster(TINY | {"nonsense": 1})
    for heads in (3, 0, -2):
        with pytest.raises(UserError, match=f"config.json: width 8 .* multiple of {heads} heads"):
            build_forecaster(TINY | {"num_heads": heads})
    with pytest.raises(UserError, match="width 120 is not a multiple of 0 heads"):
        build_forecaster({"kind": "predictor", "num_heads": 0})


def test_damaged_folders(tmp_path: Path) -> None:
    save_forecaster(build_forecaster(TINY), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"readout_width": 16}))
    with pytest.raises(UserError, match="expected"):
        load_forecaster(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"junk")
    with pytest.raises(UserError, match="safetensors"):
        load_forecaster(tmp_path)


def test_configuration_from_json_equals_itself() -> None:
    config = ForecasterConfig(flip_pairs=((1, 2),))
    assert ForecasterConfig(flip_pairs=json.loads("[[1, 2]]")) == config


def _pose_folder(folder: Path) -> Path:
    (folder / "pose").mkdir()
    (folder / "pose" / "config.json").write_text('{"model_type": "vitpose_jax"}')
    return folder / "pose"

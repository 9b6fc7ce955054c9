"""The examples in the docstrings of the public names run, in a folder that has what they read."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from PIL import Image

import vitpose_jax as api

onnx = pytest.importorskip("onnx")

DOCUMENTED = [name for name in api.__all__ if name != "SKELETONS"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, bright_rectangle_detector) -> Path:
    """Random weights of every kind, a picture with something bright in it, and a detector."""
    folder = tmp_path_factory.mktemp("examples")
    backbone, decoder = api.ViTConfig(24, 1, 3), api.DecoderConfig("simple", in_channels=24)
    config = api.PoseConfig(backbone, decoder, dataset="coco")
    api.save_pose_model(api.PoseModel(config, rngs=nnx.Rngs(0)), folder / "weights/vitpose-b")
    tiny = api.ForecasterConfig(width=8, num_heads=2, readout_width=8, readout_depth=1)
    api.save_forecaster(api.Forecaster(tiny, rngs=nnx.Rngs(0)), folder / "weights/forecaster")
    pixels = np.zeros((240, 320, 3), np.uint8)
    pixels[40:200, 100:180] = 250
    Image.fromarray(pixels).save(folder / "people.jpg")
    bright_rectangle_detector(folder / "detector.onnx")
    return folder


@pytest.mark.parametrize("name", DOCUMENTED)
def test_example_of(
    name: str, folder: Path, default_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VITPOSE_COMPILATION_CACHE", "off")
    names = {public: getattr(api, public) for public in api.__all__} | {"np": np, "nnx": nnx}
    documentation = getattr(api, name).__doc__
    example = doctest.DocTestParser().get_doctest(documentation, names, name, None, None)
    assert example.examples, f"{name} has no example"
    results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert results.failed == 0

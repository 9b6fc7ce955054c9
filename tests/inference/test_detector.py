"""The person detector, on a hand-made ONNX network that finds the one bright rectangle."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitpose_jax.errors import UserError
from vitpose_jax.inference.detector import (
    PersonDetector,
    prepare_image,
    select_people,
)

pytest.importorskip("onnx")

MakeDetector = Callable[..., Path]


@pytest.fixture(scope="module")
def detector(
    tmp_path_factory: pytest.TempPathFactory, bright_rectangle_detector: MakeDetector
) -> PersonDetector:
    return PersonDetector(bright_rectangle_detector(tmp_path_factory.mktemp("onnx") / "d.onnx"))


@pytest.mark.parametrize("size", [(480, 640), (200, 90), (33, 1000)])
def test_finds_the_rectangle_in_images_of_any_shape(
    detector: PersonDetector, size: tuple[int, int]
) -> None:
    height, width = size
    image = np.full((*size, 3), 20, np.uint8)
    top, bottom, left, right = height // 4, height // 2, width // 8, width // 2
    image[top:bottom, left:right] = 255
    (found,) = detector(image)
    cell = np.array([width, height, width, height]) / 64  # the network's grid
    expected = np.array([left, top, right - left, bottom - top])
    assert (np.abs(found[:4] - expected) <= 2 * cell).all()
    assert found[4] > 0.99


def test_nobody_there(detector: PersonDetector) -> None:
    assert detector(np.full((50, 60, 3), 20, np.uint8)).shape == (0, 5)
    assert detector(np.zeros((1, 1, 3), np.uint8)).shape == (0, 5)


def test_a_detector_of_people_alone(
    tmp_path: Path, bright_rectangle_detector: MakeDetector
) -> None:
    detector = PersonDetector(bright_rectangle_detector(tmp_path / "d.onnx", classes=1))
    assert len(detector(np.full((50, 60, 3), 255, np.uint8))) == 1


def test_an_unknown_number_of_classes(
    tmp_path: Path, bright_rectangle_detector: MakeDetector
) -> None:
    detector = PersonDetector(bright_rectangle_detector(tmp_path / "d.onnx", classes=7))
    with pytest.raises(UserError, match="7 classes"):
        detector(np.full((50, 60, 3), 255, np.uint8))


def test_preparation_stretches_and_scales() -> None:
    image = np.zeros((10, 20, 3), np.uint8)
    image[:, :, 0] = 255
    pixels = prepare_image(image, (8, 6))
    assert pixels.shape == (1, 3, 8, 6)
    assert pixels.dtype == np.float32
    assert pixels[0, 0].min() == 1 > pixels[0, 1:].max() == 0


def test_selection() -> None:
    """Scores above the threshold, of people only, best first, clipped, in pixels."""
    logits = np.full((5, 80), -6.0)
    logits[0, 0], logits[1, 0], logits[2, 0], logits[3, 5], logits[4, 0] = 1, 3, -2, 9, 2
    logits[4, 7] = 2.5  # rather something else
    boxes = np.array([[0.5, 0.5, 0.2, 0.4], [0.1, 0.5, 0.4, 0.5], *[[0.5] * 4] * 3])
    found = select_people(logits, boxes, (200, 100), threshold=0.4)
    sigmoid = 1 / (1 + np.exp(-np.array([3.0, 1.0])))
    np.testing.assert_allclose(found[:, 4], sigmoid)
    np.testing.assert_allclose(found[:, :4], [[0, 25, 60, 50], [80, 30, 40, 40]])


def test_a_box_outside_the_image_is_dropped() -> None:
    boxes = np.array([[1.5, 0.5, 0.2, 0.2], [np.nan] * 4])
    assert select_people(np.full((2, 1), 5.0), boxes, (99, 99), 0.5).shape == (0, 5)


@pytest.mark.parametrize("name", ["yolo", "nowhere.onnx"])
def test_no_such_detector(name: str) -> None:
    with pytest.raises(UserError, match=r"no such file|no detector"):
        PersonDetector(name)


def test_files_of_another_kind(tmp_path: Path, bright_rectangle_detector: MakeDetector) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="cannot load") as caught:
        PersonDetector(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
    bright_rectangle_detector(tmp_path / "y.onnx", outputs=("logits",))
    with pytest.raises(UserError, match="gives logits"):
        PersonDetector(tmp_path / "y.onnx")


@pytest.mark.parametrize(
    "inputs",
    [
        [("pixel_values", "FLOAT16", [1, 3, 64, 64])],
        [("pixel_values", "FLOAT", [1, 64, 64, 3])],
        [("pixel_values", "FLOAT", [2, 3, 64, 64])],
        [("pixel_values", "FLOAT", [1, 3, 64, 64]), ("target_sizes", "INT64", [1, 2])],
        [],
    ],
)
def test_networks_that_take_something_else(tmp_path: Path, inputs: list) -> None:
    import onnx
    from onnx import TensorProto, helper

    results = {"logits": [1, 1, 80], "pred_boxes": [1, 1, 4]}
    constants = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, [0.5] * int(np.prod(shape)))
        for name, shape in results.items()
    ]
    nodes = [helper.make_node("Constant", [], [c.name], value=c) for c in constants]
    declared = [
        helper.make_tensor_value_info(name, getattr(TensorProto, kind), shape)
        for name, kind, shape in inputs
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in results.items()
    ]
    graph = helper.make_graph(nodes, "g", declared, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "d.onnx")
    with pytest.raises(UserError, match=r"d\.onnx: a detector must take one float32 image"):
        PersonDetector(tmp_path / "d.onnx")

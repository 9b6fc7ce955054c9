"""What the tests of inference share: a tiny trained-shape network, photographs, made-up people."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from vitpose_jax.data.synthetic.scene import Scene, render_scene
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.person import Person

# Compiling, and waiting for a busy machine, take longer than hypothesis' deadline.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

SIDE = 64  # of the hand-made detector's input


@pytest.fixture(scope="session")
def weights(golden: Path) -> Path:
    """A small network of the original's (its poses make no sense, its numbers are known)."""
    return golden / "vitpose_tiny_classic.pth"


@pytest.fixture(scope="session")
def estimator(weights: Path) -> PoseEstimator:
    return PoseEstimator.from_pretrained(weights, num_heads=3, batch_size=4)


FIRST_ID = 1001  # of `photos`


@functools.cache
def scenes() -> list[Scene]:
    """What is drawn on `photos`."""
    return [render_scene(np.random.default_rng([5, index])) for index in range(12)]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of drawn pictures under the names of photographs."""
    folder = tmp_path_factory.mktemp("photos") / "val2017"
    folder.mkdir()
    for index, scene in enumerate(scenes(), start=FIRST_ID):
        Image.fromarray(scene.pixels).save(folder / f"{index:012d}.jpg")
    return folder


@pytest.fixture(scope="session")
def detections() -> list[dict]:
    """What a detector reports on `photos`: people several times each, and other things."""
    rng = np.random.default_rng(6)
    found = []
    for index, scene in enumerate(scenes(), start=FIRST_ID):
        shaken = np.concatenate([scene.boxes + rng.normal(0, 2, scene.boxes.shape) for _ in "abc"])
        for category, box in [(1, box) for box in shaken] + [(2, shaken[0]), (33, shaken[-1])]:
            entry = {"image_id": index, "category_id": category, "score": rng.random()}
            found.append(entry | {"bbox": [round(float(value), 2) for value in box]})
    return found


@pytest.fixture
def make_person() -> Callable[..., Person]:
    """A standing COCO person in a box."""
    x = [50, 55, 45, 60, 40, 70, 30, 80, 20, 85, 15, 65, 35, 66, 34, 67, 33]
    y = [10, 7, 7, 9, 9, 25, 25, 40, 40, 52, 52, 55, 55, 75, 75, 95, 95]
    unit = np.stack([x, y], axis=-1) / 100

    def make(
        left: float, top: float, width: float = 60, height: float = 150, **more: object
    ) -> Person:
        keypoints = (np.array([left, top]) + unit * [width, height]).astype(np.float32)
        box = np.array([left, top, width, height], float)
        return Person(keypoints, np.full(17, 0.9, np.float32), box, **more)

    return make


@pytest.fixture(scope="session")
def bright_rectangle_detector() -> Callable[..., Path]:
    """Writes a hand-made person detector, (path, classes=80, outputs=()) -> path."""
    return save_bright_rectangle_detector


def save_bright_rectangle_detector(path: Path, classes: int = 80, outputs: tuple = ()) -> Path:
    """An ONNX network with D-FINE's interface: one query, the extent of pixels above one half."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def node(kind: str, inputs: list[str], output: str, **attributes: object) -> "onnx.NodeProto":
        return helper.make_node(kind, inputs, [output], **attributes)

    place = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    sides = {"along_x": place.reshape(1, 1, 1, SIDE), "along_y": place.reshape(1, 1, SIDE, 1)}
    constants = sides | {
        "half": np.float32(0.5),
        "all": np.array([1, 2, 3], np.int64),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "axis3": np.array([3], np.int64),
        "logit_shape": np.array([1, 1, 1], np.int64),
        "confident": np.float32(1000),
        "low": np.float32(-5),
        "others": np.full((1, 1, classes - 1), -4, np.float32),
    }
    nodes = [
        node("ReduceMax", ["pixel_values", "axis1"], "brightest"),
        node("Greater", ["brightest", "half"], "bright"),
        node("Cast", ["bright"], "mask", to=TensorProto.FLOAT),
        node("ReduceMax", ["mask", "axis2"], "columns"),
        node("ReduceMax", ["mask", "axis3"], "rows"),
    ]
    for name, line in (("x", "columns"), ("y", "rows")):
        nodes += [
            node("ReduceMean", [line, "all"], f"extent_{name}", keepdims=0),
            node("Mul", [line, f"along_{name}"], f"weighted_{name}"),
            node("ReduceSum", [f"weighted_{name}", "all"], f"moment_{name}", keepdims=0),
            node("ReduceSum", [line, "all"], f"count_{name}", keepdims=0),
            node("Div", [f"moment_{name}", f"count_{name}"], f"centre_{name}"),
        ]
    parts = ["centre_x", "centre_y", "extent_x", "extent_y"]
    nodes += [node("Reshape", [part, "logit_shape"], f"{part}_3d") for part in parts]
    nodes += [
        node("Concat", [f"{part}_3d" for part in parts], "pred_boxes", axis=2),
        node("Mul", ["extent_x_3d", "confident"], "scaled"),
        node("Add", ["scaled", "low"], "person"),
        node("Concat", ["person", "others"] if classes > 1 else ["person"], "logits", axis=2),
    ]
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, SIDE, SIDE])
    shapes = {"logits": [1, 1, classes], "pred_boxes": [1, 1, 4]}
    graph = helper.make_graph(
        nodes,
        "bright_rectangle",
        [pixels],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes.get(name))
            for name in outputs or shapes
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path

"""The estimator end to end: the original's points from the photographs, in order, compiled once."""

import itertools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden_fixtures import formula_value
from PIL import Image

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import load_image
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.keypoints.crops import box_to_center_scale
from vitpose_jax.keypoints.decoding import decode_heatmaps, heatmap_to_image
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models import prediction as prediction_module
from vitpose_jax.weights import load_pose_model

BOXES = np.array([[10, 20, 100.5, 200], [50, 5, 80, 60], [-30, -20, 90, 120.0]])


@pytest.mark.parametrize("decoder", ["classic", "simple"])
@pytest.mark.parametrize("flip", [True, False])
def test_points_of_the_original(golden: Path, decoder: str, flip: bool) -> None:
    """From file and box to points in the image, through our own crop, network and decoding."""
    inputs = np.load(golden / "inputs.npz")
    reference = np.load(golden / f"vitpose_tiny_{decoder}.npz")
    expected = reference["preds" if flip else "preds_noflip"]
    noise = reference["preds_noise" if flip else "preds_noflip_noise"]
    estimator = PoseEstimator.from_pretrained(
        golden / f"vitpose_tiny_{decoder}.pth", num_heads=3, flip_test=flip
    )
    paths = [golden / "pictures" / name for name in inputs["image_file"]]
    items = list(zip(paths, inputs["bbox"][:, None], strict=True))[: len(expected)]
    people = [person for found in estimator.stream(items) for person in found.people]
    scores = np.stack([person.keypoint_scores for person in people])
    np.testing.assert_allclose(scores, expected[..., 2], atol=1e-5)
    error = np.abs(np.stack([p.keypoints for p in people]) - expected[..., :2]).max(-1)
    excluded = (noise > 0.01) | (expected[..., 2] <= 0)
    print(f"{decoder} flip={flip}: {excluded.sum()} of {excluded.size} points are noise")
    assert excluded.sum() <= 6
    assert error[~excluded].max() < 0.02


def test_one_person_per_box_in_order(estimator: PoseEstimator, photos: Path) -> None:
    path = sorted(photos.iterdir())[0]
    together = estimator(path, np.column_stack([BOXES, [0.9, 0.8, 0.7]]))
    assert [person.box.tolist() for person in together] == BOXES.tolist()
    assert [person.box_score for person in together] == [0.9, 0.8, 0.7]
    for person, box in zip(together, BOXES, strict=True):
        alone = estimator(path, [box.tolist()])[0]
        np.testing.assert_allclose(alone.keypoints, person.keypoints, atol=1e-3)
        np.testing.assert_allclose(alone.keypoint_scores, person.keypoint_scores, atol=1e-5)
        seen = person.keypoint_scores[person.keypoint_scores > 0.2]
        assert person.score == pytest.approx(person.box_score * seen.mean())


@pytest.mark.parametrize(("flip_test", "size"), [(True, 3), (False, 2)])
def test_stream_equals_calls_and_compiles_once(
    weights: Path, photos: Path, flip_test: bool, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = PoseEstimator.from_pretrained(
        weights, flip_test=flip_test, num_heads=3, batch_size=size, keep_heatmaps=True
    )
    images, options = [], prediction_module.compiler_options
    monkeypatch.setattr(
        prediction_module,
        "compiler_options",
        lambda dtype, count: images.append(count) or options(dtype, count),
    )
    compiled, compile_ = [], estimator.network.compile
    monkeypatch.setattr(
        estimator.network, "compile", lambda size: compiled.append(size) or compile_(size)
    )
    paths = sorted(photos.iterdir())[:7]
    counts = [2, 0, 5, 1, 0, 0, 3]
    grow = np.array([3, 2, 1, 1])
    boxes = [np.array([BOXES[0] + i * grow for i in range(n)]).reshape(-1, 4) for n in counts]
    streamed = list(estimator.stream(zip(paths, boxes, strict=True)))
    assert [len(found.people) for found in streamed] == counts
    for path, given, found in zip(paths, boxes, streamed, strict=True):
        np.testing.assert_array_equal(found.image, load_image(path))
        for a, b in zip(estimator(path, given), found.people, strict=True):
            np.testing.assert_allclose(a.heatmaps, b.heatmaps, atol=1e-5 * a.heatmaps.max())
            if flip_test:  # other products round differently; random weights have near-equal peaks
                assert (np.abs(a.keypoints - b.keypoints).max(-1) < 1e-2).mean() > 0.8
            else:
                np.testing.assert_allclose(a.keypoints, b.keypoints, atol=1e-3)
    assert sorted(compiled) == [1, size]  # full batches, and what is left on a CPU
    assert sorted(images) == [count * (2 if flip_test else 1) for count in (1, size)]


def test_an_image_without_people_runs_nothing(estimator: PoseEstimator, photos: Path) -> None:
    fresh = PoseEstimator(estimator.network.model, batch_size=4)
    path = sorted(photos.iterdir())[0]
    for boxes in ([], np.zeros((0, 4)), np.zeros((0, 5))):
        assert fresh(path, boxes) == []
    assert not fresh.network.programs


def test_images_of_every_form(estimator: PoseEstimator, photos: Path) -> None:
    path = sorted(photos.iterdir())[0]
    array = load_image(path)
    expected = estimator(array, BOXES)
    for form in (path, str(path), Image.open(path)):
        for a, b in zip(estimator(form, BOXES), expected, strict=True):
            np.testing.assert_array_equal(a.keypoints, b.keypoints)


def test_without_boxes_the_image_is_one_person(estimator: PoseEstimator) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    (person,) = estimator(image, detector="none")
    assert person.box.tolist() == [0, 0, 70, 90]
    (tiny,) = estimator(image[:1, :1], detector="none")
    assert np.isfinite(tiny.keypoints).all()


def test_boxes_from_a_function(estimator: PoseEstimator) -> None:
    image = np.zeros((100, 80, 3), np.uint8)
    people = estimator(image, lambda pixels: np.array([[0, 0, *pixels.shape[1::-1], 0.5]]))
    assert people[0].box_score == 0.5


def test_boxes_that_show_nothing_give_zeros(estimator: PoseEstimator) -> None:
    image = np.full((100, 80, 3), 128, np.uint8)
    nan, inf = math.nan, math.inf
    bad = [
        [nan, 0, 9, 9],
        [0, 0, inf, 9],
        [5, 5, 0, 9],
        [5, 5, 9, -3],
        [200, 0, 9, 9],
        [0, -9, 9, 9],
        [3, 3, 1e-30, 1e-30],
    ]
    good = [10.0, 10, 40, 80]
    people = estimator(image, [*bad[:3], good, *bad[3:]])
    assert len(people) == 8
    np.testing.assert_array_equal(people[3].keypoints, estimator(image, [good])[0].keypoints)
    for person in people[:3] + people[4:]:
        assert person.score == 0
        assert not person.keypoints.any()


@pytest.mark.parametrize(
    "boxes",
    [[[1, 2, 3]], [1, 2, 3, 4], [["a", 0, 0, 0]], [[1], [1, 2]], [[10**400, 0, 9, 9]]],
)
def test_boxes_of_another_shape(estimator: PoseEstimator, boxes: list) -> None:
    with pytest.raises(UserError, match="boxes must"):
        estimator(np.zeros((9, 9, 3), np.uint8), boxes)


def test_errors_are_raised_or_handed_on(estimator: PoseEstimator, tmp_path: Path) -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    items = [(image, None), (tmp_path / "gone.jpg", None), (image, None)]
    with pytest.raises(UserError, match=r"gone\.jpg"):
        list(estimator.stream(items))
    found = list(estimator.stream(items, skip_errors=True))
    assert [len(prediction.people) for prediction in found] == [1, 0, 1]
    assert "no such file" in str(found[1].error)
    assert found[0].error is None
    assert [prediction.image_wh for prediction in found] == [(60, 60), (0, 0), (60, 60)]
    (without,) = estimator.stream(items[:1], keep_images=False)
    assert (without.image, without.image_wh) == (None, (60, 60))


def test_scores_that_are_no_numbers(estimator: PoseEstimator) -> None:
    with pytest.raises(UserError, match="box 1 has score nan"):
        estimator(np.zeros((9, 9, 3), np.uint8), [[0, 0, 9, 9, 0.5], [0, 0, 9, 9, math.nan]])


@pytest.mark.parametrize("error", [UserError, ZeroDivisionError])
def test_an_error_waits_for_what_came_before(estimator: PoseEstimator, error: type) -> None:
    """Three people are no batch yet; the fourth image never becomes people."""

    def fail(image: np.ndarray) -> np.ndarray:
        raise error("here")

    image, found = np.zeros((60, 60, 3), np.uint8), []
    with pytest.raises(error, match="here"):
        found.extend(
            len(prediction.people)
            for prediction in estimator.stream([(image, None)] * 3 + [(image, fail)])
        )
    assert found == [1, 1, 1]


def test_a_bug_in_the_users_function_is_not_swallowed(estimator: PoseEstimator) -> None:
    def broken(image: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        estimator(np.zeros((9, 9, 3), np.uint8), broken)


def test_an_endless_stream_is_read_only_a_little_ahead(estimator: PoseEstimator) -> None:
    taken = itertools.count()
    image = np.zeros((60, 60, 3), np.uint8)
    stream = estimator.stream((image, None) for _ in iter(lambda: next(taken), None))
    for _ in range(3):
        assert len(next(stream).people) == 1
    stream.close()
    assert next(taken) < 40


def test_images_without_people_do_not_pile_up_behind_one_person(estimator: PoseEstimator) -> None:
    taken = itertools.count()
    image, box = np.zeros((60, 60, 3), np.uint8), [[0, 0, 30, 30]]
    items = ((image, [] if i else box) for i in iter(lambda: next(taken), 500))
    stream = estimator.stream(items)
    assert len(next(stream).people) == 1
    stream.close()
    assert next(taken) < 80


def test_pictures_may_be_used_again_while_they_wait(
    estimator: PoseEstimator, tmp_path: Path
) -> None:
    """One buffer for all frames and boxes, and one PIL picture that has not read its file yet."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (8, 90, 80, 3), np.uint8)
    buffer, box = np.empty_like(frames[0]), np.array([[0.0, 0, 80, 90, 0]])

    def items():
        for index, frame in enumerate(frames):
            buffer[:], box[0, 4] = frame, index
            yield buffer, box

    for index, prediction in enumerate(estimator.stream(items())):
        np.testing.assert_array_equal(prediction.image, frames[index])
        assert prediction.people[0].box_score == index
    noise = rng.integers(0, 255, (900, 900, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "n.png")
    lazy = Image.open(tmp_path / "n.png")
    for prediction in estimator.stream([(lazy, [])] * 6):
        np.testing.assert_array_equal(prediction.image, noise)


@pytest.mark.parametrize("dataset", ["coco", "ap10k"])
def test_mixture_of_experts_by_name(golden: Path, dataset: str) -> None:
    estimator = PoseEstimator.from_pretrained(
        golden / "hf_vitpose_plus_tiny", dataset=dataset, flip_test=False, keep_heatmaps=True
    )
    assert estimator.skeleton is SKELETONS[dataset]
    inputs = np.load(golden / "inputs.npz")
    reference = np.load(golden / "hf_vitpose_plus_tiny/outputs.npz")
    index = 0 if dataset == "coco" else 3
    crop = inputs["crop"][reference["pixel_values_index"][0]]
    (person,) = estimator(crop, [[0, 0, 192, 256]])  # not the very crop: padding is added
    assert person.heatmaps.shape == (64, 48, 17)
    # The very crop: a box that the padding and UDP's off-by-one turn into the identity map.
    box = [95.5 - 191 / 2.5, 127.5 - 191 / 2.5 / 0.75, 191 / 1.25, 191 / 1.25 / 0.75]
    (person,) = estimator(crop, [box])
    expected = reference[f"heatmaps_dataset{index}"][0].transpose(1, 2, 0)
    assert np.abs(person.heatmaps - expected).max() < 0.15 * np.abs(expected).max()
    other = reference[f"heatmaps_dataset{3 - index}"][0].transpose(1, 2, 0)
    assert np.abs(person.heatmaps - other).mean() > 3 * np.abs(person.heatmaps - expected).mean()


@pytest.mark.parametrize("method", ["udp", "dark", "default"])
def test_points_are_the_decoded_heatmaps(
    estimator: PoseEstimator, photos: Path, method: str
) -> None:
    other = PoseEstimator(estimator.network.model, method=method, batch_size=3, keep_heatmaps=True)
    people = other(sorted(photos.iterdir())[0], BOXES)
    heatmaps = np.stack([person.heatmaps for person in people])
    assert heatmaps.shape == (3, 64, 48, 17)
    heatmap_xy, scores = decode_heatmaps(heatmaps, method)
    expected = heatmap_to_image(heatmap_xy, *box_to_center_scale(BOXES), (64, 48))
    # decoded outside of the same compilation, poorly determined points differ a little
    found = np.stack([person.keypoints for person in people])
    distance = np.linalg.norm(expected - found, axis=-1)
    assert np.median(distance) < 1e-3
    np.testing.assert_array_equal(scores, [person.keypoint_scores for person in people])


def test_options_that_do_not_fit(estimator: PoseEstimator, weights: Path) -> None:
    for size in (0, 2.5):
        with pytest.raises(UserError, match="at least 1"):
            PoseEstimator(estimator.network.model, batch_size=size)
    with pytest.raises(UserError, match="no decoder 'argmax'"):
        PoseEstimator(estimator.network.model, method="argmax")
    for dtype in ("int8", "no type"):
        with pytest.raises(UserError, match=f"no dtype '{dtype}'"):
            PoseEstimator.from_pretrained(weights, dtype, num_heads=3)
    with pytest.raises(UserError, match="skeleton has 133"):
        PoseEstimator(estimator.network.model, skeleton=SKELETONS["wholebody"])
    with pytest.raises(UserError, match="no data set 'hands'"):
        PoseEstimator.from_pretrained(weights, num_heads=3, dataset="hands")


@pytest.mark.slow
def test_bfloat16_points_are_those_of_float32(shared: Path, tmp_path: Path) -> None:
    """ViTPose-B with the formula's weights on the people of 43 photographs."""
    import torch

    keys = json.loads((shared / "golden/vitpose_b_formula_keys.json").read_text())["classic"]
    state = {
        k: torch.from_numpy(formula_value(k, tuple(s)))
        for k, s in keys.items()
        if "num_batches" not in k
    }
    torch.save({"state_dict": state}, tmp_path / "b.pth")
    folder = shared / "data/coco-mini"
    content = json.loads((folder / "annotations/person_keypoints_val2017.json").read_text())
    names = {image["id"]: image["file_name"] for image in content["images"]}
    items = [
        (folder / "val2017" / names[entry["image_id"]], [entry["bbox"]])
        for entry in content["annotations"]
        if entry["num_keypoints"]
    ]
    points = {}
    for dtype in ("float32", "bfloat16"):
        estimator = PoseEstimator.from_pretrained(tmp_path / "b.pth", dtype=dtype)
        found = estimator.stream(items)
        points[dtype] = np.stack([person.keypoints for f in found for person in f.people])
    distance = np.linalg.norm(points["float32"] - points["bfloat16"], axis=-1)
    print(f"bfloat16: median {np.median(distance):.3f} px over {distance.size} points")
    assert np.median(distance) < 1


def test_matrices_are_kept_in_the_compute_dtype_and_change_nothing(weights: Path) -> None:
    estimator = PoseEstimator.from_pretrained(weights, "bfloat16", num_heads=3, batch_size=1)
    model = estimator.network.model
    arrays = jax.tree.leaves(estimator.network._state)
    assert {a.dtype for a in arrays if a.ndim == 2} == {jnp.dtype("bfloat16")}
    crops = np.random.default_rng(0).standard_normal((1, *model.config.input_size, 3), np.float32)
    stored = nnx.merge(nnx.split(model)[0], estimator.network._state)
    np.testing.assert_array_equal(nnx.jit(stored)(crops), nnx.jit(model)(crops))


def test_one_image_or_a_list(estimator: PoseEstimator, default_models: Path) -> None:
    """Boxes, a detector, or the whole image: the default detector finds the bright rectangle."""
    bright = np.zeros((240, 320, 3), np.uint8)
    bright[40:200, 100:180] = 250
    dark, boxes = np.zeros_like(bright), [[100, 40, 80, 160]]
    (found,) = estimator(bright)
    np.testing.assert_allclose(found.box, boxes[0], atol=8)
    assert found.names[0] == "nose"
    assert [len(people) for people in estimator([bright, dark, bright])] == [1, 0, 1]
    assert [len(people) for people in estimator((bright, dark), detector="none")] == [1, 1]
    given = estimator([bright, dark], boxes=[boxes, boxes * 2])
    assert [len(people) for people in given] == [1, 2]
    np.testing.assert_array_equal(given[0][0].keypoints, estimator(bright, boxes)[0].keypoints)
    assert estimator([]) == []
    with pytest.raises(UserError, match="2 images, but boxes for 1"):
        estimator([bright, dark], boxes=[boxes])


def test_errors_are_short_in_python(estimator: PoseEstimator, tmp_path: Path) -> None:
    """The message is what the user sees, not the library's inside."""
    for wrong in (
        lambda: PoseEstimator.from_pretrained(tmp_path / "nothing"),
        lambda: estimator(tmp_path / "nothing.jpg", detector="none"),
        lambda: estimator(np.zeros((9, 9, 3), np.uint8), detector="yolo"),
        lambda: load_pose_model(tmp_path / "nothing"),
    ):
        with pytest.raises(UserError) as caught:
            wrong()
        assert len(caught.traceback) <= 3  # the test's two, and one of ours
        assert caught.value.__suppress_context__

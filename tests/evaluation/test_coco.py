"""COCO evaluation against the original's numbers on the same predictions."""

import json

import numpy as np
import pytest

from vitpose_jax.data.coco.annotations import read_annotations
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation import coco


@pytest.fixture(scope="module")
def reference(golden):
    folder = golden / "coco_eval"
    batches = json.loads((folder / "predictions.json").read_text())
    preds = np.concatenate([np.asarray(batch["preds"], np.float32) for batch in batches])
    boxes = np.concatenate([np.asarray(batch["boxes"], np.float32) for batch in batches])
    predictions = coco.PosePredictions(
        keypoints=preds[..., :2],
        scores=preds[..., 2],
        box_scores=boxes[:, 5],
        areas=boxes[:, 4],
        image_ids=np.concatenate([np.asarray(b["image_ids"], np.int64) for b in batches]),
        person_ids=np.concatenate([np.asarray(b["bbox_ids"], np.int64) for b in batches]),
    )
    truth = json.loads((folder / "person_keypoints_train2017.json").read_text())
    expected = json.loads((folder / "stats.json").read_text())
    results = json.loads((folder / "result_keypoints.json").read_text())
    return predictions, truth, expected, results


def test_ten_numbers(reference):
    predictions, truth, expected, _ = reference
    stats = coco.evaluate_coco(predictions, truth, np.asarray(expected["sigmas"]))
    np.testing.assert_allclose(list(stats.values()), expected["stats_list"], atol=1e-4)


def test_ten_numbers_without_suppression(reference):
    predictions, truth, expected, _ = reference
    stats = coco.evaluate_coco(predictions, truth, np.asarray(expected["sigmas"]), use_nms=False)
    np.testing.assert_allclose(
        list(stats.values()), list(expected["stats_without_nms"].values()), atol=1e-4
    )


def test_results_are_the_originals(reference):
    predictions, _, expected, theirs = reference
    ours = coco.coco_results(predictions, np.asarray(expected["sigmas"]))
    assert len(ours) == len(theirs) == expected["n_after_nms"]

    def order(entry):
        return entry["image_id"], -entry["score"], entry["keypoints"][0]

    for mine, reference_entry in zip(
        sorted(ours, key=order), sorted(theirs, key=order), strict=True
    ):
        assert mine["score"] == pytest.approx(reference_entry["score"], rel=1e-5)
        np.testing.assert_allclose(mine["keypoints"], reference_entry["keypoints"], rtol=1e-6)


def perfect_predictions(truth):
    people = [a for a in truth["annotations"] if a["num_keypoints"] > 0 and not a["iscrowd"]]
    points = np.asarray([a["keypoints"] for a in people], float).reshape(len(people), -1, 3)
    centers = np.asarray([a["bbox"] for a in people]) @ [[1, 0], [0, 1], [0.5, 0], [0, 0.5]]
    points[..., :2] = np.where(points[..., 2:] > 0, points[..., :2], centers[:, None])
    return coco.PosePredictions(
        keypoints=points[..., :2],
        scores=np.ones(points.shape[:2]),
        box_scores=np.ones(len(people)),
        areas=np.asarray([a["area"] for a in people]),
        image_ids=np.asarray([a["image_id"] for a in people]),
        person_ids=np.asarray([a["id"] for a in people]),
    )


def test_perfect_predictions_score_one(reference):
    _, truth, expected, _ = reference
    predictions = perfect_predictions(truth)
    sigmas = np.asarray(expected["sigmas"])
    assert coco.evaluate_coco(predictions, truth, sigmas, use_nms=False)["AP"] > 0.99
    names = truth["categories"][0]["keypoints"]
    table = coco.keypoint_table(predictions, truth, sigmas, names, use_nms=False)
    assert set(table) <= set(names)
    assert min(table.values()) > 0.9

    nose_moved = predictions.keypoints.copy()
    nose_moved[:, 0] += 1000
    worse = coco.PosePredictions(**{**vars(predictions), "keypoints": nose_moved})
    table = coco.keypoint_table(worse, truth, sigmas, names, use_nms=False)
    assert table["nose"] == 0
    assert table["left_wrist"] > 0.9


def test_all_keypoint_categories_count_and_no_other(reference):
    """The same people in two categories with the same keypoints, behind a chair, score the same."""
    _, truth, expected, _ = reference
    predictions, sigmas = perfect_predictions(truth), np.asarray(expected["sigmas"])
    person = truth["categories"][0]
    chair = {"id": 900, "image_id": truth["images"][0]["id"], "category_id": 7, "area": 9}
    people = [{**a, "category_id": 1 + a["id"] % 2} for a in truth["annotations"]]
    mixed = {
        **truth,
        "categories": [{"id": 7, "name": "chair"}, person, {**person, "id": 2, "name": "child"}],
        "annotations": [chair, *people],
    }
    alone = coco.evaluate_coco(predictions, truth, sigmas)
    assert alone["AP"] > 0.9
    assert coco.evaluate_coco(predictions, mixed, sigmas) == alone
    names = person["keypoints"]
    table = coco.keypoint_table(predictions, mixed, sigmas, names)
    assert table == coco.keypoint_table(predictions, truth, sigmas, names)


def test_nothing_predicted_scores_zero(reference):
    predictions, truth, expected, _ = reference
    nobody = predictions.take(np.zeros(0, int))
    assert coco.evaluate_coco(nobody, truth, np.asarray(expected["sigmas"]))["AP"] == 0


def test_annotations_without_people_are_refused(reference):
    predictions, truth, expected, _ = reference
    with pytest.raises(UserError, match="no person with keypoints"):
        coco.evaluate_coco(
            predictions, {**truth, "annotations": []}, np.asarray(expected["sigmas"])
        )


def read_case(shared, name):
    return read_annotations(shared / "field-cases" / name)


def perfect_ap(found, **options):
    return coco.evaluate_coco(
        perfect_predictions(found.coco),
        found.coco,
        np.asarray(found.skeleton.sigmas),
        use_nms=False,
        **options,
    )["AP"]


@pytest.mark.parametrize("first", [0, 1, -1, 2**62])
def test_any_annotation_ids_score_the_same(reference, first):
    _, truth, expected, _ = reference
    renumbered = [{**a, "id": first + i} for i, a in enumerate(truth["annotations"])]
    predictions, sigmas = perfect_predictions(truth), np.asarray(expected["sigmas"])
    found = coco.evaluate_coco(predictions, {**truth, "annotations": renumbered}, sigmas)
    assert found == coco.evaluate_coco(predictions, truth, sigmas)


def test_the_limit_of_people_an_image_can_be_raised(shared):
    found = read_case(shared, "crowd30.json")
    assert perfect_ap(found) == pytest.approx(0.663, abs=1e-3)
    assert perfect_ap(found, max_people=30) == pytest.approx(1)
    assert coco.crowded_images(found.coco, 20) == [1]
    assert coco.crowded_images(found.coco, 30) == []


def test_the_numbers_are_those_of_pycocotools(reference):
    """Its own summary of the same evaluation, to the bit."""
    from pycocotools.cocoeval import COCOeval

    predictions, truth, expected, _ = reference
    sigmas, summaries = np.asarray(expected["sigmas"]), []
    accumulate = COCOeval.accumulate

    def and_summarize(self):
        accumulate(self)
        self.summarize()
        summaries.append(list(self.stats))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(COCOeval, "accumulate", and_summarize)
        ours = coco.evaluate_coco(predictions, truth, sigmas)
    assert [list(ours.values())] == summaries

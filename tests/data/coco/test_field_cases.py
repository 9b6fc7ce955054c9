"""Annotation files as the data sets and tools in the field write them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitpose_jax.data import findings
from vitpose_jax.data.coco.annotations import Annotations, read_annotations
from vitpose_jax.data.findings import Kind
from vitpose_jax.errors import UserError
from vitpose_jax.evaluation.coco import PosePredictions, evaluate_coco
from vitpose_jax.keypoints.skeletons import KNOWN, SKELETONS

COCO = list(SKELETONS["coco"].keypoint_names)


def perfect_ap(found: Annotations, **options: Any) -> float:
    """AP of the people who were read, as predictions."""
    people = found.people
    predictions = PosePredictions(
        keypoints=people.keypoints.astype(float),
        scores=np.ones(people.visible.shape),
        box_scores=np.ones(len(people)),
        areas=people.box[:, 2:].prod(-1),
        image_ids=people.image_id,
        person_ids=people.annotation_id,
    )
    sigmas = np.array(found.skeleton.sigmas)
    return evaluate_coco(predictions, found.coco, sigmas, use_nms=False, **options)["AP"]


@pytest.mark.parametrize(
    ("name", "skeleton", "people", "labelled", "kinds"),
    [
        ("ids_from_0_n1.json", "coco", 1, 17, {}),
        ("ids_from_0_n2.json", "coco", 2, 34, {}),
        ("ids_from_0_n3.json", "coco", 3, 51, {}),
        ("ids_from_1_n3.json", "coco", 3, 51, {}),
        ("image_ids/own.json", "coco", 3, 36, {}),
        ("absent_joints_as_zero_visible.json", "coco", 86, 800, {findings.AT_ORIGIN: 84}),
        ("crowdpose_limbs.json", "crowdpose", 5, 70, {findings.BAD_LIMBS: 3}),
        ("two_skeletons.json", "coco", 68, 652, {findings.OTHER_KEYPOINTS: 4}),
        ("ap10k_names.json", "ap10k", 3, 51, {}),
        ("ids_of_64_bits.json", "coco", 68, 652, {}),
        ("num_keypoints_0_half.json", "coco", 68, 652, {findings.WRONG_COUNT: 36}),
        ("nan_unlabelled.json", "coco", 68, 652, {}),
    ],
)
def test_the_given_cases(
    shared: Path, name: str, skeleton: str, people: int, labelled: int, kinds: dict[Kind, int]
) -> None:
    found = read_annotations(shared / "field-cases" / name)
    assert found.skeleton.name == skeleton
    assert len(found.people) == people
    assert (found.people.visible > 0).sum() == labelled
    told = {kind: len(where) for kind, where in found.report.by_kind().items() if not kind.usual}
    told.pop(findings.NO_AREA, None)  # crowdpose has none
    assert told == kinds
    assert perfect_ap(found) == pytest.approx(1)


def test_the_other_skeleton_can_be_chosen(shared: Path) -> None:
    path = shared / "field-cases/two_skeletons.json"
    for wanted in ("bat", "Bat", "1"):
        found = read_annotations(path, category=wanted)
        assert found.skeleton.keypoint_names == ("grip", "tip")
        assert len(found.people) == 4
        assert perfect_ap(found) == pytest.approx(1)
    with pytest.raises(UserError, match=r"config.category is 'ball'; its .* are bat, person"):
        read_annotations(path, category="ball")


def export(
    names: list[str] = COCO, categories: list[dict[str, Any]] | None = None, count: int = 6
) -> dict[str, Any]:
    """A file of `count` people, two an image, whose last category is theirs."""
    rng = np.random.default_rng(1)
    person = {"id": 1, "name": "person", "keypoints": names, "skeleton": [[1, 2]]}
    categories = [person] if categories is None else categories
    annotations = []
    for index in range(count):
        x, y = 20 + 300 * (index % 2), 30
        points = rng.integers((x, y), (x + 200, y + 300), (len(names), 2))
        flags = rng.integers(0, 3, len(names))
        flags[:3] = 2
        points[flags == 0] = 0
        annotations.append(
            {
                "id": index + 1,
                "image_id": index // 2 + 1,
                "category_id": categories[-1]["id"],
                "bbox": [x, y, 200, 300],
                "area": 40000,
                "iscrowd": 0,
                "num_keypoints": int((flags > 0).sum()),
                "keypoints": np.column_stack([points, flags]).ravel().tolist(),
            }
        )
    images = [
        {"id": i + 1, "file_name": f"{i + 1:06d}.jpg", "width": 640, "height": 480}
        for i in range((count + 1) // 2)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def read(tmp_path: Path, content: dict[str, Any], **options: Any) -> Annotations:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    return read_annotations(path, **options)


AIC = "Right Shoulder,Right Elbow,Right Wrist,Left Shoulder,Left Elbow,Left Wrist,Right Hip,"
AIC += "Right Knee,Right Ankle,Left Hip,Left Knee,Left Ankle,Top of head,Neck"
MPII = "r ankle,r knee,r hip,l hip,l knee,l ankle,pelvis,thorax,upper neck,head top,r wrist,"
MPII += "r elbow,r shoulder,l shoulder,l elbow,l wrist"
SPELLINGS = {
    "cvat": ([name.replace("_", " ") for name in COCO], "coco"),
    "capitals": ([name.title().replace("_", "") for name in COCO], "coco"),
    "openpose": ([_.replace("left_", "L").replace("right_", "R") for _ in COCO], "coco"),
    "label studio": ([name.replace("_", "-").upper() for name in COCO], "coco"),
    "side last": (["_".join(reversed(name.split("_"))) for name in COCO], "coco"),
    "mpii spelled": (MPII.split(","), "mpii"),
    "aic spelled": (AIC.split(","), "aic"),
    **{s.name: (list(s.keypoint_names), s.name) for s in KNOWN if s.name != "apt36k"},
}


@pytest.mark.parametrize(("names", "skeleton"), SPELLINGS.values(), ids=SPELLINGS)
def test_spellings_of_the_data_sets(tmp_path: Path, names: list[str], skeleton: str) -> None:
    found = read(tmp_path, export(names))
    assert found.skeleton.name == skeleton
    assert not found.report.is_unusual
    assert perfect_ap(found) == pytest.approx(1)


def test_the_same_keypoints_in_another_order_have_the_same_sigmas(tmp_path: Path) -> None:
    skeleton = read(tmp_path, export(COCO[::-1])).skeleton
    assert skeleton.sigmas == SKELETONS["coco"].sigmas[::-1]
    assert len(skeleton.flip_pairs) == 8
    crowd = next(s for s in KNOWN if s.name == "crowdpose")
    assert read(tmp_path, export(list(crowd.keypoint_names[::-1]))).skeleton.sigmas[0] == 0.079


def test_roboflows_empty_first_category(tmp_path: Path) -> None:
    """Id 0 is the group's, without keypoints; annotations are counted from 0."""
    person = {"id": 1, "name": "person", "supercategory": "people", "keypoints": COCO}
    content = export(categories=[{"id": 0, "name": "people", "supercategory": "none"}, person])
    for number, annotation in enumerate(content["annotations"]):
        annotation["id"] = number
    found = read(tmp_path, content)
    assert len(found.people) == 6
    assert not found.report.is_unusual
    assert perfect_ap(found) == pytest.approx(1)


def test_points_without_names_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, export([f"new-point-{i}" for i in range(17)]))
    assert found.report.count(findings.NO_FLIP_PAIRS) == 1


def test_sides_without_partner_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, export([*COCO[:-1], "right_foot"]))
    assert found.report.by_kind()[findings.NO_PARTNER] == ["left_ankle", "right_foot"]
    assert found.report.costs


@pytest.mark.parametrize(
    ("limbs", "right", "bad"),
    [
        ([[1, 2], [2, 3]], ((0, 1), (1, 2)), 0),
        ([[0, 1], [1, 2]], ((0, 1), (1, 2)), 0),
        ([[0, 1], [2, 3], [3, 9]], ((0, 1), (2, 3)), 1),
        ([["a", "b"], ["b", "z"]], ((0, 1),), 1),
        ([[1, 2, 3], [1], 7, [1, 1], [1.5, 2], None], (), 6),
        (None, (), 0),
        ("none", (), 1),
        ([], (), 0),
    ],
)
def test_limbs(tmp_path: Path, limbs: Any, right: tuple, bad: int) -> None:
    content = export(["a", "b", "c", "d"])
    content["categories"][0]["skeleton"] = limbs
    found = read(tmp_path, content)
    assert found.skeleton.limbs == right
    assert found.report.count(findings.BAD_LIMBS) == bad


Change = Callable[[dict[str, Any]], None]


def every(**fields: Any) -> Change:
    """Change fields of all annotations: values, or functions of the annotation."""

    def change(content: dict[str, Any]) -> None:
        for annotation in content["annotations"]:
            new = {k: v(annotation) if callable(v) else v for k, v in fields.items()}
            annotation.update(new)

    return change


def respell_images(spell: Callable[[int], Any], annotations: bool = True) -> Change:
    def change(content: dict[str, Any]) -> None:
        for image in content["images"]:
            image["id"] = spell(image["id"])
        for annotation in content["annotations"]:
            if annotations:
                annotation["image_id"] = spell(annotation["image_id"])

    return change


def triples(annotation: dict[str, Any]) -> np.ndarray:
    return np.array(annotation["keypoints"]).reshape(-1, 3)


def rewritten(rewrite: Callable[[float, float, int], Any], **fields: Any) -> Change:
    """Change every keypoint of every annotation."""

    def points(annotation: dict[str, Any]) -> list[Any]:
        return [v for x, y, flag in triples(annotation).tolist() for v in rewrite(x, y, flag)]

    return every(keypoints=points, **fields)


def as_corners(annotation: dict[str, Any]) -> list[float]:
    x, y, w, h = annotation["bbox"]
    return [x, y, x + w, y + h]


def as_centre(annotation: dict[str, Any]) -> list[float]:
    x, y, w, h = annotation["bbox"]
    return [x + w / 2, y + h / 2, w, h]


def absent_as(*values: Any) -> Callable[[float, float, int], Any]:
    return lambda x, y, flag: (x, y, flag) if flag else values


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (respell_images(float), None),
        (respell_images(str), None),
        (respell_images(str, annotations=False), None),
        (respell_images(lambda i: f"{i:06d}"), None),
        (respell_images(lambda i: f"uuid-{i}"), None),
        (respell_images(lambda i: i + 2**63), None),
        (respell_images(lambda i: -i), None),
        (respell_images(lambda i: 1000 * i - 1000), None),
        (every(image_id=lambda a: f"{a['image_id']:06d}"), None),
        (every(image_id=lambda a: f"{a['image_id']:06d}.jpg"), None),
        (every(image_id=lambda a: f"images\\{a['image_id']:06d}.jpg"), None),
        (every(category_id=1.0), None),
        (every(category_id="1"), None),
        (every(id=lambda a: f"a{a['id']}"), None),
        (every(id=lambda a: 2**64 - a["id"]), None),
        (lambda content: [a.pop("id") for a in content["annotations"]], None),
        (every(iscrowd=None), None),
        (every(iscrowd=False), None),
        (every(num_keypoints=None), None),
        (every(num_keypoints=lambda a: float(a["num_keypoints"])), None),
        (every(num_keypoints=0), findings.WRONG_COUNT),
        (every(area=None), findings.NO_AREA),
        (every(bbox=None), findings.NO_BOX),
        (every(bbox=[]), findings.NO_BOX),
        (every(keypoints=lambda a: triples(a).tolist()), None),
        (rewritten(lambda x, y, flag: (float(x), float(y), float(flag))), None),
        (rewritten(lambda x, y, flag: (x, y, flag > 0)), findings.NO_JSON_NUMBERS),
        (rewritten(lambda x, y, flag: (str(x), f"{y}.0", flag)), findings.NO_JSON_NUMBERS),
        (rewritten(lambda x, y, flag: (x, y)), findings.NO_VISIBILITY),
        (rewritten(lambda x, y, flag: (x, y) if flag else (None, None)), findings.NO_VISIBILITY),
        (rewritten(absent_as(None, None, 0)), None),
        (rewritten(absent_as(None, None, None)), None),
        (rewritten(absent_as(float("nan"), float("nan"), 0)), None),
        (rewritten(absent_as(0, 0, 2), num_keypoints=17), findings.AT_ORIGIN),
        (rewritten(absent_as(0, 0, 1)), findings.AT_ORIGIN),
        (rewritten(absent_as(-1, -1, 2), num_keypoints=17), findings.AT_ORIGIN),
        (rewritten(absent_as(float("nan"), 0, 2), num_keypoints=17), findings.NO_NUMBERS),
        (rewritten(absent_as(1e300, 1e300, 2), num_keypoints=17), findings.NO_NUMBERS),
    ],
)
def test_read_right_for_everybody(tmp_path: Path, change: Change, kind: Kind | None) -> None:
    """The people are those of the untouched file; what had to be put right is told."""
    whole = read(tmp_path, export())
    content = export()
    change(content)
    found = read(tmp_path, content)
    for name in ("image_row", "keypoints"):
        np.testing.assert_array_equal(getattr(found.people, name), getattr(whole.people, name))
    np.testing.assert_array_equal(found.people.visible > 0, whole.people.visible > 0)
    assert perfect_ap(found) == pytest.approx(1)
    told = {kind for kind in found.report.by_kind() if not kind.usual}
    assert told == ({kind} if kind else set())


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (every(bbox=as_corners), findings.CORNERS),
        (every(bbox=as_centre), findings.POINTS_OUTSIDE_BOX),
        (every(bbox=lambda a: [9000 - v for v in a["bbox"]]), findings.OFF_IMAGE),
        (every(bbox=[-5000, -5000, 1e4, 1e4]), findings.BEYOND_IMAGE),
        (every(area=0), findings.ZERO_AREA),
        (every(area=1e8), findings.LARGE_AREA),
        (every(bbox=[0.1, 0.1, 0.2, 0.4]), findings.NORMALIZED_BOX),
        (
            every(keypoints=lambda a: (triples(a) / (640, 480, 1)).ravel().tolist()),
            findings.NORMALIZED_POINTS,
        ),
        (every(category_id=9), findings.UNKNOWN_CATEGORY),
        (every(keypoints=None), findings.NO_KEYPOINTS),
        (every(id=7), findings.REPEATED_ID),
    ],
)
def test_told_or_refused(tmp_path: Path, change: Change, kind: Kind) -> None:
    content = export()
    change(content)
    try:
        assert read(tmp_path, content).report.count(kind) >= 4
    except UserError as error:
        message = str(error)
        assert kind.words in message
        assert "\n" not in message


def test_a_text_that_may_be_two_images_is_refused(tmp_path: Path) -> None:
    """The id 2 and the file 2.jpg are different images here."""
    content = export()
    for image in content["images"]:
        image["file_name"] = f"{image['id'] % 3 + 1}.jpg"
    every(image_id=lambda a: str(a["image_id"]))(content)
    with pytest.raises(UserError, match="image_id '1' is not among the images"):
        read(tmp_path, content)


def test_whole_bodies_are_joined(tmp_path: Path) -> None:
    def parts(content: dict[str, Any]) -> None:
        for a in content["annotations"]:
            a["foot_kpts"] = [50, 60, 2] * 6
            a["face_kpts"] = [51, 61, 0.7] * 68
            a["lefthand_kpts"] = [0, 0, 0] * 21
            a["righthand_kpts"] = [52, 62, 1] * 21

    content = export()
    parts(content)
    found = read(tmp_path, content)
    assert found.skeleton is SKELETONS["wholebody"]
    assert found.report.count(findings.WHOLE_BODY) == 1
    assert (found.people.visible[:, 17:23] == 2).all()
    assert (found.people.keypoints[:, 23:91] == (51, 61)).all()
    assert (found.people.visible[:, 91:112] == 0).all()
    assert perfect_ap(found) == pytest.approx(1)
    del content["annotations"][0]["face_kpts"][0]
    assert read(tmp_path, content).report.count(findings.MALFORMED) == 1

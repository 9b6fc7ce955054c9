import subprocess
import sys

import numpy as np
import pytest

from vitpose_jax.data.batches import eval_batches, train_batches
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.synthetic.body import (
    ANGLE,
    ANGLES,
    BodyShape,
    pose_body,
    rotation_x,
)
from vitpose_jax.data.synthetic.canvas import Canvas, Projection
from vitpose_jax.data.synthetic.dataset import NUM_SCENES, people_of_scene, synthetic_scene
from vitpose_jax.data.synthetic.drawing import Figure, Looks, draw_person
from vitpose_jax.data.synthetic.poses import draw_pose
from vitpose_jax.data.synthetic.visibility import OCCLUDER, read_visibility
from vitpose_jax.keypoints.skeletons import SKELETONS


def _body(heading: float = 0, shape: BodyShape | None = None, **angles: float):
    pose = np.zeros((1, len(ANGLES)))
    for name, value in angles.items():
        pose[0, ANGLE[name]] = value
    return pose_body(shape or BodyShape(), pose, np.array([heading]))


def _joint(body, name: str) -> np.ndarray:
    return body.joints[0, SKELETONS["coco"].keypoint_names.index(name)]


def test_standing_body_is_where_anatomy_puts_it():
    """Heights as fractions of stature after Drillis and Contini: shoulder .818, knee .285."""
    body = _body(shape=BodyShape(height=1.8))
    floor = _joint(body, "left_ankle")[1] - 0.039 * 1.8
    for name, fraction in (("left_shoulder", 0.818), ("left_hip", 0.53), ("left_knee", 0.285)):
        assert (_joint(body, name)[1] - floor) / 1.8 == pytest.approx(fraction, abs=0.012)
    # Facing the camera, the person's left is on the image's right, and the nose towards us.
    assert _joint(body, "left_shoulder")[0] > 0 > _joint(body, "right_shoulder")[0]
    assert _joint(body, "nose")[2] > _joint(body, "left_ear")[2]
    away = _body(180)
    assert _joint(away, "left_shoulder")[0] < 0 < _joint(away, "right_shoulder")[0]
    # Heading 90 looks to the image's right.
    aside = _body(90)
    assert _joint(aside, "nose")[0] > _joint(aside, "left_ear")[0]


def test_angles_bend_the_right_way():
    body = _body(left_arm_forward=90, right_arm_out=90, left_leg_forward=90, left_knee=90)
    shoulder, elbow = _joint(body, "left_shoulder"), _joint(body, "left_elbow")
    assert elbow[2] - shoulder[2] > 0.2
    assert _joint(body, "right_elbow")[0] < _joint(body, "right_shoulder")[0] - 0.2
    assert _joint(body, "left_knee")[2] > 0.3  # the thigh points forward,
    np.testing.assert_allclose(_joint(body, "left_ankle")[2], _joint(body, "left_knee")[2])
    assert _joint(_body(left_elbow=90), "left_wrist")[2] > 0.2  # elbows bend forward,
    assert _joint(_body(left_knee=90), "left_ankle")[2] < -0.3  # knees backward
    assert _joint(_body(spine_bend=60), "nose")[2] > 0.4


def test_bones_keep_their_length_in_every_pose():
    rng = np.random.default_rng(0)
    shape = BodyShape.draw(rng)
    poses = np.stack([draw_pose(rng) for _ in range(50)])
    joints = pose_body(shape, poses, rng.uniform(-180, 180, 50)).joints
    for a, b in ((5, 7), (7, 9), (11, 13), (13, 15), (6, 8), (12, 14), (5, 6), (11, 12)):
        length = np.linalg.norm(joints[:, a] - joints[:, b], axis=-1)
        np.testing.assert_allclose(length, length[0], rtol=1e-9)
    assert np.ptp(joints[:, 9], axis=0).min() > 0.5  # and the poses differ


def _drawn(body, thing=None):
    """Part numbers, keypoints on the image and visibility of one person alone."""
    canvas = Canvas(np.zeros((300, 300, 3), np.uint8), np.zeros((300, 300), np.uint8), np.zeros(2))
    project = Projection(np.array([150.0, 150.0]), 110.0, 6.0)
    looks = Looks.draw(np.random.default_rng(0))
    draw_person(canvas, 0, Figure(body, BodyShape(), looks, project))
    if thing is not None:
        canvas.polygon(thing, np.array([9.0, 9, 9]), OCCLUDER)
    points = project(body.joints[0])
    return canvas.parts, points, read_visibility(canvas.parts, 0, body, points)


def test_visibility_is_what_one_sees():
    _, _, front = _drawn(_body(left_arm_out=15, right_arm_out=15))
    assert (front == 2).all()
    _, _, back = _drawn(_body(180, left_arm_out=15, right_arm_out=15))
    assert (back[:3] == 1).all()  # nose and eyes are on the other side
    assert (back[5:] == 2).all()
    _, _, side = _drawn(
        _body(90, right_arm_forward=40)
    )  # looking right: its right side is towards us
    near, far = (6, 8, 12, 14, 16), (5, 11)
    assert (side[list(near)] == 2).all()
    assert (side[list(far)] == 1).all()
    assert side[4] == 2
    assert side[3] == 1


def test_things_in_front_hide():
    body = _body(left_arm_out=15, right_arm_out=15)
    _, points, _ = _drawn(body)
    box = points[13] + np.array([[-12, -12], [12, -12], [12, 12], [-12, 12]])
    _, _, visible = _drawn(body, box)
    assert visible[13] == 1
    assert (np.delete(visible, 13) == 2).all()


def test_outside_the_image_is_unlabelled():
    body = _body()
    canvas = np.zeros((120, 300), np.uint8)
    points = Projection(np.array([150.0, 60.0]), 110.0, 6.0)(body.joints[0])
    visible = read_visibility(canvas, 0, body, points)
    outside = (points[:, 1] < 0) | (points[:, 1] > 119)
    assert outside.any()
    assert (visible[outside] == 0).all()
    assert (visible[~outside] == 1).all()  # nothing is drawn, so nothing is seen


def test_scenes_are_functions_of_their_number():
    synthetic_scene.cache_clear()
    a = synthetic_scene("train", 12)
    synthetic_scene.cache_clear()
    b = synthetic_scene("train", 12)
    np.testing.assert_array_equal(a.pixels, b.pixels)
    np.testing.assert_array_equal(a.keypoints, b.keypoints)
    program = (
        "from vitpose_jax.data.synthetic.dataset import synthetic_scene as s; import hashlib;"
        "print(hashlib.sha256(s('train', 12).pixels.tobytes()).hexdigest())"
    )
    runs = {subprocess.check_output([sys.executable, "-c", program]) for _ in range(2)}
    assert len(runs) == 1


def test_splits_share_no_scene():
    scenes = {
        (split, i): synthetic_scene(split, i).keypoints.tobytes()
        for split in NUM_SCENES
        for i in range(60)
    }
    assert len(set(scenes.values())) == len(scenes)


def test_scenes_hold_what_they_promise():
    people, hidden, outside, visible, facing = [], 0, 0, 0, []
    for index in range(120):
        scene = synthetic_scene("train", index)
        height, width = scene.pixels.shape[:2]
        people.append(scene.annotated.sum())
        assert scene.annotated.any()
        seen = scene.visible > 0
        inside = (scene.keypoints >= 0).all(-1) & (
            scene.keypoints <= np.array([width - 1, height - 1])
        ).all(-1)
        assert inside.all()
        assert (scene.keypoints[~seen] == 0).all()
        for person in np.flatnonzero(scene.annotated):
            x, y, w, h = scene.boxes[person]
            points = scene.keypoints[person][scene.visible[person] == 2]
            assert ((points >= (x - 1, y - 1)) & (points <= (x + w + 1, y + h + 1))).all()
            assert 0 < scene.areas[person] <= w * h
            both = scene.visible[person][[5, 6]].all()
            facing.append(both and scene.keypoints[person, 5, 0] > scene.keypoints[person, 6, 0])
        counts = np.bincount(scene.visible[scene.annotated].ravel().astype(int), minlength=3)
        outside, hidden, visible = outside + counts[0], hidden + counts[1], visible + counts[2]
    total = outside + hidden + visible
    assert max(people) >= 3
    assert np.mean(people) > 1.2
    assert 0.01 < outside / total < 0.35
    assert 0.1 < hidden / total < 0.5
    assert 0.25 < np.mean(facing) < 0.75  # seen from the front and from behind


def _overlap(scene) -> float:
    """Largest share of one annotated box that another covers."""
    boxes = scene.boxes[scene.annotated]
    best = 0.0
    for i, a in enumerate(boxes):
        for b in np.delete(boxes, i, axis=0):
            low = np.maximum(a[:2], b[:2])
            high = np.minimum(a[:2] + a[2:], b[:2] + b[2:])
            best = max(best, float(np.prod(np.maximum(high - low, 0)) / np.prod(a[2:])))
    return best


def test_crowds_overlap():
    crowd = [synthetic_scene("train", i, "crowd") for i in range(30)]
    usual = [synthetic_scene("train", i) for i in range(30)]
    assert np.mean([s.annotated.sum() for s in crowd]) > 2.5
    assert np.mean([_overlap(s) for s in crowd]) > np.mean([_overlap(s) for s in usual]) + 0.3


def test_as_a_data_set(monkeypatch):
    monkeypatch.setitem(NUM_SCENES, "val", 5)
    train = open_pose_dataset("synthetic", "train", input_size=(128, 96))
    assert len(train) == NUM_SCENES["train"] == len(train.image_ids)
    first = next(iter(train_batches(train, 4, seed=1)))
    second = next(iter(train_batches(train, 4, seed=1)))
    for key in first:
        np.testing.assert_array_equal(first[key], second[key])
    assert (first["visible"] > 0).any(axis=1).mean() > 0.9

    val = open_pose_dataset("synthetic", "val", input_size=(128, 96))
    truth = {a["id"]: a for a in val.coco_gt["annotations"]}
    count = 0
    for batch in eval_batches(val, 4):
        for i in np.flatnonzero(batch["valid"]):
            annotation = truth[int(batch["annotation_id"][i])]
            assert annotation["image_id"] == batch["image_id"][i]
            points = np.array(annotation["keypoints"]).reshape(17, 3)
            np.testing.assert_array_equal(points[:, 2], batch["visible"][i])
            count += 1
    assert count == len(val) == sum(a["num_keypoints"] > 0 for a in truth.values())


def test_evaluates_perfectly_against_itself(monkeypatch):
    """The annotations, given back as predictions, score an AP of 1 with pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    monkeypatch.setitem(NUM_SCENES, "val", 12)
    content = open_pose_dataset("synthetic", "val").coco_gt
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    labelled = [a for a in content["annotations"] if a["num_keypoints"]]
    results = truth.loadRes([{**a, "score": 1.0} for a in labelled])
    evaluation = COCOeval(truth, results, "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert evaluation.stats[5] == pytest.approx(1)


def test_table_of_a_scene():
    scene = synthetic_scene("val", 3)
    people = people_of_scene(scene, 3)
    assert set(people.image_id) == {3}
    assert (people.image_wh == scene.pixels.shape[1::-1]).all()
    np.testing.assert_array_equal(people.box, scene.boxes[scene.annotated])


def test_elevated_cameras_turn_the_whole_body():
    body = _body(30)
    turned = body.rotated(rotation_x(20.0))
    assert turned.joints.shape == body.joints.shape
    np.testing.assert_allclose(
        np.linalg.norm(turned.joints, axis=-1), np.linalg.norm(body.joints, axis=-1)
    )
    left, forward = turned.head_axes[0, :, 0], turned.head_axes[0, :, 2]
    assert left @ forward == pytest.approx(0, abs=1e-9)


def test_solo_scenes_hold_one_person_who_faces_the_camera() -> None:
    scenes = [synthetic_scene("train", i, "solo") for i in range(30)]
    assert all(len(scene.keypoints) == 1 for scene in scenes)
    seen = np.mean([scene.visible[0] == 2 for scene in scenes])
    others = [synthetic_scene("train", i) for i in range(30)]
    seen_of_others = np.mean(np.concatenate([scene.visible == 2 for scene in others]))
    assert seen > seen_of_others + 0.1
    left_of_right = [
        scene.keypoints[0, 5, 0] > scene.keypoints[0, 6, 0]
        for scene in scenes
        if (scene.visible[0, 5:7] == 2).all()
    ]
    assert np.mean(left_of_right) > 0.9  # their left shoulder is on the viewer's right

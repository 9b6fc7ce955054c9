"""A run on one's own data: keypoints that nobody else has, from training to predictions."""

import json
import shutil
from dataclasses import asdict, replace

import jax
import numpy as np
import pytest
from flax import nnx
from tiny_config import get_config

from vitpose_jax.cli import main
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.data.records.writing import prepare
from vitpose_jax.errors import UserError
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.tasks import run
from vitpose_jax.tasks.pose import build_evaluation, build_problem, open_data
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.settings import RunSettings, read_part
from vitpose_jax.training.trainer import Trainer
from vitpose_jax.weights import load_pose_model, save_pose_model
from vitpose_jax.weights.loading import check_keypoints

FISH = {
    "id": 3,
    "name": "fish",
    "keypoints": ["tip", "left_fin", "right_fin", "left_gill", "right_gill"],
    "skeleton": [[1, 2], [1, 3]],
    "sigmas": [0.1, 0.2, 0.2, 0.3, 0.3],
}


def make_fish(content):
    """COCO's shoulders, elbows and one wrist under other names."""
    content["categories"] = [FISH]
    for annotation in content["annotations"]:
        annotation["category_id"] = 3
        annotation["keypoints"] = annotation["keypoints"][15:30]
        for key in ("num_keypoints", "area", "iscrowd"):
            del annotation[key]


def settings(config):
    return read_part(PoseSettings, config)


def shape_for(config, data, split="val"):
    dataset = open_pose_dataset(data, split, input_size=(64, 48))
    return pose_config(settings(config), dataset.skeleton)


@pytest.fixture(scope="module")
def fish(make_coco_folder, edit_annotations, tmp_path_factory):
    folder = make_coco_folder(tmp_path_factory.mktemp("fish") / "data")
    for split in ("train", "val"):
        edit_annotations(folder, make_fish, split)
    return folder


@pytest.fixture(scope="module")
def trained(fish, tmp_path_factory):
    """A run of a few steps; AP is measured in it, although the annotations leave much out."""
    folder = tmp_path_factory.mktemp("run")
    config = get_config(str(fish))
    config.steps = config.eval_every = config.checkpoint_every = 3
    config.batch_size = 4
    config.eval.metrics = ("coco", "pck_box")
    metrics = run.train(config, folder)
    assert 0 <= metrics["AP"] <= 1
    return config, folder


def test_own_keypoints_from_training_to_predictions(fish, trained, tmp_path, capsys, caplog):
    weights, out = tmp_path / "weights", tmp_path / "out"
    assert main(["export", str(trained[1]), "--out", str(weights)]) == 0
    estimator = PoseEstimator.from_pretrained(weights)
    assert estimator.skeleton == open_pose_dataset(str(fish), "val").skeleton
    assert estimator.skeleton.flip_pairs == ((1, 2), (3, 4))
    assert estimator.skeleton.limbs == ((0, 1), (0, 2))
    picture = next((fish / "val2017").glob("*.jpg"))
    options = ["--detector", "none", "--draw", "--out", str(out)]
    assert main(["predict", str(picture), "--weights", str(weights), *options]) == 0
    (found,) = json.loads((out / "keypoints.json").read_text())
    assert len(found["keypoints"]) == 15
    assert "assuming those of" not in caplog.text + capsys.readouterr().err
    for _ in range(2):  # the run itself: its best checkpoint is what is exported, too
        options[-1] = str(tmp_path / "from_run")
        run_itself = ["predict", str(picture), "--weights", str(trained[1]), "--overwrite"]
        assert main([*run_itself, *options]) == 0
    assert json.loads((tmp_path / "from_run/keypoints.json").read_text()) == [found]
    with pytest.raises(UserError, match=r"keypoints of its own \(tip, left_fin"):
        PoseEstimator.from_pretrained(weights, dataset="coco")


def test_evaluation_opens_the_validation_split_alone(fish, trained, tmp_path):
    """Of the images and of the records, without the weights that training started from."""
    config, folder = trained
    only_val = tmp_path / "data"
    shutil.copytree(fish, only_val, ignore=shutil.ignore_patterns("*train2017*"))
    records = tmp_path / "records"
    prepare(str(only_val), records, input_size=(64, 48), splits=("val",))
    found = []
    for data in (fish, only_val, records):
        given = config.copy_and_resolve_references()
        given.update(data=str(data), init_from="is/gone")
        found.append(run.evaluate(given, folder)["PCK_box"])
    assert found[0] == found[1] == pytest.approx(found[2], abs=0.1)


def test_figures_are_printed_even_where_they_cannot_be_written(trained, tmp_path, capsys):
    config, folder = trained
    ignore = shutil.ignore_patterns("evaluation.json")
    shutil.copytree(folder, tmp_path / "run", ignore=ignore)
    (tmp_path / "run" / "evaluation.json").mkdir()
    with pytest.raises(UserError, match=r"evaluation\.json: cannot be written"):
        run.evaluate(config.copy_and_resolve_references(), tmp_path / "run")
    assert "PCK_box" in capsys.readouterr().out


def test_weights_are_evaluated_with_their_neck(coco_folder, tmp_path):
    config = get_config(str(coco_folder))
    config.model.neck = {"kind": "residual", "taps": (0,), "strides": (1, 2), "channels": 8}
    shape = pose_config(settings(config), open_data(settings(config), "val").skeleton)
    model = PoseModel(shape, rngs=nnx.Rngs(7))
    out = model.neck.out.kernel  # zero in a new neck
    out[...] = jax.random.normal(jax.random.key(0), out.shape)
    save_pose_model(model, tmp_path / "weights")
    config.update(init_from=str(tmp_path / "weights"))
    config.random_positions = True  # as the study's configurations have it, for training
    found, _ = build_evaluation(settings(config))
    arrays = [nnx.state(each, nnx.Any(nnx.Param, nnx.BatchStat)) for each in (found, model)]
    jax.tree.map(np.testing.assert_array_equal, *arrays)


def test_a_decoder_of_other_keypoints_is_refused(
    coco_folder, make_coco_folder, edit_annotations, tmp_path
):
    names = list(SKELETONS["coco"].keypoint_names)
    names[5:7] = names[6:4:-1]
    other = make_coco_folder(tmp_path / "other")
    for split in ("train", "val"):
        edit_annotations(other, lambda c: c["categories"][0].update(keypoints=names), split)
    config = get_config(str(coco_folder))
    config.update(steps=1, batch_size=2)
    run.train(config, tmp_path / "run")
    run.export_run(tmp_path / "run", tmp_path / "weights")
    said = "number 5 is 'left_shoulder', not 'right_shoulder'"
    given = config.copy_and_resolve_references()
    given.data = str(other)
    with pytest.raises(UserError, match=f"decoder of the run finds other keypoints .*{said}"):
        run.evaluate(given, tmp_path / "run")
    given.init_from = str(tmp_path / "weights")
    with pytest.raises(UserError, match=said):
        run.evaluate(given, tmp_path / "nothing")
    build_problem(given)  # from the backbone alone
    given.init_parts = ("backbone", "decoder")
    with pytest.raises(UserError, match=said):
        build_problem(given)
    given.data = str(coco_folder)
    build_problem(given)


def test_keypoints_fit_that_are_the_same_or_not_known():
    coco = pose_config(
        settings(get_config()), open_pose_dataset("synthetic", "val", input_size=(64, 48)).skeleton
    )
    names = [name.replace("left_", "L-").upper() for name in SKELETONS["coco"].keypoint_names]
    skeleton = replace(SKELETONS["coco"], name="ours", keypoint_names=tuple(names))
    spelt = replace(coco, dataset=None, skeleton=skeleton)
    unnamed = replace(coco, dataset=None)
    for there in (coco, spelt, unnamed, coco.backbone):
        check_keypoints(there, coco, "weights")
    mpii = replace(coco, dataset="mpii", decoder=replace(coco.decoder, num_keypoints=16))
    with pytest.raises(UserError, match=r"weights finds other keypoints .* 16 \(right_ankle"):
        check_keypoints(mpii, coco, "weights")


@pytest.mark.parametrize("source", ["vitpose_tiny_simple.pth", "hf_vitpose_tiny_simple"])
def test_published_weights_are_evaluated_on_cocos_layout(golden, coco_folder, source, tmp_path):
    given = load_pose_model(golden / source, num_heads=4).config
    config = get_config(str(coco_folder))
    config.model.backbone = asdict(given.backbone)
    config.model.decoder.update(kind=given.decoder.kind, filters=given.decoder.filters)
    config.init_from = str(golden / source)
    assert 0 <= run.evaluate(config, tmp_path / "out")["PCK_box"] <= 1


def test_what_cannot_be_measured_is_refused_before_training(fish, coco_folder, edit_annotations):
    config = get_config(str(fish))
    config.eval.metrics = ("pck_torso",)
    with pytest.raises(UserError, match="PCK by torso needs the keypoint 'left_shoulder'"):
        build_problem(config)

    def unlabel(content):
        for annotation in content["annotations"]:
            annotation["keypoints"][5 * 3 + 2] = 0  # left shoulder

    edit_annotations(coco_folder, unlabel, "val")
    config.data = str(coco_folder)
    with pytest.raises(UserError, match="PCK has nothing to judge"):
        build_problem(config)
    config.eval.batch_size = 0
    with pytest.raises(UserError, match=r"config\.eval\.batch_size is 0"):
        build_problem(config)


def test_a_frozen_neck_keeps_its_statistics(coco_folder):
    config = get_config(str(coco_folder))
    config.model.neck = {"kind": "blocks", "taps": (0, 1), "strides": (2, 1)}
    config.update(batch_size=2, frozen=("backbone", "neck"))
    task = build_problem(config)
    trainer = Trainer(task, read_part(RunSettings, config))
    before = {name: np.asarray(value) for name, value in trainer.state.other.items()}
    batch = next(iter(task.train_batches))
    state, _ = trainer.step(trainer.state, trainer.shard(batch), trainer.key)
    moved = {name.split(".")[0] for name in before if (state.other[name] != before[name]).any()}
    assert moved == {"decoder"}


def test_evaluation_of_another_model_names_the_difference(trained):
    config, folder = trained
    given = config.copy_and_resolve_references()
    given.model.backbone.num_heads = 2
    with pytest.raises(UserError, match=r"another model: model\.backbone\.num_heads was 1, now 2"):
        run.evaluate(given, folder)


def test_the_share_of_bad_images_is_the_configurations(coco_folder):
    next((coco_folder / "val2017").glob("*.jpg")).unlink()
    config = get_config(str(coco_folder))
    assert len(open_data(settings(config), "val")) == 5
    config.max_bad_share = 0.0
    with pytest.raises(UserError, match="1 of 6 images are missing"):
        open_data(settings(config), "val")


def test_a_run_given_as_weights_is_told_to_be_exported(trained, fish):
    config, folder = trained
    with pytest.raises(
        UserError, match=f"a training run, not weights: run `vitpose export {folder}"
    ):
        PoseEstimator.from_pretrained(folder)
    given = config.copy_and_resolve_references()
    given.init_from = str(folder)
    with pytest.raises(UserError, match="is a training run, not weights"):
        build_problem(given)


def test_seventeen_keypoints_in_another_order_are_not_taken_for_cocos(
    coco_folder, edit_annotations, tmp_path, caplog
):
    coco = SKELETONS["coco"]
    names = list(coco.keypoint_names[::-1])
    edit_annotations(coco_folder, lambda c: c["categories"][0].update(keypoints=names, skeleton=[]))
    config = get_config()
    shape = pose_config(
        settings(config), open_pose_dataset(str(coco_folder), "train", input_size=(64, 48)).skeleton
    )
    assert shape.dataset is None
    save_pose_model(PoseModel(shape, rngs=nnx.Rngs(0)), tmp_path / "weights")
    skeleton = PoseEstimator.from_pretrained(tmp_path / "weights").skeleton
    assert list(skeleton.keypoint_names) == names
    np.testing.assert_array_equal(skeleton.flip_index, 16 - coco.flip_index[::-1])
    assert not caplog.records


def test_cocos_own_keypoints_need_no_skeleton():
    shape = pose_config(
        settings(get_config()), open_pose_dataset("synthetic", "val", input_size=(64, 48)).skeleton
    )
    assert shape.dataset == "coco"
    assert shape.skeleton is None


def test_a_mixture_of_experts_keeps_the_expert_it_was_trained_as(fish):
    config = get_config()
    config.model.backbone.update(num_experts=6, part_features=8)
    config.dataset_index = 3
    shape = pose_config(
        settings(config), open_pose_dataset(str(fish), "val", input_size=(64, 48)).skeleton
    )
    assert (shape.dataset, shape.skeleton.name) == ("ap10k", "fish")
    model = PoseModel(shape, rngs=nnx.Rngs(0))
    crops = jax.random.normal(jax.random.key(0), (1, 64, 48, 3))
    np.testing.assert_array_equal(model(crops), model(crops, 3))
    config.dataset_index = 6
    with pytest.raises(UserError, match=r"dataset_index is 6; the experts are 0\.\.5"):
        pose_config(
            settings(config), open_pose_dataset(str(fish), "val", input_size=(64, 48)).skeleton
        )


def test_keypoints_nobody_named_are_guessed_aloud(caplog):
    config = get_config()
    shape = pose_config(
        settings(config), open_pose_dataset("synthetic", "val", input_size=(64, 48)).skeleton
    )
    unnamed = PoseModel(type(shape)(shape.backbone, shape.decoder), rngs=nnx.Rngs(0))
    assert PoseEstimator(unnamed).skeleton is SKELETONS["coco"]
    assert "do not say what their 17 keypoints are: assuming those of coco" in caplog.text


def test_one_set_of_people_is_not_trained_and_evaluated_on(coco_folder, tmp_path):
    shutil.copytree(coco_folder / "train2017", tmp_path / "own" / "data")
    source = coco_folder / "annotations/person_keypoints_train2017.json"
    shutil.copy(source, tmp_path / "own" / "labels.json")
    config = get_config(str(tmp_path / "own"))
    with pytest.raises(UserError, match="is not divided into train and val"):
        build_problem(config)
    config.val_data = str(coco_folder)
    assert build_problem(config).train_size == 6


def test_data_are_given_by_paths_in_a_configuration(coco_folder, tmp_path, caplog):
    paths = {
        split: {
            "annotations": str(coco_folder / f"annotations/person_keypoints_{split}2017.json"),
            "images": str(coco_folder / f"{split}2017"),
        }
        for split in ("train", "val")
    }
    config = get_config(paths)
    config.steps = config.eval_every = config.checkpoint_every = 1
    config.batch_size = 4
    with caplog.at_level("INFO"):
        run.train(config, tmp_path)
    told = [line for line in caplog.messages if "annotations on 6 images are used" in line]
    assert [f"{split}2017" in line for split, line in zip(paths, told, strict=True)] == [True] * 2
    assert "17 keypoints of coco" in told[0]
    given = config.copy_and_resolve_references()
    given.data.train.annotations = paths["val"]["annotations"]
    with pytest.raises(UserError, match=r"data\.train\.annotations was"):
        run.train(given, tmp_path)
    content = json.loads((coco_folder / "annotations/person_keypoints_train2017.json").read_text())
    content["annotations"].pop()
    (coco_folder / "annotations/person_keypoints_train2017.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"train had 6 samples and has 5.*allow_changed_data=True"):
        run.train(config.copy_and_resolve_references(), tmp_path)

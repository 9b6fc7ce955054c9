"""The feature-pyramid configurations build, freeze what they say, and take a tenth."""

import random
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from configs import fpn, fpn_dense, fpn_detail
from vitpose_jax.data.batches import train_batches
from vitpose_jax.data.dataset import choose_images
from vitpose_jax.data.opening import open_pose_dataset
from vitpose_jax.errors import UserError
from vitpose_jax.models.pose import PoseModel
from vitpose_jax.tasks.pose_settings import PoseSettings, pose_config
from vitpose_jax.training.optimizer import label_parameters
from vitpose_jax.training.settings import read_part
from vitpose_jax.training.state import split_model

TRAINED = {name: ["decoder", "neck"] for name in fpn.NECKS} | {
    "head_baseline": ["decoder"],
    "residual": ["neck"],
    "detail": ["neck"],
}


@pytest.mark.parametrize(("name", "trained"), TRAINED.items())
def test_only_the_head_is_trained(name: str, trained: list[str]) -> None:
    config = fpn.get_config(f"{name},synthetic")
    dataset = open_pose_dataset("synthetic", "train")
    shape = pose_config(read_part(PoseSettings, config), dataset.skeleton)
    assert shape.heatmap_size == (64, 48)
    _, parameters, _ = split_model(nnx.eval_shape(lambda: PoseModel(shape, rngs=nnx.Rngs(0))))
    labels = label_parameters(parameters, frozen=config.frozen)
    parts = {name.split(".")[0] for name, label in labels.items() if label.trainable}
    assert sorted(parts) == trained
    assert config.train_share == 0.1
    assert config.epochs == 30


def test_the_dense_pyramid_has_a_file_of_its_own() -> None:
    assert fpn_dense.get_config("coco").to_json() == fpn.get_config("dense,coco").to_json()


def test_the_detail_pyramid_is_trained_on_all_images() -> None:
    config = fpn_detail.get_config("synthetic")
    assert config.model.neck == fpn.get_config("detail,synthetic").model.neck
    assert config.frozen == ("backbone", "decoder")
    assert config.train_share == 1


def test_the_tenth_is_that_of_the_original_study() -> None:
    ids = np.arange(1000, 1500)
    random.seed(42)
    expected = random.sample(ids.tolist(), 50)
    assert choose_images(ids, 0.1).tolist() == expected
    with pytest.raises(UserError, match="train_share"):
        choose_images(ids, 0.0)


def test_subset_of_photographs_and_of_scenes(shared: Path) -> None:
    whole = open_pose_dataset(str(shared / "data" / "coco-mini"), "train", input_size=(64, 48))
    some = choose_images(whole.image_ids, 0.5)
    subset = whole.on_images(some)
    assert 0 < len(subset) < len(whole)
    assert set(whole.people.image_id[subset.chosen]) <= set(some.tolist())
    scenes = open_pose_dataset("synthetic", "train", input_size=(64, 48))
    few = scenes.on_images(choose_images(scenes.image_ids, 0.001))
    assert len(few) == 50
    ours = next(iter(train_batches(few, 4, seed=3)))
    assert set(ours["image_id"]) <= set(few.image_ids[few.chosen])

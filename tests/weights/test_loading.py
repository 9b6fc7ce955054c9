"""Sources of every kind, the cache, and parts of a model."""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.files import digests
from vitpose_jax.keypoints.skeletons import SKELETONS, named_skeleton
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights import (
    conversion,
    load_backbone,
    load_pose_model,
    load_weights_into,
    save_pose_model,
)
from vitpose_jax.weights.checkpoint import Hints
from vitpose_jax.weights.conversion import convert
from vitpose_jax.weights.forecaster import build_forecaster, save_forecaster
from vitpose_jax.weights.positions import resize_positions

torch = pytest.importorskip("torch")


def leaves(module: nnx.Module) -> list[np.ndarray]:
    return [np.asarray(v) for v in jax.tree.leaves(nnx.state(module))]


def assert_same(one: nnx.Module, two: nnx.Module) -> None:
    for a, b in zip(leaves(one), leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)


def save_and_load(tensors: dict, folder: Path, **options: object) -> PoseModel:
    file = folder / "checkpoint.pth"
    torch.save({"state_dict": tensors}, file)
    return load_pose_model(file, **{"num_heads": 3} | options)


@pytest.fixture(scope="module")
def plus(golden: Path) -> dict:
    """A ViTPose+ file with all its heads: the golden backbone, heads numbered by their values."""
    tensors = dict(torch.load(golden / "vitpose_plus_tiny.pth", weights_only=True)["state_dict"])
    for i, padded in enumerate((17, 17, 17, 17, 17, 133)):
        prefix = "keypoint_head" if i == 0 else f"associate_keypoint_heads.{i - 1}"
        tensors[f"{prefix}.final_layer.weight"] = torch.full((padded, 96, 3, 3), float(i))
        tensors[f"{prefix}.final_layer.bias"] = torch.full((padded,), float(i))
    return tensors


@pytest.mark.parametrize(
    ("dataset", "expert", "keypoints"),
    [(None, 0, 17), ("coco", 0, 17), ("aic", 1, 14), ("mpii", 2, 16), ("wholebody", 5, 133)],
)
def test_heads_of_vitpose_plus(
    plus: dict, tmp_path: Path, crops: np.ndarray, dataset: str, expert: int, keypoints: int
) -> None:
    model = save_and_load(plus, tmp_path, dataset=dataset)
    assert model.config.num_keypoints == keypoints
    assert (np.asarray(model.decoder.final.bias[...]) == expert).all()
    if dataset == "mpii":
        np.testing.assert_array_equal(model(crops[:1]), model(crops[:1], dataset_index=expert))


def test_head_that_is_not_there(plus: dict, tmp_path: Path) -> None:
    fewer = {k: v for k, v in plus.items() if not k.startswith("associate_keypoint_heads.4.")}
    with pytest.raises(UserError, match="no head for wholebody; it has those of coco, aic, mpii"):
        save_and_load(fewer, tmp_path, dataset="wholebody")


@pytest.mark.parametrize("leftovers", [True, False])
def test_split_vitpose_plus_is_a_plain_vit(
    plus: dict, tmp_path: Path, crops: np.ndarray, leftovers: bool
) -> None:
    """As the authors' splitting tool writes it: expert 3 merged, the others left in or not."""
    split = dict(plus)
    for i in range(4):
        for kind in ("weight", "bias"):
            mlp = f"backbone.blocks.{i}.mlp"
            parts = [plus[f"{mlp}.fc2.{kind}"], plus[f"{mlp}.experts.3.{kind}"]]
            split[f"{mlp}.fc2.{kind}"] = torch.cat(parts)
    if not leftovers:
        split = {k: v for k, v in split.items() if "experts" not in k and "associate" not in k}
    merged = save_and_load(split, tmp_path)
    assert merged.config.backbone.num_experts == 0
    whole = save_and_load(plus, tmp_path)
    np.testing.assert_allclose(merged.backbone(crops[:1]), whole.backbone(crops[:1], 3), atol=1e-5)


@pytest.fixture(scope="module")
def mae(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A pretraining file in MAE's form: no prefix, class token, square grid, its own decoder."""
    tensors = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    encoder = {
        key.removeprefix("backbone.").replace("last_norm", "norm"): value
        for key, value in tensors.items()
        if key.startswith("backbone.")
    }
    generator = torch.Generator().manual_seed(0)
    encoder["pos_embed"] = torch.randn(1, 197, 96, generator=generator)
    encoder |= {
        "cls_token": torch.zeros(1, 1, 96),
        "mask_token": torch.zeros(1, 1, 64),
        "decoder_embed.weight": torch.zeros(64, 96),
        "decoder_blocks.0.attn.qkv.weight": torch.zeros(192, 64),
    }
    file = tmp_path_factory.mktemp("mae") / "mae.pth"
    torch.save({"model": encoder}, file)
    return file, encoder


def test_pretraining_file_into_a_model(mae: tuple[Path, dict], golden: Path) -> None:
    file, encoder = mae
    config = PoseConfig(ViTConfig(96, 4, 3), DecoderConfig(in_channels=96))
    model = PoseModel(config, rngs=nnx.Rngs(0))
    head = leaves(model.decoder)
    load_weights_into(model, file, ("backbone",))
    expected = resize_positions(encoder["pos_embed"].numpy(), (14, 14), (16, 12))
    np.testing.assert_array_equal(model.backbone.pos_embed[...], expected)
    reference = load_pose_model(golden / "vitpose_tiny_classic.pth", num_heads=3)
    assert_same(model.backbone.blocks, reference.backbone.blocks)
    assert_same(model.backbone.last_norm, reference.backbone.last_norm)
    for a, b in zip(head, leaves(model.decoder), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pretraining_file_with_patches_of_14_pixels(
    mae: tuple[Path, dict], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """MAE's huge model: the kernel is padded as the authors' code does it."""
    _, encoder = mae
    kernel = torch.randn(96, 3, 14, 14, generator=torch.Generator().manual_seed(1))
    positions = torch.randn(1, 257, 96, generator=torch.Generator().manual_seed(2))
    huge = encoder | {"patch_embed.proj.weight": kernel, "pos_embed": positions}
    torch.save({"model": huge}, tmp_path / "huge.pth")
    model = PoseModel(
        PoseConfig(ViTConfig(96, 4, 3), DecoderConfig(in_channels=96)), rngs=nnx.Rngs(0)
    )
    load_weights_into(model, tmp_path / "huge.pth", ("backbone",))
    assert "patches of 14x14 pixels: kernel padded with zeros to 16x16" in caplog.text
    padded = torch.nn.functional.pad(kernel, (1, 1, 1, 1)).permute(2, 3, 1, 0).reshape(-1, 96)
    np.testing.assert_array_equal(model.backbone.patch_embed.kernel[...], padded.numpy())
    expected = resize_positions(positions.numpy(), (16, 16), (16, 12))
    np.testing.assert_array_equal(model.backbone.pos_embed[...], expected)
    assert load_backbone(tmp_path / "huge.pth", num_heads=3).config.patch_size == 16


def test_report_of_a_pretraining_file(mae: tuple[Path, dict], tmp_path: Path) -> None:
    file, encoder = mae
    _, report = convert(file, Hints(num_heads=3))
    assert "decoder_embed.weight" in report.ignored
    assert "cls_token" in report.ignored
    assert report.missing == ("decoder (the file holds a backbone only)",)
    bare = {k: v for k, v in encoder.items() if not k.startswith("norm.")}
    torch.save({"model": bare}, tmp_path / "bare.pth")
    _, report = convert(tmp_path / "bare.pth", Hints(num_heads=3))
    assert "backbone.last_norm (identity)" in report.missing


def test_position_embedding_without_a_class_token(golden: Path, crops: np.ndarray) -> None:
    """The intermediate-map study's backbone, whose taps skip the final norm."""
    vit = load_backbone(golden / "fpn_intermediate.pth", num_heads=3)
    _, taps = vit.with_taps(crops[:1], blocks=(3, 7, 11))
    reference = np.load(golden / "fpn_intermediate.npz")["features_o3_7_11"]
    ours = jnp.concatenate(taps).transpose(0, 3, 1, 2)
    assert np.abs(ours - reference).max() <= 1e-4 * np.abs(reference).max()


def test_own_folder_there_and_back(golden: Path, tmp_path: Path) -> None:
    model = load_pose_model(golden / "hf_vitpose_plus_tiny")
    save_pose_model(model, tmp_path / "w")
    again = load_pose_model(tmp_path / "w")
    assert again.config == model.config
    assert_same(model, again)
    assert sorted(p.name for p in (tmp_path / "w").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    half = load_pose_model(tmp_path / "w", dtype=jnp.bfloat16)
    assert half.dtype == jnp.bfloat16
    assert half.decoder.final.kernel[...].dtype == jnp.float32


def test_parts_from_a_pose_checkpoint(golden: Path) -> None:
    source = golden / "vitpose_tiny_classic.pth"
    reference = load_pose_model(source, num_heads=3)
    model = PoseModel(reference.config, rngs=nnx.Rngs(1))
    load_weights_into(model, source, ("decoder",))
    assert_same(model.decoder, reference.decoder)
    assert not np.allclose(model.backbone.pos_embed[...], reference.backbone.pos_embed[...])


def small_model(neck: NeckConfig | None = None, seed: int = 1) -> PoseModel:
    backbone = ViTConfig(24, 2, 3, input_size=(64, 48))
    return PoseModel(
        PoseConfig(backbone, DecoderConfig("simple", 17, 24), neck), rngs=nnx.Rngs(seed)
    )


def test_a_decoder_goes_with_its_neck(tmp_path: Path) -> None:
    neck = NeckConfig("residual", 24, strides=(1, 2), taps=(0,), channels=8, init_std=0.1)
    reference, everything = small_model(neck, seed=0), ("backbone", "neck", "decoder")
    save_pose_model(reference, tmp_path)

    again = small_model(replace(neck, init_std=None))
    load_weights_into(again, tmp_path, everything)
    assert_same(again, reference)
    plain = small_model()
    load_weights_into(plain, tmp_path, ("backbone",))
    assert_same(plain.backbone, reference.backbone)

    for model in (small_model(), small_model(neck), small_model(replace(neck, strides=(1, 4)))):
        with pytest.raises(UserError, match="decoder was trained behind a neck of kind 'residual'"):
            load_weights_into(model, tmp_path, ("backbone", "decoder"))
    with pytest.raises(UserError, match="the model has no neck, only backbone, decoder"):
        load_weights_into(small_model(), tmp_path, everything)
    with pytest.raises(UserError, match=r"its neck differs from .* strides \(1, 2\) .the model"):
        load_weights_into(small_model(replace(neck, strides=(1, 4))), tmp_path, everything)


def test_a_plain_decoder_may_go_behind_a_new_neck(tmp_path: Path) -> None:
    reference, model = small_model(seed=0), small_model(NeckConfig("residual", 24, taps=(0,)))
    save_pose_model(reference, tmp_path)
    load_weights_into(model, tmp_path)
    assert_same(model.decoder, reference.decoder)
    with pytest.raises(UserError, match="there is no neck in it, only backbone, decoder"):
        load_weights_into(model, tmp_path, ("backbone", "neck", "decoder"))


@pytest.mark.parametrize("size", [(192, 256), (512, 96), (256, 256)])
def test_positions_are_interpolated_however_many_patches(golden: Path, size: tuple) -> None:
    source = golden / "vitpose_tiny_classic.pth"
    made = load_backbone(source, num_heads=3).pos_embed[...]
    asked = load_backbone(source, num_heads=3, input_size=size).pos_embed[...]
    expected = resize_positions(np.asarray(made), (16, 12), (size[0] // 16, size[1] // 16))
    np.testing.assert_array_equal(asked, expected)


def test_grid_that_does_not_tell_is_that_of_the_size_given(golden: Path, tmp_path: Path) -> None:
    source = golden / "vitpose_tiny_classic.pth"
    tensors = dict(torch.load(source, weights_only=True)["state_dict"])
    tensors["backbone.pos_embed"] = tensors["backbone.pos_embed"][:, : 1 + 8 * 5]
    model = save_and_load(tensors, tmp_path, input_size=(128, 80))
    np.testing.assert_array_equal(model.backbone.pos_embed[...], tensors["backbone.pos_embed"])
    with pytest.raises(UserError, match="grid of 40 position embeddings"):
        save_and_load(tensors, tmp_path, input_size=(256, 192))


@pytest.mark.parametrize(
    ("save", "model"),
    [(save_pose_model, small_model()), (save_forecaster, build_forecaster({"kind": "forecaster"}))],
)
def test_a_full_disk_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Callable, model: nnx.Module
) -> None:
    save(model, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(safetensors.numpy, "save_file", full)
    with pytest.raises(UserError, match=r"cannot be written .*No space left"):
        save(model, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_conversion_is_kept_while_the_content_is_the_same(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "a.pth"
    file.write_bytes((golden / "vitpose_tiny_simple.pth").read_bytes())
    first = load_pose_model(file, num_heads=3)

    conversions = []
    monkeypatch.setattr(conversion, "convert", lambda *a: conversions.append(a) or convert(*a))
    assert_same(load_pose_model(file, num_heads=3), first)
    os.utime(file, (1, 1))
    load_pose_model(shutil.copy(file, tmp_path / "b.pth"), num_heads=3)
    load_pose_model(file, num_heads=3)
    assert not conversions
    load_pose_model(file, num_heads=6)
    assert len(conversions) == 1

    for kept in (tmp_path / "cache").rglob("model.safetensors"):
        kept.write_bytes(b"spoilt")
    assert_same(load_pose_model(file, num_heads=3), first)
    assert len(conversions) == 2


@pytest.mark.parametrize("grain", [0.0, 2.0])
def test_other_weights_of_the_same_size_and_date(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grain: float
) -> None:
    """With digests that are remembered at once, too."""
    monkeypatch.setattr(digests, "CLOCK_GRAIN", grain)
    file, found = tmp_path / "a.pth", []
    for scale in (1.0, 1.5):
        tensors = dict(torch.load(golden / "vitpose_tiny_simple.pth")["state_dict"])
        tensors["keypoint_head.final_layer.bias"] = torch.full((17,), scale)
        time.sleep(0.02)
        torch.save(tensors, file)
        os.utime(file, (1, 1))
        bias = load_pose_model(file, num_heads=3).decoder.final.bias[...]
        assert (np.asarray(bias) == scale).all()
        found.append(digests.sha256(file))
        assert digests.sha256(file) == found[-1]
    assert len(set(found)) == 2


def test_notes_are_told_again_from_the_cache(
    golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tensors = dict(torch.load(golden / "vitpose_tiny_simple.pth")["state_dict"])
    del tensors["backbone.last_norm.weight"], tensors["backbone.last_norm.bias"]
    torch.save(tensors, tmp_path / "a.pth")
    for _ in range(2):
        caplog.clear()
        load_pose_model(tmp_path / "a.pth", num_heads=3)
        assert "a.pth: no final norm in the file: it starts as the identity" in caplog.text


def test_cache_that_cannot_be_written(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    load_pose_model(golden / "hf_vitpose_tiny_simple")
    assert "could not be cached" in caplog.text


COCO_LABELS = [  # as in the published folders of transformers
    *("Nose", "L_Eye", "R_Eye", "L_Ear", "R_Ear", "L_Shoulder", "R_Shoulder", "L_Elbow"),
    *("R_Elbow", "L_Wrist", "R_Wrist", "L_Hip", "R_Hip", "L_Knee", "R_Knee", "L_Ankle", "R_Ankle"),
]


@pytest.mark.parametrize(
    ("labels", "dataset"),
    [
        (COCO_LABELS, "coco"),
        (SKELETONS["ap10k"].keypoint_names, "ap10k"),
        ([f"LABEL_{i}" for i in range(17)], None),
        ([f"LABEL_{i}" for i in range(2)], None),
        (COCO_LABELS[:16], None),
    ],
)
def test_labels_of_a_transformers_folder_name_the_data_set(
    golden: Path, tmp_path: Path, labels: list[str], dataset: str | None
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(golden / "hf_vitpose_tiny_simple", folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_pose_model(folder).config.dataset == dataset
    assert load_pose_model(folder, dataset="coco").config.dataset == "coco"


def with_labels(golden: Path, folder: Path, labels: list[str]) -> Path:
    """A transformers folder whose config.json names its keypoints so."""
    shutil.copytree(golden / "hf_vitpose_tiny_simple", folder)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(i): label for i, label in enumerate(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_own_labels_of_a_transformers_folder_give_a_skeleton(
    golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ["snout", *(f"{side} fin {i}" for i in range(8) for side in ("left", "right"))]
    config = load_pose_model(with_labels(golden, tmp_path / "a", names)).config
    assert config.skeleton.keypoint_names == tuple(names)
    assert config.skeleton.flip_pairs == tuple((i, i + 1) for i in range(1, 17, 2))
    assert config.dataset is None
    assert not caplog.records
    twice = load_pose_model(with_labels(golden, tmp_path / "b", ["snout"] * 17)).config
    assert twice.skeleton is None
    assert "id2label does not name each of its 17 keypoints once" in caplog.text


def test_a_skeleton_is_given_and_kept(
    golden: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, own = golden / "hf_vitpose_tiny_simple", named_skeleton([f"p{i}" for i in range(17)])
    model = load_pose_model(source, skeleton=own)
    save_pose_model(model, tmp_path / "own")
    assert load_pose_model(tmp_path / "own").config.skeleton == own
    coco = load_pose_model(tmp_path / "own", skeleton=SKELETONS["coco"]).config
    assert (coco.dataset, coco.skeleton) == ("coco", None)
    assert "names its keypoints p0, p1, p2, ...; the skeleton coco is used instead" in caplog.text
    with pytest.raises(UserError, match="gives 17 keypoints, but the skeleton mpii has 16"):
        load_pose_model(source, skeleton=SKELETONS["mpii"])
    experts = load_pose_model(golden / "hf_vitpose_plus_tiny", dataset="coco", skeleton=own).config
    assert (experts.dataset, experts.skeleton) == ("coco", own)

"""Checkpoints as other programs name and wrap them: read right, or refused in one line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch

torch = pytest.importorskip("torch")

from reference_vit import ReferencePose, ReferenceViT, as_mmpose1  # noqa: E402

from vitpose_jax.errors import UserError  # noqa: E402
from vitpose_jax.models.pose import PoseModel  # noqa: E402
from vitpose_jax.weights import load_backbone, load_pose_model  # noqa: E402
from vitpose_jax.weights.checkpoint import Hints  # noqa: E402
from vitpose_jax.weights.conversion import convert  # noqa: E402

GRID = (4, 3)
Tensors = dict[str, "torch.Tensor"]


@pytest.fixture(scope="module")
def pose() -> ReferencePose:
    torch.manual_seed(0)
    return ReferencePose(GRID, scaled=False).eval()


@pytest.fixture(scope="module")
def tensors(pose: ReferencePose) -> Tensors:
    """In the original's form."""
    return {k.replace("e.norm.", "e.last_norm."): v for k, v in pose.state_dict().items()}


@pytest.fixture(scope="module")
def images() -> "torch.Tensor":
    return torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))


def saved(content: object, folder: Path) -> Path:
    torch.save(content, folder / "a.pth")
    return folder / "a.pth"


def final_bias(model: PoseModel) -> float:
    return float(model.decoder.final.bias[...][0])


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + key: value for key, value in tensors.items()}


def changed(tensors: Tensors) -> Tensors:
    """Other weights with the same names."""
    return {key: value + 1 for key, value in tensors.items()}


def refused(path: Path, match: str, **options: object) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load_pose_model(path, **{"num_heads": 3} | options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_reference_is_read_as_it_is(
    pose: ReferencePose, tensors: Tensors, images: "torch.Tensor", tmp_path: Path
) -> None:
    model = load_pose_model(saved(tensors, tmp_path), num_heads=3)
    with torch.no_grad():
        expected = pose(images).numpy()
    ours = model(images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(ours, expected, atol=1e-5)


WRAPPED: dict[str, Callable[[Tensors], object]] = {
    "plain": lambda t: t,
    "data parallel": lambda t: {"state_dict": prefixed("module.", t)},
    "lightning": lambda t: {"state_dict": prefixed("model.", t), "pytorch-lightning_version": "2"},
    "compiled": lambda t: {"model": prefixed("_orig_mod.", t)},
    "compiled lightning": lambda t: {"state_dict": prefixed("model._orig_mod.", t)},
    "compiled backbone": lambda t: {
        k.replace("backbone.", "backbone._orig_mod."): v for k, v in t.items()
    },
    "deepspeed": lambda t: {"module": prefixed("module.model.", t), "ds_version": "0.14"},
    "fsdp": lambda t: {"model": prefixed("_fsdp_wrapped_module.", t)},
    "student": lambda t: prefixed("student.", t) | prefixed("teacher.", changed(t)),
    "nested": lambda t: {"checkpoint": {"model": {"net": t}}},
    "optimizer": lambda t: {"state_dict": t, "optimizer": {"state": {0: {"exp_avg": t}}}},
    "averaged model": lambda t: {"n_averaged": torch.tensor(3)} | prefixed("module.", t),
    "timm's ema": lambda t: {"state_dict": t, "state_dict_ema": changed(t)},
    "mmengine": lambda t: {
        "state_dict": t,
        "ema_state_dict": {"steps": torch.tensor(3)} | prefixed("module.", changed(t)),
    },
    "mmcv's ema": lambda t: {
        "state_dict": t | {"ema_" + k.replace(".", "_"): v for k, v in changed(t).items()}
    },
    "half": lambda t: {k: v.half() for k, v in t.items()},
    "bfloat16": lambda t: {k: v.bfloat16() for k, v in t.items()},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappings(tensors: Tensors, tmp_path: Path, name: str) -> None:
    path = saved(WRAPPED[name](tensors), tmp_path)
    stored, report = convert(path, Hints(num_heads=3))
    expected, _ = convert(saved(tensors, tmp_path), Hints(num_heads=3))
    tolerance = 2e-2 if name in ("half", "bfloat16") else 0.0
    assert stored.config == expected.config
    for key, array in expected.arrays.items():
        np.testing.assert_allclose(stored.arrays[key], array, atol=tolerance, err_msg=key)
    told = " ".join(report.notes)
    assert ("EMA" in told) == (name in ("student", "timm's ema", "mmengine"))


@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda a, b: {"state_dict": a, "state_dict_ema": b}, "state_dict_ema"),
        (lambda a, b: {"model": a, "model_ema": b}, "model_ema"),
        (lambda a, b: {"model": a, "ema": {"module": b, "updates": 3}}, "ema"),
        (lambda a, b: {"state_dict": prefixed("net.", a) | prefixed("ema_net.", b)}, "ema_net"),
        (lambda a, b: prefixed("student.", a) | prefixed("teacher.", b), "teacher"),
        (lambda a, b: a | prefixed("ema_model.module.", b), "ema_model"),
    ],
)
def test_averaged_copies_are_told_and_taken_when_asked(
    tensors: Tensors,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    wrap: Callable[[Tensors, Tensors], object],
    place: str,
) -> None:
    path = saved(wrap(tensors, changed(tensors)), tmp_path)
    raw = final_bias(load_pose_model(path, num_heads=3))
    assert raw == pytest.approx(float(tensors["keypoint_head.final_layer.bias"][0]))
    assert "passed over an averaged (EMA)" in caplog.text
    assert place in caplog.text
    averaged = load_pose_model(path, num_heads=3, ema=True)
    assert final_bias(averaged) == pytest.approx(raw + 1)


def test_no_averaged_copy_or_two_networks(tensors: Tensors, tmp_path: Path) -> None:
    refused(saved(tensors, tmp_path), "holds no averaged .EMA. copy", ema=True)
    both = prefixed("pose.", tensors) | prefixed("other.", tensors)
    refused(saved(both, tmp_path), "holds 2 networks, below 'pose.', 'other.'; save")


def test_mmpose_1s_head_behind_the_originals_backbone(tensors: Tensors, tmp_path: Path) -> None:
    path = saved({k.replace("keypoint_head", "head"): v for k, v in tensors.items()}, tmp_path)
    assert load_pose_model(path, num_heads=3).config.num_keypoints == 17


def test_a_layer_scaled_twice(tensors: Tensors, tmp_path: Path) -> None:
    keys = ("backbone.blocks.0.gamma_1", "backbone.blocks.0.ls1.gamma")
    path = saved(tensors | {key: torch.ones(24) for key in keys}, tmp_path)
    refused(path, "scales a layer twice")


@pytest.mark.parametrize("rows", [193, 192])
def test_mmpose_1(golden: Path, crops: np.ndarray, tmp_path: Path, rows: int) -> None:
    original = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    renamed = as_mmpose1(golden, original)
    if rows == 192:
        positions = renamed["backbone.pos_embed"]
        renamed["backbone.pos_embed"] = positions[:, 1:] + positions[:, :1]
    model = load_pose_model(saved({"meta": {}, "state_dict": renamed}, tmp_path), num_heads=3)
    reference = np.load(golden / "vitpose_tiny_classic.npz")["heatmaps"].transpose(0, 2, 3, 1)
    crops = crops[: len(reference)]
    assert np.abs(model(crops) - reference).max() <= 1e-4 * np.abs(reference).max()


def test_mmpose_1_with_a_class_token(golden: Path, tmp_path: Path) -> None:
    """mmpretrain's ViT would use it; the original's authors left one in files without using it."""
    original = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    token = {"backbone.cls_token": torch.ones(1, 1, 96)}
    path = saved(as_mmpose1(golden, original) | token, tmp_path)
    refused(path, "cls_token.*class token beside the patches")
    assert load_backbone(path, num_heads=3).config.depth == 4
    _, report = convert(saved(original | token, tmp_path), Hints(num_heads=3))
    assert any("class token was left out" in note for note in report.notes)


SCALES: dict[str, tuple[str, str]] = {
    "timm, DINOv2": ("ls1.gamma", "ls2.gamma"),
    "BEiT": ("gamma_1", "gamma_2"),
    "mmpretrain": ("attn.gamma1.weight", "ffn.gamma2.weight"),
    "transformers' DINOv2": ("layer_scale1.lambda1", "layer_scale2.lambda1"),
    "lambda": ("lambda_1", "lambda_2"),
}


@pytest.fixture(scope="module")
def scaled() -> ReferenceViT:
    torch.manual_seed(2)
    return ReferenceViT(GRID).eval()


@pytest.mark.parametrize("names", SCALES.values(), ids=SCALES)
def test_layer_scale_is_folded(
    scaled: ReferenceViT, images: "torch.Tensor", tmp_path: Path, names: tuple[str, str]
) -> None:
    first, second = names
    tensors = {
        k.replace("ls1.gamma", first).replace("ls2.gamma", second): v
        for k, v in scaled.state_dict().items()
    }
    path = saved({"model": tensors}, tmp_path)
    vit = load_backbone(path, num_heads=3)
    with torch.no_grad():
        expected = scaled(images).numpy()
    ours = vit(images.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_layer_scale_of_experts(golden: Path, tmp_path: Path) -> None:
    tensors = dict(torch.load(golden / "vitpose_plus_tiny.pth", weights_only=True)["state_dict"])
    plain, _ = convert(saved(tensors, tmp_path), Hints(num_heads=3))
    gamma = torch.arange(96) + 1.0
    tensors["backbone.blocks.1.ls2.gamma"] = gamma
    folded, report = convert(saved(tensors, tmp_path), Hints(num_heads=3))
    mlp = "backbone.blocks.1.mlp"
    shared = plain.arrays[f"{mlp}.fc2.bias"].size
    np.testing.assert_allclose(
        folded.arrays[f"{mlp}.experts.kernel"],
        plain.arrays[f"{mlp}.experts.kernel"] * gamma[shared:].numpy(),
    )
    np.testing.assert_allclose(
        folded.arrays[f"{mlp}.fc2.kernel"],
        plain.arrays[f"{mlp}.fc2.kernel"] * gamma[:shared].numpy(),
    )
    assert any("LayerScale" in note for note in report.notes)
    tensors["backbone.blocks.1.ls2.gamma"] = torch.ones(95)
    refused(saved(tensors, tmp_path), "ls2.gamma' has 95 factors, which does not fit")


FOREIGN = {
    "reg_token": "register tokens",
    "register_tokens": "register tokens",
    "rope.freqs": "rotary or relative positions",
    "blocks.0.attn.relative_position_bias_table": "rotary or relative positions",
    "blocks.1.attn.q_norm.weight": "norms within the layers",
    "blocks.1.attn.k_norm.weight": "norms within the layers",
    "blocks.0.mlp.w12.weight": "a gated MLP",
    "norm_pre.weight": "a norm before the blocks",
    "blocks.0.attn.temperature": "belongs to nothing in ViTPose",
    "blocks.1.adapter.down.weight": "belongs to nothing in ViTPose",
    "blocks.0.gamma_3": "belongs to nothing in ViTPose",
    "blocks.00.norm1.weight": "has 'backbone.blocks.00.norm1.weight' but only 3",
    "blocks.99999.norm1.weight": "has 'backbone.blocks.99999.norm1.weight' but only 3 of its kind",
}


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("prefix", ["backbone.", "model.backbone."])
def test_what_changes_the_function_is_refused(
    tensors: Tensors, tmp_path: Path, key: str, prefix: str
) -> None:
    """Below a prefix too."""
    wrapped = prefixed(prefix.removesuffix("backbone."), tensors)
    path = saved({**wrapped, prefix + key: torch.ones(24)}, tmp_path)
    refused(path, FOREIGN[key])


@pytest.mark.parametrize("key", [key for key in FOREIGN if "nothing" not in FOREIGN[key]])
def test_what_changes_the_function_of_a_pretraining_file(
    scaled: ReferenceViT, tmp_path: Path, key: str
) -> None:
    path = saved({"model": {**scaled.state_dict(), key: torch.ones(24)}}, tmp_path)
    with pytest.raises(UserError, match=FOREIGN[key]):
        load_backbone(path, num_heads=3)


@pytest.mark.parametrize(
    "key",
    ["keypoint_head.deconv_layers.0.bias", "keypoint_head.conv_layers.0.weight", "neck.a.weight"],
)
def test_what_changes_the_function_of_a_decoder(tensors: Tensors, tmp_path: Path, key: str) -> None:
    refused(saved({**tensors, key: torch.ones(24)}, tmp_path), key.split(".")[1])


def test_gated_mlp_in_one_tensor(tensors: Tensors, tmp_path: Path) -> None:
    wide = {k: torch.cat([v, v]) for k, v in tensors.items() if ".fc1." in k}
    refused(saved(tensors | wide, tmp_path), "twice as wide as the layer after it .*SwiGLU")


def test_leftovers_elsewhere_are_told(
    tensors: Tensors, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = tensors | {"loss.weight": torch.ones(1)}
    load_pose_model(saved(more, tmp_path), num_heads=3)
    assert "1 tensors are not used and were left out: loss.weight" in caplog.text


def timm_like(scaled: ReferenceViT, **more: "torch.Tensor") -> Tensors:
    return scaled.state_dict() | {"cls_token": torch.ones(1, 1, 24)} | more


PRETRAINED: dict[str, Callable[[Tensors], object]] = {
    "timm": lambda t: t | {"head.weight": torch.ones(10, 24), "head.bias": torch.ones(10)},
    "DINOv2": lambda t: t | {"mask_token": torch.ones(1, 24)},
    "DINOv2 in chunks": lambda t: {k.replace("blocks.", "blocks.0."): v for k, v in t.items()},
    "DINO": lambda t: {
        "student": prefixed("module.backbone.", changed(t)),
        "teacher": prefixed("backbone.", t) | {"head.mlp.0.weight": torch.ones(2, 24)},
    },
    "MAE": lambda t: {"model": t | {"decoder_blocks.0.norm1.weight": torch.ones(8)}},
    "DeiT": lambda t: (
        t
        | {
            "dist_token": torch.ones(1, 1, 24),
            "head_dist.weight": torch.ones(10, 24),
            "pos_embed": torch.cat([t["pos_embed"][:, :1], t["pos_embed"]], dim=1),
        }
    ),
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretraining_backbones(
    scaled: ReferenceViT, images: "torch.Tensor", tmp_path: Path, name: str
) -> None:
    content = PRETRAINED[name](timm_like(scaled))
    stored, report = convert(
        saved(content, tmp_path), Hints(num_heads=3, backbone_only=True, ema=name == "DINO")
    )
    expected, _ = convert(
        saved({"model": scaled.state_dict()}, tmp_path), Hints(num_heads=3, backbone_only=True)
    )
    assert stored.config == expected.config
    for key, array in expected.arrays.items():
        np.testing.assert_array_equal(stored.arrays[key], array, err_msg=key)
    told = " ".join(report.notes)
    assert "the class token was left out, and its position is added to every patch's" in told
    assert ("distillation token" in told) == (name == "DeiT")


def test_patches_of_14_pixels_and_square_positions(scaled: ReferenceViT, tmp_path: Path) -> None:
    """DINOv2's: 37 x 37 positions, interpolated where another size is asked for."""
    kernel = torch.randn(24, 3, 14, 14)
    positions = torch.randn(1, 1 + 37 * 37, 24)
    content = timm_like(scaled, pos_embed=positions, **{"patch_embed.proj.weight": kernel})
    vit = load_backbone(saved(content, tmp_path), num_heads=3, input_size=(256, 192))
    assert vit.pos_embed[...].shape == (1, 193, 24)


def test_small_pretraining_files_do_not_tell_their_heads(tmp_path: Path) -> None:
    small = ReferenceViT(GRID, width=384, depth=1, scaled=False).state_dict()
    _, report = convert(saved(small, tmp_path), Hints())
    assert any("ViTPose-S has 12, the small models of DeiT" in note for note in report.notes)


@pytest.fixture
def transformers_folder(golden: Path, tmp_path: Path) -> tuple[Path, Tensors]:
    folder = tmp_path / "theirs"
    shutil.copytree(golden / "hf_vitpose_tiny_simple", folder)
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    file.unlink()
    return folder, tensors


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "sharded safetensors", "sharded bin"])
def test_files_of_a_folder(
    golden: Path, transformers_folder: tuple[Path, Tensors], suffix: str
) -> None:
    folder, tensors = transformers_folder
    kind = suffix.split()[-1]
    name = "model" if kind == "safetensors" else "pytorch_model"
    save = safetensors.torch.save_file if kind == "safetensors" else torch.save
    if "sharded" not in suffix:
        save(tensors, folder / f"{name}.{kind}")
    else:
        keys, weight_map = sorted(tensors), {}
        for part in range(2):
            file = f"{name}-0000{part + 1}-of-00002.{kind}"
            weight_map |= dict.fromkeys(keys[part::2], file)
            save({key: tensors[key] for key in keys[part::2]}, folder / file)
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / f"{name}.{kind}.index.json").write_text(json.dumps(index))
    model = load_pose_model(folder)
    reference = load_pose_model(golden / "hf_vitpose_tiny_simple")
    np.testing.assert_array_equal(
        model.backbone.blocks[1].mlp.fc2.kernel[...],
        reference.backbone.blocks[1].mlp.fc2.kernel[...],
    )
    for part in folder.glob(f"{name}-00002*"):
        part.unlink()
        refused(folder, "names .*00002-of-00002.* which does not exist", num_heads=None)


@pytest.mark.parametrize(
    "weight_map",
    [3, [], {}, {"a": 3}, {"a": "../x.safetensors"}, {"a": "x" * 5000}, {"a": None}, {"a": ["b"]}],
)
def test_indices_that_are_none(
    transformers_folder: tuple[Path, Tensors], weight_map: object
) -> None:
    folder, _ = transformers_folder
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    refused(folder, "index.json", num_heads=None)


def test_names_of_transformers_below_a_prefix_and_unknown_ones(
    transformers_folder: tuple[Path, Tensors],
) -> None:
    folder, tensors = transformers_folder
    safetensors.torch.save_file(prefixed("model.", tensors), folder / "model.safetensors")
    assert load_pose_model(folder).config.backbone.depth == 3
    more = tensors | {"backbone.encoder.layer.0.layer_scale1.lambda1": torch.ones(64)}
    safetensors.torch.save_file(more, folder / "model.safetensors")
    refused(folder, "layer_scale1.lambda1' belongs to nothing in ViTPose", num_heads=None)
    torch.save(tensors, folder / "alone.pth")
    refused(folder / "alone.pth", "transformers. names; give the folder")


def test_safetensors_with_the_originals_names(tensors: Tensors, tmp_path: Path) -> None:
    """Alone, in bfloat16, and in a folder of timm's."""
    file = tmp_path / "model.safetensors"
    safetensors.torch.save_file({k: v.bfloat16() for k, v in tensors.items()}, file)
    bias = float(tensors["keypoint_head.final_layer.bias"][0])
    assert final_bias(load_pose_model(file, num_heads=3)) == pytest.approx(bias, abs=1e-3)
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny", "num_classes": 0}')
    assert final_bias(load_pose_model(tmp_path, num_heads=3)) == pytest.approx(bias, abs=1e-3)

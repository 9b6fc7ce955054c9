"""Tensors and configurations of odd kinds and sizes: one line each, at once."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights import load_forecaster, load_pose_model, save_pose_model
from vitpose_jax.weights.forecaster import build_forecaster, save_forecaster

torch = pytest.importorskip("torch")

KEY = "backbone.blocks.1.attn.proj.weight"


def refused(source: Path, match: str, load: Callable = load_pose_model, **options: object) -> None:
    with pytest.raises(UserError, match=match) as caught:
        load(source, **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: torch.eye(96).to_sparse(), "kind sparse"),
        (lambda: torch.eye(96).to_sparse_csr(), "kind sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(96, 96), 0.1, 0, torch.qint8), "quantised"),
        (lambda: torch.empty(96, 96, device="meta"), "kind meta"),
        (lambda: torch.ones(96, 96, dtype=torch.complex64), "kind complex"),
        (lambda: torch.ones(96, 96, dtype=torch.complex64).conj(), "kind complex"),
        (lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "kind nested"),
        (lambda: torch.ones(1, 1).half().expand(10**6, 10**6), "kind expanded"),
        (lambda: torch.ones(96, 96, dtype=torch.int8), "whole numbers .int8"),
        (lambda: torch.ones(96, 96) > 0, "whole numbers .bool"),
        (lambda: torch.full((96, 96), float("nan")), "not numbers"),
        (lambda: torch.full((96, 96), 1e300, dtype=torch.float64), "not numbers"),
        (lambda: torch.ones(()), "has shape .., expected .96, 96."),
        (lambda: torch.ones(0), "has shape .0,."),
    ],
)
def test_odd_tensors(
    golden: Path, tmp_path: Path, make: Callable[[], "torch.Tensor"], kind: str
) -> None:
    tensors = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    torch.save(tensors | {KEY: make()}, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", kind, num_heads=3)
    del tensors["backbone.patch_embed.proj.weight"], tensors["backbone.pos_embed"]
    torch.save(tensors, tmp_path / "a.pth")
    refused(tmp_path / "a.pth", "backbone.pos_embed", num_heads=3)


def test_odd_tensors_that_nobody_needs_do_no_harm(golden: Path, tmp_path: Path) -> None:
    tensors = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    negative = torch._neg_view(-tensors[KEY])
    content = {
        "state_dict": tensors | {KEY: negative},
        "optimizer": {"state": {0: {"x": torch.eye(3).to_sparse()}}},
        7: {"again": torch.empty(3, device="meta")},
    }
    content["itself"] = content
    torch.save(content, tmp_path / "a.pth")
    model = load_pose_model(tmp_path / "a.pth", num_heads=3)
    assert (tensors[KEY].numpy() == model.backbone.blocks[1].attn.proj.kernel[...].T).all()


def test_one_part_of_a_split_network(golden: Path, tmp_path: Path) -> None:
    tensors = torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"]
    torch.save({"module": {k: torch.empty(0) for k in tensors}}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "is empty, as in one part .*zero_to_fp32", num_heads=3)


@pytest.mark.parametrize("name", ["x" * 5000 + ".pth", "x" * 300, "a\0b.pth", "~nobody/a.pth", ""])
def test_names_no_file_can_have(name: str) -> None:
    refused(name, "no such file or folder|no config.json")


def test_a_missing_file_is_not_looked_for_on_the_hub() -> None:
    refused("weights/model.safetensors", "no such file or folder")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small folder of our own."""
    folder = tmp_path_factory.mktemp("native")
    backbone = ViTConfig(24, 2, 3, input_size=(64, 48))
    config = PoseConfig(backbone, DecoderConfig("classic", 17, 24, (8, 8)))
    save_pose_model(PoseModel(config, rngs=nnx.Rngs(0)), folder)
    return folder


def edited(folder: Path, place: str, value: Any, out: Path) -> Path:
    """A copy of a folder with one entry of config.json changed."""
    config = json.loads((folder / "config.json").read_text())
    *parents, last = place.split("/")
    inner = config
    for name in parents:
        inner = inner.setdefault(name, {})
    inner[last] = value
    out.mkdir(exist_ok=True)
    (out / "config.json").write_text(json.dumps(config))
    (out / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    return out


ODD_VALUES = (None, "4", 1e300, -3, 10**30, True, [4], {}, [[1]], float("nan"))


@pytest.mark.parametrize("value", [*ODD_VALUES, 10**6, 999_999], ids=repr)
@pytest.mark.parametrize(
    "place",
    [
        *("backbone", "backbone/depth", "backbone/width", "backbone/input_size"),
        *("backbone/mlp_ratio", "backbone/num_experts", "decoder/filters", "decoder/kind"),
        *("decoder/num_keypoints", "skeleton", "dataset", "neck", "backbone/patch_size"),
    ],
)
def test_odd_values_in_our_own_config(
    native: Path, tmp_path: Path, place: str, value: object
) -> None:
    folder = edited(native, place, value, tmp_path / "copy")
    optional = place in ("skeleton", "dataset", "neck") and value is None
    if optional:
        load_pose_model(folder)
    else:
        refused(folder, "config.json|copy")


@pytest.mark.parametrize(
    "skeleton",
    [
        {"keypoint_names": ["a"] * 17},
        {"flip_pairs": [[0, 17]]},
        {"flip_pairs": [[0, 1], [1, 2]]},
        {"flip_pairs": [[0, 1, 2]]},
        {"sigmas": [0.1]},
        {"upper_body": [-1]},
        {"limbs": [[0, 10**6]]},
        {"name": 3},
    ],
    ids=str,
)
def test_skeletons_that_do_not_fit(native: Path, tmp_path: Path, skeleton: dict) -> None:
    good = json.loads(json.dumps(asdict(SKELETONS["coco"])))
    load_pose_model(edited(native, "skeleton", good, tmp_path / "good"))
    refused(edited(native, "skeleton", good | skeleton, tmp_path / "bad"), "config.json: .*skelet")


@pytest.mark.parametrize("value", [*ODD_VALUES, 10**6], ids=repr)
@pytest.mark.parametrize(
    "place",
    [
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "mlp_ratio", "num_experts"),
        *("image_size", "patch_size", "layer_norm_eps", "hidden_act", "qkv_bias"),
    ],
)
def test_odd_values_in_transformers_config(
    golden: Path, tmp_path: Path, place: str, value: object
) -> None:
    source = golden / "hf_vitpose_tiny_simple"
    folder = edited(source, f"backbone_config/{place}", value, tmp_path / "copy")
    if place == "qkv_bias" and value is True:
        load_pose_model(folder)
    else:
        refused(folder, "copy")


@pytest.mark.parametrize("value", [3, "x", [1], {"a": []}, {"0": None}, {"0": [1]}], ids=repr)
@pytest.mark.parametrize("place", ["id2label", "use_simple_decoder", "scale_factor"])
def test_odd_values_beside_the_backbone(
    golden: Path, tmp_path: Path, place: str, value: object
) -> None:
    folder = edited(golden / "hf_vitpose_tiny_simple", place, value, tmp_path / "copy")
    if place == "id2label":
        assert load_pose_model(folder).config.skeleton is None
    else:
        refused(folder, place)


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forecaster")
    save_forecaster(build_forecaster({"kind": "forecaster", "width": 8}), folder)
    return folder


@pytest.mark.parametrize("value", [*ODD_VALUES, 10**6], ids=repr)
@pytest.mark.parametrize("place", ["depth", "width", "members", "readout_depth", "kind", "fps"])
def test_odd_values_in_a_forecasters_config(
    forecaster: Path, tmp_path: Path, place: str, value: object
) -> None:
    folder = edited(forecaster, place, value, tmp_path / "copy")
    if place == "fps" and value == 10**6:
        load_forecaster(folder)
    else:
        refused(folder, "copy", load_forecaster)


def test_a_folder_in_a_files_place(native: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((native / "config.json").read_bytes())
    (tmp_path / "model.safetensors").mkdir()
    refused(tmp_path, "model.safetensors")
    (tmp_path / "a.pth").mkdir()
    refused(tmp_path / "a.pth", "no config.json")

"""Sources that cannot be loaded: one clear line each, never a random weight."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from vitpose_jax.errors import UserError
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights import load_pose_model, load_weights_into, save_pose_model

torch = pytest.importorskip("torch")


@pytest.fixture
def tensors(golden: Path) -> dict:
    """The tiny classic model's state dict, to be spoilt."""
    return dict(torch.load(golden / "vitpose_tiny_classic.pth", weights_only=True)["state_dict"])


def fails(source: object, match: str, **options: object) -> str:
    """The message, which must be a single line."""
    with pytest.raises(UserError, match=match) as caught:
        load_pose_model(source, **{"num_heads": 3} | options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_tensor_is_named(tensors: dict, tmp_path: Path) -> None:
    del tensors["backbone.blocks.2.attn.proj.bias"]
    torch.save({"state_dict": tensors}, tmp_path / "a.pth")
    message = fails(tmp_path / "a.pth", r"'backbone\.blocks\.2\.attn\.proj\.bias' is missing")
    assert "(96,)" in message
    assert "a.pth" in message


def test_misshapen_tensor_with_both_shapes(tensors: dict, tmp_path: Path) -> None:
    tensors["backbone.blocks.1.mlp.fc1.weight"] = torch.zeros(100, 96)
    torch.save(tensors, tmp_path / "a.pth")
    message = fails(tmp_path / "a.pth", r"'backbone\.blocks\.1\.mlp\.fc1\.weight'")
    assert "(100, 96)" in message
    assert "(384, 96)" in message


def test_number_of_heads_is_asked_for(golden: Path) -> None:
    fails(golden / "vitpose_tiny_classic.pth", "num_heads= .--num-heads", num_heads=None)
    fails(golden / "vitpose_tiny_classic.pth", "does not divide", num_heads=7)
    fails(golden / "hf_vitpose_tiny", "config.json says 3", num_heads=4)


def test_other_architectures(golden: Path, tensors: dict, tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    fails(tmp_path / "resnet.pth", "not a ViTPose checkpoint.*conv1.weight")
    fails(golden / "pose_predictor.pth", "not a ViTPose checkpoint")
    torch.save({**tensors, "neck.convs.0.weight": torch.zeros(1)}, tmp_path / "neck.pth")
    fails(tmp_path / "neck.pth", "its neck .neck.convs.* unknown kind")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    fails(tmp_path, "model_type 'bert'|not readable as safetensors")


def test_backbone_without_a_decoder(golden: Path) -> None:
    fails(golden / "vitpose_plus_tiny.pth", "backbone only")


class Evil:
    """Writes a file when unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (self.path, "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_file_that_tries_to_run_code(tmp_path: Path, old_format: bool) -> None:
    proof = tmp_path / "proof"
    content = {"state_dict": {"backbone.pos_embed": Evil(str(proof))}}
    if old_format:
        (tmp_path / "a.pth").write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / "a.pth")
    fails(tmp_path / "a.pth", "refused.*would run code")
    assert not proof.exists()


def test_what_training_scripts_leave_beside_the_tensors(tensors: dict, tmp_path: Path) -> None:
    import argparse

    extras = {"args": argparse.Namespace(lr=1.0), "epoch": 3, "best": np.float64(0.7)}
    parallel = {f"module.{key}": tensor.half() for key, tensor in tensors.items()}
    torch.save({"state_dict": parallel, "meta": extras}, tmp_path / "a.pth")
    model = load_pose_model(tmp_path / "a.pth", num_heads=3)
    assert model.decoder.final.kernel[...].dtype == "float32"


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    fails(tmp_path / "a.pth", "a.pth")


def test_truncated_files(golden: Path, tmp_path: Path) -> None:
    whole = (golden / "vitpose_tiny_classic.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "a.pth", "not readable as a PyTorch file|refused")

    folder = golden / "hf_vitpose_tiny"
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    fails(tmp_path, "no pytorch_model.bin there")
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:1000])
    fails(tmp_path, "not readable as safetensors")
    for text in ("{", "[" * 100000):
        (tmp_path / "config.json").write_text(text)
        fails(tmp_path, "is not JSON that can be read")
    (tmp_path / "config.json").unlink()
    fails(tmp_path, "no config.json")
    torch.save([1, 2], tmp_path / "list.pth")
    fails(tmp_path / "list.pth", "holds a list")


def test_native_folder_spoilt(golden: Path, tmp_path: Path) -> None:
    model = load_pose_model(golden / "hf_vitpose_tiny_simple")
    save_pose_model(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["decoder"]["num_keypoints"] = 14
    (tmp_path / "config.json").write_text(json.dumps(config))
    message = fails(tmp_path, "decoder.final", num_heads=None)
    assert "17" in message
    assert "14" in message
    config["backbone"]["colour"] = "red"
    (tmp_path / "config.json").write_text(json.dumps(config))
    fails(tmp_path, "colour", num_heads=None)


def test_foreign_folder_is_not_overwritten(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vitpose"}')
    with pytest.raises(UserError, match="holds another kind of model"):
        save_pose_model(load_pose_model(golden / "hf_vitpose_tiny_simple"), tmp_path)


def test_nothing_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("./missing.pth", "/missing/folder", "missing.pth", "a/b/c"):
        fails(name, "no such file or folder")
    import huggingface_hub

    def offline(*args: object, **options: object) -> None:
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nand no cache")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    fails("someone/vitpose", "could not be downloaded.*check the network")


def test_hub_weights_are_pinned_by_their_revision(
    golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = []

    def downloaded(hub_id: str, revision: str | None = None, **_: object) -> str:
        asked.append((hub_id, revision))
        return str(golden / "hf_vitpose_tiny_simple")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", downloaded)
    for source in ("owner/name", "owner/name@1f3c"):
        load_pose_model(source)
    assert asked == [("owner/name", None), ("owner/name", "1f3c")]


def test_unknown_dataset(golden: Path) -> None:
    fails(golden / "vitpose_tiny_classic.pth", "no data set 'lsp'", dataset="lsp")
    fails(golden / "vitpose_tiny_classic.pth", "17 keypoints, but mpii has 16", dataset="mpii")


@pytest.mark.parametrize(
    ("source", "differences"),
    [
        ("hf_vitpose_tiny", "width 48 .the model's: 100., depth 2 .the model's: 3., num_heads 3 "),
        ("vitpose_tiny_classic.pth", "width 96 .the model's: 100., depth 4 .the model's: 3.;"),
    ],
)
def test_backbone_of_another_kind(golden: Path, source: str, differences: str) -> None:
    """What differs is named, and no number of heads that nobody asked for."""
    config = PoseConfig(ViTConfig(100, 3, 5), DecoderConfig(in_channels=100))
    model = PoseModel(config, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match=f"{source}: .*differs from the model's: {differences}"):
        load_weights_into(model, golden / source, ("backbone",))


def test_missing_torch_names_the_extra(golden: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
from vitpose_jax.errors import UserError
from vitpose_jax.weights import load_pose_model
load_pose_model({str(golden / "hf_vitpose_tiny")!r})  # safetensors need no torch
try:
    load_pose_model({str(golden / "fpn_intermediate.pth")!r})
except UserError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "vitpose-jax[torch]"' in run.stdout

"""The two scripts as a user calls them: there and back bit for bit, and transformers reads it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from vitpose_jax.cli import main
from vitpose_jax.commands.convert import EXPERTS
from vitpose_jax.errors import UserError
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS
from vitpose_jax.weights import load_pose_model
from vitpose_jax.weights.checkpoint import Hints
from vitpose_jax.weights.conversion import convert
from vitpose_jax.weights.huggingface import write_huggingface

Capsys = pytest.CaptureFixture
torch = pytest.importorskip("torch")
REPOSITORY = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "convert" / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("kind", ["classic", "simple"])
def test_original_there_and_back(golden: Path, tmp_path: Path, kind: str) -> None:
    source = golden / f"vitpose_tiny_{kind}.pth"
    done = run("torch_to_flax.py", source, "--num-heads", 3, "--out", "ours", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mapped   backbone.blocks.*.attn.qkv.kernel (4)" in done.stdout
    assert "missing  none" in done.stdout
    assert run("flax_to_torch.py", "ours", "--out", "back.pth", cwd=tmp_path).returncode == 0

    before = torch.load(source, weights_only=True)["state_dict"]
    after = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        assert tensor.dtype == after[key].dtype
        assert tensor.shape == after[key].shape
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, after[key]), key


def test_the_data_set_travels_with_the_weights(golden: Path, tmp_path: Path) -> None:
    stored, _ = convert(golden / "hf_vitpose_tiny_simple", Hints(dataset="ap10k"))
    write_huggingface(stored, tmp_path / "back")
    assert load_pose_model(tmp_path / "back").config.dataset == "ap10k"


def test_the_command_finds_the_direction(golden: Path, tmp_path: Path, capsys: Capsys) -> None:
    source, ours = str(golden / "hf_vitpose_plus_tiny"), str(tmp_path / "ours")
    assert main(["convert", source, "--dataset", "ap10k", "--out", ours]) == 0
    assert load_pose_model(ours).config.dataset == "ap10k"
    assert main(["convert", ours, "--out", str(tmp_path / "back")]) == 0
    again = load_pose_model(tmp_path / "back")
    crops = np.zeros((1, *again.config.input_size, 3), np.float32)
    np.testing.assert_array_equal(again(crops), load_pose_model(ours)(crops))
    assert main(["convert", ours, "--out", str(tmp_path / "back.pth")]) == 0
    (state,) = torch.load(tmp_path / "back.pth", weights_only=True).values()
    assert len(state) > 20
    capsys.readouterr()
    assert main(["convert", ours, "--ema", "--out", str(tmp_path / "again")]) == 2
    assert "--ema: only for PyTorch weights" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_the_experts_offered_are_those_there_are() -> None:
    """The list is written out, so that help need not import the models."""
    assert EXPERTS == EXPERT_DATASETS


@pytest.mark.parametrize("name", ["tiny", "tiny_simple", "plus_tiny"])
def test_transformers_there_and_back(golden: Path, tmp_path: Path, name: str) -> None:
    source = golden / f"hf_vitpose_{name}"
    assert run("torch_to_flax.py", source, "--out", "ours", cwd=tmp_path).returncode == 0
    assert run("flax_to_torch.py", "ours", "--out", "back", cwd=tmp_path).returncode == 0
    before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "back"))
    assert before.keys() == after.keys()
    for key in before:
        if not key.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(before[key], after[key])

    transformers = pytest.importorskip("transformers")
    model, info = transformers.VitPoseForPoseEstimation.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    reference = np.load(source / "outputs.npz")
    pixels = torch.tensor(np.load(golden / "inputs.npz")["x"][:2])
    index = {}
    if name == "plus_tiny":
        index = {"dataset_index": torch.tensor(reference["mixed_index"])}
    with torch.no_grad():
        heatmaps = model.eval()(pixels, **index).heatmaps.numpy()
    expected = reference["heatmaps_mixed" if index else "heatmaps"]
    np.testing.assert_allclose(heatmaps, expected, atol=1e-5)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "back")
    assert type(processor).__name__.startswith("VitPoseImageProcessor")
    assert dict(processor.size) == {"height": 256, "width": 192}


def test_original_to_transformers_needs_its_filters(golden: Path, tmp_path: Path) -> None:
    source = golden / "vitpose_tiny_classic.pth"
    run("torch_to_flax.py", source, "--num-heads", 3, "--out", "ours", cwd=tmp_path)
    failed = run("flax_to_torch.py", "ours", "--out", "hf", cwd=tmp_path)
    assert failed.returncode == 2
    assert "(256, 256) filters" in failed.stderr


def test_mistakes_are_one_line(golden: Path, tmp_path: Path) -> None:
    source = golden / "vitpose_tiny_classic.pth"
    failed = run("torch_to_flax.py", source, "--out", "ours", cwd=tmp_path)
    assert failed.returncode == 2
    assert "--num-heads" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "ours").exists()


def test_nothing_is_dropped_in_silence(golden: Path, tmp_path: Path) -> None:
    """Neither --dataset for a file without heads nor a folder that is already ours."""
    plus = golden / "vitpose_plus_tiny.pth"
    options = ("--num-heads", 3, "--out", "ours")
    failed = run("torch_to_flax.py", plus, "--dataset", "wholebody", *options, cwd=tmp_path)
    assert failed.returncode == 2
    assert "a backbone only, without a head for wholebody" in failed.stderr
    assert not (tmp_path / "ours").exists()
    assert run("torch_to_flax.py", plus, *options, cwd=tmp_path).returncode == 0
    failed = run("torch_to_flax.py", "ours", "--out", "again", cwd=tmp_path)
    assert failed.returncode == 2
    assert "ours: was written by this package; there is nothing to convert" in failed.stderr


def test_a_folder_for_transformers_replaces_no_model(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "theirs"
    shutil.copytree(golden / "hf_vitpose_plus_tiny", folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    failed = run("flax_to_torch.py", golden / "hf_vitpose_tiny", "--out", folder, cwd=tmp_path)
    assert failed.returncode == 2
    assert "theirs: holds a model already; choose another folder" in failed.stderr
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_for_transformers_is_written_aside(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be written whole is left empty."""
    stored, _ = convert(golden / "hf_vitpose_tiny", Hints())

    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match="No space left"):
        write_huggingface(stored, tmp_path / "hf")
    assert not list((tmp_path / "hf").iterdir())


def test_other_input_size(golden: Path, tmp_path: Path) -> None:
    done = run(
        "torch_to_flax.py", golden / "hf_vitpose_tiny", "--input-size", "384x288", "--out", "ours",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0
    assert "interpolated (bicubic) from 16x12 to 24x18" in done.stderr
    positions = load_file(tmp_path / "ours" / "model.safetensors")["backbone.pos_embed"]
    assert positions.shape == (1, 1 + 24 * 18, 48)


def test_a_skeleton_and_the_averaged_copy(golden: Path, tmp_path: Path) -> None:
    """A head of 4 keypoints that no known skeleton has, and the names that are kept with it."""
    tensors = torch.load(golden / "vitpose_tiny_simple.pth", weights_only=True)["state_dict"]
    for kind in ("weight", "bias"):
        tensors[f"keypoint_head.final_layer.{kind}"] = torch.ones(
            4, *([96, 3, 3] * (kind == "weight"))
        )
    averaged = {key: 2 * tensor for key, tensor in tensors.items()}
    torch.save({"model": tensors, "model_ema": averaged}, tmp_path / "fish.pth")
    names = ["snout", "left_fin", "right_fin", "tail"]
    (tmp_path / "names.json").write_text(json.dumps(names))

    plain = run("torch_to_flax.py", "fish.pth", "--num-heads", 3, "--out", "plain", cwd=tmp_path)
    assert "note: the file does not say what its 4 keypoints are: --skeleton names" in plain.stdout
    assert "note: passed over an averaged (EMA)" in plain.stdout
    options = ["--num-heads", 3, "--skeleton", "names.json", "--ema", "--out", "ours"]
    done = run("torch_to_flax.py", "fish.pth", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "note" not in done.stdout
    model = load_pose_model(tmp_path / "ours")
    assert model.config.skeleton.keypoint_names == tuple(names)
    assert (np.asarray(model.decoder.final.bias[...]) == 2).all()
    with pytest.raises(
        UserError, match=r"what their 4 keypoints are, .*give one .skeleton=, or --s"
    ):
        PoseEstimator.from_pretrained(tmp_path / "plain")
    for skeleton in (str(tmp_path / "names.json"), tmp_path / "ours" / "config.json"):
        estimator = PoseEstimator.from_pretrained(tmp_path / "plain", skeleton=skeleton)
        assert estimator.skeleton.flip_pairs == ((1, 2),)
    with pytest.raises(UserError, match="gives 4 keypoints, but the skeleton coco has 17"):
        PoseEstimator.from_pretrained(tmp_path / "plain", skeleton="coco")

"""Exported models against the library, and what is wrong with damaged ones."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import numpy as np
import onnx
import pytest
from export_models import CONFIGS, forecaster, pose_model
from onnx import numpy_helper

from vitpose_jax.cli import main
from vitpose_jax.errors import UserError
from vitpose_jax.export import certificate as certify
from vitpose_jax.export.writing import DTYPES, export_forecaster, export_pose
from vitpose_jax.files.digests import sha256
from vitpose_jax.inference.artefact import PROGRAM_FILE, description_of
from vitpose_jax.inference.estimator import PoseEstimator
from vitpose_jax.inference.exported import load_exported
from vitpose_jax.inference.model_network import ModelNetwork
from vitpose_jax.models.experts import with_one_expert
from vitpose_jax.weights import save_forecaster, save_pose_model

RUNTIMES = ("onnx", "stablehlo")
SLOW_SIZES = ("small", "base")


def edit_description(path: Path, **changes: object) -> None:
    values = json.loads(description_of(path).read_text())
    description_of(path).write_text(json.dumps(values | changes))


def copy_of(path: Path, folder: Path) -> Path:
    """A copy that a test may spoil."""
    for file in (path, description_of(path)):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder / path.name


STABLEHLO = ("classic", "experts", "detail")  # each takes seconds to compile


@pytest.mark.parametrize(
    ("name", "runtime"),
    [*((name, "onnx") for name in CONFIGS), *((name, "stablehlo") for name in STABLEHLO)],
)
def test_an_exported_model_gives_the_librarys_keypoints(name: str, runtime: str, exported) -> None:
    estimator = PoseEstimator.from_exported(exported(name, runtime), keep_heatmaps=True)
    reference = ModelNetwork(pose_model(name), keep_heatmaps=True)
    assert estimator.skeleton == reference.skeleton
    assert (estimator.input_size, estimator.network.heatmap_size) == ((64, 48), (16, 12))
    people = certify.probe_people((64, 48))
    more = {key: np.concatenate([value, value[::-1] * 1]) for key, value in people.items()}
    more["center"] = more["center"] + np.arange(8).reshape(4, 2).astype(np.float32)
    results = [np.asarray(array) for array in reference.run(**more)]
    for size in (1, 4) if runtime == "onnx" else (3,):  # the batch's size is symbolic
        inputs = {key: value[:size] for key, value in more.items()}
        found = [np.asarray(array) for array in estimator.network.run(**inputs)]
        xy, scores, heatmaps = (array[:size] for array in results)
        assert [array.dtype for array in found] == [np.float32] * 3
        largest = np.abs(heatmaps).max()
        assert np.abs(found[2] - heatmaps).max() < 1e-5 * largest
        assert np.abs(found[1] - scores).max() < 1e-5 * largest
        steady = certify.steady_keypoints(heatmaps, "udp")
        assert steady.mean() > 0.7
        assert np.abs(found[0] - xy)[steady].max() < 0.02


@pytest.mark.parametrize("kind", ["forecaster", "predictor"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exported_forecaster_gives_the_librarys_future(
    kind: str, runtime: str, tmp_path: Path
) -> None:
    model, path = forecaster(kind), tmp_path / f"model.{runtime}"
    values = export_forecaster(model, path, runtime, source=kind)
    assert values["certificate"]["largest_future_deviation"] < 1e-5
    artefact, run = load_exported(path)
    rng = np.random.default_rng(0)
    observed = rng.uniform(0, 1000, (3, 10, 17, 2)).astype(np.float32)
    visible = rng.random((3, 10, 17)) > 0.3
    visible[0, :, 4] = visible[1] = False  # a joint, and a person, who is never seen
    (future,) = run({"observed": observed, "visible": visible}, ["future"])
    expected = np.asarray(model.forecast(observed, visible))
    assert np.abs(np.asarray(future) - expected).max() < 1e-5 * np.abs(expected).max()
    assert set(certify.check_probe(artefact, run)) == {"future"}
    with pytest.raises(UserError, match="holds a forecaster, not a pose model"):
        PoseEstimator.from_exported(path)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_network_alone(runtime: str, tmp_path: Path) -> None:
    model, path = pose_model("simple"), tmp_path / f"alone.{runtime}"
    values = export_pose(model, path, runtime, source="simple", alone=True)
    assert values["certificate"]["largest_heatmaps_deviation"] < 1e-5
    artefact, run = load_exported(path)
    images = np.random.default_rng(0).standard_normal((2, 64, 48, 3), np.float32)
    (heatmaps,) = run({"images": images}, ["heatmaps"])
    np.testing.assert_allclose(heatmaps, model(images), rtol=1e-4, atol=1e-5)
    assert certify.check_probe(artefact, run)["maxima"] < 1e-5
    with pytest.raises(UserError, match="export the pose model without --heatmaps"):
        PoseEstimator.from_exported(path)


@pytest.mark.parametrize(("runtime", "dtype"), [("onnx", "float16"), ("stablehlo", "bfloat16")])
def test_half_precision(runtime: str, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / f"half.{runtime}"
    values = export_pose(pose_model("classic"), path, runtime, source="x", dtype=dtype)
    certificate = values["certificate"]
    limit = {"float16": 0.01, "bfloat16": 0.1}[dtype]
    assert 1e-5 < certificate["largest_heatmaps_deviation"] < limit  # from the library in float32
    whole = sum(x.nbytes for x in jax.tree.leaves(jax.tree.map(np.asarray, _arrays("classic"))))
    assert path.stat().st_size < 0.6 * whole + 200_000
    assert dtype in DTYPES[runtime]
    certify.check_probe(*load_exported(path))


def _arrays(name: str):
    from flax import nnx

    return nnx.to_pure_dict(nnx.state(pose_model(name)))


def test_one_expert_is_the_model_of_its_data_set(exported) -> None:
    model = pose_model("experts")
    plain = with_one_expert(model)
    assert plain.config.backbone.num_experts == 0
    images = np.random.default_rng(0).standard_normal((2, 64, 48, 3), np.float32)
    np.testing.assert_allclose(plain(images), model(images), rtol=1e-4, atol=1e-5)
    names = {i.name for i in onnx.load(exported("experts", "onnx")).graph.initializer}
    assert not any("experts" in name for name in names)
    model.config = type(model.config)(model.config.backbone, model.config.decoder)
    with pytest.raises(UserError, match=r"an expert for each data set: choose one \(--dataset\)"):
        with_one_expert(model)


def test_stablehlo_keeps_to_operations_with_a_promise(exported) -> None:
    with zipfile.ZipFile(exported("classic", "stablehlo")) as archive:
        program = jax.export.deserialize(bytearray(archive.read(PROGRAM_FILE)))
    assert program.platforms == ("cpu", "cuda", "tpu")
    called = set(re.findall(r"custom_call @(\w+)", program.mlir_module()))
    assert called <= {"shape_assertion"}  # JAX's own check of the batch's size


def test_onnx_file_is_plain(exported) -> None:
    model = onnx.load(exported("classic", "onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]
    shapes = {i.name: i.type.tensor_type.shape.dim[0].dim_param for i in model.graph.input}
    assert shapes == dict.fromkeys(("crops", "center", "scale"), "batch")
    kinds = {node.op_type for node in model.graph.node}
    assert {"LayerNormalization", "Softmax", "ConvTranspose"} <= kinds
    names = {i.name for i in model.graph.initializer}
    assert "backbone.blocks.0.attn.qkv.kernel" in names


def test_onnx_needs_no_jax(exported, photos: Path, tmp_path: Path) -> None:
    picture = sorted(photos.iterdir())[0]
    words = ["predict", str(picture), "--weights", str(exported("classic", "onnx"))]
    words += ["--detector", "none", "--out", str(tmp_path), "--draw", "--heatmaps"]
    code = f"import sys; from vitpose_jax.cli import main; status = main({words!r}); "
    code += "heavy = [m for m in sys.modules if m.split('.')[0] in ('jax', 'flax', 'jaxlib')]; "
    code += "print(status, heavy)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "ONNX Runtime CPU, float32" in done.stdout
    assert (tmp_path / "heatmaps" / f"{picture.stem}.jpg").exists()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_predict_gives_what_the_weights_give(
    runtime: str, exported, photos: Path, tmp_path: Path
) -> None:
    save_pose_model(pose_model("classic"), tmp_path / "weights")
    pictures = [str(path) for path in sorted(photos.iterdir())[:3]]
    found = {}
    for name, weights in (("own", tmp_path / "weights"), ("file", exported("classic", runtime))):
        out = tmp_path / name
        words = [*pictures, "--weights", str(weights), "--detector", "none", "--out", str(out)]
        assert main(["predict", *words]) == 0
        found[name] = json.loads((out / "keypoints.json").read_text())
    for own, other in zip(found["own"], found["file"], strict=True):
        apart = np.abs(np.array(own["keypoints"]) - other["keypoints"]).reshape(-1, 3)
        assert np.median(apart[:, :2]) < 0.02
        assert apart[:, 2].max() < 1e-4


def test_options_that_are_built_in_are_refused(exported) -> None:
    path = exported("classic", "onnx")
    same = PoseEstimator.from_pretrained(path, dtype="float32", flip_test=True, method="udp")
    assert same.batch_size == 8
    for name, value in (
        ("flip_test", False),
        ("dtype", "bfloat16"),
        ("method", "dark"),
        ("input_size", (256, 192)),
        ("dataset", "coco"),
        ("num_heads", 3),
    ):
        with pytest.raises(UserError, match="leave it out, or export again"):
            PoseEstimator.from_pretrained(path, **{name: value})


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_changed_weight_fails_the_certificate(runtime: str, exported, tmp_path: Path) -> None:
    path = copy_of(exported("classic", runtime), tmp_path)
    name = "decoder.final.kernel"
    if runtime == "onnx":
        model = onnx.load(path)
        (kernel,) = [i for i in model.graph.initializer if i.name == name]
        array = numpy_helper.to_array(kernel).copy()
        array[3, 5] += 0.5
        kernel.CopyFrom(numpy_helper.from_array(array, name))
        path.write_bytes(model.SerializeToString())
    else:
        from safetensors.numpy import load, save

        with zipfile.ZipFile(path) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        arrays = load(parts["weights.safetensors"])
        arrays[name][3, 5] += 0.5
        with zipfile.ZipFile(path, "w") as archive:
            for part, data in (parts | {"weights.safetensors": save(arrays)}).items():
                archive.writestr(part, data)
    edit_description(path, size=path.stat().st_size)
    with pytest.raises(UserError, match="its bytes are not those of its certificate"):
        PoseEstimator.from_exported(path)
    assert main(["export", "--verify", str(path)]) == 2
    # Even somebody who writes the new digest into the description is found out by running it.
    edit_description(path, sha256=sha256(path))
    PoseEstimator.from_exported(path)
    with pytest.raises(UserError, match=r"(scores|keypoints) on the probe are .* it was changed"):
        certify.check_probe(*load_exported(path))


def test_what_is_wrong_with_a_file_is_told(exported, tmp_path: Path) -> None:
    path = copy_of(exported("classic", "onnx"), tmp_path)
    whole = path.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match):
            PoseEstimator.from_exported(path)

    path.write_bytes(whole[:-1000])
    refused(r"bytes, but classic.onnx.json says \d+: it was cut off")
    path.write_bytes(whole)
    edit_description(path, format_version=2)
    refused(r"is in version 2 of the format, but this vitpose-jax reads version 1; export again")
    edit_description(path, format_version=1, format="other")
    refused("not the description of a model that `vitpose export` wrote")
    edit_description(path, format="vitpose_jax export", skeleton={"name": "x"})
    refused("skeleton: keypoint_names is missing")
    edit_description(path, skeleton=None)
    refused("skeleton is missing or not of type dict")
    edit_description(path, holds="cat")
    refused("nothing that `vitpose export` writes")
    description_of(path).write_text("{")
    refused("is not JSON")
    description_of(path).unlink()
    refused("its description classic.onnx.json is missing; copy it")
    path.unlink()
    refused("no such file")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_rubbish_with_the_right_digest(runtime: str, exported, tmp_path: Path) -> None:
    """What the runtimes themselves cannot read, and are not to crash on."""
    path = copy_of(exported("classic", runtime), tmp_path)
    for data in (b"", b"rubbish", path.read_bytes()[:5000]):
        path.write_bytes(data)
        edit_description(path, size=len(data), sha256=sha256(path))
        with pytest.raises(UserError, match="cannot load it"):
            PoseEstimator.from_exported(path)


def test_the_command(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture) -> None:
    weights, out = tmp_path / "weights", tmp_path / "new" / "model.stablehlo"
    save_pose_model(pose_model("classic"), weights)
    pictures = [str(path) for path in sorted(photos.iterdir())[:2]]
    words = ["export", str(weights), "--to", "stablehlo", "--no-flip-test", "--decoder", "dark"]
    assert main([*words, "--out", str(out), "--pictures", *pictures]) == 0
    assert "largest deviation from the library" in capsys.readouterr().out
    values = json.loads(description_of(out).read_text())
    assert (values["flip_test"], values["decoder"]) == (False, "dark")
    assert values["certificate"]["pictures"] == pictures
    assert values["weights"] == str(weights)
    assert values["made_with"]["jax"] == jax.__version__
    assert main(["export", "--verify", str(out)]) == 0
    assert "its results are those of its certificate" in capsys.readouterr().out
    assert sorted(os.listdir(out.parent)) == ["model.stablehlo", "model.stablehlo.json"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["W", "--to", "onnx", "--out", "model.pb"], "must end in .onnx"),
        (["W", "--to", "onnx", "--out", "m.onnx", "--dtype", "bfloat16"], "float32, float16"),
        (["W"], "give what to export and --out"),
        (["nothing", "--out", "x"], "no such file or folder"),
        (["--verify", "nothing.onnx"], "no such file"),
        (["W", "--dataset", "hands", "--out", "x"], "no data set 'hands'"),
        (["m.onnx", "--out", "x"], "is exported already"),
        (["F", "--to", "onnx", "--out", "f.onnx", "--heatmaps"], "is a forecaster"),
    ],
)
def test_mistakes(
    words: list[str], told: str, tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    save_pose_model(pose_model("simple"), "W")
    save_forecaster(forecaster("predictor"), "F")
    assert main(["export", *words]) == 2
    assert told in capsys.readouterr().err
    assert set(os.listdir()) == {"W", "F"}


def test_weights_of_weights(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_pose_model(pose_model("simple"), "W")
    save_forecaster(forecaster("predictor"), "F")
    for name in ("W", "F"):
        assert main(["export", name, "--out", f"{name}2"]) == 0
        files = {file.name: file.read_bytes() for file in Path(f"{name}2").iterdir()}
        assert files == {file.name: file.read_bytes() for file in Path(name).iterdir()}


def test_without_the_extra_onnx_is_asked_for(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", "W", "--to", "onnx", "--out", str(tmp_path / "m.onnx")]) == 2
    assert "pip install 'vitpose-jax[onnx]'" in capsys.readouterr().err


def test_tiny_with_the_originals_weights(weights: Path, photos: Path, tmp_path: Path) -> None:
    """The original's tiny network on photographs, by both runtimes."""
    from vitpose_jax.weights import load_pose_model

    model = load_pose_model(weights, num_heads=3, dataset="coco")
    pictures = [(str(path), None) for path in sorted(photos.iterdir())[:4]]
    for runtime in RUNTIMES:
        path = tmp_path / f"tiny.{runtime}"
        values = export_pose(model, path, runtime, source="tiny", pictures=pictures)
        _is_close(values["certificate"])


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("size", SLOW_SIZES)
def test_published_sizes(size: str, runtime: str, photos: Path, tmp_path: Path) -> None:
    from export_models import lively
    from flax import nnx

    from vitpose_jax.models.decoders import DecoderConfig
    from vitpose_jax.models.pose import PoseConfig, PoseModel
    from vitpose_jax.models.vit import VIT_SIZES

    backbone = VIT_SIZES[size]
    config = PoseConfig(backbone, DecoderConfig(in_channels=backbone.width), dataset="coco")
    model = lively(PoseModel(config, rngs=nnx.Rngs(0)))
    pictures = [(str(path), None) for path in sorted(photos.iterdir())[:4]]
    path = tmp_path / f"{size}.{runtime}"
    values = export_pose(model, path, runtime, source=size, pictures=pictures)
    print(size, runtime, {k: v for k, v in values["certificate"].items() if k != "probe"})
    _is_close(values["certificate"])
    certify.check_probe(*load_exported(path))


def _is_close(certificate: dict) -> None:
    assert certificate["largest_heatmaps_deviation"] < 1e-4
    assert certificate["largest_scores_deviation"] < 1e-4
    assert certificate["largest_pixels"] < 0.02
    assert certificate["steady_keypoints"] > 0.5 * certificate["keypoints"]

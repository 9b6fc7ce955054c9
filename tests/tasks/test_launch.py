"""What the training commands do with what was typed: configurations, weights, folders, resuming."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_config
from flax import nnx

from vitpose_jax.cli import main
from vitpose_jax.errors import UserError
from vitpose_jax.models.decoders import DecoderConfig
from vitpose_jax.models.pose import PoseConfig, PoseModel
from vitpose_jax.models.vit import VIT_SIZES, ViTConfig
from vitpose_jax.tasks.configuration import change, load_configuration, make_configuration
from vitpose_jax.tasks.recipes import LAYER_DECAY
from vitpose_jax.training.metrics_log import read_metrics
from vitpose_jax.weights import save_pose_model
from vitpose_jax.weights.native import Stored, parameter_shapes, write_folder

TINY = Path(tiny_config.__file__)
BACKBONE = ViTConfig(width=32, depth=2, num_heads=1, input_size=(64, 48), layer_norm_eps=1e-12)
DECODER = DecoderConfig("simple", 17, 32, ())
SHORT = ("epochs=0", "steps=2", "eval_every=2", "checkpoint_every=1", "batch_size=4")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small pose model with its own shape."""
    folder = tmp_path_factory.mktemp("weights")
    model = PoseModel(PoseConfig(BACKBONE, DECODER, dataset="coco"), rngs=nnx.Rngs(3))
    save_pose_model(model, folder)
    return str(folder)


def of_size(name: str, folder: Path) -> str:
    """Weights of a published size, all zero."""
    config = PoseConfig(VIT_SIZES[name], DecoderConfig("simple", 17, VIT_SIZES[name].width))
    shapes = parameter_shapes(config)
    write_folder(Stored(config, {k: np.zeros(v, np.float32) for k, v in shapes.items()}), folder)
    return str(folder)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("batch_size=4", "batch_size", 4),
        ("optimizer.lr=3", "optimizer.lr", 3.0),
        ("config.eval_first=True", "eval_first", True),
        ("eval_first=0", "eval_first", False),
        ("frozen=backbone,neck", "frozen", ("backbone", "neck")),
        ("frozen=('backbone',)", "frozen", ("backbone",)),
        ("frozen=backbone", "frozen", ("backbone",)),
        ("frozen=", "frozen", ()),
        ("schedule.milestones=3,4.5", "schedule.milestones", (3, 4.5)),
        ("schedule.milestones=3", "schedule.milestones", (3,)),
        ("optimizer.clip_norm=none", "optimizer.clip_norm", None),
        ("steps=20", "steps", 20),
        ("init_from=a=b,c", "init_from", "a=b,c"),
        ("model.neck={'kind': 'simple'}", "model.neck.kind", "simple"),
    ],
)
def test_a_value_is_read_as_the_type_it_replaces(text: str, name: str, value: object) -> None:
    config = load_configuration("vitpose:synthetic")
    change(config, [text])
    found = config
    for part in name.split("."):
        found = found[part]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr=1", "config.lr=1: the configuration has no such value; did you mean config.optimizer"),
        ("optimiser.lr=1", "did you mean config.optimizer.lr?"),
        ("batchsize=1", "did you mean config.batch_size?"),
        ("modle.backbone.depth=3", "did you mean config.model.backbone.depth?"),
        ("steps.x=1", "has no such value"),
        ("batch_size=4.5", "must be of type int, like 512"),
        ("eval_first=perhaps", "must be of type bool"),
        ("optimizer=adamw", "is a section; set one of optimizer.b2, optimizer.clip_norm"),
    ],
)
def test_a_wrong_change_names_the_remedy(text: str, words: str) -> None:
    config = load_configuration("vitpose:synthetic")
    before = config.to_json()
    with pytest.raises(UserError) as refused:
        change(config, [text])
    assert words in str(refused.value)
    assert config.to_json() == before


def test_the_data_set_may_be_named_apart(tmp_path: Path) -> None:
    assert load_configuration("vitpose:large", "a/b").data == "a/b"
    assert load_configuration("fpn:simple", "a/b").data == "a/b"
    assert load_configuration("forecast_3dpw", "synthetic").input == "synthetic"
    assert load_configuration("lspet_small", "synthetic").steps == 4000
    with pytest.raises(UserError, match="given twice: 'synthetic' and 'a/b'"):
        load_configuration("fpn_dense:synthetic", "a/b")
    (tmp_path / "mine.py").write_text(
        "from vitpose_jax.tasks.recipes import original_recipe\n"
        "def get_config():\n    return original_recipe('small', 'theirs')\n"
    )
    assert load_configuration(str(tmp_path / "mine.py"), "a/b").data == "a/b"


def test_everything_missing_is_told_together(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["vitpose:simple", f"val_data={tmp_path}/val", "eval.boxes=none.json"]
    given = ["--data", f"{tmp_path}/train", "--weights", "./gone.pth"]
    assert main(["train", *words, *given, "--workdir", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    for line, part in zip(lines, ("none.json", "train", "val", "gone.pth"), strict=True):
        assert line.startswith("vitpose train: ")
        assert part in line
    assert not (tmp_path / "run").exists()


def test_the_weights_decide_the_shape(weights: str, tmp_path: Path) -> None:
    config = make_configuration("vitpose:synthetic", weights=weights)
    backbone = ViTConfig(**config.model.backbone)
    assert replace(backbone, drop_path_rate=0) == BACKBONE
    assert (config.model.decoder.kind, config.model.decoder.filters) == ("simple", ())
    assert config.optimizer.layer_decay == LAYER_DECAY["base"]
    large = make_configuration("vitpose:synthetic", weights=of_size("small", tmp_path))
    assert (
        large.model.backbone.to_dict()
        == load_configuration("vitpose:small").model.backbone.to_dict()
    )
    assert large.optimizer.layer_decay == LAYER_DECAY["small"]
    pyramid = make_configuration("fpn_dense:synthetic", [f"init_from={weights}"])
    assert pyramid.model.backbone.width == 32
    assert pyramid.model.decoder.kind == "classic"  # it is the study's, and learnt anew


def test_what_is_given_prevails_over_the_weights(weights: str) -> None:
    changes = ["model.backbone.drop_path_rate=0.1", "model.decoder.filters=8,8"]
    config = make_configuration("vitpose:classic,synthetic", changes, weights=weights)
    assert config.model.decoder.to_dict() == {"kind": "classic", "filters": (8, 8)}
    assert config.model.backbone.width == 32
    assert config.model.backbone.drop_path_rate == 0.1
    named = make_configuration("vitpose:large,synthetic", weights=weights)
    assert named.model.backbone.width == 1024  # refused when the weights are loaded


@pytest.fixture(scope="module")
def run(weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps, fine-tuned from the weights."""
    folder = tmp_path_factory.mktemp("run") / "w"
    changes = [*SHORT, "dtype=float32", "eval.metrics=pck_box", "eval.flip_test=false"]
    data = ["--data", "synthetic-solo", "--weights", weights]
    assert main(["train", *data, *changes, "--workdir", str(folder), "eval.batch_size=32"]) == 0
    return folder


def test_fine_tuning_needs_no_configuration(run: Path) -> None:
    stored = json.loads((run / "config.json").read_text())
    assert stored["model"]["backbone"]["width"] == 32
    assert [row["step"] for row in read_metrics(run) if "eval/PCK_box" in row] == [2]


def test_a_run_is_resumed_by_itself_and_made_longer(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(shutil.copytree(run, tmp_path / "w"))
    monkeypatch.setattr("vitpose_jax.tasks.pose.load_weights_into", None)  # they are not needed
    assert main(["train", "--resume", folder]) == 0
    assert "this run is finished; raise config.steps" in capsys.readouterr().err
    assert main(["train", "--resume", folder, "steps=3", "eval_every=3"]) == 0
    said = capsys.readouterr().err
    assert "config.steps was 2 and is now 3" in said
    assert "config.eval_every was 2.0, now 3.0" in said
    evaluated = [row["step"] for row in read_metrics(Path(folder)) if "eval/PCK_box" in row]
    assert evaluated == [2, 3]
    stored = [json.loads((place / "config.json").read_text()) for place in (run, Path(folder))]
    assert stored[0] | {"steps": 3, "eval_every": 3.0} == stored[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps=1"], "steps was 2, now 1. A run can be made longer, not shorter"),
        (["optimizer.lr=1"], "optimizer.lr was 0.0005, now 1.0"),
        (["epochs=3", "steps=0"], "steps was 2, now 0"),
        (["steps=3", "seed=7"], "seed was 0, now 7"),
        (["vitpose"], "takes the run's own configuration; leave out vitpose"),
        (["--data", "x"], "leave out --data"),
    ],
)
def test_what_a_run_cannot_become_is_refused(
    run: Path, words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    before = (run / "config.json").read_bytes()
    assert main(["train", "--resume", str(run), *words]) == 2
    assert said in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before


def test_runs_and_weights_are_measured(
    run: Path, weights: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["eval", str(run), "eval.batch_size=64"]) == 0
    assert "PCK_box" in capsys.readouterr().out
    measured = json.loads((run / "evaluation.json").read_text())["metrics"]
    assert measured["PCK_box"] == pytest.approx(read_metrics(run)[-1]["eval/PCK_box"], abs=1e-3)
    options = ["--weights", weights, "--data", "synthetic-solo", "eval.metrics=pck_box"]
    options += ["dtype=float32", "eval.flip_test=false"]
    assert main(["eval", *options, "--workdir", str(tmp_path / "e")]) == 0
    assert (tmp_path / "e/evaluation.json").exists()
    assert main(["eval", *options, "--workdir", str(run)]) == 2
    assert "is a run, whose own evaluation" in capsys.readouterr().err
    assert main(["eval", str(run), "--weights", weights]) == 2


def test_nothing_to_train_or_measure(capsys: pytest.CaptureFixture) -> None:
    assert main(["train"]) == 2
    assert "give a configuration: one of forecast_3dpw, forecast_somof, " in capsys.readouterr().err
    assert main(["train", "vitpose", "fpn"]) == 2
    assert "give one configuration" in capsys.readouterr().err
    assert main(["train", "--resume", "nowhere"]) == 2
    assert "nowhere is not a training run" in capsys.readouterr().err
    assert main(["eval"]) == 2
    assert "give the folder of a run, or --weights" in capsys.readouterr().err

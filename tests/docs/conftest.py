"""A small world for the commands of the pages: everything that they name, in a tiny version."""

import importlib
import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

import vitpose_jax as api
from vitpose_jax import cli
from vitpose_jax import main as training_script
from vitpose_jax.data.synthetic.dataset import NUM_SCENES
from vitpose_jax.data.synthetic.scene import render_scene
from vitpose_jax.files.videos import VideoWriter
from vitpose_jax.models.vit import VIT_SIZES
from vitpose_jax.tasks import run as tasks_run
from vitpose_jax.weights import hub, zoo
from vitpose_jax.weights.original import HEADS_OF_WIDTH

REPOSITORY = Path(__file__).parents[2]
EXPERTS = 6


def tiny_model(simple: bool, experts: bool) -> api.PoseModel:
    """A network like a published one, 24 wide; classic decoders keep transformers' filters."""
    backbone = api.ViTConfig(24, 1, 3)
    if experts:
        backbone = replace(backbone, num_experts=EXPERTS, part_features=6)
    decoder = api.DecoderConfig("simple" if simple else "classic", in_channels=24)
    return api.PoseModel(api.PoseConfig(backbone, decoder, dataset="coco"), rngs=nnx.Rngs(0))


def write_pictures(folder: Path) -> None:
    """people.jpg, photos/ and clip.mp4: on each a drawn person, and something bright to detect."""
    scenes = [render_scene(np.random.default_rng([3, i])).pixels for i in range(2)]
    (folder / "photos").mkdir()
    for name, pixels in zip(("photos/first.jpg", "photos/second.jpg"), scenes, strict=True):
        Image.fromarray(pixels).save(folder / name)
    shutil.copy(folder / "photos/first.jpg", folder / "people.jpg")
    box = {"bbox": [40, 30, 120, 200], "score": 0.9, "category_id": 1}
    boxes = [box | {"file_name": name} for name in ("people.jpg", "first.jpg", "second.jpg")]
    boxes = [one | {"image_id": i} for i, one in enumerate(boxes)]
    (folder / "person_detections.json").write_text(json.dumps(boxes))
    with VideoWriter(folder / "clip.mp4", 30) as writer:
        for index in range(14):
            frame = np.zeros((160, 200, 3), np.uint8)
            frame[30:140, 40 + 3 * index : 90 + 3 * index] = 250
            writer.write(frame)


@pytest.fixture(scope="session")
def world_template(
    tmp_path_factory: pytest.TempPathFactory,
    bright_rectangle_detector: Callable[..., Path],
    make_coco_folder: Callable[..., Path],
) -> Path:
    """What `world` is a copy of."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("world")
    write_pictures(folder)
    make_coco_folder(folder / "mydata")
    make_coco_folder(folder / "coco")
    bright_rectangle_detector(folder / "detector.onnx")
    api.save_pose_model(tiny_model(simple=False, experts=False), folder / "weights/vitpose-b")
    forecaster = api.ForecasterConfig(width=8, num_heads=2, readout_width=8, readout_depth=1)
    api.save_forecaster(api.Forecaster(forecaster, rngs=nnx.Rngs(0)), folder / "weights/forecaster")
    for name in zoo.POSE_MODELS:
        ours = folder / "ours" / name
        api.save_pose_model(tiny_model("simple" in name, "plus" in name), ours)
        assert cli.main(["convert", str(ours), "--out", str(folder / "hub" / name)]) == 0
    original = ["convert", str(folder / "weights/vitpose-b"), "--out"]
    assert cli.main([*original, str(folder / "vitpose-b.pth")]) == 0
    shutil.rmtree(folder / "ours")
    return folder


@pytest.fixture
def world(
    world_template: Path, hub_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The working directory of a page: pictures, data and weights under the names pages use.

    It has people.jpg, photos/, clip.mp4, person_detections.json, detector.onnx, mydata/ (in COCO's
    layout), vitpose-b.pth, weights/vitpose-b and weights/forecaster, and the checkout's configs/,
    convert/ and experiments/. $COCO_DIR is a tiny COCO. Every published model and detector is in
    the cache, every size of network is tiny, and every training ends after a step.
    """
    folder = tmp_path / "world"
    shutil.copytree(world_template, folder)
    for name in ("configs", "convert", "experiments"):
        (folder / name).symlink_to(REPOSITORY / name)
    published = [(zoo.POSE_MODELS, model) for model in zoo.POSE_MODELS.values()]
    published += [(zoo.DETECTORS, model) for model in zoo.DETECTORS.values()]
    for table, model in published:
        for file in model.files:
            here = folder / ("detector.onnx" if file.endswith(".onnx") else f"hub/{model.name}")
            place = hub.snapshot_folder(model) / file
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(here if here.is_file() else here / file, place)
        monkeypatch.setitem(table, model.name, replace(model, sha256=None))
    shutil.rmtree(folder / "hub")
    for size, config in VIT_SIZES.items():
        tiny = replace(config, width=24, depth=1, num_heads=3)
        monkeypatch.setitem(VIT_SIZES, size, tiny)
    monkeypatch.setitem(HEADS_OF_WIDTH, 24, 3)
    whole = tasks_run.train
    monkeypatch.setattr(tasks_run, "train", lambda config, place: whole(shortened(config), place))
    monkeypatch.setitem(NUM_SCENES, "val", 8)
    monkeypatch.setenv("COCO_DIR", str(folder / "coco"))
    monkeypatch.setenv("VITPOSE_COMPILATION_CACHE", "off")
    monkeypatch.chdir(folder)
    optimisations = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)  # compiling takes longer than running
    yield folder
    jax.config.update("jax_disable_most_optimizations", optimisations)


def shortened(config):
    """The configuration, ending after one step of four samples."""
    config.epochs, config.steps, config.batch_size = None, 1, 4
    config.eval_every = config.checkpoint_every = config.log_every = 1
    config.schedule.update(milestones=(), warmup_steps=0)
    if config.task == "pose" and not config.init_from:
        config.model.backbone.update(width=24, depth=1, num_heads=3)
        config.model.decoder.filters = (8, 8)
    return config


INSTALLATION = re.compile(r"python3 -m venv|\. \.venv|pip install|git clone|cd |pytest|tensorboard")
"""Commands that change or test the environment: what they say is checked, but they do not run."""


@pytest.fixture
def run_line(world: Path) -> Callable[[str], None]:
    """Run one line of a ```bash block in this process; it must succeed."""

    def run_line(line: str) -> None:
        for command in line.split(" && "):
            words = shlex.split(command, comments=True)
            if not words:
                continue
            if INSTALLATION.match(command.strip()):
                check_installation(words)
                continue
            if "--resume" not in words:  # the lines of a block are alternatives, each the first
                shutil.rmtree("predictions", ignore_errors=True)
            assert entry_point(words) in (0, None), f"failed: {command}"
            for written in re.findall(r"--(?:out|html|workdir)[ =](\S+)", command):
                assert Path(written).exists(), f"{command} did not write {written}"

    return run_line


def entry_point(words: list[str]) -> int:
    """The exit status of a command of ours."""
    match words:
        case ["vitpose", *rest]:
            return cli.main(rest)
        case ["python", "-m", "vitpose_jax.main", *rest]:
            return training_script.main(rest)
        case ["python", "-m", module, *rest] if module.startswith("vitpose_jax."):
            return importlib.import_module(module).main(rest)
        case ["python", script, *rest] if Path(script).exists():
            name = script.removesuffix(".py").replace("/", ".")
            name = name if name.startswith("experiments") else f"vitpose_jax.{name}"
            return importlib.import_module(name).main(rest)
    raise AssertionError(f"this is no command of ours: {shlex.join(words)}")


def check_installation(words: list[str]) -> None:
    """Every extra that pip is told to install exists."""
    declared = re.search(
        r"optional-dependencies\](.*?)\n\[", (REPOSITORY / "pyproject.toml").read_text(), re.S
    )
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert re.search(rf"^{extra} = ", declared[1], re.M), f"no extra {extra}"

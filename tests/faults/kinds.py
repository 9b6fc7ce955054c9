"""The kinds of input: what a sound one looks like, and what reads it."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import bombs, sound
from tests.faults.damage import CUT, WRONG_TYPE
from tests.faults.judge import Action


@dataclass(frozen=True)
class Kind:
    """A kind of input.

    Attributes:
        write: writes the sound input of a variant into a folder.
        act: reads it, as a command or a library's reader.
        share: how many of a hundred inputs are of this kind.
        variants: how many sound inputs there are.
        files: which of its files are damaged, as a glob.
        noticed: damage after which another value without a word is silently wrong.
        agrees: whether a value read is right, given the sound one's.
    """

    write: Callable[[Path, int], None]
    act: Action
    share: int
    variants: int = 1
    files: str = "**/*"
    noticed: frozenset[str] = frozenset({CUT})
    agrees: Callable[[Any, Any], bool] = field(default=lambda value, right: value == right)


def digest(*arrays: Any) -> str:
    """A short hash of arrays and of plain values."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def _only(folder: Path) -> Path:
    return next(path for path in sorted(folder.iterdir()) if path.is_file())


def read_picture(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.files.native_messages import native_messages
    from vitpose_jax.files.pictures import load_image, picture_size

    with native_messages(), contextlib.suppress(ValueError):
        picture_size(_only(folder))
    with native_messages():
        return 0, digest(load_image(_only(folder)))


def read_video(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.files.videos import VideoReader

    with VideoReader(_only(folder)) as reader:
        count = sum(1 for _ in zip(reader, range(2000), strict=False))
        return int(bool(reader.problems)), count


def predict(folder: Path) -> tuple[int, Any]:
    """`vitpose predict` on a damaged file beside a sound one, whose poses must not change."""
    from vitpose_jax.cli import main

    weights, out = folder.parent / "weights" / "w", folder.with_suffix(".out")
    words = [str(folder), "--weights", str(weights), "--out", str(out), "--draw", "--overwrite"]
    status = main(["predict", *words, "--detector", "none", "--batch-size", "4"])
    results = json.loads((out / "keypoints.json").read_text()) if status < 2 else []
    return status, [r["keypoints"] for r in results if r["file_name"] == "sound.png"]


def write_predicted(folder: Path, variant: int) -> None:
    from PIL import Image

    count = len(sound.PICTURES)
    writer = sound.write_picture if variant < count else sound.write_video
    writer(folder, variant % count if variant < count else variant - count)
    (folder / "damaged").mkdir()
    _only(folder).rename(folder / "damaged" / _only(folder).name)
    Image.fromarray(sound.pixels()).save(folder / "sound.png")


def predict_beside(folder: Path) -> tuple[int, Any]:
    for path in (folder / "damaged").iterdir():
        path.rename(folder / path.name)
    return predict(folder)


def read_dataset(folder: Path) -> tuple[int, Any]:
    """What `vitpose check` and training read."""
    from vitpose_jax.data.checking import open_splits

    datasets, notes = open_splits(str(folder), (64, 48), "")
    told = any(dataset.report is not None and dataset.report.by_kind() for dataset in datasets)
    columns = [column for data in datasets for column in data.people.columns().values()]
    return int(told or bool(notes)), digest(*columns)


def check(folder: Path) -> tuple[int, Any]:
    """`vitpose check` on a data set, with its page."""
    from vitpose_jax.cli import main

    return main(["check", str(folder), "--html", str(folder.with_suffix(".html"))]), None


def read_records(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.data.opening import open_pose_dataset

    found = []
    for split in ("train", "val"):
        data = open_pose_dataset(str(folder / "records"), split, input_size=(32, 32))
        batch = data.crops().evaluation_batch(np.arange(len(data.people)))
        found += [batch["crop"], *data.people.columns().values()]
        if not batch["valid"].all():
            return 1, None
    return 0, digest(*found)


def read_boxes(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.inference.boxes import read_boxes

    file = read_boxes(folder / "boxes.json")
    rows = [box.row for boxes in file.boxes.values() for box in boxes]
    told = file.lost or file.left_out or not np.isfinite(rows).all()  # as `predict` says
    return int(bool(told)), digest(*rows)


def read_results(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.inference.keypoint_file import read_keypoints
    from vitpose_jax.keypoints.skeletons import SKELETONS

    frames, times = read_keypoints(folder / "keypoints.json", SKELETONS["coco"], None, 30)
    return 0, [len(frames), digest(times, *(p.keypoints for people in frames for p in people))]


def read_journal(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.inference.journal import read_journal

    return 0, [digest(*entry.rows) for entry in read_journal(folder / "keypoints.journal")[1]]


def is_beginning(value: Any, right: Any) -> bool:
    return value == right[: len(value)]


def check_weights(folder: Path) -> tuple[int, Any]:
    """What every command does with `--weights`; the width alone tells no number of heads."""
    from vitpose_jax.weights.checkpoint import Hints
    from vitpose_jax.weights.loading import load_stored

    arrays = load_stored(next(folder.glob("w*")), Hints(num_heads=2)).arrays
    return 0, digest(*(arrays[name] for name in sorted(arrays)))


def read_forecaster(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.weights.forecaster import load_forecaster

    load_forecaster(folder / "f")
    return 0, None


def read_sequence(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.data.motion import threedpw

    sequence = threedpw.read_sequence(_only(folder))
    tracks = [*threedpw.detection_tracks(sequence), *threedpw.projected_tracks(sequence)]
    return 0, digest(*(track.positions for track in tracks))


def read_metrics(folder: Path) -> tuple[int, Any]:
    from vitpose_jax.training.failures import Failures
    from vitpose_jax.training.metrics_log import MetricsLog, read_metrics

    before = read_metrics(folder)
    log = MetricsLog(folder, Failures(), start=20)
    log.write(21, {"train/loss": 0.5})
    log.close()
    return 0, len(before)


def restore(folder: Path) -> tuple[int, Any]:
    """What `vitpose export` and `vitpose eval` read of a run."""
    from vitpose_jax.training.checkpoints import read_parameters

    found = read_parameters(folder / "run" / "checkpoints", "latest", "error", False)[1]
    return 0, digest(*(found[name] for name in sorted(found)))


def write_words(folder: Path, variant: int) -> None:
    (folder / "words.txt").write_text(
        "vitpose:small,synthetic\nconfig.batch_size=8\nconfig.optimizer.lr=0.001\n"
        "config.model.backbone.input_size=(64, 48)\nconfig.schedule.milestones=(1,)\n"
        "config.model.decoder.kind=simple\nconfig.augmentation.shift=0.1\n"
    )


def configure(folder: Path) -> tuple[int, Any]:
    """A configuration's name and its `config.key=value`, as typed."""
    from vitpose_jax.tasks.configuration import make_configuration
    from vitpose_jax.tasks.pose_settings import PoseSettings
    from vitpose_jax.training.settings import RunSettings, read_part

    text = (folder / "words.txt").read_bytes().decode("utf-8", "surrogateescape")
    name, *changes = text.replace("\0", "").split("\n")
    config = make_configuration(name, [word for word in changes if word])
    read_part(RunSettings, config)
    read_part(PoseSettings, config)
    return 0, None


def write_names(folder: Path, variant: int) -> None:
    (folder / "name.txt").write_text("people on a beach (1).png")


def predict_name(folder: Path) -> tuple[int, Any]:
    """`vitpose predict` on a picture of a hostile name."""
    from PIL import Image

    name = (folder / "name.txt").read_bytes().replace(b"/", b"_").replace(b"\0", b"_")[:200]
    path = folder / (name.decode("utf-8", "surrogateescape").strip(".") or "x")
    with contextlib.suppress(OSError):
        Image.fromarray(sound.pixels()).save(path, format="PNG")
    (folder / "name.txt").unlink()
    return predict(folder)[0], None


def read_bomb(folder: Path) -> tuple[int, Any]:
    """What its text says: a command with default settings, or a reader."""
    from vitpose_jax.cli import main

    reads = (folder / "reads.txt").read_text()
    (folder / "reads.txt").unlink()
    if not reads.startswith("predict"):
        return {"weights": check_weights, "3dpw": read_sequence}[reads](folder)
    below = str(folder / "**" / "*") if reads == "predict below" else str(folder)
    words = [below, "--weights", str(folder.parent / "weights" / "w"), "--overwrite"]
    words += ["--out", str(folder.with_suffix(".out"))]
    boxes = ["--boxes", str(folder.parent / "boxes.json")]
    words += boxes if reads == "predict with boxes" else ["--detector", "none"]
    return main(["predict", *words]), None


JSON_DAMAGE = frozenset({CUT, WRONG_TYPE})
KINDS = {
    "pictures": Kind(sound.write_picture, read_picture, 20, len(sound.PICTURES)),
    "videos": Kind(sound.write_video, read_video, 12, len(sound.VIDEOS)),
    "predict": Kind(
        write_predicted,
        predict_beside,
        6,
        len(sound.PICTURES) + len(sound.VIDEOS),
        "damaged/*",
        frozenset({"any"}),
    ),
    "annotations": Kind(sound.write_coco, read_dataset, 9, 1, "**/*train*.json", JSON_DAMAGE),
    "check": Kind(sound.write_coco, check, 3, 1, "**/*train*.json"),
    "yolo": Kind(sound.write_yolo, read_dataset, 5, 1, "**/[d0]*.[ty]*"),
    "boxes": Kind(sound.write_boxes, read_boxes, 7, 1, "*.json", JSON_DAMAGE),
    "results": Kind(sound.write_results, read_results, 5, 1, "*.json", frozenset({CUT})),
    "journal": Kind(
        lambda folder, _: sound.write_results(folder, 1),
        read_journal,
        4,
        1,
        "*.journal",
        frozenset({"any"}),
        is_beginning,
    ),
    "weights": Kind(sound.write_weights, check_weights, 9, 3),
    "forecasters": Kind(sound.write_forecaster, read_forecaster, 3),
    "3dpw": Kind(sound.write_sequence, read_sequence, 6, 4),
    # A last row that is cut was being written when its process was killed.
    "metrics": Kind(sound.write_metrics, read_metrics, 2, noticed=frozenset()),
    "checkpoints": Kind(
        sound.write_run, restore, 4, 1, "run/checkpoints/30/**/*", frozenset({"any"})
    ),
    "records": Kind(sound.write_records, read_records, 3),
    "configurations": Kind(write_words, configure, 5),
    "bombs": Kind(bombs.write, read_bomb, 1, len(bombs.BOMBS)),
    "names": Kind(write_names, predict_name, 1),
}


def prepare_process() -> None:
    """What a process needs before it acts: the package is imported, and its logs go nowhere."""
    import jax
    import torch  # noqa: F401 (so that every child has it)

    import vitpose_jax.inference.estimator
    import vitpose_jax.tasks.run  # noqa: F401

    jax.config.update("jax_platforms", "cpu")
    logger = logging.getLogger("vitpose_jax")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False

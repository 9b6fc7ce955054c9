"""3DPW's sequences as a tensorflow-datasets data set, written and read without TensorFlow.

options = {"data_dir": "data/tfds", "file_format": "array_record"}
builder = ThreedpwMotion(source="data/3dpw", config="detections", **options)
builder.download_and_prepare()
tracks = [track_of(example) for example in builder.as_data_source("train")]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from vitpose_jax.data.motion.sources import INPUTS, open_tracks
from vitpose_jax.data.motion.threedpw import FPS, SPLITS
from vitpose_jax.data.motion.windows import MotionTrack
from vitpose_jax.errors import UserError


class ThreedpwMotion(tfds.core.GeneratorBasedBuilder):
    """One example per actor of a sequence: the whole track.

    Fields: name, fps, frame_ids (T,), positions float32 (T, J, D) in pixels or metres, visible bool
    (T, J). `track_of` turns an example into a MotionTrack.
    """

    VERSION = tfds.core.Version("1.0.0")
    # There are no checksum files beside this one, and searching for them would need
    # importlib_resources, which tensorflow-datasets does not install.
    code_path = None
    BUILDER_CONFIGS = [  # noqa: RUF012 (tensorflow-datasets reads a list)
        tfds.core.BuilderConfig(name=name) for name in INPUTS if name != "synthetic"
    ]

    def __init__(self, *, source: str | Path, **options: Any) -> None:
        """Make the builder; `source` is the folder with `sequenceFiles`."""
        self._source = Path(source).expanduser()
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        kind = INPUTS[self.builder_config.name]
        joints = len(kind.joint_names)
        features = {
            "name": tfds.features.Text(),
            "fps": tfds.features.Scalar(np.float32),
            "frame_ids": tfds.features.Tensor(shape=(None,), dtype=np.int64),
            "positions": tfds.features.Tensor(shape=(None, joints, kind.dims), dtype=np.float32),
            "visible": tfds.features.Tensor(shape=(None, joints), dtype=np.bool_),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            homepage="https://virtualhumans.mpi-inf.mpg.de/3DPW/",
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        there = [s for s in SPLITS if list((self._source / "sequenceFiles" / s).glob("*.pkl"))]
        if not there:
            raise UserError(f"{self._source}: no sequenceFiles with .pkl files in it")
        return {split: self._generate_examples(split) for split in there}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for track in open_tracks(self._source, split, self.builder_config.name):
            yield (
                track.name,
                {
                    "name": track.name,
                    "fps": FPS,
                    "frame_ids": track.frame_ids,
                    "positions": track.positions,
                    "visible": track.visible,
                },
            )


def track_of(example: dict[str, Any]) -> MotionTrack:
    """Turn an example into a track."""
    name = example["name"]
    return MotionTrack(
        name.decode() if isinstance(name, bytes) else str(name),
        np.asarray(example["positions"], np.float32),
        np.asarray(example["visible"], bool),
        np.asarray(example["frame_ids"], np.int64),
        float(example["fps"]),
    )

"""Synthetic people as files: pictures with their annotations in COCO's format."""

from itertools import islice
from pathlib import Path

from vitpose_jax.data.synthetic.dataset import SYNTHETIC, SyntheticImages, coco_annotations
from vitpose_jax.files.pictures import write_picture
from vitpose_jax.files.writing import write_json

ANNOTATIONS_FILE = "people.json"


def write_samples(folder: Path, count: int, name: str = "synthetic-solo") -> Path:
    """Write the first validation pictures of a synthetic data set, and their annotations.

    Args:
        folder: where to write `000000000000.jpg`, ... and people.json.
        count: how many pictures.
        name: a name in `SYNTHETIC`.

    Returns:
        The file of annotations, which also serves as a file of boxes.

    Raises:
        UserError: the folder cannot be written.
    """
    images = SyntheticImages("val", SYNTHETIC[name])
    content = coco_annotations(islice(images.scenes(), count))
    for entry, scene in zip(content["images"], images.scenes(), strict=False):
        write_picture(folder / entry["file_name"], scene.pixels)
    write_json(folder / ANNOTATIONS_FILE, content)
    return folder / ANNOTATIONS_FILE

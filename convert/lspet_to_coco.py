"""Convert the official release of Leeds Sports Pose Extended to COCO's layout.

    python convert/lspet_to_coco.py lspet_dataset --out data/lspet-coco

The release (Johnson and Everingham, CVPR 2011) is a folder with `images/im00001.jpg`, ... and
`joints.mat`, where `joints` is 14 x 3 x N: x, y and whether the joint is labelled. Twelve of the 14
joints are also COCO's; COCO's face stays unlabelled.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import scipy.io

from vitpose_jax.data.coco.categories import category_from_skeleton
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import SKELETONS

COCO = SKELETONS["coco"]
LSPET_JOINTS = (
    *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle"),
    *("right_wrist", "right_elbow", "right_shoulder"),
    *("left_shoulder", "left_elbow", "left_wrist"),
    *("neck", "head_top"),
)
"""The joints, in the order of `joints.mat`."""
MARGIN = 0.12
"""A box is the extent of all labelled joints, widened on each side by this share of its longer
side."""
AREA_OF_BOX = 0.53
"""The share of its box that a COCO person covers; keypoint AP needs an area."""
MIN_LABELLED = 8
"""People with fewer of COCO's joints labelled are left out."""
VAL_EVERY, VAL_REMAINDER = 20, 7
"""Images whose number leaves this remainder are the validation split."""


def read_joints(path: Path) -> np.ndarray:
    """Read `joints.mat` as float64 (N, 14, 3): x, y, labelled.

    Raises:
        UserError: the file is missing or is not that of the release.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; give the unpacked folder of lspet_dataset.zip")
    try:
        joints = scipy.io.loadmat(path, variable_names=["joints"])["joints"]
    except (KeyError, ValueError, NotImplementedError, OSError, TypeError) as error:
        raise UserError(f"{path} cannot be read as LSPET's joints.mat: {error!r}") from None
    if joints.ndim == 3 and joints.shape[:2] == (3, 14):
        joints = joints.transpose(1, 0, 2)  # the layout of the smaller LSP data set
    if joints.ndim != 3 or joints.shape[:2] != (14, 3):
        raise UserError(f"{path}: joints is {joints.shape}, not 14 x 3 x images")
    return joints.transpose(2, 0, 1).astype(np.float64)


def annotate(joints: np.ndarray, number: int, image_wh: tuple[int, int]) -> dict | None:
    """Make a COCO annotation of one person; None if too little is labelled.

    Args:
        joints: (14, 3), as `read_joints` gives them.
        number: the image's number, from 1; becomes the id of image and annotation.
        image_wh: (width, height).
    """
    labelled = joints[:, 2] > 0
    keypoints = np.zeros((COCO.num_keypoints, 3))
    for name, joint, known in zip(LSPET_JOINTS, joints, labelled, strict=True):
        if known and name in COCO.keypoint_names:
            keypoints[COCO.keypoint_names.index(name)] = *joint[:2].round(2), 2
    count = int((keypoints[:, 2] > 0).sum())
    if count < MIN_LABELLED:
        return None
    points = joints[labelled, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    margin = MARGIN * (high - low).max()
    low = np.maximum(low - margin, 0)
    high = np.minimum(high + margin, np.array(image_wh) - 1)
    width, height = high - low
    if min(width, height) <= 0:
        return None
    return {
        "id": number,
        "image_id": number,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [round(float(v), 2) for v in (*low, width, height)],
        "area": round(float(AREA_OF_BOX * width * height), 1),
        "num_keypoints": count,
        "keypoints": [v if v % 1 else int(v) for v in keypoints.ravel().tolist()],
    }


def convert(release: Path, out: Path) -> dict[str, int]:
    """Write `out` in COCO's layout; returns the number of people in each split.

    Raises:
        UserError: the release is incomplete, or `out` is not empty.
    """
    joints = read_joints(release / "joints.mat")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty; give a new folder as --out")
    splits: dict[str, tuple[list, list]] = {"train": ([], []), "val": ([], [])}
    for number, person in enumerate(joints, start=1):
        split = "val" if number % VAL_EVERY == VAL_REMAINDER else "train"
        source = release / "images" / f"im{number:05d}.jpg"
        image = cv2.imread(str(source)) if source.exists() else None
        if image is None:
            raise UserError(f"{source} is missing or not an image; unpack the release again")
        height, width = image.shape[:2]
        annotation = annotate(person, number, (width, height))
        if annotation is None:
            continue
        name = f"{number:012d}.jpg"
        target = out / f"{split}2017" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        images, annotations = splits[split]
        images.append(
            {"id": number, "file_name": name, "width": width, "height": height, "license": 1}
        )
        annotations.append(annotation)
    (out / "annotations").mkdir(parents=True, exist_ok=True)
    for split, (images, annotations) in splits.items():
        content = {
            "info": {"description": "LSPET in COCO keypoint layout"},
            "licenses": [{"id": 1, "name": "research use, see README"}],
            "images": images,
            "annotations": annotations,
            "categories": [category_from_skeleton(COCO)],
        }
        (out / "annotations" / f"person_keypoints_{split}2017.json").write_text(json.dumps(content))
    return {split: len(annotations) for split, (_, annotations) in splits.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Convert Leeds Sports Pose Extended to COCO's layout."
    )
    parser.add_argument("release", type=Path, help="folder with images/ and joints.mat")
    parser.add_argument("--out", type=Path, required=True, help="new folder in COCO's layout")
    options = parser.parse_args(argv)
    try:
        counts = convert(options.release, options.out)
    except UserError as error:
        print(f"lspet_to_coco: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: " + ", ".join(f"{n} people in {split}" for split, n in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

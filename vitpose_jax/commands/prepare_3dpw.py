"""`vitpose prepare-3dpw`: find the keypoints of 3DPW's people with a pose model."""

import argparse
from pathlib import Path

from vitpose_jax.commands.options import add_num_heads
from vitpose_jax.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Runs a pose model over 3DPW's images and writes DATA/keypoints, which "
        "--config=forecast_3dpw:DATA,keypoints trains on. To resume after an interruption, "
        "repeat the command."
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="the folder with sequenceFiles and imageFiles")
    add("--weights", required=True, metavar="W", help="pose model, as for `vitpose predict`")
    add_num_heads(parser)
    add("--splits", nargs="+", default=["train", "validation", "test"], metavar="SPLIT")
    add("--detector", metavar="NAME", help="use detected boxes that overlap the actors'")
    add("--again", action="store_true", help="redo sequences that are done already")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from tqdm import tqdm

    from vitpose_jax.commands.weights import open_weights
    from vitpose_jax.data.motion.threedpw import read_sequence, sequence_files
    from vitpose_jax.data.motion.threedpw_keypoints import (
        keypoint_file,
        read_keypoint_file,
        write_keypoints,
    )
    from vitpose_jax.inference.detector import PersonDetector
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.inference.threedpw import find_keypoints, image_files
    from vitpose_jax.keypoints.skeletons import SKELETONS

    folder = Path(options.data)
    work = [(s, f) for s in options.splits for f in sequence_files(folder, s)]
    estimator = PoseEstimator.from_pretrained(
        open_weights(options.weights, options.detector), num_heads=options.num_heads
    )
    names = estimator.skeleton.keypoint_names
    if names != SKELETONS["coco"].keypoint_names:
        raise UserError(
            f"{options.weights} finds {len(names)} keypoints ({', '.join(names[:3])}, ...); 3DPW "
            "is prepared with a model of COCO's 17"
        )
    detector = PersonDetector(options.detector) if options.detector else None
    done = 0
    for split, file in tqdm(work, unit="sequence", disable=None):
        sequence = read_sequence(file)
        path = keypoint_file(folder, split, file.stem)
        if path.exists() and not options.again:
            read_keypoint_file(path, (len(sequence.actors), len(sequence.frame_ids)))
            done += 1
            continue
        bar = tqdm(
            image_files(folder, sequence),
            desc=sequence.name,
            unit="frame",
            disable=None,
            leave=False,
        )
        write_keypoints(path, *find_keypoints(sequence, bar, estimator, detector))
    place = keypoint_file(folder, "SPLIT", "x").parent
    print(f"{len(work)} sequences in {place}; {done} were done already")
    return 0

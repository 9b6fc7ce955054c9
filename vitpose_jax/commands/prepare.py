"""`vitpose prepare`: a data set's people as ArrayRecord crops, for fast training."""

import argparse

from vitpose_jax.commands.options import parse_size
from vitpose_jax.data.tolerance import MAX_BAD_SHARE


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Crops every person in a data set once and writes the crops as ArrayRecord "
        "files, which train faster than whole images and can also be read from gs://. To train on "
        "them, give the folder as the data set. After an interruption, it starts over. The exit "
        "status is 1 if people were left out."
    )
    add = parser.add_argument
    add("source", metavar="SRC", help="coco, synthetic, or a folder in COCO's layout")
    add("--out", required=True, metavar="DIR", help="new folder, may be gs://...")
    add(
        "--input-size",
        type=parse_size,
        default=(256, 192),
        metavar="HxW",
        help="crop size to train at (default: 256x192)",
    )
    add("--splits", nargs="+", default=["train", "val"], choices=("train", "val"))
    add(
        "--max-bad-share",
        type=float,
        default=MAX_BAD_SHARE,
        metavar="S",
        help="give up above this share of unusable annotations or images; one or two are always "
        "tolerated unless it is 0 (default: %(default)s)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.data.records.writing import prepare
    from vitpose_jax.tasks.run import log_plainly

    log_plainly()
    left_out = prepare(
        options.source,
        options.out,
        input_size=options.input_size,
        splits=tuple(options.splits),
        max_bad_share=options.max_bad_share,
    )
    print(f"to train on it, give {options.out} as the data set")
    return int(left_out)

"""Convert PyTorch weights of ViTPose to a weights folder of vitpose_jax.

    python convert/torch_to_flax.py vitpose-b.pth --out weights/vitpose-b
    python convert/torch_to_flax.py vitpose+_base.pth --dataset wholebody --out weights/wholebody
    python convert/torch_to_flax.py usyd-community/vitpose-base-simple --out weights/base-simple
    python convert/torch_to_flax.py fpn.pth --fpn-strides 1 3 9 27 --out weights/fpn-log-spaced
    python convert/torch_to_flax.py hands.pth --skeleton hands_train.json --out weights/hands
    python convert/torch_to_flax.py mae_pretrain_vit_base.pth --out weights/mae-base

Without a checkout it is `python -m vitpose_jax.convert.torch_to_flax`.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from vitpose_jax.commands.options import add_num_heads, parse_size
from vitpose_jax.data.coco.skeleton_file import read_skeleton
from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import EXPERT_DATASETS
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.weights.checkpoint import Hints
from vitpose_jax.weights.conversion import convert
from vitpose_jax.weights.loading import keypoint_names, with_skeleton
from vitpose_jax.weights.native import check_overwrite, write_folder
from vitpose_jax.weights.positions import resized
from vitpose_jax.weights.sources import resolve_source


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Convert PyTorch weights of ViTPose to a folder with config.json and "
        "model.safetensors, and list where each tensor went."
    )
    parser.add_argument(
        "source", metavar="SRC", help="original .pth, MAE file, transformers folder or hub id"
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--dataset",
        choices=EXPERT_DATASETS,
        help="which head of a ViTPose+ file to take (default: coco)",
    )
    parser.add_argument(
        "--skeleton",
        metavar="FILE|NAME",
        help="the keypoints, to store with the weights: a COCO annotation file, a JSON list "
        "of names, or a known name such as crowdpose",
    )
    parser.add_argument(
        "--ema",
        action="store_true",
        help="use the averaged (EMA) weights that the file also holds",
    )
    add_num_heads(parser)
    parser.add_argument(
        "--input-size",
        type=parse_size,
        metavar="HxW",
        help="crop size in pixels; position embeddings of another size are interpolated",
    )
    parser.add_argument(
        "--fpn-strides",
        type=int,
        nargs="+",
        metavar="S",
        help="strides of a feature pyramid, which the file does not record (default: 1 2 4 8, or "
        "9 3 1 where the pyramid fuses several blocks)",
    )
    parser.add_argument(
        "--fpn-taps",
        type=int,
        nargs="+",
        metavar="I",
        help="blocks that a feature pyramid fuses, counted from 0 (default: 3 7 11)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""
    options = parse(argv)
    try:
        check_overwrite(options.out)
        hints = Hints(
            num_heads=options.num_heads,
            dataset=options.dataset,
            input_size=options.input_size,
            fpn_strides=options.fpn_strides and tuple(options.fpn_strides),
            fpn_taps=options.fpn_taps and tuple(options.fpn_taps),
            ema=options.ema,
        )
        skeleton = options.skeleton and read_skeleton(options.skeleton)
        stored, report = convert(resolve_source(options.source), hints)
        print(report)
        if skeleton:
            config = with_skeleton(stored.config, skeleton, options.source)
            stored = replace(stored, config=config)
        elif isinstance(stored.config, PoseConfig) and not keypoint_names(stored.config):
            print(
                f"note: the file does not say what its {stored.config.num_keypoints} keypoints "
                "are: --skeleton names them"
            )
        write_folder(resized(stored, options.input_size, options.source), options.out)
    except UserError as error:
        print(f"torch_to_flax: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

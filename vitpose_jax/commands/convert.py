"""`vitpose convert`: PyTorch weights to our format and back."""

import argparse
import sys
from collections.abc import Callable, Sequence

from vitpose_jax.commands.options import add_num_heads, parse_size
from vitpose_jax.errors import UserError, shown

EXPERTS = ("coco", "aic", "mpii", "ap10k", "apt36k", "wholebody")
"""`EXPERT_DATASETS`, written out so that help is instant."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Converts weights. PyTorch weights of ViTPose become a folder with config.json and "
        "model.safetensors, listing where each tensor went; such a folder becomes NAME.pth for "
        "the original code, or a folder for transformers."
    )
    add_source(parser, "an original .pth, MAE file, transformers folder or hub id; or our folder")
    add_hints(parser.add_argument_group("what PyTorch weights do not say about themselves"))


def run(options: argparse.Namespace) -> int:
    """Convert to the other format."""
    from vitpose_jax.weights.native import is_native
    from vitpose_jax.weights.sources import resolve_source
    from vitpose_jax.weights.tensors import read_config

    path = resolve_source(options.source)
    if not (path.is_dir() and is_native(read_config(path))):
        return to_flax(options)
    if given := [name for name in HINTS if getattr(options, name) not in (None, False)]:
        option = given[0].replace("_", "-")
        raise UserError(
            f"--{option}: only for PyTorch weights, and {options.source} is a folder of ours"
        )
    return to_torch(options)


def add_source(parser: argparse.ArgumentParser, source: str) -> None:
    """Add what every conversion needs; `source` describes it."""
    parser.add_argument("source", metavar="SRC", help=source)
    parser.add_argument(
        "--out", required=True, metavar="PATH", help="folder to write, or NAME.pth (to PyTorch)"
    )


HINTS = ("dataset", "skeleton", "ema", "num_heads", "input_size", "fpn_strides", "fpn_taps")


def add_hints(parser: argparse._ActionsContainer) -> None:
    """Add the options `HINTS`."""
    add = parser.add_argument
    add(
        "--dataset",
        choices=EXPERTS,
        help="which head of a ViTPose+ file to take (default: coco)",
    )
    add(
        "--skeleton",
        metavar="FILE|NAME",
        help="the keypoints, to store with the weights: a COCO annotation file, a JSON list "
        "of names, or a known name such as crowdpose",
    )
    add(
        "--ema", action="store_true", help="use the averaged (EMA) weights that the file also holds"
    )
    add_num_heads(parser)
    add(
        "--input-size",
        type=parse_size,
        metavar="HxW",
        help="crop size in pixels; position embeddings of another size are interpolated",
    )
    add(
        "--fpn-strides",
        type=int,
        nargs="+",
        metavar="S",
        help="strides of a feature pyramid, which the file does not record (default: 1 2 4 8, or "
        "9 3 1 where the pyramid fuses several blocks)",
    )
    add(
        "--fpn-taps",
        type=int,
        nargs="+",
        metavar="I",
        help="blocks that a feature pyramid fuses, counted from 0 (default: 3 7 11)",
    )


def to_flax(options: argparse.Namespace) -> int:
    """Convert PyTorch weights to a folder of ours."""
    from dataclasses import replace

    from vitpose_jax.data.coco.skeleton_file import read_skeleton
    from vitpose_jax.models.pose import PoseConfig
    from vitpose_jax.weights.checkpoint import Hints
    from vitpose_jax.weights.conversion import convert
    from vitpose_jax.weights.loading import keypoint_names, with_skeleton
    from vitpose_jax.weights.native import check_overwrite, write_folder
    from vitpose_jax.weights.positions import resized
    from vitpose_jax.weights.sources import resolve_source

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
    print(f"wrote {options.out}")
    return 0


def to_torch(options: argparse.Namespace) -> int:
    """Convert weights to a .pth for the original code or a folder for transformers."""
    from pathlib import Path

    from vitpose_jax.weights.huggingface import write_huggingface
    from vitpose_jax.weights.loading import load_stored
    from vitpose_jax.weights.original import write_original

    stored = load_stored(options.source)
    if Path(options.out).suffix == ".pth":
        for note in write_original(stored, options.out):
            print(f"note: {note}")
    else:
        write_huggingface(stored, options.out)
    print(f"wrote {options.out}")
    return 0


def run_script(
    name: str,
    parser: argparse.ArgumentParser,
    action: Callable[[argparse.Namespace], int],
    argv: Sequence[str] | None,
) -> int:
    """Do what a script of `convert/` does with its command line; returns the exit status."""
    options = parser.parse_args(argv)
    try:
        return action(options)
    except UserError as error:
        print(shown(error, f"{name}: "), file=sys.stderr)
        return 2

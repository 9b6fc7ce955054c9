"""The `vitpose` command: parse the options, hand them to the part that does the work.

Handlers import what they need when they run, so that `vitpose --help` stays instant.
"""

import argparse
import sys
from collections.abc import Sequence

from vitpose_jax import __version__
from vitpose_jax.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every subcommand sets `handler`, called with the parsed options."""
    parser = argparse.ArgumentParser(
        prog="vitpose",
        description="Human pose estimation and motion forecasting with ViTPose in JAX.",
    )
    parser.add_argument("--version", action="version", version=f"vitpose-jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_predict(commands)
    return parser


def _add_predict(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "predict",
        help="find people's poses in pictures and videos",
        description="Find people's poses in pictures, folders, videos and cameras. Writes "
        "keypoints.json (COCO results) into the folder --out, and pictures or videos beside it. "
        "Exit status: 0 all went well; 1 results were written, but some inputs were unusable (each "
        "is reported at the end); 2 nothing could be done.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, videos, folders, globs ('x/**/*.jpg'), or a camera's number",
    )
    add(
        "--weights",
        required=True,
        metavar="W",
        help="a .pth, a folder, or a hub id such as usyd-community/vitpose-base-simple",
    )
    people = parser.add_argument_group("where the people are")
    people.add_argument(
        "--boxes",
        metavar="FILE",
        help="COCO detections or annotations (JSON); pictures are matched by file_name, or by "
        "image_id as the number in the file's name; every box gives one result, in order",
    )
    people.add_argument(
        "--detector",
        metavar="NAME",
        help="dfine-n, dfine-s (the default without --boxes), dfine-m, dfine-l, an .onnx file, or "
        "none: each whole picture is one person",
    )
    people.add_argument(
        "--nms", action="store_true", help="drop near-duplicate poses (OKS above 0.9)"
    )
    model = parser.add_argument_group("how poses are found")
    model.add_argument(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="skip the mirrored pass: twice as fast, a little less exact",
    )
    model.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="compute type (default: bfloat16 on accelerators, float32 on CPUs)",
    )
    model.add_argument("--batch-size", type=int, metavar="N", help="people per batch")
    model.add_argument(
        "--decoder",
        choices=("udp", "dark", "default"),
        default="udp",
        help="how heatmaps become points (default: udp, which ViTPose's weights are made for)",
    )
    model.add_argument(
        "--dataset",
        choices=("coco", "aic", "mpii", "ap10k", "apt36k", "wholebody"),
        help="which head of ViTPose+ weights, and whose keypoints",
    )
    model.add_argument(
        "--num-heads", type=int, metavar="N", help="attention heads, for weights of unusual width"
    )
    model.add_argument(
        "--input-size", type=_size, metavar="HxW", help="crop size (default: the weights')"
    )
    output = parser.add_argument_group("what is written")
    output.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder (default: predictions)"
    )
    output.add_argument("--draw", action="store_true", help="pictures with boxes and skeletons")
    output.add_argument("--heatmaps", action="store_true", help="pictures under their heatmaps")
    output.add_argument(
        "--min-score",
        type=float,
        default=0.3,
        metavar="S",
        help="draw keypoints scored at least this (default: 0.3)",
    )
    output.add_argument(
        "--smooth", action="store_true", help="steady the poses in videos (One Euro filter)"
    )
    parser.set_defaults(handler=_predict)


def _predict(options: argparse.Namespace) -> int:
    from vitpose_jax.inference.predict import predict

    return predict(options)


def _size(text: str) -> tuple[int, int]:
    """ "256x192" -> (256, 192), height first."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(height), int(width)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 a mistake the user can put right)."""
    options = build_parser().parse_args(argv)
    try:
        return options.handler(options) or 0
    except UserError as error:
        print(f"vitpose {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Options that several commands share."""

import argparse


def parse_size(text: str) -> tuple[int, int]:
    """Parse "256x192" as (height, width), for argparse."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(height), int(width)


def add_num_heads(parser: argparse._ActionsContainer) -> None:
    """Add `--num-heads`, for weights whose shapes do not determine it."""
    parser.add_argument(
        "--num-heads", type=int, metavar="N", help="attention heads, for weights of unusual width"
    )


def add_category(parser: argparse._ActionsContainer) -> None:
    """Add `--category`, for files with boxes of things other than people."""
    parser.add_argument(
        "--category",
        action="append",
        default=[],
        metavar="NAME|ID",
        help="category of people in --boxes, where the file does not tell; may be repeated",
    )


def add_min_score(parser: argparse._ActionsContainer, what: str) -> None:
    """Add `--min-score`; `what` is its help text."""
    parser.add_argument(
        "--min-score", type=float, default=0.3, metavar="S", help=f"{what} (default: %(default)s)"
    )


def add_results(parser: argparse._ActionsContainer, folder: str) -> None:
    """Add the options on a run's folder; `folder` is its default."""
    add = parser.add_argument
    add("--out", default=folder, metavar="DIR", help="folder (default: %(default)s)")
    add(
        "--resume",
        action="store_true",
        help="go on with a run that was stopped: the same command, with the inputs that are left",
    )
    add("--overwrite", action="store_true", help="replace the results of an earlier run in --out")

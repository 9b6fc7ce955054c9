"""Options that several commands share."""

import argparse
import re
from collections.abc import Sequence

from vitpose_jax.errors import UserError


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
    """Add the options on a run's folder; `folder` is its default (see `results_folder`)."""
    add = parser.add_argument
    taken = f"{folder}, or if that is there {folder}-2, ..."
    add("--out", metavar="DIR", help=f"folder (default: {taken})")
    add(
        "--resume",
        action="store_true",
        help="go on with a run that was stopped: the same command, with the inputs that are left",
    )
    add("--overwrite", action="store_true", help="replace the results of an earlier run in --out")


def add_configuration(parser: argparse.ArgumentParser, configuration: str = "CONFIG") -> None:
    """Add a configuration and changes to it, as `words`, and `--data`."""
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar=f"{configuration} | KEY=VALUE",
        help="a configuration, such as vitpose:base,simple (size and decoder), fpn:residual, "
        "forecast_3dpw or a file mine.py; then values to change in it, such as batch_size=64 "
        "optimizer.lr=1e-4",
    )
    add("--data", metavar="D", default="", help="the data set: coco, synthetic, or a folder")


def split_words(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the configuration among the words (empty if there is none), and the changes.

    Raises:
        UserError: there are several configurations.
    """
    changes = [word for word in words if re.match(r"[\w.]+=", word)]
    names = [word for word in words if word not in changes]
    if len(names) > 1:
        raise UserError(f"{names[0]!r} and {names[1]!r}: give one configuration, and KEY=VALUE")
    return "".join(names), changes

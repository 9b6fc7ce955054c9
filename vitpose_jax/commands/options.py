"""Options that several commands share."""

import argparse


def parse_size(text: str) -> tuple[int, int]:
    """Parse "256x192" as (height, width).

    Raises:
        argparse.ArgumentTypeError: the text is not such a size.
    """
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(height), int(width)


def add_num_heads(parser: argparse._ActionsContainer) -> None:
    """Add `--num-heads`, which only weights without this information need."""
    parser.add_argument(
        "--num-heads", type=int, metavar="N", help="attention heads, for weights of unusual width"
    )

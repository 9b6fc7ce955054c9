"""Sizes of pictures as command lines take them."""

import argparse


def parse_size(text: str) -> tuple[int, int]:
    """ "256x192" -> (256, 192), height first; argparse's error where it is no such thing."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x192")
    return int(height), int(width)

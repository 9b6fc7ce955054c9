"""Convert PyTorch weights of ViTPose to a weights folder of vitpose_jax, as `vitpose convert` does.

    python convert/torch_to_flax.py vitpose-b.pth --out weights/vitpose-b
    python convert/torch_to_flax.py vitpose+_base.pth --dataset wholebody --out weights/wholebody
    python convert/torch_to_flax.py usyd-community/vitpose-base-simple --out weights/base-simple
    python convert/torch_to_flax.py fpn.pth --fpn-strides 1 3 9 27 --out weights/fpn-log-spaced
    python convert/torch_to_flax.py hands.pth --skeleton hands_train.json --out weights/hands
    python convert/torch_to_flax.py mae_pretrain_vit_base.pth --out weights/mae-base

Without a checkout it is `vitpose convert`, or `python -m vitpose_jax.convert.torch_to_flax`.
"""

import argparse
import sys
from collections.abc import Sequence

from vitpose_jax.commands.convert import add_hints, add_source, run_script, to_flax


def main(argv: Sequence[str] | None = None) -> int:
    """Convert what the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(
        description="Convert PyTorch weights of ViTPose to a folder with config.json and "
        "model.safetensors, and list where each tensor went."
    )
    add_source(parser, "original .pth, MAE file, transformers folder or hub id")
    add_hints(parser)
    return run_script("torch_to_flax", parser, to_flax, argv)


if __name__ == "__main__":
    sys.exit(main())

"""What `vitpose quickstart` trains: a small ViT on synthetic people, a few minutes on a laptop CPU.

    python -m vitpose_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

The configuration itself is part of the package, so that the command works wherever it is installed.
"""

from vitpose_jax.training.quickstart import get_config

__all__ = ["get_config"]

"""What `vitpose quickstart` trains: a small ViT on synthetic people, a few minutes on a laptop CPU.

    python -m vitpose_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

From nothing to AP 0.55 on people not trained on, in 1500 steps: 4.0 minutes on 2 cores of an AMD
EPYC (measured on 2026-11-24). The configuration itself is part of the package, so that the command
works wherever it is installed.
"""

from vitpose_jax.commands.quickstart import get_config

__all__ = ["get_config"]

"""What `vitpose quickstart` trains: a small ViT on synthetic people, a few minutes on a laptop CPU.

    python -m vitpose_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

From nothing to AP 0.38 on people not trained on, in 900 steps (measured on 2026-11-23 on a 2-core
CPU shared with other jobs, without the flip test; 0.39 with it). The configuration itself is part
of the package, so that the command works wherever it is installed.
"""

from vitpose_jax.training.quickstart import get_config

__all__ = ["get_config"]

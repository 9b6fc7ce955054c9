"""Time of a forecast against the original PyTorch module, side by side on this machine's CPU.

python experiments/forecast_study/timing.py
"""

import time

import jax
import numpy as np
import torch
from flax import nnx
from torch import nn

from vitpose_jax.models.forecaster import Forecaster, ForecasterConfig
from vitpose_jax.models.pose_predictor import PosePredictor, PredictorConfig

BATCH, ROUNDS = 256, 15


class TorchPredictor(nn.Module):
    """The original's layers, from PyTorch's own parts."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(120, 8, batch_first=True)
        self.input_proj = nn.Linear(34, 120)
        self.encoder = nn.TransformerEncoder(layer, 6)
        self.decoder = nn.Linear(120, 34)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(self.input_proj(x)))


def main() -> None:
    observed = np.random.default_rng(0).normal(500, 50, (BATCH, 10, 17, 2)).astype(np.float32)
    visible = np.ones((BATCH, 10, 17), bool)
    theirs = TorchPredictor().eval()
    frames = torch.from_numpy(observed.reshape(BATCH, 10, 34) / 1280)
    pairs = tuple((i, i + 1) for i in range(1, 17, 2))
    exact = {"differences": 4, "width": 128, "members": 3}  # as for projected joints
    models = {
        "ours": Forecaster(ForecasterConfig(flip_pairs=pairs), rngs=nnx.Rngs(0)),
        "ours for exact joints": Forecaster(
            ForecasterConfig(flip_pairs=pairs, **exact), rngs=nnx.Rngs(0)
        ),
        "original in JAX": PosePredictor(PredictorConfig(), rngs=nnx.Rngs(0)),
    }
    run = nnx.jit(lambda model, x, v: model.forecast(x, v))

    def torch_forward() -> None:
        with torch.inference_mode():
            theirs(frames)

    calls = {"original in PyTorch": torch_forward}
    for name, model in models.items():
        calls[name] = lambda model=model: jax.block_until_ready(run(model, observed, visible))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):  # in turn, so that a busy machine is busy for all of them
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    reference = np.median(times["original in PyTorch"])
    for name, values in times.items():
        median = np.median(values)
        print(
            f"{name}: {1000 * median / BATCH:.4f} ms per window in batches of {BATCH}, "
            f"{median / reference:.2f} of the PyTorch original's time"
        )


if __name__ == "__main__":
    main()

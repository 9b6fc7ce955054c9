"""How often the truth lies within the radii that forecasters give: by frame, plotted.

    python experiments/forecast_study/calibration.py --data data/3dpw --scenes runs/somof/seed_0 \
        --detections runs/forecast_study/ours_seed_0
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from flax import nnx
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from configs.forecast_somof import get_config  # noqa: E402
from experiments.forecast_study.somof import open_scene_forecaster  # noqa: E402
from vitpose_jax.data.motion.sources import open_tracks  # noqa: E402
from vitpose_jax.data.motion.windows import MotionWindows  # noqa: E402
from vitpose_jax.evaluation.forecasting import coverage  # noqa: E402
from vitpose_jax.models.forecaster import Forecaster  # noqa: E402
from vitpose_jax.models.forecaster_config import COVERAGES  # noqa: E402
from vitpose_jax.tasks import scenes  # noqa: E402
from vitpose_jax.training.settings import read_part  # noqa: E402

_run = nnx.jit(lambda model, observed, visible: model.with_spread(observed, visible))


def of_scenes(model: Forecaster, data: str) -> np.ndarray:
    """Coverage on made-up validation scenes, (m, 2)."""
    batch = scenes.validation_scenes(read_part(scenes.ScenesSettings, get_config(data)))
    seen, counted = (
        scenes.apart(batch[name][..., None])[..., 0]
        for name in ("observed_visible", "future_visible")
    )
    future, radii = _run(model, scenes.apart(batch["observed"]), seen)
    true = scenes.apart(batch["future"])
    return coverage(*map(_flat, (np.asarray(future), np.asarray(radii), true, counted)))


def of_detections(model: Forecaster, data: str, split: str) -> np.ndarray:
    """Coverage on 3DPW's detections, (m, 2)."""
    windows = MotionWindows(open_tracks(data, split), 10, model.config.future, 2, complete=True)
    batch = windows.arrays()
    future, radii = _run(model, batch["observed"], batch["observed_visible"])
    true, visible = batch["future"], batch["future_visible"]
    return coverage(np.asarray(future), np.asarray(radii), true, visible)


def _flat(values: np.ndarray) -> np.ndarray:
    """People one by one."""
    return values.reshape(-1, *values.shape[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/3dpw", help="folder with sequenceFiles")
    parser.add_argument("--scenes", nargs="*", default=[], metavar="RUN")
    parser.add_argument("--detections", nargs="*", default=[], metavar="RUN")
    options = parser.parse_args()
    shares = {
        f"scenes, validation, {Path(run).name}": of_scenes(open_scene_forecaster(run), options.data)
        for run in options.scenes
    } | {
        f"detections, {split}, {Path(run).name}": of_detections(
            open_scene_forecaster(run), options.data, split
        )
        for run in options.detections
        for split in ("validation", "test")
    }
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, values in shares.items():
        ahead = np.linspace(0, 1, len(values)) if len(values) > 1 else [0]
        line = axes.plot(ahead, 100 * values[:, 0], "o-", markersize=3, label=name)[0]
        axes.plot(ahead, 100 * values[:, 1], "s-", markersize=3, color=line.get_color())
    for share in COVERAGES:
        axes.axhline(100 * share, color="0.6", linestyle="--")
    axes.set(
        xlabel="first to last future frame", ylabel="truth within the radius, %", ylim=(0, 100)
    )
    axes.legend(fontsize=7)
    figure.savefig(HERE / "calibration.png", dpi=90)
    rounded = {name: values.round(3).tolist() for name, values in shares.items()}
    (HERE / "calibration.json").write_text(json.dumps(rounded, indent=1) + "\n")
    for name, values in shares.items():
        print(name, "mean coverage", values.mean(0).round(3).tolist())


if __name__ == "__main__":
    main()

"""SoMoF's 3DPW benchmark: trains three seeds without any motion of 3DPW, then scores its test set.

    python experiments/forecast_study/somof.py --data data/cmu-3dpw --test data/somof/test.npz \
        --runs runs/somof

Stopped and started again it goes on where it was. `--score NAME RUN ..` scores other runs, a row
for each; nothing else looks at the test set, and every model that was scored keeps its row in
somof.json: model -> for each seed VIM in cm at 100, 240, 500, 640 and 900 ms, and their mean.
"""

import argparse
import dataclasses
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from flax import nnx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from configs.forecast_somof import get_config  # noqa: E402
from vitpose_jax.data.motion import somof  # noqa: E402
from vitpose_jax.evaluation import forecasting  # noqa: E402
from vitpose_jax.models.forecaster import Forecaster  # noqa: E402
from vitpose_jax.tasks import run as training  # noqa: E402
from vitpose_jax.tasks.forecasting import open_forecaster  # noqa: E402

log = logging.getLogger("vitpose_jax.forecast_study")
RESULTS = HERE / "somof.json"
SEEDS = range(3)
PUBLISHED = {
    "GCN-Transformer (trained on 3DPW)": "10.1 22.5 48.8 63.7 94.9 48.0",
    "GCN-Transformer (and on the validation split)": "9.8 21.8 46.6 60.9 92.0 46.2",
    "JRTransformer (3DPW and AMASS)": "- - - - - 47.2",
}
OURS = "ours, CMU and synthetic motion"


def score(forecast: forecasting.Forecast, scenes: np.ndarray) -> list[float]:
    """The six figures of a forecast of one person at a time (N, n, 13, 3)."""
    observed = scenes[:, :, : somof.OBSERVED]
    flat = observed.reshape(-1, *observed.shape[2:])
    future = forecast(flat, np.ones(flat.shape[:-1], bool))
    future = np.asarray(future).reshape(*observed.shape[:2], *future.shape[1:])
    return forecasting.vim(future, scenes[:, :, somof.OBSERVED :]).round(3).tolist()


def score_model(model: Forecaster, scenes: np.ndarray) -> list[float]:
    """The six figures of a forecaster, which sees both people of a scene."""
    observed, future = np.split(scenes, [somof.OBSERVED], axis=2)
    forecast = nnx.jit(lambda model, x, seen: model.forecast(x, seen))
    predicted = forecast(model, observed, np.ones(observed.shape[:-1], bool))
    return forecasting.vim(np.asarray(predicted), future).round(3).tolist()


def open_scene_forecaster(run: Path) -> Forecaster:
    """The forecaster of one of these runs."""
    model = open_forecaster(run)
    assert isinstance(model, Forecaster)
    return model


def mean_of(models: list[Forecaster]) -> Forecaster:
    """One forecaster whose forecast is the mean of several with the same configuration."""
    config = dataclasses.replace(models[0].config, members=len(models))
    whole = Forecaster(config, rngs=nnx.Rngs(0))
    whole.members = nnx.List([member for model in models for member in model.members])
    return whole


def table(rows: Mapping[str, list[list[float]]]) -> str:
    """The rows as Markdown: means over seeds, and in brackets the least and greatest mean VIM."""
    lines = ["| VIM, cm | seeds | 100 ms | 240 | 500 | 640 | 900 | mean |", "|---" * 8 + "|"]
    for name, seeds in rows.items():
        figures = np.array(seeds)
        cells = [f"{value:.1f}" for value in figures[:, :5].mean(0)]
        last = figures[:, 5]
        spread = f" ({last.min():.1f}-{last.max():.1f})" if len(seeds) > 1 else ""
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} | {last.mean():.1f}{spread} |")
    for name, published in PUBLISHED.items():
        lines.append(f"| {name}, published | | {' | '.join(published.split())} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="data/3dpw", help="folder with sequenceFiles to train on")
    parser.add_argument("--test", default="data/somof/test.npz", help="the benchmark's test set")
    parser.add_argument("--runs", default="runs/somof", help="folder of the trainings")
    parser.add_argument("--score", nargs="+", metavar=("NAME", "RUN"), help="only score these runs")
    options = parser.parse_args()
    training.log_plainly()
    scenes = somof.read_test(options.test)
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in forecasting.SCENE_BASELINES:
        rows[name] = [score(forecasting.baseline(name, somof.FUTURE), scenes)]
    if options.score:
        name, *runs = options.score
        rows[name] = [score_model(open_scene_forecaster(Path(run)), scenes) for run in runs]
    else:
        runs = [Path(options.runs) / f"seed_{seed}" for seed in SEEDS]
        for seed, run in enumerate(runs):
            config = get_config(options.data)
            config.seed = seed
            if not (run / "evaluation.json").exists():
                training.train(config, run)
        models = [open_scene_forecaster(run) for run in runs]
        rows[OURS] = [score_model(model, scenes) for model in models]
        rows[f"{OURS}, mean of the three"] = [score_model(mean_of(models), scenes)]
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "somof.md").write_text(table(rows) + "\n")
    log.info("%s", table(rows))


if __name__ == "__main__":
    main()

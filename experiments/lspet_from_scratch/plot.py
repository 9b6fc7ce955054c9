"""Curves of training runs, side by side, from their metrics.jsonl.

python experiments/lspet_from_scratch/plot.py NAME=RUN [NAME=RUN ...]

Adds the runs to results.json beside this script (or replaces them there) and draws curves.png of
all that it holds.
"""

import json
import sys
from pathlib import Path

from matplotlib.figure import Figure

from vitpose_jax.training.metrics_log import read_metrics
from vitpose_jax.training.workdir import read_run

HERE = Path(__file__).parent


def summary(run: Path) -> dict:
    """What a run was and how its figures rose, by samples seen."""
    config = read_run(run).config
    rows = read_metrics(run)

    def curve(name: str) -> list[tuple[int, float]]:
        points = [(row["step"], row[name]) for row in rows if name in row]
        return [(step * config.batch_size, round(value, 4)) for step, value in points]

    return {
        "data": Path(config.data).name,
        "width": config.model.backbone.width,
        "depth": config.model.backbone.depth,
        "batch_size": config.batch_size,
        "loss": curve("train/loss"),
        "PCK": curve("eval/PCK"),
        "AP": curve("eval/AP"),
    }


def main() -> None:
    runs = dict(argument.split("=", 1) for argument in sys.argv[1:])
    kept = HERE / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    results |= {name: summary(Path(run)) for name, run in runs.items()}
    kept.write_text(json.dumps(results) + "\n")
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axes, key in zip(figure.subplots(1, 3), ("loss", "PCK", "AP"), strict=True):
        for name, result in results.items():
            if result[key]:
                marker = None if key == "loss" else "o"
                axes.plot(*zip(*result[key], strict=True), label=name, marker=marker, markersize=3)
        axes.set_xlabel("people seen in training")
        axes.set_title({"loss": "training loss", "PCK": "PCK@0.2 (torso)", "AP": "AP"}[key])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(HERE / "curves.png", dpi=80)


if __name__ == "__main__":
    main()

"""Pictures of a run: its curves and the task's own pictures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.pictures import write_picture
from vitpose_jax.training.failures import Failures


def save_picture(file: Path, pixels: np.ndarray, failures: Failures) -> None:
    """Write uint8 RGB (H, W, 3) as JPEG or PNG; an error such as a full disk is only noted."""
    try:
        write_picture(file, pixels)
    except UserError as error:
        failures.note("pictures", error)


def draw_curves(rows: Sequence[dict[str, float]], file: Path, failures: Failures) -> None:
    """Draw loss, learning rate and the main metrics over the steps, as a PNG."""
    from matplotlib.figure import Figure

    names = {name for row in rows for name in row if name.startswith("eval/")}
    panels = [["train/loss"], ["train/lr"]] + [[name] for name in _main_metrics(names)]
    figure = Figure(figsize=(4 * len(panels), 3.2), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name in panel:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                marker = "o" if len(points) < 50 and name.startswith("eval/") else None
                axes.plot(*zip(*points, strict=True), marker=marker, markersize=3)
        axes.set_title(" ".join(panel))
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
        if panel == ["train/loss"]:
            axes.set_yscale("log")
    try:
        figure.savefig(file, dpi=80)
    except OSError as error:
        failures.note(file.name, error)


def _main_metrics(names: set[str]) -> list[str]:
    """At most six names, leaving out per-keypoint metrics, whose names have a second slash."""
    return sorted(name for name in names if name.count("/") == 1)[:6]

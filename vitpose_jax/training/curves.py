"""Pictures of a run: its curves and the task's own pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def draw_curves(
    rows: Sequence[dict[str, float]], metric: str, file: Path, failures: Failures
) -> None:
    """Draw the run's metric, large, beside a grid of loss, rate and other metrics, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    main = f"eval/{metric}"
    names = {name for row in rows for name in row if name.startswith("eval/")} - {main}
    small = ["train/loss", "train/lr", *_main_metrics(names)]
    small += [""] * (len(small) % 2)
    half = len(small) // 2
    figure = Figure(figsize=(4.5 + 3.2 * half, 5.5), layout="constrained")
    layout: Any = [[main, main, *small[:half]], [main, main, *small[half:]]]
    for name, axes in figure.subplot_mosaic(layout, empty_sentinel="").items():
        points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            marker = "o" if len(points) < 50 and name.startswith("eval/") else None
            axes.plot(*zip(*points, strict=True), marker=marker, markersize=4)
        if name == main and points:
            axes.annotate(f"{points[-1][1]:.3g}", points[-1], (-6, 6), textcoords="offset points")
        axes.set_title(name.removeprefix("eval/"), fontsize=14 if name == main else 10)
        axes.grid(alpha=0.3)
        axes.xaxis.set_major_locator(MaxNLocator(6 if name == main else 3, integer=True))
        if name == "train/loss":
            axes.set_yscale("log")
    figure.supxlabel("step")
    try:
        figure.savefig(file, dpi=100)
    except OSError as error:
        failures.note(file.name, error)


def _main_metrics(names: set[str]) -> list[str]:
    """At most six names, leaving out per-keypoint metrics, whose names have a second slash."""
    return sorted(name for name in names if name.count("/") == 1)[:6]

"""The study's tables, plot, strips and GIFs, from its results."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from experiments.forecast_study.by_motion import by_motion_table
from vitpose_jax.data.motion.sources import open_tracks
from vitpose_jax.data.motion.windows import MotionWindows
from vitpose_jax.evaluation import forecasting
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.tasks.forecasting import as_forecast, open_forecaster

BASELINES = ("zero_velocity", "constant_velocity", "damped_fit")
COLOURS = {"observed": "0.75", "truth": "black", "ours": "tab:blue", "damped_fit": "tab:orange"}
LIMBS = SKELETONS["coco"].limbs
EXAMPLES = 4


def write_report(results: Mapping, run: Path, data: str, folder: Path) -> None:
    """Writes tables.md, error_by_frame.png, strips.png and example_N.gif into `folder`.

    run: the training whose forecasts are drawn; none are if it is not there.
    """
    (folder / "tables.md").write_text("\n\n".join(_tables(results)) + "\n")
    _plot(results, folder / "error_by_frame.png")
    if run.exists():
        _examples(run, data, folder)


def _frames(metrics: Mapping, metric: str) -> np.ndarray:
    """(m,) mean over visible joints of one forecast's stored (m, J) metric."""
    values = {name: np.array(value, float) for name, value in metrics.items()}
    return forecasting.per_frame(values)[metric]


def _row(name: str, pck: np.ndarray, error: np.ndarray) -> str:
    cells = [f"{100 * pck.mean():.1f}", *(f"{100 * v:.1f}" for v in pck)]
    cells += [f"{error.mean():.1f}", *(f"{v:.1f}" for v in error)]
    return f"| {name} | " + " | ".join(cells) + " |"


def _header(first: str) -> str:
    columns = ["PCK@50px", *"12345", "error px", *"12345"]
    return f"| {first} | " + " | ".join(columns) + " |\n" + "|---" * 13 + "|"


def _tables(results: Mapping) -> list[str]:
    ours, tables = results.get("ours", {}), []
    lines = [_header("test split, 2D detections, 10 + 5 frames")]
    for row, values in results.get("original", {}).items():
        lines.append(_row(row, np.array(values["pck_50px"]), np.array(values["error_px"])))
    first = ours.get("ours, seed 0")
    for name in BASELINES if first else ():
        metrics = first["results"][name]
        lines.append(_row(name, _frames(metrics, "pck_50px"), _frames(metrics, "error_px")))
    for name, run in ours.items():
        metrics = run["results"]["ours"]
        if name.startswith(("ours, seed", "ours without")):
            lines.append(_row(name, _frames(metrics, "pck_50px"), _frames(metrics, "error_px")))
    tables.append("\n".join(lines))
    for name, run in ours.items():
        if name.startswith(("ours, seed", "ours without")) or not name.endswith("seed 0"):
            continue
        unit = "error_mm" if "error_mm" in run["results"]["ours"] else "error_px"
        lines = [
            f"| {name} ({run['windows']} windows) | mean {unit} | first | last |",
            "|---" * 4 + "|",
        ]
        for forecast, metrics in run["results"].items():
            error = _frames(metrics, unit)
            lines.append(f"| {forecast} | {error.mean():.1f} | {error[0]:.1f} | {error[-1]:.1f} |")
        tables.append("\n".join(lines))
    tables.append(_spread(ours))
    for part, title in (
        ("parts", "error px, projected joints, seed 0"),
        ("camera", "error px, the cameras of the observed frames known"),
    ):
        if part in results:
            lines = [f"| {title} | 1 | 2 | 3 | 4 | 5 |", "|---" * 6 + "|"]
            for name, errors in results[part].items():
                lines.append(f"| {name} | " + " | ".join(f"{error:.1f}" for error in errors) + " |")
            tables.append("\n".join(lines))
    if "by_motion" in results:
        tables.append(by_motion_table(results["by_motion"]))
    if first:
        shown = {
            name: {metric: np.array(v, float) for metric, v in metrics.items()}
            for name, metrics in first["results"].items()
        }
        names = list(SKELETONS["coco"].keypoint_names)
        tables.append(forecasting.joint_table(shown, "error_px", names))
    return tables


def _spread(ours: Mapping) -> str:
    """Mean over the seeds, smallest and largest in brackets, of what was trained more than once."""
    lines = ["| over the seeds | runs | PCK@50px, mean | error, mean | last |", "|---" * 5 + "|"]
    groups = [name.removesuffix(", seed 0") for name in ours if name.endswith(", seed 0")]
    for group in groups:
        runs = [run["results"]["ours"] for name, run in ours.items() if f"{group}, seed" in name]
        unit = "error_mm" if "error_mm" in runs[0] else "error_px"
        error = np.array([_frames(run, unit) for run in runs])
        columns = [(error.mean(1), 2), (error[:, -1], 2)]
        if unit == "error_px":
            columns.insert(0, ([100 * _frames(run, "pck_50px").mean() for run in runs], 1))
        cells = [f"{np.mean(v):.{d}f} ({min(v):.{d}f}-{max(v):.{d}f})" for v, d in columns]
        cells = ["", *cells] if unit == "error_mm" else cells
        name = f"{group}, {unit.removeprefix('error_')}"
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _plot(results: Mapping, file: Path) -> None:
    """Error by future frame: baselines, our seeds, originals as far as they fit."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    ours = results.get("ours", {})
    if "ours, seed 0" in ours:
        for name in BASELINES:
            error = _frames(ours["ours, seed 0"]["results"][name], "error_px")
            axes.plot(range(1, 6), error, "--", label=name.replace("_", " "))
    for name, run in ours.items():
        if name.startswith("ours, seed"):
            error = _frames(run["results"]["ours"], "error_px")
            label = "ours, each seed" if name.endswith("0") else None
            axes.plot(range(1, 6), error, "o-", color="tab:blue", markersize=3, label=label)
    for name, values in results.get("original", {}).items():
        if min(values["error_px"]) < 80:
            axes.plot(range(1, 6), values["error_px"], ":", label=name)
    floor = results.get("noise_floor")
    if floor:
        axes.axhline(floor["error_px"], color="0.6", label="noise of the detections (body)")
    axes.set(xlabel="frames ahead (30 a second)", ylabel="mean error, px", xticks=range(1, 6))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(file, dpi=90)


def _examples(run: Path, data: str, folder: Path) -> None:
    """Strips and GIFs of windows with much motion, spread over the split."""
    arrays = MotionWindows(open_tracks(data, "test"), stride=2, complete=True).arrays()
    still = forecasting.zero_velocity(arrays["observed"], arrays["observed_visible"], 5)
    moved = np.linalg.norm(still - arrays["future"], axis=-1).mean((1, 2))
    parts = np.array_split(np.arange(len(moved)), EXAMPLES)
    chosen = np.array([part[np.argsort(moved[part])[int(0.9 * len(part))]] for part in parts])
    windows = {key: values[chosen] for key, values in arrays.items()}
    args = windows["observed"], windows["observed_visible"]
    futures = {
        "truth": windows["future"],
        "damped_fit": forecasting.damped_fit(*args, 5),
        "ours": forecasting.forecast_windows(as_forecast(open_forecaster(run)), windows),
    }
    figure = Figure(figsize=(10, 2.4 * EXAMPLES), layout="constrained")
    grid = figure.subplots(EXAMPLES, 5)
    for row, observed in enumerate(windows["observed"]):
        for step in range(5):
            axes = grid[row, step]
            _draw(axes, observed[-1], "observed")
            for name, future in futures.items():
                _draw(axes, future[row, step], name)
            _frame(axes, observed, futures["truth"][row])
            axes.set_title(f"+{step + 1}", fontsize=8)
    grid[0, 0].legend(fontsize=6)
    figure.savefig(folder / "strips.png", dpi=70)
    for row, observed in enumerate(windows["observed"]):
        _gif(observed, {k: v[row] for k, v in futures.items()}, folder / f"example_{row}.gif")


def _draw(axes, pose: np.ndarray, name: str) -> None:
    for index, (a, b) in enumerate(LIMBS):
        label = name.replace("_", " ") if index == 0 else None
        axes.plot(*pose[[a, b]].T, color=COLOURS[name], linewidth=1.2, label=label)


def _frame(axes, observed: np.ndarray, truth: np.ndarray) -> None:
    points = np.concatenate([observed, truth]).reshape(-1, 2)
    centre, half = (points.max(0) + points.min(0)) / 2, np.ptp(points, axis=0).max() / 2 + 20
    axes.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] + half, centre[1] - half))
    axes.set(xticks=[], yticks=[], aspect="equal")


def _gif(observed: np.ndarray, futures: Mapping[str, np.ndarray], file: Path) -> None:
    pictures = []
    for step in range(len(observed) + 5):
        figure = Figure(figsize=(2.6, 2.8), layout="constrained")
        axes = figure.subplots()
        if step < len(observed):
            _draw(axes, observed[step], "observed")
        else:
            for name, future in futures.items():
                _draw(axes, future[step - len(observed)], name)
            axes.legend(fontsize=6, loc="upper right")
        _frame(axes, observed, futures["truth"])
        axes.set_title(f"{step - len(observed) + 1:+d}", fontsize=8)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=80)
        pictures.append(Image.open(buffer).convert("RGB"))
    # One palette for all frames, from the last, which has every colour.
    palette = pictures[-1].quantize(64)
    pictures = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    durations = [120] * len(observed) + [350] * 5
    pictures[0].save(
        file, save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )

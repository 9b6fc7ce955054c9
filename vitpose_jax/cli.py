"""The `vitpose` command: parse the options, hand them to the part that does the work.

Handlers import what they need when they run, so that `vitpose --help` stays instant.
"""

import argparse
import sys
from collections.abc import Sequence

from vitpose_jax import __version__
from vitpose_jax.commands.options import parse_size
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.errors import UserError
from vitpose_jax.files.compilation_cache import enable_compilation_cache


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every subcommand sets `handler`, called with the parsed options."""
    parser = argparse.ArgumentParser(
        prog="vitpose",
        description="Human pose estimation and motion forecasting with ViTPose in JAX.",
    )
    parser.add_argument("--version", action="version", version=f"vitpose-jax {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_predict(commands)
    _add_quickstart(commands)
    _add_export(commands)
    _add_forecast(commands)
    _add_prepare(commands)
    _add_prepare_3dpw(commands)
    return parser


def _add_predict(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "predict",
        help="find people's poses in pictures and videos",
        description="Find people's poses in pictures, folders, videos and cameras. Writes "
        "keypoints.json (COCO results) into the folder --out, and pictures or videos beside it. "
        "Exit status: 0 all went well; 1 results were written, but some inputs were unusable (each "
        "is reported at the end); 2 nothing could be done.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="pictures, videos, folders, globs ('x/**/*.jpg'), or a camera's number",
    )
    add(
        "--weights",
        required=True,
        metavar="W",
        help="a .pth, a folder, or a hub id such as usyd-community/vitpose-base-simple",
    )
    people = parser.add_argument_group("where the people are")
    people.add_argument(
        "--boxes",
        metavar="FILE",
        help="COCO detections or annotations (JSON); pictures are matched by file_name, or by "
        "image_id as the number in the file's name; every box gives one result, in order",
    )
    people.add_argument(
        "--detector",
        metavar="NAME",
        help="dfine-n, dfine-s (the default without --boxes), dfine-m, dfine-l, an .onnx file, or "
        "none: each whole picture is one person",
    )
    people.add_argument(
        "--nms", action="store_true", help="drop near-duplicate poses (OKS above 0.9)"
    )
    model = parser.add_argument_group("how poses are found")
    model.add_argument(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="skip the mirrored pass: twice as fast, a little less exact",
    )
    model.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="compute type (default: bfloat16 on accelerators, float32 on CPUs)",
    )
    model.add_argument("--batch-size", type=int, metavar="N", help="people per batch")
    model.add_argument(
        "--decoder",
        choices=("udp", "dark", "default"),
        default="udp",
        help="how heatmaps become points (default: udp, which ViTPose's weights are made for)",
    )
    model.add_argument(
        "--dataset",
        choices=("coco", "aic", "mpii", "ap10k", "apt36k", "wholebody"),
        help="which head of ViTPose+ weights, and whose keypoints",
    )
    _add_num_heads(model)
    model.add_argument(
        "--input-size", type=parse_size, metavar="HxW", help="crop size (default: the weights')"
    )
    output = parser.add_argument_group("what is written")
    output.add_argument(
        "--out", default="predictions", metavar="DIR", help="folder (default: predictions)"
    )
    output.add_argument("--draw", action="store_true", help="pictures with boxes and skeletons")
    output.add_argument("--heatmaps", action="store_true", help="pictures under their heatmaps")
    output.add_argument(
        "--min-score",
        type=float,
        default=0.3,
        metavar="S",
        help="draw keypoints scored at least this (default: 0.3)",
    )
    output.add_argument(
        "--smooth", action="store_true", help="steady the poses in videos (One Euro filter)"
    )
    parser.set_defaults(handler=_predict)


def _predict(options: argparse.Namespace) -> int:
    from vitpose_jax.commands.predict import predict

    return predict(options)


def _add_forecast(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "forecast",
        help="see in a video where people are about to be",
        description="Finds people in a video, follows them and forecasts their next poses. Writes "
        "forecast.json, keypoints.json and the video with the future as ghosts into --out.",
    )
    add = parser.add_argument
    add("input", metavar="INPUT", help="a video, or the keypoints.json of `vitpose predict`")
    add(
        "--weights", required=True, metavar="F", help="forecaster: a folder, a training run, a .pth"
    )
    add("--pose-weights", metavar="W", help="pose model, as for `vitpose predict`; for videos")
    _add_num_heads(parser)
    add("--video", metavar="FILE", help="with a keypoints.json: the video to draw on")
    add("--boxes", metavar="FILE", help="where people are (COCO detections), instead of a detector")
    add("--detector", metavar="NAME", help="as for `vitpose predict` (default: dfine-s)")
    add("--fps", type=float, metavar="N", help="frames a second of a keypoints.json")
    add("--resample", action="store_true", help="forecast at the training's frame rate")
    add(
        "--min-score",
        type=float,
        default=0.3,
        metavar="S",
        help="keypoints scored below this count as missing (default: 0.3)",
    )
    add("--out", default="forecast", metavar="DIR", help="folder (default: forecast)")
    parser.set_defaults(handler=_forecast)


def _forecast(options: argparse.Namespace) -> int:
    from vitpose_jax.commands.forecast import forecast

    return forecast(options)


def _add_prepare(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "prepare",
        help="write a data set's people as ArrayRecord crops, for fast training",
        description="Cuts every person out of a data set once and writes them as ArrayRecord "
        "files, which train faster than whole images and are read from gs:// as well. Train on "
        "them by giving the folder as data set. A stopped run starts over when started again.",
    )
    add = parser.add_argument
    add("source", metavar="SRC", help="coco, synthetic, or a folder in COCO's layout")
    add("--out", required=True, metavar="DIR", help="new folder, may be gs://...")
    add(
        "--input-size",
        type=parse_size,
        default=(256, 192),
        metavar="HxW",
        help="crop size they are fine enough for (default: 256x192)",
    )
    add("--splits", nargs="+", default=["train", "val"], choices=("train", "val"))
    add(
        "--max-bad-share",
        type=float,
        default=MAX_BAD_SHARE,
        metavar="S",
        help="give up above this share of unusable annotations or images; one or two are always "
        "skipped, unless it is 0 (default: %(default)s)",
    )
    parser.set_defaults(handler=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    from vitpose_jax.data.records.writing import prepare
    from vitpose_jax.tasks.run import log_plainly

    log_plainly()
    prepare(
        options.source,
        options.out,
        input_size=options.input_size,
        splits=tuple(options.splits),
        max_bad_share=options.max_bad_share,
    )
    print(f"train on it with the data set {options.out}")
    return 0


def _add_prepare_3dpw(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "prepare-3dpw",
        help="find the keypoints of 3DPW's people with a pose model",
        description="Runs a pose model over 3DPW's images and writes DATA/keypoints, which "
        "configs/forecast_3dpw.py:DATA,keypoints trains on. Goes on where it was stopped.",
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="the folder with sequenceFiles and imageFiles")
    add("--weights", required=True, metavar="W", help="pose model, as for `vitpose predict`")
    _add_num_heads(parser)
    add("--splits", nargs="+", default=["train", "validation", "test"], metavar="SPLIT")
    add("--detector", metavar="NAME", help="take boxes of a detector that overlap the actors'")
    add("--again", action="store_true", help="also sequences that are there already")
    parser.set_defaults(handler=_prepare_3dpw)


def _prepare_3dpw(options: argparse.Namespace) -> int:
    from vitpose_jax.commands.prepare_3dpw import prepare_3dpw

    return prepare_3dpw(options)


def _add_num_heads(group: "argparse._ActionsContainer") -> None:
    group.add_argument(
        "--num-heads", type=int, metavar="N", help="attention heads, for weights of unusual width"
    )


def _add_quickstart(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "quickstart",
        help="train a small model on synthetic people, in minutes",
        description="Trains a small ViTPose on synthetic people (nothing is downloaded), evaluates "
        "it before and after, and draws what it sees. A stopped run goes on when started again.",
    )
    parser.add_argument(
        "--out", metavar="DIR", default="runs/quickstart", help="folder of the run (%(default)s)"
    )
    parser.set_defaults(handler=_quickstart)


def _quickstart(options: argparse.Namespace) -> None:
    from vitpose_jax.commands.quickstart import quickstart
    from vitpose_jax.tasks.run import log_plainly

    log_plainly()
    quickstart(options.out)


def _add_export(commands: "argparse._SubParsersAction") -> None:
    parser = commands.add_parser(
        "export",
        help="turn a training run into weights",
        description="Writes the model of a training run as a weights folder, for --weights and for "
        "config.init_from.",
    )
    parser.add_argument("workdir", metavar="WORKDIR", help="the run's folder")
    parser.add_argument("--out", metavar="DIR", required=True, help="weights folder to write")
    parser.add_argument(
        "--step",
        metavar="STEP",
        default="best",
        help="which checkpoint: best (by the run's metric; the default), latest, or a step",
    )
    parser.set_defaults(handler=_export)


def _export(options: argparse.Namespace) -> None:
    from vitpose_jax.tasks.export import export_run
    from vitpose_jax.tasks.run import log_plainly

    log_plainly()
    step = export_run(options.workdir, options.out, options.step)
    print(f"step {step} of {options.workdir} -> {options.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status (0 done, 2 a mistake the user can put right)."""
    options = build_parser().parse_args(argv)
    enable_compilation_cache()
    try:
        return options.handler(options) or 0
    except UserError as error:
        print(f"vitpose {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

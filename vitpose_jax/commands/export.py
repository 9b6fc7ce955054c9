"""`vitpose export`: a model as weights, or as a file that runs elsewhere."""

import argparse
from pathlib import Path
from typing import Any

from vitpose_jax.commands.options import add_num_heads, parse_size
from vitpose_jax.errors import UserError, printable

DECODERS = ("udp", "dark", "default")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Writes a pose model or a forecaster as a folder of weights (for --weights and "
        "config.init_from), as ONNX or as StableHLO. An ONNX or StableHLO file is complete: crops "
        "and their regions in, keypoints and scores in pixels of the picture out. It comes with a "
        "description, FILE.json, that certifies how far its results are from the library's. "
        "`vitpose predict --weights FILE` runs it."
    )
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        metavar="W",
        help="a training run, a folder of weights, a .pth, or a hub id",
    )
    add(
        "--to",
        choices=("weights", "onnx", "stablehlo"),
        default="weights",
        help="what to write (default: %(default)s)",
    )
    add("--out", metavar="F", help="the folder of weights, or the .onnx or .stablehlo file")
    add(
        "--step",
        metavar="STEP",
        default="best",
        help="which checkpoint of a run: best (by its metric; the default), latest, or a step",
    )
    add(
        "--verify",
        metavar="FILE",
        help="check an exported file instead: that it was not changed, and that running it here "
        "gives the results of its certificate",
    )

    model = parser.add_argument_group("the model")
    add = model.add_argument
    add("--dataset", metavar="NAME", help="whose expert and keypoints, for ViTPose+ weights")
    add("--skeleton", metavar="FILE|NAME", help="the keypoints, as for `vitpose predict`")
    add_num_heads(model)
    add("--input-size", type=parse_size, metavar="HxW", help="crop size (default: the weights')")

    exported = parser.add_argument_group("ONNX and StableHLO")
    add = exported.add_argument
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute type (default: %(default)s; bfloat16 for StableHLO only)",
    )
    add(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        help="without the mirrored pass: twice as fast, slightly less accurate",
    )
    add(
        "--decoder",
        choices=DECODERS,
        default=DECODERS[0],
        help="how heatmaps become points (default: %(default)s)",
    )
    add(
        "--heatmaps",
        action="store_true",
        help="the network alone: normalised crops in, heatmaps out",
    )
    add(
        "--pictures",
        nargs="+",
        metavar="PICTURE",
        help="of one person each, to compare results on (default: drawn people)",
    )


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.verify is not None:
        return _verify(options)
    if options.source is None or options.out is None:
        raise UserError("give what to export and --out, or --verify FILE to check an exported file")
    from vitpose_jax.data.coco.skeleton_file import read_skeleton
    from vitpose_jax.keypoints.skeletons import SKELETONS
    from vitpose_jax.tasks.opening import open_model
    from vitpose_jax.tasks.run import export_run, log_plainly
    from vitpose_jax.weights.sources import is_run

    log_plainly()
    if options.dataset is not None and options.dataset not in SKELETONS:
        raise UserError(f"no data set {options.dataset!r}: choose one of {', '.join(SKELETONS)}")
    chosen = {name: getattr(options, name) for name in ("dataset", "num_heads", "input_size")}
    chosen["skeleton"] = None if options.skeleton is None else read_skeleton(options.skeleton)
    if options.to == "weights" and is_run(options.source) and not any(chosen.values()):
        step = export_run(options.source, options.out, options.step)
        print(printable(f"step {step} of {options.source} -> {options.out}"))
        return 0
    if options.to != "weights":
        _check(options)
    model = open_model(options.source, options.step, **chosen)
    if options.to == "weights":
        _save(model, options.out)
        print(printable(f"{options.source} -> {options.out}"))
        return 0
    values = _export(model, options)
    certificate = values["certificate"]
    worst = max(v for name, v in certificate.items() if name.endswith("_deviation"))
    found = f"{worst:.1g} of the largest value"
    if "largest_pixels" in certificate:
        left_out = certificate["keypoints"] - certificate["steady_keypoints"]
        found = (
            f"{certificate['largest_pixels']:.2g} pixels ({certificate['steady_keypoints']} "
            f"keypoints; {left_out} more are decided by rounding), {found}"
        )
    size = values["size"] / 2**20
    print(
        printable(
            f"{options.source} -> {options.out} ({size:.1f} MiB) and {options.out}.json; largest "
            f"deviation from the library: {found}"
        )
    )
    return 0


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be exported before anything is loaded."""
    from vitpose_jax.export.writing import DTYPES, check_out

    check_out(Path(options.out), options.to)
    if options.to == "onnx":
        try:
            import onnx  # noqa: F401
        except ImportError:
            raise UserError("writing ONNX needs: pip install 'vitpose-jax[onnx]'") from None
    if options.dtype not in DTYPES[options.to]:
        raise UserError(
            f"--dtype {options.dtype}: for {options.to} choose one of "
            f"{', '.join(DTYPES[options.to])}"
        )


def _save(model: Any, folder: str) -> None:
    from vitpose_jax.models.pose import PoseModel
    from vitpose_jax.weights import save_forecaster, save_pose_model

    (save_pose_model if isinstance(model, PoseModel) else save_forecaster)(model, folder)


def _export(model: Any, options: argparse.Namespace) -> dict[str, Any]:
    from vitpose_jax.export.writing import export_forecaster, export_pose
    from vitpose_jax.models.pose import PoseModel

    out = Path(options.out)
    if not isinstance(model, PoseModel):
        if options.heatmaps or options.dtype != "float32" or options.pictures:
            raise UserError(
                f"{options.source} is a forecaster: it is exported in float32, and --heatmaps and "
                "--pictures are for pose models"
            )
        return export_forecaster(model, out, options.to, source=options.source)
    return export_pose(
        model,
        out,
        options.to,
        source=options.source,
        dtype=options.dtype,
        flip_test=options.flip_test,
        method=options.decoder,
        alone=options.heatmaps,
        pictures=[(picture, None) for picture in options.pictures] if options.pictures else None,
    )


def _verify(options: argparse.Namespace) -> int:
    from vitpose_jax.export.certificate import check_probe
    from vitpose_jax.inference.exported import load_exported

    artefact, runtime = load_exported(options.verify)
    found = check_probe(artefact, runtime)
    parts = [
        f"{name} {value:.1g}{' pixels' * (name == 'keypoints')}" for name, value in found.items()
    ]
    print(
        printable(
            f"{options.verify}: unchanged; on {runtime.device} its results are those of its "
            f"certificate (largest deviation: {', '.join(parts)})"
        )
    )
    return 0

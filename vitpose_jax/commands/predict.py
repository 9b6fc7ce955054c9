"""`vitpose predict`: from files, folders, videos and cameras to results on disk."""

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitpose_jax.commands.options import (
    add_category,
    add_min_score,
    add_num_heads,
    add_results,
    parse_size,
)
from vitpose_jax.errors import printable
from vitpose_jax.weights.zoo import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL

if TYPE_CHECKING:
    from vitpose_jax.inference.estimator import PoseEstimator

FORMATS = ("json", "jsonl", "csv")
ANIMALS = ("ap10k", "apt36k")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Finds people's poses in pictures, folders, videos and cameras. Writes "
        "keypoints.json (COCO results) into the folder --out, and pictures or videos beside it. "
        "What is found is kept as it is found: --resume goes on with a run that was stopped. "
        "Exit status: 0 all went well; 1 results were written, but something was skipped or cut "
        "short (each case is reported at the end); 2 nothing could be done; 130 or 143 stopped."
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
        default=DEFAULT_POSE_MODEL,
        metavar="W",
        help="a published model (`vitpose models` lists them; downloaded once), a folder, a "
        "training run, a .pth, a hub id, or an .onnx or .stablehlo file of `vitpose export` "
        "(default: %(default)s)",
    )

    people = parser.add_argument_group("where the people are")
    add = people.add_argument
    add(
        "--boxes",
        metavar="FILE",
        help="COCO detections or annotations (JSON); pictures are matched by file_name, or by "
        "image_id as the number in the file name; every box gives one result, in order",
    )
    add_category(people)
    add(
        "--detector",
        metavar="NAME",
        help="dfine-n, dfine-s (the default without --boxes), dfine-m, dfine-l, an .onnx file, or "
        "none: each whole picture is one person",
    )
    add("--nms", action="store_true", help="drop near-duplicate poses (OKS above 0.9)")

    model = parser.add_argument_group("how poses are found")
    add = model.add_argument
    add(
        "--no-flip-test",
        dest="flip_test",
        action="store_false",
        default=None,
        help="skip the mirrored pass: twice as fast, slightly less accurate",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="compute type (default: bfloat16 on accelerators, float32 on CPUs)",
    )
    add("--batch-size", type=int, metavar="N", help="people per batch")
    add(
        "--decoder",
        choices=("udp", "dark", "default"),
        help="how heatmaps become points (default: udp, which ViTPose was trained for)",
    )
    add(
        "--dataset",
        metavar="NAME",
        help="data set whose head and keypoints to use, for ViTPose+ weights: coco, wholebody, "
        "ap10k, ...",
    )
    add(
        "--skeleton",
        metavar="FILE|NAME",
        help="the keypoints, for weights that do not name them: a COCO annotation file of the "
        "training data, a JSON list of names, or a known name such as crowdpose",
    )
    add_num_heads(model)
    add("--input-size", type=parse_size, metavar="HxW", help="crop size (default: the weights')")

    output = parser.add_argument_group("what is written")
    add = output.add_argument
    add_results(output, "predictions")
    add(
        "--format",
        action="append",
        choices=FORMATS,
        help="json: COCO results (the default); jsonl: one JSON object a person, with names; csv: "
        "a table, one row a person; may be repeated",
    )
    add(
        "--draw",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write pictures and videos with boxes and skeletons (default)",
    )
    add("--names", action="store_true", help="draw the keypoints' names, too")
    add("--heatmaps", action="store_true", help="write them overlaid with their heatmaps, too")
    add("--show", action="store_true", help="show videos and cameras in a window meanwhile")
    add_min_score(output, "draw only keypoints with at least this score")
    add("--smooth", action="store_true", help="smooth the poses in videos (One Euro filter)")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    from vitpose_jax.commands.people import (
        ProgressBar,
        conclude,
        counted,
        finish,
        open_journal,
    )
    from vitpose_jax.commands.weights import open_weights
    from vitpose_jax.files.pictures import free_at_once
    from vitpose_jax.files.writing import make_folder
    from vitpose_jax.inference.box_units import BoxUnitsSink
    from vitpose_jax.inference.boxes import BoxFile
    from vitpose_jax.inference.draw import draw_people, overlay_heatmaps
    from vitpose_jax.inference.estimator import PoseEstimator
    from vitpose_jax.inference.finding import open_finder
    from vitpose_jax.inference.formats import results_path
    from vitpose_jax.inference.inputs import expand_inputs
    from vitpose_jax.inference.journal import JOURNAL_FILE
    from vitpose_jax.inference.outputs import (
        drawing_paths,
        refuse_earlier_results,
        refuse_overwriting,
        results_folder,
    )
    from vitpose_jax.inference.pipeline import Pipeline, Report, Sink, in_order
    from vitpose_jax.inference.show import ShowSink, Window
    from vitpose_jax.inference.sinks import PictureSink, Recorder, VideoSink

    free_at_once()
    sources = expand_inputs(options.inputs)
    detector = None if options.boxes else options.detector or DEFAULT_DETECTOR
    weights = open_weights(options.weights, detector)
    is_animal = options.dataset in ANIMALS
    finder = open_finder(options.boxes, options.detector, is_animal, options.category)
    notes = finder.notes(sources) if isinstance(finder, BoxFile) else []
    notes += _useless_options(options, {source.kind for source in sources})
    options.out = results_folder(options.out, "predictions", options.resume, options.overwrite)
    folder, formats = options.out, tuple(options.format or FORMATS[:1])
    drawn = drawing_paths(folder / "drawn", sources) if options.draw else {}
    heatmaps = drawing_paths(folder / "heatmaps", sources) if options.heatmaps else {}
    written = [folder / JOURNAL_FILE, *(results_path(folder, name) for name in FORMATS)]
    written += [path for paths in (drawn, heatmaps) for path in paths.values()]
    plain = {n: [f"{Path(n).name}{suffix}" for suffix in ("", ".jpg", ".mp4")] for n in drawn}
    if renamed := [f"{n} as {p.name}" for n, p in drawn.items() if p.name not in plain[n]]:
        notes.append(f"{len(renamed)} drawn under another name, such as {renamed[0]}")
    given = [source.location for source in sources if source.kind != "camera"]
    refuse_overwriting(written, [*given, *filter(None, (options.boxes, options.weights))])
    if not options.overwrite and not (options.resume and written[0].exists()):
        refuse_earlier_results(written)
    moves = any(source.kind != "image" for source in sources)
    window = Window() if options.show and moves else None
    out = make_folder(folder)
    estimator = PoseEstimator.from_pretrained(
        weights,
        dtype=options.dtype,
        flip_test=options.flip_test,
        dataset=options.dataset,
        skeleton=options.skeleton,
        num_heads=options.num_heads,
        input_size=options.input_size,
        method=options.decoder,
        batch_size=options.batch_size,
        keep_heatmaps=options.heatmaps,
    )
    estimator.weights = options.weights  # as the user knows them
    draw = partial(draw_people, min_score=options.min_score, names=options.names)
    overlay = partial(overlay_heatmaps, input_size=estimator.input_size)
    outputs: list[Sink] = []
    for how, where in ((draw, drawn), (overlay, heatmaps)):
        outputs += [PictureSink(how, where), VideoSink(how, where)] if where else []
    checks = [BoxUnitsSink(finder)] if isinstance(finder, BoxFile) else []
    meanwhile: list[Sink] = [ProgressBar(), *([ShowSink(draw, window)] if window else [])]
    pipeline = Pipeline(estimator, finder, nms=options.nms, smooth=options.smooth)
    settings = _settings(options, estimator)
    with open_journal(options, written, settings, sources, estimator, checks) as journal:
        left = in_order(sources)[journal.done :]
        # One picture rarely shows enough people for a CPU's full batch.
        is_small = [source.kind for source in sources] == ["image"]
        full = estimator.batch_size
        estimator.compile(estimator.network.rows(1, full) if is_small else full)
        started = time.perf_counter()
        found = pipeline.run(left, [Recorder(journal, outputs), *meanwhile, *checks])
        seconds = time.perf_counter() - started
        report = finish(
            Report(problems=sources.problems) + journal.report + found, journal, formats
        )

    results = results_path(out, formats[0])
    conclude(report, len(sources), results)
    written_to = [str(results_path(out, name)) for name in formats]
    people, images = counted(report.people, "person", "people"), counted(report.frames, "image")
    rates = f"{found.people / seconds:.1f} people/s, {found.frames / seconds:.1f} images/s"
    told = printable("; ".join([*written_to, *notes, *report.notes]))
    print(f"{people} in {images} ({rates} on {estimator.network.description}): {told}")
    return 1 if report.problems else 0


def _settings(options: argparse.Namespace, estimator: "PoseEstimator") -> dict[str, Any]:
    """Everything besides inputs and weights that the results depend on."""
    from vitpose_jax.files.fingerprint import digest_files

    names = ["category", "nms", "flip_test", "decoder", "dataset", "num_heads", "smooth"]
    names += ["draw", "names", "heatmaps", "min_score"]
    files = {name: getattr(options, name) for name in ("boxes", "detector")}
    return {
        **{f"--{name.replace('_', '-')}": getattr(options, name) for name in names},
        **{f"--{n}": digest_files([x]) if x and Path(x).is_file() else x for n, x in files.items()},
        "--dtype": estimator.network.description,
        "--batch-size": estimator.batch_size,
        "--input-size": "{}x{}".format(*estimator.input_size),
    }


def _useless_options(options: argparse.Namespace, kinds: set[str]) -> list[str]:
    """Notes on options that have no effect on these kinds of sources."""
    notes = []
    for name in ("smooth", "show"):
        if getattr(options, name) and kinds == {"image"}:
            notes.append(f"--{name} has no effect on pictures")
    return notes

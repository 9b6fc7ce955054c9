"""`vitpose check`: what data, boxes or weights contain, and what is wrong with them."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitpose_jax.commands.options import add_category, add_num_heads, parse_size
from vitpose_jax.errors import UserError, printable


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Reads a data set as training would, a file of boxes, or weights, and reports "
        "what they contain: counts, keypoints, left-right pairs, limbs, and anything unusual. "
        "The exit status is 1 if data or ground truth would be lost, and 2 if something cannot be "
        "read at all."
    )
    add = parser.add_argument
    add(
        "source",
        metavar="DATA",
        nargs="?",
        help="a data set (as for training), a .json of annotations or boxes, or weights",
    )
    add("--annotations", metavar="FILE", help="a file of annotations, together with --images")
    add(
        "--images",
        metavar="DIR",
        help="the folder of the images of --annotations or of a boxes file",
    )
    add("--boxes", metavar="FILE", help="detections to evaluate on, to be checked with DATA")
    add_category(parser)
    add("--input-size", type=parse_size, default=(256, 192), metavar="HxW", help="crop size")
    add_num_heads(parser)
    add("--html", metavar="OUT", help="also write a page with pictures of people and findings")


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    if (options.source is None) == (options.annotations is None):
        raise UserError("give either DATA or --annotations FILE --images DIR")
    if options.annotations is not None and options.images is None:
        raise UserError("--annotations needs the folder of the images: --images DIR")
    with _warnings_collected() as warnings:
        costs = _check(options)
    for warning in warnings:
        print(f"! {printable(warning)}")
    return int(costs or bool(warnings))


@contextmanager
def _warnings_collected() -> Iterator[list[str]]:
    """Collect the library's warnings, except summaries of data, which are printed anyway."""
    found: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING and record.name != "vitpose_jax.data.opening":
                found.append(record.getMessage())

    logger, handler = logging.getLogger("vitpose_jax"), Collector()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates


def _check(options: argparse.Namespace) -> bool:
    """Print the findings; return whether any of them loses data or ground truth."""
    source = options.source
    if source is not None and Path(source).suffix == ".json" and os.path.isfile(source):
        from vitpose_jax.data.checking import is_annotations
        from vitpose_jax.files.json_file import read_json

        content = read_json(source)
        if not is_annotations(content):
            return _check_boxes(Path(source), options)
        return _check_data(options, content)
    if source is not None and _are_weights(source):
        return _check_weights(source, options.num_heads)
    return _check_data(options)


def _are_weights(source: str) -> bool:
    """Whether this is a file or folder of weights, or could be a hub id of some."""
    from vitpose_jax.data.synthetic.dataset import SYNTHETIC
    from vitpose_jax.weights.sources import HUB_ID, WEIGHT_SUFFIXES, is_run

    path = os.path.expanduser(source)
    if os.path.splitext(path)[1] in WEIGHT_SUFFIXES or is_run(path):
        return True
    if os.path.isdir(path):
        return os.path.exists(os.path.join(path, "config.json"))
    return not os.path.exists(path) and source not in SYNTHETIC and bool(HUB_ID.fullmatch(source))


def _check_data(options: argparse.Namespace, content: object = None) -> bool:
    from vitpose_jax.data.checking import open_file, open_splits
    from vitpose_jax.data.coco.detections import detected_people
    from vitpose_jax.data.overview import describe

    if len(options.category) > 1:
        raise UserError("--category: only one category of annotations is read; give it once")
    category = "".join(options.category)
    notes: list[str] = []
    if content is not None and options.images is None:
        path = Path(options.source)
        dataset, has_pictures = open_file(content, path, options.input_size, category)
        datasets = [dataset]
        if not has_pictures:
            notes.append("its pictures were not found, so they were not checked (--images DIR)")
    else:
        source = options.source
        if options.images is not None:
            paths = {"annotations": options.annotations or source, "images": options.images}
            source = {"train": paths}
        datasets, notes = open_splits(source, options.input_size, category)
        notes = [] if options.images is not None else notes
    for dataset in datasets:
        print(f"{dataset.split}: {printable_lines(describe(dataset, full=True))}")
    for note in notes:
        print(f"note: {printable(note)}")
    if options.boxes:
        people = detected_people(datasets[-1], options.boxes)
        print(f"{options.boxes}: {len(people)} boxes on the images of {datasets[-1].split}")
    if options.html:
        from vitpose_jax.data.page import render_page
        from vitpose_jax.files.writing import write_text

        write_text(options.html, render_page(datasets, str(options.source or options.annotations)))
        print(f"pictures: {options.html}")
    return any(dataset.report is not None and dataset.report.costs for dataset in datasets)


def printable_lines(text: str) -> str:
    """Make each line of a text safe for a terminal."""
    return "\n".join(map(printable, text.splitlines()))


def _check_boxes(path: Path, options: argparse.Namespace) -> bool:
    import numpy as np

    from vitpose_jax.files.pictures import picture_size
    from vitpose_jax.inference.box_units import unit_problem
    from vitpose_jax.inference.boxes import read_boxes

    if options.html:
        raise UserError(f"{path} holds boxes; --html is for data sets")
    file = read_boxes(path, categories=options.category)
    count = sum(map(len, file.boxes.values()))
    print(f"{path}: {count} boxes of people on {len(file.boxes)} pictures or frames")
    for note in file.left_out:
        print(f"note: {printable(note)}")
    problems = list(file.lost)
    boxes, sizes = [], []
    for (name, frame), rows in file.boxes.items():
        size = file.sizes.get(name)
        if size is None and options.images and frame is None:
            picture = Path(options.images) / str(name)
            size = picture_size(picture) if picture.exists() else None
        if size is not None:
            boxes += [box.row[:4] for box in rows]
            sizes += [size] * len(rows)
    if boxes:
        problem = unit_problem(np.array(boxes), np.array(sizes, float))
        problems += [problem] if problem else []
    if len(boxes) < count:
        print(
            f"note: {count - len(boxes)} boxes were not compared with the sizes of their pictures: "
            "the sizes are not known (--images DIR)"
        )
    for problem in problems:
        print(f"! {printable(problem)}")
    return bool(problems)


def _check_weights(source: str, num_heads: int | None) -> bool:
    from vitpose_jax.data.overview import describe_skeleton
    from vitpose_jax.keypoints.skeletons import SKELETONS
    from vitpose_jax.models.vit import ViTConfig
    from vitpose_jax.weights.checkpoint import Hints
    from vitpose_jax.weights.loading import load_stored

    stored = load_stored(source, Hints(num_heads=num_heads))
    backbone = stored.backbone
    size = sum(array.size for array in stored.arrays.values())
    print(
        f"{source}: {size / 1e6:.1f} million parameters; a ViT {backbone.width} wide, "
        f"{backbone.depth} blocks, {backbone.num_heads} heads, for crops of "
        f"{backbone.input_size[0]}x{backbone.input_size[1]}"
    )
    if isinstance(stored.config, ViTConfig):
        print("  a backbone alone: to start training from (config.init_from)")
        return False
    config = stored.config
    skeleton = config.skeleton or (SKELETONS[config.dataset] if config.dataset else None)
    print(f"  decoder: {config.decoder.kind}, {config.decoder.num_keypoints} keypoints")
    if skeleton is None:
        print("note: the weights do not name them (give `vitpose predict` a --skeleton)")
        return False
    print(printable_lines("\n".join(describe_skeleton(skeleton))))
    return False

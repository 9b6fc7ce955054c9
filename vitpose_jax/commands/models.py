"""`vitpose models`: the published models that can be named."""

import argparse
import json
from dataclasses import asdict


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the command and its options."""
    parser.description = (
        "Lists the published models that --weights and --detector take by name. They are "
        "downloaded when they are first used."
    )
    parser.add_argument("--json", action="store_true", help="as JSON, with revisions and digests")


def run(options: argparse.Namespace) -> int:
    """Print the table."""
    from vitpose_jax.weights.hub import missing_files, snapshot_folder
    from vitpose_jax.weights.zoo import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL, DETECTORS, POSE_MODELS

    models = [*POSE_MODELS.values(), *DETECTORS.values()]
    here = {model.name: not missing_files(model) for model in models}
    if options.json:
        defaults = (DEFAULT_POSE_MODEL, DEFAULT_DETECTOR)
        more = [
            {"default": m.name in defaults, "in_cache": here[m.name], "folder": snapshot_folder(m)}
            for m in models
        ]
        entries = [asdict(model) | extra for model, extra in zip(models, more, strict=True)]
        print(json.dumps(entries, indent=2, default=str))
        return 0
    header = ("name", "network", "trained on", "keypoints", "AP", "MB", "licence", "here")
    for title, table, default in (
        ("Pose models (--weights)", POSE_MODELS, DEFAULT_POSE_MODEL),
        ("Detectors of people (--detector)", DETECTORS, DEFAULT_DETECTOR),
    ):
        rows = [
            (
                *(m.name, m.network, m.trained_on, m.keypoints),
                *(f"{m.ap:.1f}", str(m.megabytes), m.licence, "yes" if here[m.name] else "no"),
            )
            for m in table.values()
        ]
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        print(f"{title}; default: {default}")
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            print("  " + "  ".join(cells).rstrip())
        source = next(iter(table.values())).source
        print(f"  AP on COCO val2017, in percent, as published: {source}\n")
    return 0

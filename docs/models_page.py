"""Write docs/models.md from the table of published models: python docs/models_page.py"""

from pathlib import Path

from vitpose_jax.weights.zoo import (
    DEFAULT_DETECTOR,
    DEFAULT_POSE_MODEL,
    DETECTORS,
    POSE_MODELS,
    Published,
)

PAGE = Path(__file__).with_name("models.md")
TEXT = """# Models

The published models that have names, as `vitpose models` lists them. They are downloaded from the Hugging Face hub when they are first used, at a fixed revision, and checked against the SHA-256 below where one is known. Digests and revisions are as independent projects recorded them; the hub's own check covers the rest. A name without its `plus-` (`small`) or in the original's spelling (`vitpose-b`) is understood, too.

AP are the authors' figures, in percent; they have not been reproduced here. (This page is written by `python docs/models_page.py`.)

## Pose models

For `--weights` and `PoseEstimator.from_pretrained`; the default is `{pose}`. AP on COCO val2017 at 256x192, with the boxes of a detector of 56 AP on people and the flip test ([source]({pose_source})).

{pose_table}

## Detectors of people

For `--detector`; the default is `{detector}`. AP of boxes on COCO val2017, over all classes ([source]({detector_source})).

{detector_table}
"""  # noqa: E501


def page() -> str:
    """The whole page."""
    return TEXT.format(
        pose=DEFAULT_POSE_MODEL,
        pose_source=POSE_MODELS[DEFAULT_POSE_MODEL].source,
        pose_table=table(POSE_MODELS),
        detector=DEFAULT_DETECTOR,
        detector_source=DETECTORS[DEFAULT_DETECTOR].source,
        detector_table=table(DETECTORS),
    )


def table(models: dict[str, Published]) -> str:
    """One row a model."""
    header = ("name", "network", "trained on", "keypoints", "AP", "MB", "licence", "where")
    rows = [header, ("---",) * (len(header))]
    for m in models.values():
        digest = f", SHA-256 `{m.sha256[:12]}…`" if m.sha256 else ""
        address = f"https://huggingface.co/{m.repository}/tree/{m.revision}"
        where = f"[{m.repository}]({address}){digest}"
        row = (f"`{m.name}`", m.network, m.trained_on, m.keypoints or "-", f"{m.ap:.1f}")
        rows.append((*row, str(m.megabytes), m.licence, where))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    PAGE.write_text(page())

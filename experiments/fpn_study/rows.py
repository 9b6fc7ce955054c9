"""The rows of the study: which configuration, and what is changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_collections

from configs import fpn
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.tasks.recipes import quickstart_recipe, small_recipe


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        config: its row in configs/fpn.py.
        about: what the table says of it.
        changes: the values set in its configuration, by dotted name.
        reference: the row that it is one switch away from.
        wider: how many times wider than the pretrained one its decoder is (`wide_decoder.py`).
    """

    config: str
    about: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    reference: str = ""
    wider: float = 1.0


TUNED = {"init_parts": ("backbone", "decoder")}
MENDED = {
    "random_positions": False,
    "drop_in_frozen": False,
    "model.neck.tap_norm": True,
    "model.neck.strides": (1, 1, 1),
    "model.neck.init_std": None,
}
"""Everything that was found wrong with the intermediate rows, put right."""

FAULTS = {
    "positions": ("random_positions", "the pretrained position embedding"),
    "norm": ("model.neck.tap_norm", "the final norm on tapped blocks"),
    "strides": ("model.neck.strides", "strides 1, 1, 1"),
    "init": ("model.neck.init_std", "initial weights by fan-in"),
}

ROWS: dict[str, Row] = {
    "baseline": Row("head_baseline", "the pretrained decoder as it is", TUNED),
    "head_baseline": Row("head_baseline", "the decoder trained anew"),
    "residual": Row("residual", "residual pyramid, pretrained decoder frozen"),
    "finetune": Row("head_baseline", "no neck, pretrained decoder fine-tuned", TUNED),
    "dense": Row("dense", "strides 1,2,4,8 as coded"),
    "intermediate_3_7_11": Row("intermediate_3_7_11", "blocks 3,7,11 as coded"),
    "intermediate_9_10_11": Row("intermediate_9_10_11", "blocks 9,10,11 as coded"),
    "intermediate_3_7_11_mended": Row(
        "intermediate_3_7_11", "blocks 3,7,11, everything mended", MENDED
    ),
    **{
        f"3_7_11_mend_{name}": Row(
            "intermediate_3_7_11", f"as coded, but {words}", {key: MENDED[key]},
            "intermediate_3_7_11",
        )
        for name, (key, words) in FAULTS.items()
    },
    "3_7_11_mended_but_drop": Row(
        "intermediate_3_7_11",
        "mended, but stochastic depth 0.3 in the frozen backbone",
        MENDED | {"drop_in_frozen": True},
        "intermediate_3_7_11_mended",
    ),
    "residual_tuned": Row(
        "residual", "residual pyramid, decoder fine-tuned", {"frozen": ("backbone",)}
    ),
    "residual_averaged": Row(
        "residual", "residual pyramid, decoder frozen, moving average of weights", {"ema": 0.99}
    ),
    "intermediate_9_10_11_mended": Row(
        "intermediate_9_10_11", "blocks 9,10,11, everything mended", MENDED
    ),
    "simple": Row("simple", "ViTDet's simple pyramid"),
    "log_spaced": Row("log_spaced", "strides 1,3,9,27 as coded"),
    "wide_gap": Row("wide_gap", "strides 1,2,8,32 as coded"),
    **{
        f"dense_mend_{name}": Row("dense", f"as coded, but {words}", {key: value}, "dense")
        for name, key, value, words in (
            ("cumulative", "model.neck.cumulative", False, "each stride on the backbone's map"),
            ("downsample", "model.neck.downsample", "average", "window means, not single pixels"),
            ("top_down", "model.neck.top_down", "next", "the top-down path one level at a time"),
            ("init", "model.neck.init_std", None, "initial weights by fan-in"),
        )
    },
    "dense_mended": Row(
        "dense",
        "strides 1,2,4,8, all four mended",
        {
            "model.neck.cumulative": False,
            "model.neck.downsample": "average",
            "model.neck.top_down": "next",
            "model.neck.init_std": None,
        },
    ),
}  # fmt: skip
"""In the order in which they are run: what matters most first."""


def _detail(about: str, **neck: Any) -> Row:
    changes = {f"model.neck.{name}": value for name, value in neck.items()}
    return Row("detail", about, changes, "detail" if neck else "")


ROWS |= {
    "detail": _detail("the pyramid that sees the picture, decoder frozen"),
    "decoder_wide": Row(
        "head_baseline",
        "no neck, pretrained decoder made 2.5 times wider, then tuned",
        {"init_parts": ("backbone",)},
        wider=2.5,
    ),
    "detail_no_image": _detail("the same, its stem left out", sources=("backbone", "decoder")),
    "detail_stem_only": _detail("the same, sees the picture only", sources=("image",)),
    "longer": Row(
        "head_baseline", "the whole model trained on", TUNED | {"frozen": ()}, "finetune"
    ),
    "detail_joint": Row(
        "detail", "with the whole model trained on", {"frozen": ()}, "detail"
    ),
    "detail_no_backbone": _detail("the backbone's map left out", sources=("image", "decoder")),
    "detail_no_decoder": _detail("the decoder's map left out", sources=("image", "backbone")),
    "detail_taps": _detail("with two earlier blocks' maps", taps=(3, 7)),
    "detail_depth_2": _detail("two convolutions a map", depth=2),
    "detail_32": _detail("32 channels", channels=32),
    "detail_128": _detail("128 channels", channels=128),
    "detail_to_half": _detail("finest map, and heatmaps, at 1/2 of the crop", finest=2),
    "detail_to_eighth": _detail("finest map at 1/8 of the crop", finest=8),
    "detail_to_sixteenth": _detail("finest map at 1/16 of the crop", finest=16),
}  # fmt: skip


def configuration(
    row: Row, data: str, weights: str, model: PoseConfig, seed: int, recipe: str
) -> ml_collections.ConfigDict:
    """The row's configuration on the backbone of `weights`, whose shape is `model`.

    recipe: "original" leaves the configuration as it is; "small" is for small models on little
    data, on a CPU: spatial-softmax loss, batches of 16, crops that stray as far as those that the
    backbone was trained on, no stochastic depth in a frozen backbone (those are trained without
    any) but in the row that tests it; "detail" is "small" with batches of 32 and AdamW 2e-3 falling
    as a cosine (5e-4 where pretrained parts are trained).
    """
    config = fpn.get_config(f"{row.config},{data}")
    for name, value in row.changes.items():
        *parents, last = name.split(".")
        target = config
        for parent in parents:
            target = target[parent]
        with target.ignore_type():
            target[last] = value
    config.init_from, config.seed = weights, seed
    own = recipe == "detail"  # the stochastic depth that the backbone was trained with
    rate = (model.backbone if own else config.model.backbone).drop_path_rate
    config.model.backbone = model.to_dict()["backbone"] | {"drop_path_rate": rate}
    if config.model.decoder.filters:
        filters = tuple(round(row.wider * width) for width in model.decoder.filters)
        config.model.decoder.update(kind=model.decoder.kind, filters=filters)
    if neck := config.model.neck:
        with neck.ignore_type():
            neck.taps = scale_taps(tuple(neck.get("taps", ())), model.backbone.depth)
            if "channels" in neck and neck.kind != "detail":
                neck.channels = min(neck.channels, model.backbone.width // 2)
    if recipe != "original":
        solo = data == "synthetic-solo"  # crops as those that the backbone was trained on
        trained = quickstart_recipe(data) if solo else small_recipe(data, steps=1)
        config.update(loss=trained.loss, sigma=trained.sigma, batch_size=16, dtype="float32")
        config.augmentation = trained.augmentation
        config.schedule.warmup_steps = 60
        config.eval.metrics = ("pck_torso", "coco")
        config.drop_in_frozen = row.changes.get("drop_in_frozen", False)
    if recipe == "detail":
        tunes = "decoder" not in config.frozen
        config.batch_size, config.optimizer.lr = 32, 5e-4 if tunes else 2e-3
        config.schedule.update(kind="cosine", milestones=())
        if row.changes.get("model.neck.finest") == 2:
            config.sigma *= 2  # the same on the crop
    return config


def scale_taps(taps: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Blocks of a ViT of 12 as those of another depth: the last ones counted from the end, others
    in proportion (3, 7, 11 of 12 are 1, 3, 5 of 6)."""
    if taps == (9, 10, 11):
        return tuple(tap - 12 + depth for tap in taps)
    return tuple((tap + 1) * depth // 12 - 1 for tap in taps)

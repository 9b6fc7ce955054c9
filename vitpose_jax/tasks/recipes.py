"""The recipes that configurations start from: functions that return a complete ConfigDict.

Every value that training reads is set here; there are no defaults elsewhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

import ml_collections
from ml_collections import config_dict

from vitpose_jax.data.augmentation import NO_AUGMENTATION, Augmentation
from vitpose_jax.data.synthetic.dataset import SYNTHETIC
from vitpose_jax.data.tolerance import MAX_BAD_SHARE
from vitpose_jax.errors import UserError
from vitpose_jax.models.vit import VIT_SIZES

LAYER_DECAY = {"small": 0.8, "base": 0.75, "large": 0.8, "huge": 0.85}
"""From the original's configurations, like the stochastic depth in `VIT_SIZES`."""


PRETRAINED = "usyd-community/vitpose-base"
"""The published ViTPose-B with the classic decoder, on the Hugging Face hub."""


def training_recipe(task: str, data: str) -> ml_collections.ConfigDict:
    """Settings common to all tasks, as in the original: AdamW 5e-4, 210 epochs in batches of 512.

    Milestones, `eval_every` and `checkpoint_every` count in epochs if `epochs` is set, and in steps
    if `steps` is; the unused one is None or 0. `log_every` always counts in steps.
    """
    config = ml_collections.ConfigDict()
    config.task = task
    config.seed = 0
    config.data = data
    config.init_from = ""
    config.frozen = ()

    config.batch_size = 512
    config.accumulate = 1
    config.sharding = "data"
    config.optimizer = {
        "kind": "adamw",
        "lr": 5e-4,
        "weight_decay": 0.1,
        "layer_decay": 1.0,
        "clip_norm": 1.0,
        "b2": 0.999,
    }
    config.epochs = config_dict.placeholder(float)
    config.steps = config_dict.placeholder(int)
    config.epochs = 210.0
    config.schedule = {
        "kind": "step",
        "milestones": (170, 200),
        "warmup_steps": 500,
        "warmup_ratio": 0.001,
        "final_ratio": 0.0,
    }
    config.ema = 0.0

    config.eval_every = 10.0
    config.checkpoint_every = 1.0
    config.eval_first = False
    config.log_every = 50
    config.allow_changed_data = False  # whether a run may resume on changed data
    return config


def original_recipe(size: str, data: str, decoder: str = "classic") -> ml_collections.ConfigDict:
    """ViTPose's own training on COCO: lr / 10 at epochs 170 and 200 of 210.

    The backbone has random weights unless `init_from` names pretrained ones; the original starts
    from MAE's.

    Args:
        size: small, base, large or huge.
        data: as for `open_pose_dataset`.
        decoder: classic or simple.
    """
    config = training_recipe("pose", data)
    config.val_data = ""  # another data set to evaluate on
    config.train_share = 1.0  # of the training images
    config.dataset_index = 0  # the expert to train, for ViTPose+
    config.num_workers = 0
    config.category = ""  # the one to read; "" for the one with most people
    config.max_bad_share = MAX_BAD_SHARE  # share of annotations or images that may be unusable

    config.model = {
        "backbone": asdict(VIT_SIZES[size]),
        "decoder": {"kind": decoder, "filters": (256, 256)},
        "neck": None,
    }
    config.dtype = "bfloat16"
    config.init_parts = ()  # what to take from `init_from`; () for what fits the model and data
    config.follow_weights = ("backbone", "neck", "decoder")  # what gets the shape of `init_from`
    config.random_positions = False  # in place of the position embedding in `init_from`
    config.drop_in_frozen = False  # stochastic depth in a frozen backbone

    config.loss = "mse"
    config.sigma = 2.0
    config.augmentation = asdict(Augmentation())
    config.optimizer.layer_decay = LAYER_DECAY[size]
    config.eval = {
        "metrics": ("coco",),
        "boxes": "gt",
        "min_box_score": 0.0,
        "max_people": 20,  # predictions per image that AP and AR use; COCO's number
        "flip_test": True,
        "decode": "udp",
        "batch_size": 64,
        "per_keypoint": False,
    }
    return config


def small_recipe(
    data: str, *, width: int = 192, depth: int = 6, steps: int
) -> ml_collections.ConfigDict:
    """A ViT small enough for a laptop CPU, on 128x96 crops, from scratch.

    Spatial-softmax loss, Muon 3e-3 without layer decay, cosine schedule, float32, and milder
    augmentation than the original's. On synthetic people, 300 steps of Muon achieved as much as 450
    of AdamW (experiments/lspet_from_scratch).
    """
    config = original_recipe("small", data)
    config.model.backbone.update(
        width=width, depth=depth, num_heads=width // 32, input_size=(128, 96), drop_path_rate=0.0
    )
    config.model.decoder.filters = (64, 64)
    config.dtype = "float32"
    config.loss = "softmax"
    config.sigma = 1.5
    config.augmentation.update(
        shift=0.2, half_body_probability=0.0, scale=0.25, rotation=40.0, rotation_probability=0.5
    )
    config.batch_size = 32
    config.optimizer.update(kind="muon", lr=3e-3, weight_decay=0.05, layer_decay=1.0, b2=0.98)
    config.epochs, config.steps = None, steps
    config.schedule.update(kind="cosine", milestones=(), warmup_steps=100)
    config.eval_every = config.checkpoint_every = steps // 10
    return config


def quickstart_recipe(data: str = "synthetic-solo") -> ml_collections.ConfigDict:
    """A few minutes of training, with evaluation before, during and after it.

    The model has a million parameters; the only augmentation is mirroring.
    """
    config = small_recipe(data, width=128, depth=4, steps=1200)
    config.augmentation = asdict(NO_AUGMENTATION) | {"flip_probability": 0.5}
    config.schedule.warmup_steps = 60
    config.eval_first = True
    config.eval_every = 400
    config.checkpoint_every = 100
    config.log_every = 25
    return config


def frozen_backbone_recipe(
    data: str, neck: Mapping[str, object] | None
) -> ml_collections.ConfigDict:
    """A new head on a frozen ViTPose-B, as in the ViTPose-FPN study.

    A tenth of the training images (`random.seed(42)`), 30 epochs in batches of 64, the original's
    learning rate, and its milestones scaled from 210 epochs to 30. `init_from` is the published
    ViTPose-B, or other weights, whose backbone the model then has. The neck's `width` is the
    backbone's.
    """
    config = original_recipe("base", data)
    config.init_from = PRETRAINED
    config.init_parts = config.follow_weights = config.frozen = ("backbone",)
    config.train_share = 0.1
    config.model.neck = neck
    config.batch_size = 64
    config.optimizer.layer_decay = 1.0
    config.epochs = 30.0
    config.schedule.milestones = (170 / 7, 200 / 7)
    config.eval_every = 5.0
    return config


def published_pyramid(*strides: int) -> dict[str, object]:
    """The neck over the backbone's last map as the ViTPose-FPN study coded it."""
    return {
        "kind": "strided",
        "strides": strides,
        "cumulative": True,
        "downsample": "subsample",
        "top_down": "coarsest",
        "init_std": 0.001,
    }


def read_words(argument: str, defaults: str, **choices: Iterable[str]) -> list[str]:
    """Sort the words of a configuration's argument: one of each choice, then the data set.

    >>> read_words("data/mine,large", "base,coco", size=("base", "large"))
    ['large', 'data/mine']

    Args:
        argument: words in any order, separated by commas.
        defaults: the words to use for what `argument` leaves out, in order.
        choices: the allowed words of each choice.

    Raises:
        UserError: an unknown word, or two words for the same choice.
    """
    names = ("coco", *SYNTHETIC)
    found = dict(zip((*choices, "data set"), defaults.split(","), strict=True))
    given: dict[str, str] = {}
    for word in filter(None, argument.split(",")):
        kind = next((kind for kind, words in choices.items() if word in words), "data set")
        if kind == "data set" and not (word in names or "/" in word or Path(word).exists()):
            known = [f"no {kind} ({', '.join(words)})" for kind, words in choices.items()]
            raise UserError(
                f"{word!r} is {', '.join(known)} and no data set ({', '.join(names)}, or a folder)"
            )
        if kind in given:
            raise UserError(f"{given[kind]!r} and {word!r}: give one {kind}")
        given[kind] = word
    return list((found | given).values())

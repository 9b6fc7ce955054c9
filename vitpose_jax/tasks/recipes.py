"""The starting points that the configurations build on; each returns a complete ConfigDict."""

from dataclasses import asdict

import ml_collections
from ml_collections import config_dict

from vitpose_jax.data.augmentation import Augmentation
from vitpose_jax.errors import UserError
from vitpose_jax.models.vit import VIT_SIZES

LAYER_DECAY = {"small": 0.8, "base": 0.75, "large": 0.8, "huge": 0.85}
"""By the original's configurations, as the stochastic depth of `VIT_SIZES` is."""


def original_recipe(
    size: str, data: str, decoder: str = "classic", **backbone: object
) -> ml_collections.ConfigDict:
    """ViTPose's own training on COCO: AdamW 5e-4, batch 512, 210 epochs, lr / 10 at 170 and 200.

    size: small, base, large or huge. data: as `open_pose_dataset` takes it. The backbone starts at
    random unless `init_from` names MAE pretraining weights, as the original's does.
    """
    if size not in VIT_SIZES:
        raise UserError(f"no size {size!r}; choose one of {', '.join(VIT_SIZES)}")
    config = ml_collections.ConfigDict()
    config.task = "pose"
    config.seed = 0
    config.data = data
    config.val_data = ""  # another data set to evaluate on; empty is the same
    config.dataset_index = 0  # the expert to train, for ViTPose+

    config.model = {
        "backbone": asdict(VIT_SIZES[size]) | backbone,
        "decoder": {"kind": decoder, "filters": (256, 256)},
        "neck": None,
    }
    config.dtype = "bfloat16"
    config.init_from = ""
    config.init_parts = ("backbone",)
    config.frozen = ()

    config.loss = "mse"
    config.sigma = 2.0
    config.augmentation = asdict(Augmentation())
    config.num_workers = 0
    config.max_bad_share = 0.05  # of annotations or images that may be unusable

    config.batch_size = 512
    config.accumulate = 1
    config.sharding = "data"
    config.optimizer = {
        "kind": "adamw",
        "lr": 5e-4,
        "weight_decay": 0.1,
        "layer_decay": LAYER_DECAY[size],
        "clip_norm": 1.0,
        "b2": 0.999,
    }
    config.epochs = config_dict.placeholder(float)  # either this or `steps` is set, the other None
    config.steps = config_dict.placeholder(int)  # or 0; milestones and intervals are in that unit
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
    config.eval = {
        "metrics": ("coco",),
        "boxes": "gt",
        "min_box_score": 0.0,
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

    Spatial-softmax loss, Muon 3e-3 without layer decay, cosine schedule, float32; crops stray less
    than the original's. On synthetic people 300 steps of Muon came as far as 450 of AdamW
    (experiments/lspet_from_scratch).
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


def frozen_backbone_recipe(
    data: str, neck: dict[str, object] | None = None, decoder: dict[str, object] | None = None
) -> ml_collections.ConfigDict:
    """A new head on a frozen ViTPose-B, as in the ViTPose-FPN study.

    A tenth of the training images (`random.seed(42)`), 30 epochs in batches of 64, the original's
    learning rate, and its steps at 170 and 200 of 210 epochs brought to 30. `init_from` holds the
    pretrained weights; a neck's `width` is filled in from the backbone's.
    """
    config = original_recipe("base", data)
    config.init_from = "weights/vitpose-b"
    config.frozen = ("backbone",)
    config.train_share = 0.1
    config.model.neck = neck
    config.model.decoder.update(decoder or {})
    config.batch_size = 64
    config.optimizer.layer_decay = 1.0
    config.epochs = 30.0
    config.schedule.milestones = (170 / 7, 200 / 7)
    config.eval_every = 5.0
    return config

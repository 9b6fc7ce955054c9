"""The pose model: backbone, optional neck, decoder."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from vitpose_jax.errors import UserError
from vitpose_jax.keypoints.skeletons import Skeleton, expert_index
from vitpose_jax.models.decoders import DECODERS, DecoderConfig
from vitpose_jax.models.detail_pyramid import HEATMAP_STRIDE, DetailPyramid
from vitpose_jax.models.layers import full_precision
from vitpose_jax.models.neck_config import NeckConfig
from vitpose_jax.models.necks import NECKS, Neck
from vitpose_jax.models.vit import Crops, ViT, ViTConfig


@dataclass(frozen=True)
class PoseConfig:
    """Shape of a pose model.

    Attributes:
        backbone, decoder, neck: the parts; a plain ViTPose has no neck.
        dataset: the data set whose keypoints the decoder finds, if known; a mixture of experts uses
            its expert when no `dataset_index` is passed.
        skeleton: the decoder's keypoints, if they are not those of `dataset` but of the user's own
            data.

    Example:
        >>> backbone = ViTConfig(width=24, depth=1, num_heads=3)
        >>> config = PoseConfig(backbone, DecoderConfig("simple", in_channels=24), dataset="coco")
        >>> config.input_size, config.heatmap_size
        ((256, 192), (64, 48))
    """

    backbone: ViTConfig
    decoder: DecoderConfig
    neck: NeckConfig | None = None
    dataset: str | None = None
    skeleton: Skeleton | None = None

    def __post_init__(self) -> None:
        if self.neck is not None and self.neck.width != self.backbone.width:
            raise UserError(
                f"the neck takes {self.neck.width} channels but the backbone gives "
                f"{self.backbone.width}"
            )
        if self.neck is not None and any(
            not 0 <= tap < self.backbone.depth for tap in self.neck.taps
        ):
            raise UserError(
                f"the neck taps blocks {self.neck.taps}, but the backbone's are "
                f"0..{self.backbone.depth - 1}"
            )
        given = self.backbone.width if self.neck is None else self.neck.out_channels
        if self.decoder.in_channels != given:
            raise UserError(
                f"the decoder takes {self.decoder.in_channels} channels but the "
                f"{'backbone' if self.neck is None else 'neck'} gives {given}"
            )
        if self.neck is not None and self.neck.kind == "detail":
            self._check_detail()
        if self.dataset is not None:
            expert_index(self.dataset)
        if self.skeleton is not None and self.skeleton.num_keypoints != self.num_keypoints:
            raise UserError(
                f"the decoder gives {self.num_keypoints} keypoints but the {self.skeleton.name} "
                f"skeleton has {self.skeleton.num_keypoints}"
            )

    def _check_detail(self) -> None:
        """Raise UserError unless the detail pyramid's maps have the other parts' sizes."""
        (height, width), (rows, columns) = self.input_size, self.backbone.grid_size
        scale = self.decoder.upscaling
        for part, stride, theirs in (
            ("backbone's map", 16, (rows, columns)),
            ("decoder's heatmaps", HEATMAP_STRIDE, (rows * scale, columns * scale)),
        ):
            ours = height // stride, width // stride
            if ours != theirs:
                raise UserError(
                    f"the detail pyramid's map at 1/{stride} of the crop is {ours[0]}x{ours[1]}, "
                    f"but the {part} {theirs[0]}x{theirs[1]}: it needs patches of 16x16 pixels and "
                    "heatmaps of a quarter of the crop"
                )

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the crop in pixels."""
        return self.backbone.input_size

    @property
    def heatmap_size(self) -> tuple[int, int]:
        """(height, width) of the heatmaps."""
        rows, columns = self.backbone.grid_size
        factor = self.decoder.upscaling * (self.neck.upscaling if self.neck else 1)
        return rows * factor, columns * factor

    @property
    def num_keypoints(self) -> int:
        return self.decoder.num_keypoints

    def to_dict(self) -> dict[str, Any]:
        """Nested JSON-serialisable values; `from_dict` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "PoseConfig":
        """Read what `to_dict` returns; raises UserError on missing or unknown entries."""
        try:
            return cls(
                backbone=ViTConfig(**values["backbone"]),
                decoder=DecoderConfig(**values["decoder"]),
                neck=NeckConfig(**values["neck"]) if values.get("neck") else None,
                dataset=values.get("dataset"),
                skeleton=Skeleton.from_dict(own) if (own := values.get("skeleton")) else None,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"not a pose model's configuration: {error}") from None


class PoseModel(nnx.Module):
    """ViTPose: normalised crops in, heatmaps out.

    Example:
        >>> backbone = ViTConfig(width=24, depth=1, num_heads=3)
        >>> config = PoseConfig(backbone, DecoderConfig("simple", in_channels=24))
        >>> model = PoseModel(config, rngs=nnx.Rngs(0))  # random weights
        >>> model(np.zeros((2, 256, 192, 3), np.float32)).shape
        (2, 64, 48, 17)
    """

    def __init__(
        self, config: PoseConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs
    ) -> None:
        """Initialise random weights as the authors do; `dtype` is the compute dtype."""
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.backbone = ViT(config.backbone, dtype=dtype, rngs=rngs)
        self.neck = _build_neck(config, dtype, rngs)
        self.decoder = DECODERS[config.decoder.kind](config.decoder, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        crops: Crops,
        dataset_index: jax.Array | np.ndarray | int | None = None,
        *,
        train: bool = False,
        freeze_backbone: bool = False,
        freeze_neck: bool = False,
        freeze_decoder: bool = False,
        key: jax.Array | None = None,
    ) -> Float32[Array, "batch _ _ _"]:
        """Heatmaps of normalised crops.

        Args:
            crops: normalised with the ImageNet mean and standard deviation.
            dataset_index: for a mixture of experts, int or (B,) ints; by default the expert of
                `config.dataset`.
            train: use stochastic depth (which needs `key` unless its rate is 0), and let batch norm
                use the batch's statistics and update the running ones.
            freeze_backbone: in training, run the backbone as in inference, without a gradient.
            freeze_neck, freeze_decoder: in training, run that part as in inference; the gradient
                still passes through it to earlier parts.
            key: random key.

        Raises:
            ValueError: crops of another size; `dataset_index` or `key` missing.
        """
        if dataset_index is None and self.config.dataset is not None:
            dataset_index = expert_index(self.config.dataset)
        with full_precision(self.dtype):
            train_backbone = train and not freeze_backbone
            neck = self.config.neck
            features, tapped = self.backbone.with_taps(
                crops,
                dataset_index,
                blocks=neck.taps if neck else (),
                norm=bool(neck and neck.tap_norm),
                train=train_backbone,
                key=key,
            )
            if freeze_backbone:
                features, tapped = jax.lax.stop_gradient((features, tapped))
            return self.head(
                crops,
                features,
                tapped,
                train=train,
                freeze_neck=freeze_neck,
                freeze_decoder=freeze_decoder,
            )

    def head(
        self,
        crops: Crops,
        features: Float[Array, "batch _ _ _"],
        tapped: Sequence[Float[Array, "batch _ _ _"]] = (),
        *,
        train: bool = False,
        freeze_neck: bool = False,
        freeze_decoder: bool = False,
    ) -> Float32[Array, "batch _ _ _"]:
        """Heatmaps from the backbone's map after the final norm and the maps of `neck.taps`.

        This is the part of `__call__` after the backbone. Only a "detail" neck reads the crops.
        """
        train_decoder = train and not freeze_decoder
        with full_precision(self.dtype):
            if isinstance(self.neck, DetailPyramid):
                heatmaps, last = self.decoder.with_last_map(features, train=train_decoder)
                return self.neck(crops, features, tapped, last, heatmaps)
            if self.neck is not None:
                features = self.neck(features, tapped, train=train and not freeze_neck)
            return self.decoder(features, train=train_decoder)


def _build_neck(
    config: PoseConfig, dtype: DTypeLike, rngs: nnx.Rngs
) -> Neck | DetailPyramid | None:
    if config.neck is None:
        return None
    if config.neck.kind == "detail":
        return DetailPyramid(config.neck, config.decoder, dtype=dtype, rngs=rngs)
    return NECKS[config.neck.kind](config.neck, dtype=dtype, rngs=rngs)

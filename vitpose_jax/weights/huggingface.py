"""Our weights back into the files of the original code and of transformers."""

from pathlib import Path

import numpy as np

from vitpose_jax.errors import UserError
from vitpose_jax.files.writing import make_folder, replacing
from vitpose_jax.keypoints.normalization import IMAGE_MEAN, IMAGE_STD
from vitpose_jax.keypoints.skeletons import SKELETONS
from vitpose_jax.models.pose import PoseConfig
from vitpose_jax.models.vit import ViTConfig
from vitpose_jax.weights.mapping import backbone_rows, decoder_rows, to_torch
from vitpose_jax.weights.native import Stored, write_weights

ORIGINAL_EPS = 1e-6  # written into the authors' code, not into their files
HF_FILTERS = (256, 256)  # written into transformers' code


def write_original(stored: Stored, file: str | Path) -> tuple[str, ...]:
    """Writes a `.pth` that the authors' code loads: a state dict under `state_dict`.

    Returns:
        Notes for the user.

    Raises:
        UserError: torch is not installed, the model has a neck, or the file cannot be written.
    """
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{file}: writing PyTorch files needs torch: pip install 'vitpose-jax[torch]'"
        ) from None
    tensors = {key: torch.from_numpy(t) for key, t in _tensors(stored, "original").items()}
    make_folder(Path(file).parent)
    with replacing(file) as draft:
        try:
            torch.save({"state_dict": tensors}, draft)
        except RuntimeError as error:  # where the disk is full
            raise UserError(f"{file}: cannot be written ({error})") from None
    eps = stored.backbone.layer_norm_eps
    if eps == ORIGINAL_EPS:
        return ()
    return (
        f"the weights were made for layer_norm_eps {eps}; the original code uses {ORIGINAL_EPS}",
    )


def write_huggingface(stored: Stored, folder: str | Path) -> None:
    """Writes a folder that transformers' `VitPoseForPoseEstimation.from_pretrained` loads.

    It holds config.json, model.safetensors and the image processor's preprocessor_config.json.

    Raises:
        UserError: transformers has no such model (a neck, other filters, no decoder), the folder
            holds a model already, or it cannot be written.
    """
    config = stored.config
    if isinstance(config, ViTConfig):
        raise UserError("a backbone without a decoder has no counterpart in transformers")
    if config.decoder.kind == "classic" and config.decoder.filters != HF_FILTERS:
        raise UserError(
            f"transformers' classic decoder has {HF_FILTERS} filters, this model has "
            f"{config.decoder.filters}; write a .pth file instead"
        )
    if (Path(folder) / "config.json").exists():
        raise UserError(f"{folder}: holds a model already; choose another folder, or remove it")
    texts = {"config.json": _hf_config(config), "preprocessor_config.json": _hf_processor(config)}
    write_weights(folder, _tensors(stored, "huggingface"), texts)


def _tensors(stored: Stored, naming: str) -> dict[str, np.ndarray]:
    config = stored.config
    rows = backbone_rows(stored.backbone)
    if isinstance(config, PoseConfig):
        if config.neck is not None:
            raise UserError("a model with a neck has no counterpart in PyTorch to be written to")
        rows += decoder_rows(config.decoder)
    return to_torch(stored.arrays, rows, naming)


def _hf_config(config: PoseConfig) -> dict:
    backbone = config.backbone
    ratio = backbone.mlp_ratio
    if ratio != int(ratio):
        raise UserError(f"transformers takes whole mlp_ratio only, this model has {ratio}")
    skeleton = config.skeleton or (SKELETONS[config.dataset] if config.dataset else None)
    unnamed = [f"LABEL_{i}" for i in range(config.num_keypoints)]
    labels = unnamed if skeleton is None else skeleton.keypoint_names
    values = {
        "model_type": "vitpose_backbone",
        "image_size": list(backbone.input_size),
        "patch_size": [backbone.patch_size] * 2,
        "hidden_size": backbone.width,
        "num_hidden_layers": backbone.depth,
        "num_attention_heads": backbone.num_heads,
        "mlp_ratio": int(ratio),
        "layer_norm_eps": backbone.layer_norm_eps,
        "out_indices": [backbone.depth],
        "out_features": [f"stage{backbone.depth}"],
    }
    if backbone.num_experts:
        values |= {
            "num_experts": backbone.num_experts,
            "part_features": backbone.part_features,
        }
    return {
        "architectures": ["VitPoseForPoseEstimation"],
        "model_type": "vitpose",
        "backbone_config": values,
        "use_simple_decoder": config.decoder.kind == "simple",
        "scale_factor": 4,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def _hf_processor(config: PoseConfig) -> dict:
    height, width = config.input_size
    return {
        "image_processor_type": "VitPoseImageProcessor",
        "do_affine_transform": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [float(v) for v in IMAGE_MEAN],
        "image_std": [float(v) for v in IMAGE_STD],
        "normalize_factor": 200.0,
        "size": {"height": height, "width": width},
    }

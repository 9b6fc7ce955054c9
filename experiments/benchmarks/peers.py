"""The same network in transformers, torch.compile and ONNX Runtime, where they are installed."""

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vitpose_jax.models.vit import VIT_SIZES


def transformers_model(size: str, decoder: str, seed: int = 0) -> Any:
    """VitPoseForPoseEstimation in float32 with seeded random weights whose heatmaps have peaks."""
    import torch
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    shape = VIT_SIZES[size]
    torch.manual_seed(seed)
    backbone = VitPoseBackboneConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.num_heads,
        image_size=list(shape.input_size),
        layer_norm_eps=shape.layer_norm_eps,
        out_indices=[shape.depth],
        num_experts=1,
        part_features=0,
    )
    labels = {"num_labels": 17, "use_simple_decoder": decoder == "simple"}
    model = VitPoseForPoseEstimation(VitPoseConfig(backbone_config=backbone, **labels))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embeddings" not in name:
                fan_in = parameter[0].numel() if parameter.ndim == 2 else parameter.numel() / 256
                parameter.normal_(0, min(fan_in, 4096) ** -0.5)
    return model.eval()


def same_weights(model: Any, dtypes: tuple[str, ...]) -> dict[str, Any]:
    """Our model with these weights, once for each compute dtype."""
    from vitpose_jax.weights import load_pose_model

    with tempfile.TemporaryDirectory() as folder, _cache_in(folder):
        model.save_pretrained(Path(folder) / "weights")
        return {dtype: load_pose_model(Path(folder) / "weights", dtype=dtype) for dtype in dtypes}


@contextlib.contextmanager
def _cache_in(folder: str):
    """Conversions are kept in `folder` for the while, not in the user's cache."""
    import os

    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = folder
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def eager(model: Any, crops: np.ndarray, dtype: str = "float32") -> Callable[[], Any]:
    """Heatmaps as transformers gives them, of crops (B, H, W, 3)."""
    import torch

    device = torch_device()
    model = _placed(model, device, dtype)
    pixels = _pixels(crops, device, dtype)

    def run():
        with torch.inference_mode():
            return model(pixels).heatmaps

    return run


def compiled(model: Any, crops: np.ndarray, dtype: str) -> Callable[[], Any]:
    """torch.compile (max-autotune on a GPU) over SDPA attention, weights in `dtype`.

    Each call compiles for its own shapes: at the second shape of one function torch.compile would
    turn to dynamic ones, and after eight to eager execution.
    """
    import torch

    torch._dynamo.config.recompile_limit = 64
    device = torch_device()
    model = copy.deepcopy(_placed(model, device, dtype))
    model.backbone.set_attn_implementation("sdpa")
    pixels = _pixels(crops, device, dtype)
    mode = "max-autotune-no-cudagraphs" if device == "cuda" else "default"
    fast = torch.compile(lambda x: model(x).heatmaps, mode=mode, dynamic=False)

    def run():
        with torch.inference_mode():
            return fast(pixels)

    return run


def onnx_runtime(model: Any, crops: np.ndarray) -> Callable[[], Any]:
    """ONNX Runtime on its default settings, float32; on a GPU where it has been built for one."""
    import onnxruntime
    import torch

    class Heatmaps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixels).heatmaps

    pixels = _pixels(crops, "cpu", "float32")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(Heatmaps(), (pixels,), path, dynamo=True, input_names=["x"])
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        session = onnxruntime.InferenceSession(path, providers=providers)
    feed = {"x": pixels.numpy()}
    return lambda: session.run(None, feed)[0]


def photographs(model: Any, items: list[tuple[str, list]], flip: bool) -> Callable[[], np.ndarray]:
    """transformers' own way from JPEG files and boxes to keypoints (people, K, 2), an image at a
    time.

    flip: average with the mirrored crops' heatmaps, which the model itself mirrors back.
    """
    import torch
    from PIL import Image
    from transformers import VitPoseImageProcessor

    from vitpose_jax.keypoints.skeletons import SKELETONS

    device = torch_device()
    model = _placed(model, device, "float32")
    processor = VitPoseImageProcessor()
    pairs = torch.tensor(SKELETONS["coco"].flip_pairs)

    def run() -> np.ndarray:
        found = []
        for path, boxes in items:
            image = Image.open(path).convert("RGB")
            inputs = processor(image, boxes=[boxes], return_tensors="pt").to(device)
            with torch.inference_mode():
                outputs = model(**inputs)
                if flip:
                    mirrored = model(inputs["pixel_values"].flip(3), flip_pairs=pairs)
                    outputs.heatmaps = (outputs.heatmaps + mirrored.heatmaps) / 2
            outputs.heatmaps = outputs.heatmaps.cpu()
            (people,) = processor.post_process_pose_estimation(outputs, boxes=[boxes])
            found += [person["keypoints"].numpy() for person in people]
        return np.stack(found)

    return run


def torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _placed(model: Any, device: str, dtype: str) -> Any:
    """The model there and in that type: itself on a CPU in float32, else a copy."""
    import torch

    if (device, dtype) == ("cpu", "float32"):
        return model
    return copy.deepcopy(model).to(device=device, dtype=getattr(torch, dtype))


def _pixels(crops: np.ndarray, device: str, dtype: str) -> Any:
    import torch

    pixels = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
    return pixels.to(device=device, dtype=getattr(torch, dtype))

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
    device = torch_device()
    pixels = _pixels(crops, device, dtype)
    run = eager_network(model, dtype)
    return lambda: run(pixels)


def compiled(model: Any, crops: np.ndarray, dtype: str) -> Callable[[], Any]:
    """The same by torch.compile for just these crops, see `compiled_network`."""
    pixels = _pixels(crops, torch_device(), dtype)
    run = compiled_network(model, dtype, dynamic=False)
    return lambda: run(pixels)


def onnx_runtime(model: Any, crops: np.ndarray) -> Callable[[], Any]:
    """The same by ONNX Runtime for just these crops, see `onnx_session`."""
    pixels = _pixels(crops, "cpu", "float32")
    session = onnx_session(model, pixels, dynamic=False)
    feed = {"pixels": pixels.numpy()}
    return lambda: session.run(None, feed)[0]


def eager_network(model: Any, dtype: str = "float32") -> Callable[[Any], Any]:
    """Crops (B, 3, H, W) to heatmaps (B, K, h, w), tensors on the device and in `dtype`."""
    import torch

    model = _placed(model, torch_device(), dtype)

    def run(pixels: Any) -> Any:
        with torch.inference_mode():
            return model(pixels).heatmaps

    return run


def compiled_network(model: Any, dtype: str, dynamic: bool) -> Callable[[Any], Any]:
    """torch.compile (max-autotune on a GPU) over SDPA attention, weights in `dtype`.

    dynamic: one program for every number of people; else one for each, which with its default
    limit torch.compile would give up for eager execution after eight.
    """
    import torch

    torch._dynamo.config.recompile_limit = 64
    device = torch_device()
    model = copy.deepcopy(model).to(device=device, dtype=getattr(torch, dtype))
    model.backbone.set_attn_implementation("sdpa")
    mode = "max-autotune-no-cudagraphs" if device == "cuda" else "default"
    fast = torch.compile(lambda x: model(x).heatmaps, mode=mode, dynamic=dynamic)

    def run(pixels: Any) -> Any:
        with torch.inference_mode():
            return fast(pixels)

    return run


def onnx_session(model: Any, pixels: Any, dynamic: bool) -> Any:
    """ONNX Runtime on its default settings, float32; on a GPU where it has been built for one.

    pixels: as the input, "pixels", is going to be; dynamic: but for the number of people.
    """
    import onnxruntime
    import torch

    class Heatmaps(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels):
            return self.model(pixels).heatmaps

    shapes = ({0: torch.export.Dim("people", max=1024)},) if dynamic else None
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "model.onnx")
        with contextlib.redirect_stdout(io.StringIO()):
            torch.onnx.export(
                Heatmaps(),
                (pixels,),
                path,
                dynamo=True,
                input_names=["pixels"],
                dynamic_shapes=shapes,
            )
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        return onnxruntime.InferenceSession(path, providers=providers)


def networks(model: Any, peers: list[str], dtypes: list[str]) -> dict[str, Callable[[Any], Any]]:
    """By name, those peers that `photographs` can use, for any number of people at once."""
    import torch

    device = torch_device()
    found: dict[str, Callable[[Any], Any]] = {}
    if "transformers" in peers:
        eager_run = eager_network(model)
        found["transformers loop float32"] = lambda x: eager_run(x.to(device))
    for dtype in dtypes if "compile" in peers else ():
        run = compiled_network(model, dtype, dynamic=True)
        kind = getattr(torch, dtype)
        found[f"with torch.compile {dtype}"] = lambda x, run=run, kind=kind: run(x.to(device, kind))
    if "onnxruntime" in peers:
        height, width = model.config.backbone_config.image_size
        session = onnx_session(model, torch.zeros(2, 3, height, width), dynamic=True)
        found["with ONNX Runtime float32"] = lambda x: torch.from_numpy(
            session.run(None, {"pixels": x.numpy()})[0]
        )
    return found


def photographs(
    network: Callable[[Any], Any], items: list[tuple[str, list]], flip: bool
) -> Callable[[], np.ndarray]:
    """transformers' own way from JPEG files and boxes to keypoints (people, K, 2), an image at a
    time.

    network: pixels (B, 3, H, W) to heatmaps; flip: average with the mirrored crops' heatmaps.
    """
    from types import SimpleNamespace

    from PIL import Image
    from transformers import VitPoseImageProcessor

    from vitpose_jax.keypoints.skeletons import SKELETONS

    processor = VitPoseImageProcessor()
    partner = SKELETONS["coco"].flip_index

    def run() -> np.ndarray:
        found = []
        for path, boxes in items:
            image = Image.open(path).convert("RGB")
            pixels = processor(image, boxes=[boxes], return_tensors="pt")["pixel_values"]
            heatmaps = network(pixels)
            if flip:
                mirrored = network(pixels.flip(3)).flip(3)[:, partner]
                heatmaps = (heatmaps + mirrored) / 2
            outputs = SimpleNamespace(heatmaps=heatmaps.float().cpu())
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

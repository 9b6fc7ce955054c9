"""Compute the numbers beside this file by running the original PyTorch code.

    PYTHONPATH=ORIGINAL:MMCV:.:tests python tests/golden/make.py [--shared FOLDER]

ORIGINAL is a checkout of klingjac/ViTPoseFPN (a fork of ViTAE-Transformer/ViTPose, Apache-2.0),
MMCV an installed mmcv 1.7.2. Only the files named below are imported from it: with torch 2 and
numpy 2 the packages around them do not import. Two of its lines need a repair before they run: the
transposed convolutions of heads/heatmap_fpn.py pass `bias` in the place of `groups`, and
backbones/vit_moe.py, in some revisions, does not pass `part_features` on to its blocks.

Weights come from a formula (golden_fixtures.py) and pictures from our renderer. With --shared,
numbers that no photograph is needed for are copied from an earlier, larger run of the same code.
"""

import argparse
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from golden_fixtures import STORED, as_input, formula_weights
from PIL import Image
from torch import nn

from vitpose_jax.data.synthetic.scene import render_scene

PAIRS = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12], [13, 14], [15, 16]]
CLASSIC = {"num_deconv_layers": 2, "num_deconv_filters": (64, 64), "num_deconv_kernels": (4, 4)}
SIMPLE = {"num_deconv_layers": 0, "num_deconv_filters": [], "num_deconv_kernels": []}
SAMPLED_ABOVE, EVERY = 2_000, 16
"""Larger arrays of gradients and parameters are stored as every 16th value."""
VIT = {"img_size": (256, 192), "patch_size": 16, "num_heads": 3, "ratio": 1, "qkv_bias": True}


def import_original() -> types.SimpleNamespace:
    """The original's functions and classes, without the rest of mmpose."""
    vision = types.ModuleType("torchvision")
    vision.models, vision.__version__ = types.ModuleType("torchvision.models"), "0"
    sys.modules["torchvision"] = vision  # mmcv imports it, nothing here uses it
    root = next(Path(p) / "mmpose" for p in sys.path if (Path(p) / "mmpose").is_dir())
    rooms = "models models.backbones models.heads models.necks models.losses models.utils core"
    rooms += " core.evaluation core.post_processing datasets datasets.pipelines"
    for name in ("", *rooms.split()):
        package = types.ModuleType(f"mmpose.{name}".rstrip("."))
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[package.__name__] = package
    sys.modules["mmpose.datasets"].builder = registry = types.ModuleType("mmpose.datasets.builder")
    registry.PIPELINES = types.SimpleNamespace(register_module=lambda: lambda kind: kind)
    sys.modules[registry.__name__] = registry
    load = importlib.import_module
    for room, module in (
        ("core.post_processing", "post_transforms"),
        ("core.evaluation", "top_down_eval"),
    ):
        found = load(f"mmpose.{room}.{module}")
        vars(sys.modules[f"mmpose.{room}"]).update(
            {name: value for name, value in vars(found).items() if callable(value)}
        )
    load("mmpose.models.losses.mse_loss")
    return types.SimpleNamespace(
        decode=load("mmpose.core.evaluation.top_down_eval").keypoints_from_heatmaps,
        flip_back=load("mmpose.core.post_processing.post_transforms").flip_back,
        Affine=load("mmpose.datasets.pipelines.top_down_transform").TopDownAffine,
        Target=load("mmpose.datasets.pipelines.top_down_transform").TopDownGenerateTarget,
        ViT=load("mmpose.models.backbones.vit").ViT,
        ViTMoE=load("mmpose.models.backbones.vit_moe").ViTMoE,
        ViTMulti=load("mmpose.models.backbones.vit_multi").ViTMultiOutput,
        Head=load("mmpose.models.heads.topdown_heatmap_simple_head").TopdownHeatmapSimpleHead,
        HeadFPN=load("mmpose.models.heads.heatmap_fpn").TopdownHeatmapSimpleHeadFPN,
        Pyramid=load("mmpose.models.necks.fpn_neck").FeaturePyramidNetwork,
    )


class Predictor(nn.Module):
    """`PosePredictor` of Sarahtj/Vitpose_Pose_Prediction: torch's encoder between two layers."""

    def __init__(self, width: int = 120, depth: int = 2) -> None:
        super().__init__()
        self.input_proj, self.decoder = nn.Linear(34, width), nn.Linear(width, 34)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 8), depth)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder(self.input_proj(x).permute(1, 0, 2))
        return self.decoder(x.permute(1, 0, 2))


def fill(module: nn.Module, weights: dict[str, torch.Tensor], prefix: str = "") -> nn.Module:
    """The module with the weights below the prefix, in evaluation mode."""
    module.load_state_dict(
        {key.removeprefix(prefix): v for key, v in weights.items() if key.startswith(prefix)}
    )
    return module.eval()


def save(name: str, arrays: dict[str, object], rounded: bool = False) -> None:
    """Write NAME.npz, compressed, if asked rounded to 17 significant bits."""
    plain = {k: v.detach().numpy() if torch.is_tensor(v) else v for k, v in arrays.items()}
    if rounded:
        for array in plain.values():
            bits = array.view(np.uint32)
            bits[...] = (bits + 0x40) & 0xFFFFFF80
    np.savez_compressed(STORED / f"{name}.npz", **plain)


def make_inputs(original: types.SimpleNamespace) -> dict[str, np.ndarray]:
    """Four pictures, and the crop of a person of each."""
    (STORED / "pictures").mkdir(exist_ok=True)
    found: dict[str, list] = {"crop": [], "center": [], "scale": [], "bbox": [], "image_file": []}
    for index in range(4):
        scene = render_scene(np.random.default_rng([22, index]))
        person = int(np.flatnonzero(scene.annotated)[-1])
        x, y, w, h = map(float, scene.boxes[person])
        center = np.array([x + w * 0.5, y + h * 0.5], np.float32)  # as in Kpt2dSview...._xywh2cs
        w, h = (w, w / 0.75) if w > 0.75 * h else (h * 0.75, h)
        scale = np.array([w / 200.0, h / 200.0], np.float32) * 1.25
        given = {"img": scene.pixels, "center": center, "scale": scale, "rotation": 0}
        given |= {"joints_3d": np.zeros((17, 3)), "joints_3d_visible": np.zeros((17, 3))}
        given["ann_info"] = {"image_size": np.array([192, 256]), "num_joints": 17}
        crop = original.Affine(use_udp=True)(given)["img"]
        name = f"{index + 1}.png"
        Image.fromarray(scene.pixels).save(STORED / "pictures" / name, optimize=True)
        values = (crop, center, scale, scene.boxes[person].astype(float), name)
        for key, value in zip(found, values, strict=True):
            found[key].append(value)
    arrays = {key: np.array(value) for key, value in found.items()}
    save("inputs", arrays)
    return arrays


def backbone_and_head(original, name: str, simple: bool) -> tuple[nn.Module, nn.Module]:
    loss = {"type": "JointsMSELoss", "use_target_weight": True}
    options = SIMPLE | {"upsample": 4} if simple else CLASSIC
    extra = {"final_conv_kernel": 3 if simple else 1}
    vit = original.ViT(embed_dim=96, depth=4, mlp_ratio=4, **VIT)
    head = original.Head(
        in_channels=96, out_channels=17, extra=extra, loss_keypoint=loss, **options
    )
    weights = formula_weights(name)
    return fill(vit, weights, "backbone."), fill(head, weights, "keypoint_head.")


def decoded(original, heatmaps: np.ndarray, inputs: dict) -> np.ndarray:
    """(N, K, 3): points in the picture and scores, as the original's test settings decode them."""
    n = len(heatmaps)
    points, scores = original.decode(
        heatmaps.copy(),
        inputs["center"][:n],
        inputs["scale"][:n],
        post_process="default",
        kernel=11,
        use_udp=True,
        target_type="GaussianHeatmap",
    )
    return np.concatenate([points, scores], -1)


def make_tiny(original, x: torch.Tensor, inputs: dict) -> None:
    """Both decoders on the first two crops: features, heatmaps, flip test and points."""
    for kind in ("classic", "simple"):
        vit, head = backbone_and_head(original, f"vitpose_tiny_{kind}", kind == "simple")
        features = vit(x)
        heatmaps = head(features).numpy()
        mirrored = head.inference_model(vit(x.flip(3)), PAIRS)
        average = (heatmaps + mirrored) * 0.5
        found = {"features": features, "heatmaps": heatmaps, "heatmaps_flip_avg": average}
        found |= {"center": inputs["center"][:2], "scale": inputs["scale"][:2]}
        found["flip_pairs"] = np.array(PAIRS)
        for name, maps in (("preds", average), ("preds_noflip", heatmaps)):
            found[name] = decoded(original, maps, inputs)
            noise = np.random.default_rng(0).standard_normal(maps.shape, np.float32) * 1e-6
            moved = decoded(original, maps + noise.astype(np.float32), inputs)
            found[f"{name}_noise"] = np.abs(moved - found[name])[..., :2].max(-1)
        if kind == "classic":
            tokens, _ = vit.patch_embed(x)
            tokens = tokens + vit.pos_embed[:, 1:] + vit.pos_embed[:, :1]
            found["tokens_embedded"], blocks = tokens[:1], []
            for block in vit.blocks:
                tokens = block(tokens)
                blocks.append(tokens[:1])
            found["blocks"] = torch.stack([blocks[0], blocks[3]])
            found["heatmaps_flip_avg"] = average[:1]
        save(f"vitpose_tiny_{kind}", found)


def make_experts(original, x: torch.Tensor) -> None:
    """ViTPose+: two crops of one data set, of another, and one of each."""
    vit = original.ViTMoE(embed_dim=96, depth=4, mlp_ratio=2, num_expert=6, part_features=24, **VIT)
    fill(vit, formula_weights("vitpose_plus_tiny"), "backbone.")
    mixed = np.array([5, 1])
    found = {f"features_dataset{i}": vit(x, torch.tensor([i, i])) for i in (0, 3)}
    save(
        "vitpose_plus_tiny",
        found | {"features_mixed": vit(x, torch.tensor(mixed)), "mixed_index": mixed},
    )


def make_strided_pyramid(original, x: torch.Tensor) -> None:
    """`FeaturePyramidNetwork` with three sets of strides, and the decoder that reads one map."""
    weights = formula_weights("fpn_neck_model")
    vit = fill(original.ViT(embed_dim=96, depth=1, mlp_ratio=2, **VIT), weights, "backbone.")
    given = torch.randn((1, 96, 16, 12), generator=torch.Generator().manual_seed(0))
    found: dict[str, object] = {"neck_input": given}
    extra = {"extra": {"final_conv_kernel": 1}, "out_channels": 17, "loss_keypoint": LOSS}
    for strides in ((1, 2, 4, 8), (1, 3, 9, 27), (1, 2, 8, 32)):
        neck = fill(original.Pyramid(96, 4, strides), weights, "neck.")
        choice = {"in_index": [0, 1, 2, 3], "input_transform": "resize_concat"}
        head = original.Head(in_channels=[96] * 4, **choice, **extra, **CLASSIC)
        fill(head, weights, "keypoint_head.")
        label = "_".join(map(str, strides))
        found[f"heatmaps_s{label}"] = head(neck(vit(x[:1])))
        for i, level in enumerate(neck(given)):
            found[f"neck_s{label}_map{i}"] = level
    key = "keypoint_head.deconv_layers.0.weight"
    head = original.Head(in_channels=96, in_index=0, **extra, **CLASSIC)
    fill(head, weights | {key: weights[key][:96]}, "keypoint_head.")
    found["heatmaps_single_s1_2_8_32"] = head(neck(vit(x[:1])))
    save("fpn_neck", found, rounded=True)


LOSS = {"type": "JointsMSELoss", "use_target_weight": True}


def make_block_pyramid(original, x: torch.Tensor) -> None:
    """`ViTMultiOutput` and `TopdownHeatmapSimpleHeadFPN`, with and without transposed layers."""
    weights = formula_weights("fpn_intermediate")
    found = {}
    for taps in ((3, 7, 11), (9, 10, 11)):
        vit = original.ViTMulti(embed_dim=96, depth=12, mlp_ratio=1, out_indices=taps, **VIT)
        fill(vit, {k: v for k, v in weights.items() if k.startswith("backbone.")}, "backbone.")
        label = "_".join(map(str, taps))
        features = vit(x[:1])
        if taps == (3, 7, 11):
            found[f"features_o{label}"] = torch.cat(features)
        for strides, name in ((None, "default"), ((4, 2, 1), "4_2_1")):
            options = {"in_index": [0, 1, 2], "fpn_strides": strides}
            head = fill(
                original.HeadFPN([96] * 3, 17, **options, **CLASSIC), weights, "keypoint_head."
            )
            if taps == (3, 7, 11):
                found[f"fused_o{label}_s{name}"] = head._transform_inputs(features)
            found[f"heatmaps_o{label}_s{name}"] = head(features)
    plain = {k: v for k, v in weights.items() if ".deconv_layers." not in k}
    for part in ("weight", "bias"):
        plain[f"keypoint_head.final_layer.0.{part}"] = plain.pop(
            f"extra_final_layer_no_deconv.{part}"
        )
    head = original.HeadFPN([96] * 3, 17, in_index=[0, 1, 2], **SIMPLE)
    fill(head, plain, "keypoint_head.")
    found["heatmaps_nodeconv_o9_10_11_sdefault"] = head(features)
    save("fpn_intermediate", found, rounded=True)


def make_steps(original, x: torch.Tensor, groups: dict) -> None:
    """Loss and gradients of a batch, and the parameters after a step on it and on another one."""
    vit, head = backbone_and_head(original, "vitpose_tiny_classic", simple=False)
    model = nn.ModuleDict({"backbone": vit, "keypoint_head": head}).train()
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [p],
                "lr": 5e-4 * groups[n]["lr_scale"],
                "weight_decay": groups[n]["weight_decay"],
            }
            for n, p in parameters.items()
        ],
        betas=(0.9, 0.999),
    )
    rng = np.random.default_rng(0)
    found: dict[str, object] = {}

    def stored(array: torch.Tensor) -> np.ndarray:
        array = array.detach().clone().numpy()
        return array.reshape(-1)[::EVERY] if array.size > SAMPLED_ABOVE else array

    def step(prefix: str, index: list[int], max_norm: float) -> None:
        joints = np.concatenate([rng.uniform(0, [192, 256], (2, 17, 2)), np.zeros((2, 17, 1))], -1)
        visible = np.repeat((rng.random((2, 17, 1)) < 0.8).astype(np.float32), 3, -1)
        made = [
            original.Target(sigma=2, encoding="UDP", target_type="GaussianHeatmap")(
                {
                    "joints_3d": j.astype(np.float32),
                    "joints_3d_visible": v,
                    "ann_info": {
                        "num_joints": 17,
                        "image_size": np.array([192, 256]),
                        "heatmap_size": np.array([48, 64]),
                        "joint_weights": np.ones((17, 1), np.float32),
                        "use_different_joint_weights": False,
                    },
                }
            )
            for j, v in zip(joints, visible, strict=True)
        ]
        target, weight = (np.stack([m[k] for m in made]) for k in ("target", "target_weight"))
        heatmaps = head(vit(x[index]))
        given = heatmaps, torch.tensor(target), torch.tensor(weight)
        loss = head.get_loss(*given)["heatmap_loss"]
        optimizer.zero_grad()
        loss.backward()
        if not prefix:
            found.update({f"grad/{n}": stored(p.grad) for n, p in parameters.items()})
            found["acc_pose"] = head.get_accuracy(*given)["acc_pose"]
        norm = nn.utils.clip_grad_norm_(parameters.values(), max_norm)  # as mmcv's OptimizerHook
        optimizer.step()
        found.update(
            {f"{prefix}after/{n}": stored(p) for n, p in parameters.items()}
            | {f"{prefix}bn/{n}": b.clone() for n, b in model.named_buffers()}
            | {
                f"{prefix}x_index": index,
                f"{prefix}target": target,
                f"{prefix}target_weight": weight,
            }
            | {f"{prefix}loss": loss.item(), f"{prefix}grad_norm": norm.item()}
        )

    step("", [0, 1], 1e9)
    found["step2_max_norm"] = found["grad_norm"] / 4
    step("step2_", [2, 3], found["step2_max_norm"])
    save("loss_grad", found)


def make_predictor() -> None:
    """The motion predictor with two layers, on motion that wanders."""
    model = fill(Predictor(), formula_weights("pose_predictor"))
    steps = np.random.default_rng(0).normal(0, 0.01, (4, 10, 34)).cumsum(1) + 0.5
    x = torch.tensor(steps, dtype=torch.float32)
    layers, y = [], model.input_proj(x).permute(1, 0, 2)
    for layer in model.encoder.layers:
        y = layer(y)
        layers.append(y)
    save("pose_predictor", {"x": x, "y": model(x), "layers": torch.stack(layers)})


def copy_earlier(shared: Path) -> None:
    """Numbers of an earlier run that need no photograph, one person in place of two."""
    decode = dict(np.load(shared / "decode.npz"))
    save(
        "decode",
        {name: value[1:2] if value.shape[:1] == (2,) else value for name, value in decode.items()},
    )
    affine = dict(np.load(shared / "affine.npz"))
    save("affine", {n: v for n, v in affine.items() if n.startswith(("syn_", "box_", "clean_"))})
    targets = dict(np.load(shared / "targets.npz"))
    save("targets", targets)
    formula = dict(np.load(shared / "vitpose_s_formula.npz"))
    save("vitpose_s_formula", {n: v[:1] for n, v in formula.items() if n != "seed"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, help="folder of the earlier run")
    options = parser.parse_args()
    original = import_original()
    groups = json.loads((STORED / "param_groups.json").read_text())
    inputs = make_inputs(original)
    x = torch.from_numpy(as_input(inputs["crop"]))
    with torch.no_grad():
        make_tiny(original, x[:2], inputs)
        make_experts(original, x[:2])
        make_strided_pyramid(original, x)
        make_block_pyramid(original, x)
        make_predictor()
    make_steps(original, x, groups)
    if options.shared:
        copy_earlier(options.shared)


if __name__ == "__main__":
    main()

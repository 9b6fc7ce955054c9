"""A small pose network in PyTorch, as other projects build theirs, and the names they give."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn


class LayerScale(nn.Module):
    """As in timm and DINOv2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(width) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.gamma


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, scaled: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.attn = Attention(width, heads)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, 4 * width))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * width, width))
        self.ls1, self.ls2 = (LayerScale(width) if scaled else nn.Identity() for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class ReferenceViT(nn.Module):
    """timm's names, ViTPose's padded patches and its use of the class token's position."""

    def __init__(
        self, grid: tuple[int, int], width: int = 24, depth: int = 2, scaled: bool = True
    ) -> None:
        super().__init__()
        self.grid = grid
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, width, 16, 16, padding=2)
        self.pos_embed = nn.Parameter(torch.randn(1, 1 + grid[0] * grid[1], width))
        self.blocks = nn.Sequential(*(Block(width, 3, scaled) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> (B, rows, columns, C)."""
        tokens = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        tokens = self.blocks(tokens + self.pos_embed[:, 1:] + self.pos_embed[:, :1])
        return self.norm(tokens).unflatten(1, self.grid)


class ReferencePose(nn.Module):
    """With ViTPose's simple decoder behind it."""

    def __init__(self, grid: tuple[int, int], keypoints: int = 17, **options: Any) -> None:
        super().__init__()
        self.backbone = ReferenceViT(grid, **options)
        self.keypoint_head = nn.Module()
        self.keypoint_head.final_layer = nn.Conv2d(24, keypoints, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) -> heatmaps (B, h, w, K)."""
        maps = self.backbone(images).permute(0, 3, 1, 2).relu()
        maps = nn.functional.interpolate(maps, scale_factor=4.0, mode="bilinear")
        return self.keypoint_head.final_layer(maps).permute(0, 2, 3, 1)


def as_mmpose1(golden: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The golden tiny checkpoint under mmpose 1.x's names."""
    names = json.loads((golden / "mmpose1_names.json").read_text())["keys"]
    return {theirs: tensors[original] for theirs, original in names.items()}

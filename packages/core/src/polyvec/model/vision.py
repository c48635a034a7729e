"""The image tower's forward pass on transformers' weights, with equal windows in one attention call.

The stock forward calls attention once per window when flash-attention is absent, and the reference implementation
builds one dense mask over all patches of a batch. Here windows of the same shape are contiguous, so that each shape is
one batched call: time and memory grow linearly with the number of images.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
    Qwen2_5_VLVisionBlock,
)

from polyvec.model.attention import Segments, attend
from polyvec.model.config import VISION_ROPE_THETA
from polyvec.model.layers import gated, rms_norm, rotate
from polyvec.model.recompute import Recompute, run_layer

_FILLED = 32  # tokens of a batch on a CPU are a multiple of it: oneDNN keeps code for each count of rows


def encode_images(
    visual: Qwen2_5_VisionTransformerPretrainedModel,
    patches: Float[Tensor, "patches pixels"],
    grids: Sequence[tuple[int, int]],
    *,
    recompute: Recompute | None = None,
) -> Float[Tensor, "tokens dim"]:
    """Return the merged patch vectors of all images, in the order of `grids`, each image in reading order.

    A patch is a row of `channels · height · width` values. The tower was made for two equal frames in time; their
    weights are summed instead of repeating the pixels. A grid has the rows and columns of merged tokens of an image.
    """
    config, device = visual.config, patches.device
    unit = config.spatial_merge_size**2
    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)  # (dim, pixels)
    n_tokens = sum(rows * columns for rows, columns in grids)
    if n_fill := -n_tokens % _FILLED if device.type == "cpu" else 0:  # a blank image, whose vectors are dropped
        grids, patches = [*grids, (1, n_fill)], functional.pad(patches, (0, 0, 0, n_fill * unit))
    cells = _windows(grids, config.window_size // config.spatial_merge_size // config.patch_size)
    tokens = np.concatenate(cells)  # window order: index of each token in processor order
    areas = np.array([rows * columns for rows, columns in grids])
    owners = np.repeat(np.arange(len(grids)), areas)[tokens]  # image of each token in window order
    windows = Segments.of([len(cell) * unit for cell in cells], device)
    images = Segments.of((np.sort(areas) * unit).tolist(), device)
    # Order within an image does not matter here: rotation comes first, and attention ignores order.
    reorder: tuple[Tensor, Tensor] | None = None
    if len(grids) > 1:
        to_images = torch.from_numpy(np.lexsort((owners, areas[owners]))).to(device)
        reorder = to_images, torch.argsort(to_images)

    order = torch.from_numpy(tokens).to(device)
    hidden = _permute(functional.linear(patches.to(kernel.dtype), kernel), order, unit)
    head_dim = config.hidden_size // config.num_heads
    angles = torch.from_numpy(_angles(grids, config.spatial_merge_size, head_dim)).to(device)
    angles = _permute(angles, order, unit)[:, None, None]
    rotation = angles.cos(), angles.sin()  # (patches, 1, 1, head_dim)

    for index, block in enumerate(visual.blocks):
        rows = (images, reorder) if index in config.fullatt_block_indexes else (windows, None)
        hidden = run_layer(partial(_block, block, rotation, *rows, unit), hidden, index, recompute)
    merged: Tensor = visual.merger(hidden)  # (tokens, dim) in window order
    return merged[torch.argsort(order)[:n_tokens]]


def _block(
    block: Qwen2_5_VLVisionBlock,
    rotation: tuple[Tensor, Tensor],
    segments: Segments,
    reorder: tuple[Tensor, Tensor] | None,
    unit: int,
    hidden: Tensor,
) -> Tensor:
    hidden = hidden + _attend(block.attn, rms_norm(block.norm1, hidden), rotation, segments, reorder, unit)
    return hidden + gated(block.mlp, rms_norm(block.norm2, hidden))


def _attend(
    attention: Qwen2_5_VLVisionAttention,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    segments: Segments,
    reorder: tuple[Tensor, Tensor] | None,
    unit: int,
) -> Tensor:
    states = attention.qkv(hidden).view(len(hidden), 3, attention.num_heads, attention.head_dim)
    rotated, values = rotate(states[:, :2], *rotation), states[:, 2]
    if reorder is not None:
        rotated, values = _permute(rotated, reorder[0], unit), _permute(values, reorder[0], unit)
    queries, keys = rotated.unbind(1)
    output = attend(queries, keys, values, segments, scale=attention.scaling)
    if reorder is not None:
        output = _permute(output, reorder[1], unit)
    projected: Tensor = attention.proj(output.flatten(1))
    return projected


def _permute(rows: Tensor, order: Tensor, unit: int) -> Tensor:
    """Reorder merged tokens, each of which is `unit` consecutive rows."""
    return rows.view(-1, unit, *rows.shape[1:])[order].flatten(0, 1)


def _windows(grids: Sequence[tuple[int, int]], window: int) -> list[np.ndarray]:
    """List the tokens of each window of each image, as indices in processor order; smaller windows first."""
    cells = []
    start = 0
    for rows, columns in grids:
        tokens = np.arange(start, start + rows * columns).reshape(rows, columns)
        cells += [
            tokens[r : r + window, c : c + window].ravel()
            for r in range(0, rows, window)
            for c in range(0, columns, window)
        ]
        start += rows * columns
    return sorted(cells, key=len)


def _angles(grids: Sequence[tuple[int, int]], merge: int, head_dim: int) -> np.ndarray:
    """Compute rotary angles per patch in processor order: half of the pairs rotate by row, half by column."""
    frequencies = 1.0 / VISION_ROPE_THETA ** (np.arange(0, head_dim // 2, 2, dtype=np.float32) / (head_dim // 2))
    angles = []
    for rows, columns in grids:
        positions = np.indices((rows * merge, columns * merge), dtype=np.float32)  # (2, patch rows, patch columns)
        blocks = positions.reshape(2, rows, merge, columns, merge).transpose(1, 3, 2, 4, 0).reshape(-1, 2)
        half = (blocks[:, :, None] * frequencies).reshape(len(blocks), -1)  # row angles, then column angles
        angles.append(np.concatenate([half, half], axis=1))
    return np.concatenate(angles).astype(np.float32)

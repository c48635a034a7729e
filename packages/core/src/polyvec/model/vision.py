"""The image tower's forward pass over transformers' own weights, with equal windows in one attention call.

The stock forward calls attention once per window when flash-attention is absent, and the reference implementation
builds one dense mask over all patches of a batch. Here windows of the same shape are contiguous, so that each shape is
one batched call: time and memory grow linearly with the number of images.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import (
    Qwen2_5_VisionTransformerPretrainedModel,
    Qwen2_5_VLVisionAttention,
)

_ROPE_THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class _Order:
    """An order of the merged tokens in which each group of `count` segments of `length` patches is contiguous."""

    tokens: np.ndarray  # (tokens,): index in processor order
    groups: tuple[tuple[int, int], ...]  # (count, length in patches)


def encode_images(
    visual: Qwen2_5_VisionTransformerPretrainedModel,
    patches: Float[Tensor, "patches pixels"],
    grids: Sequence[tuple[int, int]],
) -> Float[Tensor, "tokens dim"]:
    """Merged patch vectors of all images, in the order of `grids`, each image in reading order.

    Args:
        visual: transformers' vision tower; only its weights are used.
        patches: one row of `channels · height · width` values per patch. The tower was made for two equal frames in
            time; their weights are summed instead of repeating the pixels.
        grids: rows and columns of merged tokens per image.
    """
    config = visual.config
    unit = config.spatial_merge_size**2
    window = config.window_size // config.spatial_merge_size // config.patch_size
    windows, images = _window_order(grids, window, unit), _image_order(grids, unit)
    device = patches.device
    order = torch.from_numpy(windows.tokens).to(device)
    # Position j of `to_images` is where the j-th token of image order stands in window order.
    place = np.empty_like(windows.tokens)
    place[windows.tokens] = np.arange(len(place))
    to_images = torch.from_numpy(place[images.tokens]).to(device)
    from_images = torch.argsort(to_images)

    kernel = visual.patch_embed.proj.weight.sum(2).flatten(1)  # (dim, pixels)
    hidden = functional.linear(patches.to(kernel.dtype), kernel)
    hidden = _reordered(hidden, order, unit)
    head_dim = config.hidden_size // config.num_heads
    angles = torch.from_numpy(_angles(grids, config.spatial_merge_size, head_dim)).to(device)
    angles = _reordered(angles, order, unit)
    rotation = (angles.cos()[:, None], angles.sin()[:, None])  # (patches, 1, head_dim)

    for index, block in enumerate(visual.blocks):
        normed = block.norm1(hidden)
        if index in config.fullatt_block_indexes:
            attended = _attend(block.attn, normed, rotation, images.groups, (to_images, from_images), unit)
        else:
            attended = _attend(block.attn, normed, rotation, windows.groups, None, unit)
        hidden = hidden + attended
        hidden = hidden + block.mlp(block.norm2(hidden))
    merged: Tensor = visual.merger(hidden)  # (tokens, dim) in window order
    return merged[torch.argsort(order)]


def _attend(
    attention: Qwen2_5_VLVisionAttention,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    groups: Sequence[tuple[int, int]],
    reorder: tuple[Tensor, Tensor] | None,
    unit: int,
) -> Tensor:
    states = attention.qkv(hidden).view(len(hidden), 3, attention.num_heads, attention.head_dim)
    queries, keys = _rotate(states[:, 0], rotation), _rotate(states[:, 1], rotation)
    states = torch.stack([queries, keys, states[:, 2]], dim=1)  # (patches, 3, heads, head_dim)
    if reorder is not None:
        states = _reordered(states, reorder[0], unit)
    outputs = []
    start = 0
    for count, length in groups:
        segment = states[start : start + count * length].view(count, length, *states.shape[1:])
        queries, keys, values = segment.permute(2, 0, 3, 1, 4)  # each (count, heads, length, head_dim)
        output = functional.scaled_dot_product_attention(queries, keys, values, scale=attention.scaling)
        outputs.append(output.transpose(1, 2).reshape(count * length, -1))
        start += count * length
    mixed = torch.cat(outputs)
    if reorder is not None:
        mixed = _reordered(mixed, reorder[1], unit)
    projected: Tensor = attention.proj(mixed)
    return projected


def _reordered(rows: Tensor, order: Tensor, unit: int) -> Tensor:
    """Rows in another order of merged tokens, each of which is `unit` consecutive rows."""
    return rows.view(-1, unit, *rows.shape[1:])[order].view(rows.shape)


def _rotate(states: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = rotation
    values = states.float()
    first, second = values.chunk(2, dim=-1)
    return (values * cos + torch.cat([-second, first], dim=-1) * sin).to(states.dtype)


def _window_order(grids: Sequence[tuple[int, int]], window: int, unit: int) -> _Order:
    segments = []
    start = 0
    for rows, columns in grids:
        tokens = np.arange(start, start + rows * columns).reshape(rows, columns)
        segments += [
            tokens[r : r + window, c : c + window].ravel()
            for r in range(0, rows, window)
            for c in range(0, columns, window)
        ]
        start += rows * columns
    return _grouped(segments, unit)


def _image_order(grids: Sequence[tuple[int, int]], unit: int) -> _Order:
    starts = np.cumsum([0, *(rows * columns for rows, columns in grids)])
    return _grouped([np.arange(a, b) for a, b in itertools.pairwise(starts)], unit)


def _grouped(segments: list[np.ndarray], unit: int) -> _Order:
    segments = sorted(segments, key=len)
    lengths, counts = np.unique([len(segment) for segment in segments], return_counts=True)
    groups = tuple((int(count), int(length) * unit) for length, count in zip(lengths, counts, strict=True))
    return _Order(np.concatenate(segments), groups)


def _angles(grids: Sequence[tuple[int, int]], merge: int, head_dim: int) -> np.ndarray:
    """Rotary angles per patch in processor order: half of the pairs turn with the row, half with the column."""
    frequencies = 1.0 / _ROPE_THETA ** (np.arange(0, head_dim // 2, 2, dtype=np.float32) / (head_dim // 2))
    angles = []
    for rows, columns in grids:
        places = np.indices((rows * merge, columns * merge), dtype=np.float32)  # (2, patch rows, patch columns)
        blocks = places.reshape(2, rows, merge, columns, merge).transpose(1, 3, 2, 4, 0).reshape(-1, 2)
        half = (blocks[:, :, None] * frequencies).reshape(len(blocks), -1)  # row angles, then column angles
        angles.append(np.concatenate([half, half], axis=1))
    return np.concatenate(angles).astype(np.float32)

"""How much of the machine's own matrix-multiplication rate encoding reaches: `python benchmarks/peak.py`.

The network has the widths of jina-embeddings-v4 and random weights in bfloat16; on a CPU fewer layers, on a GPU all of
them. What torch's matrix product reaches by itself, at the shapes of the decoder's widest layer, is measured in the
same run, in turns with the encoding. Useful work is counted by hand: two operations per weight that is multiplied and
token, and the products of attention; padding, LoRA and everything that is no matrix product count as nothing.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from made import Item, checkpoint, full_size, images, texts
from transformers import Qwen2_5_VLConfig

from polyvec import Embedder
from polyvec.types import TASKS, Embeddings

ROUNDS = 5
SHARE_AIMED_AT = {"cpu": {"text": 0.70, "images": 0.55}, "cuda": {"text": 0.40, "images": 0.40}}


def gemm_rate(device: torch.device) -> float:
    """Operations per second of the best of some products as the decoder has them."""
    width, inner = 2048, 11008
    best = 0.0
    for rows in (512, 1024, 2048) if device.type == "cpu" else (4096, 8192, 16384):
        left = torch.randn(rows, width, device=device).bfloat16()
        right = torch.randn(inner, width, device=device).bfloat16()
        took = min(timed(lambda: torch.nn.functional.linear(left, right), device) for _ in range(3))  # noqa: B023
        best = max(best, 2 * rows * width * inner / took)
    return best


def timed(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def operations(config: Qwen2_5_VLConfig, embeddings: Embeddings) -> int:
    """Useful operations behind some embeddings."""
    assert embeddings.multivector is not None
    total = 0
    for rows, grid in zip(embeddings.multivector, embeddings.grids, strict=True):
        total += _decoder(config, len(rows))
        if grid is not None:
            total += _tower(config, grid.rows, grid.columns)
    return total


def _decoder(config: Qwen2_5_VLConfig, n_tokens: int) -> int:
    text = config.text_config
    width, heads = text.hidden_size, text.num_attention_heads
    head_dim = width // heads
    keys = text.num_key_value_heads * head_dim
    weights = 2 * width * width + 2 * width * keys + 3 * width * text.intermediate_size
    attention = n_tokens * n_tokens * width  # query · key and weight · value, of the pairs before the diagonal
    return text.num_hidden_layers * 2 * (weights * n_tokens + attention)


def _tower(config: Qwen2_5_VLConfig, rows: int, columns: int) -> int:
    vision = config.vision_config
    width, merge = vision.hidden_size, vision.spatial_merge_size**2
    n_patches = rows * columns * merge
    weights = 4 * width * width + 3 * width * vision.intermediate_size
    side = vision.window_size // vision.patch_size // vision.spatial_merge_size
    cells = [
        min(side, rows - r) * min(side, columns - c) for r in range(0, rows, side) for c in range(0, columns, side)
    ]
    pairs_in_windows = sum((cell * merge) ** 2 for cell in cells)
    n_full = len(vision.fullatt_block_indexes)
    attention = 2 * width * (n_full * n_patches**2 + (vision.depth - n_full) * pairs_in_windows)
    merger = (width * merge) ** 2 + width * merge * vision.out_hidden_size
    patches = vision.in_channels * vision.patch_size**2 * width * n_patches
    return 2 * (vision.depth * weights * n_patches + attention + merger * rows * columns + patches)


def measure(path: Path, device: torch.device, bags: dict[str, Sequence[Item]]) -> None:
    embedder = Embedder.from_pretrained(path, device=device, dtype=torch.bfloat16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}, bfloat16, load average {os.getloadavg()[0]:.1f}; {ROUNDS} rounds, medians")
    print(f"\n{'bag':8}{'items':>7}{'tokens':>8}{'items/s':>10}{'tokens/s':>10}{'TFLOP/s':>9}{'of GEMM':>9}{'aim':>6}")
    for bag, items in bags.items():
        encode = lambda: embedder.encode_document(items, task=TASKS[0], multivector=True)  # noqa: B023, E731
        embeddings = encode()
        encode()  # by now the adapter is folded
        work = operations(embedder.config.backbone, embeddings)
        assert embeddings.multivector is not None
        n_tokens = sum(map(len, embeddings.multivector))
        rates, shares = [], []
        for _ in range(ROUNDS):
            gemm = gemm_rate(device)
            rate = work / timed(encode, device)
            gemm = max(gemm, gemm_rate(device))
            rates.append(rate)
            shares.append(rate / gemm)
        took = work / statistics.median(rates)
        print(
            f"{bag:8}{len(items):7}{n_tokens:8}{len(items) / took:10.1f}{n_tokens / took:10.0f}"
            f"{statistics.median(rates) / 1e12:9.3f}{statistics.median(shares):9.1%}"
            f"{SHARE_AIMED_AT[device.type][bag]:6.0%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--keep", type=Path, help="make the checkpoint here, or take the one that is here")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    small = device.type == "cpu"
    sizes = full_size(9, 8) if small else full_size()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder)
        if not (path / "config.json").is_file():
            checkpoint(path, sizes, rank=32, max_pixels=602_112, dtype=torch.bfloat16)
        n_texts, n_images = (96, 4) if small else (2048, 64)
        measure(path, device, {"text": texts(n_texts), "images": images(n_images)})


if __name__ == "__main__":
    main()

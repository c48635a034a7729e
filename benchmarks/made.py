"""What the benchmarks encode, and untrained checkpoints to encode it with."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig
from PIL import Image
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLConfig

from polyvec.model.checkpoint import DEMO, build, save
from polyvec.model.config import ImageConfig, ModelConfig
from polyvec.synthetic import pages, world
from polyvec.types import TASKS

Item = str | Image.Image

MEDIUM: dict[str, Any] = {
    "text_config": {
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]},
    },
    "vision_config": {
        "depth": 4,
        "hidden_size": 320,
        "intermediate_size": 856,
        "num_heads": 4,
        "out_hidden_size": 512,
        "fullatt_block_indexes": [3],
    },
}


def full_size(n_layers: int = 36, n_blocks: int = 32) -> dict[str, Any]:
    """The widths of jina-embeddings-v4, and as many layers of its two towers; one image block in eight sees all."""
    return {
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": n_layers,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "rope_scaling": {"rope_type": "default", "mrope_section": [16, 24, 24]},
        },
        "vision_config": {
            "depth": n_blocks,
            "hidden_size": 1280,
            "intermediate_size": 3420,
            "num_heads": 16,
            "out_hidden_size": 2048,
            "fullatt_block_indexes": list(range(7, n_blocks, 8)),
        },
    }


def checkpoint(path: Path, sizes: dict[str, Any], *, rank: int, max_pixels: int, dtype: torch.dtype) -> None:
    """Write an untrained checkpoint with the demo's tokenizer."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DEMO / "tokenizer.json"))
    image, video, start, end, stop = tokenizer.convert_tokens_to_ids(
        ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|endoftext|>"]
    )
    torch.manual_seed(0)
    width = sizes["text_config"]["hidden_size"]
    config = ModelConfig(
        backbone=Qwen2_5_VLConfig(
            text_config={
                **sizes["text_config"],
                "vocab_size": len(tokenizer),
                "bos_token_id": stop,
                "eos_token_id": stop,
            },
            vision_config=sizes["vision_config"],
            image_token_id=image,
            video_token_id=video,
            vision_start_token_id=start,
            vision_end_token_id=end,
            tie_word_embeddings=True,
        ),
        lora=LoraConfig(
            r=rank,
            lora_alpha=rank,
            target_modules=r".*(language_model.*_proj|multi_vector_projector)",
            init_lora_weights=False,
        ),
        image=ImageConfig(14, 2, 3136, max_pixels, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)),
        tasks=TASKS,
        multivector_dim=128,
        matryoshka_dims=tuple(size for size in (128, 256, 512, 1024, 2048) if size <= width),
        license="Apache-2.0",
    )
    path.mkdir(parents=True, exist_ok=True)
    save(build(config), config, path, files_from=DEMO, dtype=dtype)


def medium(path: Path) -> None:
    """A quarter of the real width in four layers; a rank of 8 beside it is the share of work that 32 is of 2048."""
    checkpoint(path, MEDIUM, rank=8, max_pixels=200_704, dtype=torch.float32)


def texts(n: int) -> list[str]:
    """Passages of 3 to 400 words, log-normal: most are short, a few are long."""
    rng = np.random.default_rng(1)
    sizes = np.clip(rng.lognormal(np.log(16), 1.0, n), 3, 400).astype(int)
    return [_passage(size, rng) for size in sizes]


def _passage(n_words: int, rng: np.random.Generator) -> str:
    words: list[str] = []
    while len(words) < n_words:
        words += world.text_pair(rng)[1].split()
    return " ".join(words[:n_words])


def images(n: int) -> list[Image.Image]:
    """Pages from a third to three times the area at which the model sees them, in any proportion."""
    rng = np.random.default_rng(2)
    drawn = []
    for _ in range(n):
        size = (pages.TILE * int(rng.integers(12, 28)), pages.TILE * int(rng.integers(14, 32)))
        page = pages.page_image(world.document(rng), rng, size=size)
        drawn.append(page.crop((0, 0, page.width - int(rng.integers(20)), page.height - int(rng.integers(20)))))
    return drawn


def mixed(n_texts: int, n_images: int) -> list[Item]:
    items: list[Item] = [*texts(n_texts), *images(n_images)]
    return [items[index] for index in np.random.default_rng(3).permutation(len(items))]

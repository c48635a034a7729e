"""The untrained network of the demo checkpoint: the real model's architecture at a seven-hundredth of its size."""

from collections.abc import Iterable
from pathlib import Path

import torch
from peft import LoraConfig
from transformers import Qwen2_5_VLConfig

from polyvec.model.checkpoint import build, save
from polyvec.model.config import ImageConfig, ModelConfig
from polyvec.types import TASKS
from recipes.demo.tokenizer import MARKERS, tokenizer


def config(vocabulary_size: int, marker_ids: dict[str, int]) -> ModelConfig:
    """Configure the network."""
    backbone = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": vocabulary_size,
            "hidden_size": 256,
            "intermediate_size": 512,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 32768,
            "rope_scaling": {"rope_type": "default", "mrope_section": [8, 12, 12]},
            "rope_theta": 10_000.0,
            "bos_token_id": marker_ids["<|endoftext|>"],
            "eos_token_id": marker_ids["<|im_end|>"],
        },
        vision_config={
            "depth": 4,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_heads": 4,
            "out_hidden_size": 256,
            "fullatt_block_indexes": [1, 3],
        },
        image_token_id=marker_ids["<|image_pad|>"],
        video_token_id=marker_ids["<|video_pad|>"],
        vision_start_token_id=marker_ids["<|vision_start|>"],
        vision_end_token_id=marker_ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    return ModelConfig(
        backbone=backbone,
        lora=LoraConfig(
            r=4,
            lora_alpha=8,
            target_modules=r".*(language_model.*_proj|multi_vector_projector)",
            exclude_modules=".*visual.*",
        ),
        image=ImageConfig(14, 2, 784, 200_704, (0.95, 0.95, 0.95), (0.3, 0.3, 0.3)),
        tasks=TASKS,
        multivector_dim=128,
        matryoshka_dims=(32, 64, 128, 256),
        license="Apache-2.0",
    )


def blank(path: Path, texts: Iterable[str], seed: int) -> None:
    """Write an untrained checkpoint, whose tokenizer is learned from `texts` and the demo world, if `path` is none."""
    if path.exists():
        return
    part = path.with_name(f"{path.name}-part")
    part.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    bpe = tokenizer(texts, seed)
    bpe.save(str(part / "tokenizer.json"))
    ids = bpe.get_vocab()
    settings = config(len(ids), {marker: ids[marker] for marker in MARKERS})
    save(build(settings), settings, part, files_from=part, dtype=torch.float32)
    part.rename(path)

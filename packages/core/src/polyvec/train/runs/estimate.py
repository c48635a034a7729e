"""What a run needs, by arithmetic: parameters from the configuration, then memory and floating-point operations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from peft import PeftModel

from polyvec.model.checkpoint import build, network_name
from polyvec.model.config import ModelConfig

__all__ = ["Items", "Parameters", "flops", "image_tokens", "memory", "parameters"]

_TEMPLATE_TOKENS = 11  # around an image
_FLOAT32 = 4  # bytes
_ADAM = 4 * _FLOAT32  # a weight, its gradient and two moments


@dataclass(frozen=True, slots=True)
class Parameters:
    """Numbers of parameters. `adapter` is one task's LoRA, `n_adapters` are loaded."""

    embeddings: int
    decoder: int
    vision: int
    projector: int
    adapter: int
    n_adapters: int

    @property
    def base(self) -> int:
        """All but the adapters."""
        return self.embeddings + self.decoder + self.vision + self.projector


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a step: tokens of each text, and merged patches of each image, to which a template is added."""

    texts: Sequence[int] = ()
    images: Sequence[int] = ()

    @property
    def lengths(self) -> list[int]:
        """Tokens of each item, as the decoder sees them."""
        return [*self.texts, *(length + _TEMPLATE_TOKENS for length in self.images)]


def image_tokens(max_pixels: int, config: ModelConfig) -> int:
    """Return the most merged patches that an image of this area has."""
    side: int = config.image.patch_size * config.image.merge_size
    return max_pixels // side**2


def parameters(config: ModelConfig) -> Parameters:
    """Count the parameters of a network. It is built without weights, on the meta device."""
    with torch.device("meta"):
        network: PeftModel = build(replace(config, tasks=config.tasks[:1]))
    counts = dict.fromkeys(("embeddings", "decoder", "vision", "projector", "adapter"), 0)
    for name, parameter in network.named_parameters():
        counts[_part(name)] += parameter.numel()
    return Parameters(**counts, n_adapters=len(config.tasks))


def _part(name: str) -> str:
    if ".lora_" in name:
        return "adapter"
    own = network_name(name)
    if own.startswith("multi_vector_projector."):
        return "projector"
    if own.startswith("model.visual."):
        return "vision"
    return "embeddings" if "embed_tokens" in own else "decoder"


def memory(
    config: ModelConfig,
    sizes: Parameters,
    items: Items,
    *,
    chunk_tokens: int | None,
    checkpointing: bool,
    trains_projector: bool,
    n_bytes: int = 2,
) -> dict[str, int]:
    """Return the bytes that a step takes on the device, by what they hold. A frozen weight has `n_bytes`.

    Activations of a layer are the tensors that PEFT's LoRA and transformers' decoder keep for the backward pass. The
    chunk is as large as the batch without GradCache. What a library keeps for itself is not counted.
    """
    text = config.backbone.text_config
    n_tokens = sum(items.lengths)
    n_chunk = min(n_tokens, max(chunk_tokens or n_tokens, *items.lengths))
    n_trained = sizes.adapter + (sizes.projector if trains_projector else 0)
    n_frozen = sizes.base + sizes.adapter * sizes.n_adapters - n_trained
    layers, width = text.num_hidden_layers, text.hidden_size
    layer = _bytes_of_layer(config, n_bytes)
    kept = n_bytes * layers * width if checkpointing else layers * layer
    n_numbers = n_tokens * config.multivector_dim + len(items.lengths) * config.dim
    return {
        "frozen weights": n_bytes * n_frozen,
        "trained weights, their gradients and Adam": _ADAM * n_trained,
        "activations that are kept of a chunk": n_chunk * kept,
        "a layer of a chunk, computed again": n_chunk * layer if checkpointing else 0,
        "vision tower, without a graph": n_chunk * n_bytes * _numbers_of_patches(config) if items.images else 0,
        "vectors of all items, and their gradients": 2 * _FLOAT32 * n_numbers,
    }


def _bytes_of_layer(config: ModelConfig, n_bytes: int) -> int:
    """Return the bytes per token that a decoder layer with LoRA keeps for its backward pass."""
    text = config.backbone.text_config
    width, inner = text.hidden_size, text.intermediate_size
    keys = width * text.num_key_value_heads // text.num_attention_heads
    layer = n_bytes * (3 * inner + 2 * width + 2 * keys) + _FLOAT32 * 2 * width  # the norms compute in float32
    # Inputs of the seven LoRA A, cast to float32, and of LoRA B; then the masks of dropout.
    lora = _FLOAT32 * (6 * width + inner + 7 * config.lora.r)
    masks = 6 * width + inner if config.lora.lora_dropout else 0
    total: int = layer + lora + masks
    return total


def _numbers_of_patches(config: ModelConfig) -> int:
    """Return the numbers per merged token that a block of the vision tower holds at the same time."""
    vision = config.backbone.vision_config
    numbers: int = vision.spatial_merge_size**2 * (6 * vision.hidden_size + 3 * vision.intermediate_size)
    return numbers


def flops(
    config: ModelConfig, sizes: Parameters, items: Items, *, cached: bool, checkpointing: bool
) -> dict[str, float]:
    """Return the floating-point operations of a step, by pass.

    A multiplication and an addition are two. Causal attention counts half of its square. The base is frozen, so the
    backward pass computes gradients of activations alone, as many operations as the forward pass, and those of LoRA.
    The loss is not counted.

    Args:
        config: of the checkpoint.
        sizes: of the checkpoint.
        items: of the step.
        cached: whether GradCache encodes every item a second time.
        checkpointing: whether the backward pass computes every decoder layer again.
    """
    decoder = sum(_decoder_flops(config, sizes, length) for length in items.lengths)
    lora = 2.0 * sizes.adapter * sum(items.lengths)
    vision = sum(_vision_flops(config, sizes, length) for length in items.images)
    forward = decoder + lora + vision
    return {
        "forward": forward,
        "forward again (GradCache)": forward if cached else 0.0,
        "decoder again (activation checkpointing)": decoder + lora if checkpointing else 0.0,
        "backward": decoder + 2 * lora,
    }


def _decoder_flops(config: ModelConfig, sizes: Parameters, n_tokens: int) -> float:
    text = config.backbone.text_config
    attention: float = text.num_hidden_layers * 4 * text.hidden_size * n_tokens**2 / 2
    return 2.0 * (sizes.decoder + sizes.projector) * n_tokens + attention


def _vision_flops(config: ModelConfig, sizes: Parameters, n_tokens: int) -> float:
    vision = config.backbone.vision_config
    n_merged = vision.spatial_merge_size**2
    n_patches, width = n_tokens * n_merged, vision.hidden_size
    patch_embed = vision.in_channels * vision.patch_size**2 * width  # of both frames, whose kernels are summed
    merger = (n_merged * width) * (n_merged * width + vision.out_hidden_size)
    blocks = sizes.vision - vision.temporal_patch_size * patch_embed - merger
    n_full = len(vision.fullatt_block_indexes)
    in_window = (vision.window_size // vision.patch_size) ** 2
    attended = n_full * n_patches + (vision.depth - n_full) * min(in_window, n_patches)
    linear: float = 2.0 * ((blocks + patch_embed) * n_patches + merger * n_tokens)
    attention: float = 4.0 * width * n_patches * attended
    return linear + attention

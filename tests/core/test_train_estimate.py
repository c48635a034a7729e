from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Qwen2_5_VLConfig

from polyvec.model.checkpoint import build
from polyvec.model.processing import Processor, collate
from polyvec.train.runs.estimate import Items, flops, image_tokens, memory, parameters

V4_TEXT = {
    "vocab_size": 151_936, "hidden_size": 2048, "num_hidden_layers": 36, "num_attention_heads": 16,
    "num_key_value_heads": 2, "intermediate_size": 11_008, "rope_theta": 1e6,
    "rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]},
}  # fmt: skip


@pytest.fixture(scope="module")
def v4(checkpoint):
    """The configuration of jina-embeddings-v4."""
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048}
    backbone = Qwen2_5_VLConfig(text_config=V4_TEXT, vision_config=vision, tie_word_embeddings=True)
    lora = replace(checkpoint.config.lora, r=32, lora_alpha=32)
    image = replace(checkpoint.config.image, max_pixels=602_112)
    return replace(checkpoint.config, backbone=backbone, lora=lora, multivector_dim=128, image=image)


@pytest.fixture(scope="module")
def sizes(v4):
    return parameters(v4)


def test_the_published_numbers_of_parameters_are_counted(sizes):
    assert sizes.embeddings + sizes.decoder == 3_085_938_688
    assert (sizes.embeddings, sizes.vision) == (311_164_928, 668_684_288)
    assert (sizes.projector, sizes.adapter, sizes.n_adapters) == (262_272, 59_936_768, 3)
    assert sizes.base + 3 * sizes.adapter == 3_934_695_552


def test_the_memory_of_a_step_is_the_sum_of_its_parts(v4, sizes):
    page = image_tokens(602_112, v4)
    assert page == 768
    items = Items(texts=[20] * 256, images=[page] * 256)
    options = {"chunk_tokens": 8 * 779, "checkpointing": True, "trains_projector": True}
    parts = memory(v4, sizes, items, **options)
    assert parts["frozen weights"] == 2 * (3_754_622_976 + 2 * 59_936_768)
    assert parts["trained weights, their gradients and Adam"] == 16 * (59_936_768 + 262_272)
    assert parts["activations that are kept of a chunk"] == 8 * 779 * 36 * 2048 * 2
    assert parts["vectors of all items, and their gradients"] == 8 * (256 * 799 * 128 + 512 * 2048)
    larger = memory(v4, sizes, Items(texts=[20] * 512, images=[page] * 512), **options)
    fixed = [name for name in parts if parts[name] == larger[name]]
    assert len(fixed) == 5  # all but the vectors: GradCache


def test_without_chunks_memory_grows_with_the_batch(v4, sizes):
    options = {"chunk_tokens": None, "checkpointing": False, "trains_projector": False}
    small, large = (memory(v4, sizes, Items(images=[768] * n), **options) for n in (8, 16))
    name = "activations that are kept of a chunk"
    assert large[name] == 2 * small[name]
    assert small["a layer of a chunk, computed again"] == 0


def test_the_activations_of_a_layer_are_those_that_autograd_keeps(checkpoint):
    """Two networks that differ in one layer; the difference is what that layer keeps, without dropout."""
    n_tokens, kept = 256, {}
    lora = replace(checkpoint.config.lora, lora_dropout=0.0)
    for layers in (1, 2):
        backbone = Qwen2_5_VLConfig.from_dict(checkpoint.config.backbone.to_dict())
        backbone.text_config.num_hidden_layers = layers
        config = replace(checkpoint.config, backbone=backbone, lora=lora)
        network = build(config).bfloat16().train()
        for name, parameter in network.named_parameters():
            parameter.requires_grad = ".lora_" in name
            parameter.data = parameter.float() if ".lora_" in name else parameter.data
        weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        batch = collate([Processor(checkpoint.path, config).text(list(range(n_tokens)))])
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            network(batch)
        kept[layers] = sum(t.untyped_storage().nbytes() for key, t in storages.items() if key not in weights)
    options = {"chunk_tokens": None, "checkpointing": True, "trains_projector": False}
    expected = memory(config, parameters(config), Items(texts=[n_tokens]), **options)
    assert kept[2] - kept[1] == pytest.approx(expected["a layer of a chunk, computed again"], rel=0.02)


def test_the_operations_are_those_that_torch_counts(checkpoint):
    config, network = checkpoint.config, checkpoint.load(torch.float32, torch.device("cpu"))
    processor = Processor(checkpoint.path, config)
    noise = np.random.default_rng(0).integers(0, 256, (224, 448, 3), dtype=np.uint8)
    text, image = processor.text(list(range(100))), processor.image(Image.fromarray(noise))
    counted = []
    for item in (text, image):
        with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            network(collate([item]), multivector=True)
        # torch counts the whole square of causal attention: three layers of width 64
        counted.append(counter.get_total_flops() - 3 * 2 * 64 * len(item.input_ids) ** 2)
    options = {"cached": False, "checkpointing": False}
    sizes = parameters(config)
    assert flops(config, sizes, Items(texts=[100]), **options)["forward"] == pytest.approx(counted[0], rel=0.01)
    template = Items(texts=[len(image.input_ids) - 128 - 11])  # this tokenizer's is longer than Qwen's
    page = flops(config, sizes, Items(images=[128]), **options)["forward"]
    page += flops(config, sizes, template, **options)["forward"]
    assert page == pytest.approx(counted[1], rel=0.02)


def test_each_pass_costs_what_it_computes(v4, sizes):
    items = Items(texts=[100])
    plain = flops(v4, sizes, items, cached=False, checkpointing=False)
    full = flops(v4, sizes, items, cached=True, checkpointing=True)
    linear = 2 * 100 * (sizes.decoder + sizes.projector) + 36 * 2 * 2048 * 100**2
    lora = 2 * 100 * sizes.adapter
    assert plain == {
        "forward": linear + lora,
        "forward again (GradCache)": 0,
        "decoder again (activation checkpointing)": 0,
        "backward": linear + 2 * lora,
    }
    assert full["forward again (GradCache)"] == full["decoder again (activation checkpointing)"] == linear + lora

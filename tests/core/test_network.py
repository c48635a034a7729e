import re

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Trainer, TrainingArguments

from polyvec.model.network import mean_of_spans
from polyvec.model.processing import Processor, collate
from polyvec.model.recompute import Recompute


@pytest.fixture(scope="module")
def batch(checkpoint):
    """Two texts and a page."""
    processor = Processor(checkpoint.path, checkpoint.config)
    page = Image.fromarray(np.random.default_rng(0).integers(0, 256, (56, 84, 3), np.uint8))
    texts = [processor.text(ids) for ids in processor.texts(["red apples", "seven birds sing"], "Query: ")]
    return collate([*texts, processor.image(page)])


@pytest.fixture
def network(checkpoint):
    """In float64 and in training; one adapter, with dropout, and the image tower are free."""
    network = checkpoint.load(torch.float64, torch.device("cpu"))
    network.base_model.set_adapter("code")
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".code." in name or ".visual." in name
    return network.train()


def gradients(network, batch, *, packed=True):
    network.zero_grad()
    torch.manual_seed(0)
    outputs = network(batch, multivector=True, packed=packed)
    (outputs.dense[0] @ outputs.dense[2] + outputs.multivector.square().sum(1).prod(0).sum()).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("options", [{}, {"every_n_layers": 2}, {"offload": True}])
@pytest.mark.parametrize("packed", [True, False])
def test_layers_that_are_computed_again_have_the_same_gradients(network, batch, options, packed):
    wanted = gradients(network, batch, packed=packed)
    network.activation_checkpointing_enable(**options)
    found = gradients(network, batch, packed=packed)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14, msg=name)


def test_only_the_layers_that_were_chosen_are_computed_again(network, batch):
    calls = []
    network.activation_checkpointing_enable({"use_reentrant": False}, every_n_layers=2)
    backbone = network.get_base_model().model
    decoder = [layer.self_attn.o_proj for layer in backbone.language_model.layers]
    tower = [block.attn.proj for block in backbone.visual.blocks]
    for number, projection in enumerate([*decoder, *tower]):
        projection.register_forward_hook(lambda *_, number=number: calls.append(number))
    gradients(network, batch)
    assert [calls.count(number) for number in range(7)] == [2, 1, 2, *[2, 1, 2, 1]]
    calls.clear()
    with torch.no_grad():
        network(batch)
    assert len(calls) == 7


@pytest.mark.parametrize("name", ["activation_checkpointing", "gradient_checkpointing"])
def test_both_names_of_transformers_reach_the_network_through_peft(network, name):
    getattr(network, f"{name}_enable")(**{f"{name}_kwargs": {"preserve_rng_state": True}}, every_n_layers=3)
    assert network.get_base_model().recompute == Recompute(every=3, options={"preserve_rng_state": True})
    getattr(network, f"{name}_disable")()
    assert network.get_base_model().recompute is None


def test_no_hook_marks_the_embeddings(network, batch):
    network.activation_checkpointing_enable()
    embeddings = network.get_base_model().model.language_model.embed_tokens
    assert not embeddings._forward_hooks
    assert not embeddings(batch.input_ids).requires_grad


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"activation_checkpointing_kwargs": {"use_reentrant": True}}, "`use_reentrant` is True"),
        ({"every_n_layers": 0}, "`every_n_layers` is 0"),
    ],
)
def test_options_that_cannot_work_are_refused(network, options, complaint):
    with pytest.raises(ValueError, match=re.escape(complaint)):
        network.activation_checkpointing_enable(**options)


def test_a_trainer_switches_it_on(network, batch, tmp_path):
    class Once(Trainer):
        def compute_loss(self, model, inputs, **_):
            outputs = model(batch, multivector=True, packed=True)
            return outputs.dense[0] @ outputs.dense[2]

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        max_steps=1,
        activation_checkpointing=True,
        remove_unused_columns=False,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    Once(network, arguments, train_dataset=[{"step": 0}]).train()
    assert network.get_base_model().recompute == Recompute()
    moved = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
    free = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert moved == {name for name in free if "multi_vector_projector" not in name}  # dense vectors do not use it


def test_a_frozen_image_tower_has_no_graph(network, batch):
    visual = network.get_base_model().model.visual
    graphs = []
    visual.merger.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    network(batch)
    visual.requires_grad_(requires_grad=False)
    network(batch)
    with torch.no_grad():
        visual.requires_grad_()
        network(batch)
    assert graphs == [True, False, False]


def test_float64_is_exact_throughout(network, batch):
    network.eval()
    exact = network(batch, multivector=True, packed=True)
    assert exact.dense.dtype == exact.multivector.dtype == torch.float64
    padded = network(batch, multivector=True, packed=False)
    torch.testing.assert_close(exact.dense, padded.dense, rtol=0, atol=1e-14)
    mask = batch.mask()
    torch.testing.assert_close(exact.multivector[mask], padded.multivector[mask], rtol=0, atol=1e-14)
    hidden = torch.randn(1, 4, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mean = hidden[0, 1:3].mean(0)
    span = torch.tensor([[1, 3]])
    torch.testing.assert_close(mean_of_spans(hidden, span)[0], mean / mean.norm(), rtol=0, atol=1e-15)


def test_a_projector_in_training_may_be_wider_than_the_base(checkpoint, batch):
    network = checkpoint.load(torch.bfloat16, torch.device("cpu"))
    network.base_model.set_adapter("code")
    exact = network(batch, multivector=True, packed=True).multivector
    network.get_base_model().multi_vector_projector.float()
    wider = network(batch, multivector=True, packed=True)
    assert wider.multivector.dtype == wider.dense.dtype == torch.float32
    mask = batch.mask()
    assert torch.cosine_similarity(wider.multivector[mask], exact[mask], dim=-1).min() > 0.999

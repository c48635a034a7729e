from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint as reentrant

from polyvec.model import recompute
from polyvec.model.batching import plan
from polyvec.model.processing import Processor, collate
from polyvec.train.data.batches import Labels, PairBatch, Vectors
from polyvec.train.loop.gradcache import cached_loss, check_gradients

QUERIES = ["red", "what is blue and far longer than the others", "seven small birds"]
TEXTS = ["a red apple", "the sea", "birds, seven of them, sit on a wire and sing", "nothing of the kind"]
SIZES = [(56, 28), (28, 28), (84, 56)]
CHUNK = 24  # tokens: seven chunks of the ten items


@pytest.fixture(scope="module")
def batches(checkpoint):
    """Three pairs of texts with a hard negative, and three pairs with an image."""
    processor = Processor(checkpoint.path, checkpoint.config)
    encode = lambda texts: [processor.text(ids) for ids in processor.texts(texts, "Query: ")]  # noqa: E731
    images = [
        processor.image(Image.fromarray(np.random.default_rng(n).integers(0, 256, (*size[::-1], 3), np.uint8)))
        for n, size in enumerate(SIZES)
    ]
    patches = [image.input_ids == processor.image_token for image in images]
    return {
        "text": pair_batch(encode(QUERIES), encode(TEXTS), [2, 0, 1]),
        "image": pair_batch(encode(QUERIES), images, [0, 1, 2], masks=patches),
    }


def pair_batch(queries, documents, targets, masks=None):
    n, m = len(queries), len(documents)
    labels = Labels(
        targets=torch.tensor(targets),
        query_keys=torch.arange(n),
        document_keys=100 + torch.arange(m),
        groups=torch.zeros(m, dtype=torch.int64),
        in_batch=torch.arange(m) < n,
        scores=torch.full((n,), torch.nan),
        scales=torch.zeros(n, dtype=torch.int64),
    )
    masks = masks or [np.ones(len(document.input_ids), bool) for document in documents]
    return PairBatch(queries, documents, masks, labels, [f"pairs.jsonl:{i}" for i in range(n)])


def terms(kind, queries, documents, labels):
    """InfoNCE of both heads, with the plainest code."""
    similarities = torch.einsum("qid,pjd->qpij", queries.tokens, documents.tokens)
    best = similarities.masked_fill(~documents.mask[None, :, None], -torch.inf).amax(-1)
    late = (best * queries.mask[:, None]).sum(-1) / queries.mask.sum(1, keepdim=True)
    dense = queries.dense @ documents.dense.T
    scores = {"dense": dense, "late": late}
    return {name: torch.nn.functional.cross_entropy(10 * each, labels.targets) for name, each in scores.items()}


@pytest.fixture
def network(checkpoint):
    """The tiny network in float64 and in training: the adapter of code and the projector are free, with dropout."""
    return free(checkpoint.load(torch.float64, torch.device("cpu")))


def free(network):
    network.base_model.set_adapter("code")
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".code." in name or "projector.base_layer" in name
    return network.train()


def gradients(network, *losses, factor=1.0):
    """The gradients of the free parameters after `losses`, which are functions, and the last loss; from one seed."""
    network.zero_grad()
    torch.manual_seed(0)
    for compute in losses:
        loss = compute()
        (loss * factor).backward()
    named = network.named_parameters()
    return {name: parameter.grad.clone() for name, parameter in named if parameter.requires_grad}, loss.item()


def plain(network, batches, chunk_tokens):
    """The same loss with one graph: chunks in the same order, so that they draw the same dropout."""
    items = [
        (item, mask)
        for batch in batches.values()
        for item, mask in [
            *((query, np.ones(len(query.input_ids), bool)) for query in batch.queries),
            *zip(batch.documents, batch.masks, strict=True),
        ]
    ]
    dense, tokens = {}, {}
    for chunk in plan([len(item.input_ids) for item, _ in items], chunk_tokens):
        outputs = network(collate([items[i][0] for i in chunk]), multivector=True, packed=True)
        for row, i in enumerate(chunk):
            dense[i] = outputs.dense[row]
            tokens[i] = outputs.multivector[row, : len(items[i][1])][torch.from_numpy(items[i][1])]
    total = torch.tensor(0.0, dtype=torch.float64)
    start = 0
    for kind, batch in batches.items():
        sides = []
        for n in (len(batch.queries), len(batch.documents)):
            chosen = range(start, start + n)
            rows = [tokens[i] for i in chosen]
            mask = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in rows], batch_first=True)
            sides.append(Vectors(torch.stack([dense[i] for i in chosen]), pad_sequence(rows, batch_first=True), mask))
            start += n
        with torch.autocast("cpu", enabled=False):
            total = total + sum(terms(kind, *sides, batch.labels).values())
    return total


def assert_same(found, wanted):
    (found, found_loss), (wanted, wanted_loss) = found, wanted
    assert found_loss == pytest.approx(wanted_loss, rel=1e-12)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def cached(network, batches, chunk_tokens=CHUNK):
    return lambda: cached_loss(network, batches, terms, chunk_tokens=chunk_tokens)[0]


def one_graph(network, batches, chunk_tokens=CHUNK):
    return lambda: plain(network, batches, chunk_tokens)


def test_gradients_are_those_of_one_graph_with_dropout_on(network, batches):
    found, wanted = gradients(network, cached(network, batches)), gradients(network, one_graph(network, batches))
    assert_same(found, wanted)
    other, _ = gradients(network, cached(network, batches, chunk_tokens=50))  # other chunks, other dropout
    assert any(not torch.allclose(gradient, wanted[0][name]) for name, gradient in other.items())


def test_gradients_accumulate_with_the_factor_of_the_caller(network, batches):
    steps = [{"text": batches["text"]}, batches]
    found = gradients(network, *(cached(network, step) for step in steps), factor=0.25)
    assert_same(found, gradients(network, *(one_graph(network, step) for step in steps), factor=0.25))


def test_gradients_are_the_same_with_activations_computed_again(network, batches):
    wanted = gradients(network, one_graph(network, batches))
    network.activation_checkpointing_enable()
    assert_same(gradients(network, cached(network, batches)), wanted)


def test_gradients_of_a_whole_network_with_its_image_tower(network, batches):
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".lora_" not in name or ".code." in name
    found = gradients(network, cached(network, batches))
    check_gradients(network)
    assert_same(found, gradients(network, one_graph(network, batches)))


@pytest.mark.parametrize("backward_too", [False, True])
def test_gradients_under_autocast(checkpoint, batches, backward_too):
    network = free(checkpoint.load(torch.float32, torch.device("cpu")))
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)
    with half() if backward_too else nullcontext():
        found, found_loss = gradients(network, half()(cached(network, batches)))
        wanted, wanted_loss = gradients(network, half()(one_graph(network, batches)))
    _, exact_loss = gradients(network, cached(network, batches))
    assert found_loss == pytest.approx(wanted_loss, rel=1e-6)
    assert found_loss != pytest.approx(exact_loss, rel=1e-6)
    for name, gradient in wanted.items():  # the order in which halves of bfloat16 are summed differs
        assert torch.cosine_similarity(found[name].flatten(), gradient.flatten(), dim=0) > 0.999, name


@pytest.mark.parametrize("chunk_tokens", [None, 1, 50])
def test_without_dropout_chunks_change_nothing(network, batches, chunk_tokens):
    network.eval()
    assert_same(
        gradients(network, cached(network, batches, chunk_tokens)), gradients(network, cached(network, batches))
    )


def test_the_backward_pass_leaves_random_numbers_where_they_were(network, batches):
    loss = cached(network, batches)()
    torch.rand(1)  # such as of something else in the step
    before = torch.get_rng_state()
    loss.backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("chunk_tokens", [None, CHUNK])
def test_the_terms_of_each_kind_are_named_and_detached_and_add_up(network, batches, chunk_tokens):
    loss, named = cached_loss(network, batches, terms, chunk_tokens=chunk_tokens)
    assert list(named) == ["text_dense", "text_late", "image_dense", "image_late"]
    assert loss.requires_grad
    assert not any(term.requires_grad for term in named.values())
    torch.testing.assert_close(loss.detach(), sum(named.values()))


def test_without_gradients_there_is_no_graph(network, batches):
    network.eval()
    with torch.no_grad():
        loss, _ = cached_loss(network, batches, terms, chunk_tokens=CHUNK)
    assert not loss.requires_grad
    assert loss.item() == pytest.approx(cached(network, batches)().item(), rel=1e-12)


def test_chunks_are_within_the_budget_and_as_wide_as_their_longest_item(network, batches):
    shapes = []
    handle = network.register_forward_pre_hook(
        lambda _, arguments: shapes.append((tuple(arguments[0].input_ids.shape), max(arguments[0].lengths)))
    )
    cached(network, batches)()
    handle.remove()
    assert len(shapes) > 3
    assert sum(rows for (rows, _), _ in shapes) == 13
    assert all(width == longest and (rows == 1 or rows * width <= CHUNK) for (rows, width), longest in shapes)
    assert [width for (_, width), _ in shapes] == sorted([width for (_, width), _ in shapes], reverse=True)


def test_without_a_budget_items_of_similar_length_share_a_pass(network, batches):
    lengths = []
    handle = network.register_forward_pre_hook(lambda _, arguments: lengths.append(arguments[0].lengths))
    cached(network, batches, None)()
    handle.remove()
    assert len(lengths) == 2
    assert sum(map(len, lengths)) == 13
    assert all(2 * min(each) > max(each) for each in lengths)


def test_each_item_has_its_own_vectors_and_only_the_tokens_of_its_mask(network, batches):
    seen = {}

    def record(kind, queries, documents, labels):
        seen[kind] = (queries, documents)
        return terms(kind, queries, documents, labels)

    network.eval()
    with torch.no_grad():
        cached_loss(network, batches, record, chunk_tokens=CHUNK)
        for kind, batch in batches.items():
            queries, documents = seen[kind]
            assert queries.mask.sum(1).tolist() == [len(item.input_ids) for item in batch.queries]
            assert documents.mask.sum(1).tolist() == [mask.sum() for mask in batch.masks]
            assert documents.mask.shape[1] == max(mask.sum() for mask in batch.masks)
            assert not documents.tokens[~documents.mask].any()
            for row, (item, mask) in enumerate(zip(batch.documents, batch.masks, strict=True)):
                alone = network(collate([item]), multivector=True)
                torch.testing.assert_close(documents.dense[row], alone.dense[0])
                torch.testing.assert_close(documents.tokens[row][: mask.sum()], alone.multivector[0][mask])


def test_a_term_that_is_not_finite_is_named_with_the_pairs(network, batches):
    def broken(kind, queries, documents, labels):
        values = terms(kind, queries, documents, labels)
        return values | {"late": values["late"] * torch.nan} if kind == "image" else values

    with pytest.raises(FloatingPointError, match=r"not finite: image_late is nan\. .* pairs\.jsonl:0, pairs\.jsonl:1"):
        cached_loss(network, batches, broken, chunk_tokens=CHUNK)


def test_a_step_without_pairs_and_a_budget_of_nothing_are_refused(network, batches):
    with pytest.raises(ValueError, match="no pairs"):
        cached_loss(network, {}, terms)
    with pytest.raises(ValueError, match="`chunk_tokens` is 0"):
        cached_loss(network, batches, terms, chunk_tokens=0)


def test_a_base_in_half_precision_with_an_adapter_in_float32(checkpoint, batches):
    network = free(checkpoint.load(torch.bfloat16, torch.device("cpu")))
    for parameter in network.parameters():
        parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
    found, _ = gradients(network, cached(network, batches))
    check_gradients(network)
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}


def name_of(network, part):
    return next(name for name, parameter in network.named_parameters() if parameter.requires_grad and part in name)


def test_a_gradient_that_is_missing_or_zero_or_not_finite_is_named(network, batches):
    with pytest.raises(RuntimeError, match=r"46 with no gradient: .*layers\.0\.self_attn\.q_proj\.lora_A\.code"):
        check_gradients(network)
    gradients(network, cached(network, batches))
    parameters = dict(network.named_parameters())
    zero, broken = name_of(network, "up_proj.lora_B"), name_of(network, "down_proj.lora_A")
    parameters[zero].grad.zero_()
    parameters[broken].grad[0, 0] = torch.inf
    with pytest.raises(RuntimeError) as caught:
        check_gradients(network)
    assert f"1 with a gradient of zeros: {zero}" in str(caught.value)
    assert f"1 with a gradient that is not finite: {broken}" in str(caught.value)


def test_what_is_zero_by_nature_is_no_fault(network, batches):
    for name, parameter in network.named_parameters():
        parameter.requires_grad = parameter.requires_grad or "k_proj.base_layer.bias" in name
        if ".lora_B.code." in name:
            parameter.data.zero_()
    found, _ = gradients(network, cached(network, batches))
    assert not found[name_of(network, "lora_A")].any()
    dict(network.named_parameters())[name_of(network, "k_proj.base_layer.bias")].grad.zero_()
    check_gradients(network)


def test_the_reentrant_kind_of_checkpointing_would_train_nothing(network, batches, monkeypatch):
    monkeypatch.setattr(
        recompute, "checkpoint", lambda layer, hidden, **_: reentrant(layer, hidden, use_reentrant=True)
    )
    network.activation_checkpointing_enable()
    with pytest.warns(UserWarning, match="None of the inputs have requires_grad"):
        cached(network, batches)().backward()
    with pytest.raises(RuntimeError, match=r"with no gradient: .*lora_A\.code"):
        check_gradients(network)

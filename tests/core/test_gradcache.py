import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from polyvec.model.batching import plan
from polyvec.model.processing import Processor, collate
from polyvec.train.batches import Labels, PairBatch, Vectors
from polyvec.train.gradcache import cached_loss, check_gradients

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
    network = checkpoint.load(torch.float64, torch.device("cpu"))
    network.base_model.set_adapter("code")
    for name, parameter in network.named_parameters():
        parameter.requires_grad = ".code." in name or "projector.base_layer" in name
    return network.train()


def gradients(network, compute, *, factor=1.0):
    """The gradients of the free parameters, and the loss, after `compute()` from one seed."""
    network.zero_grad()
    torch.manual_seed(0)
    loss = compute()
    (loss * factor).backward()
    free = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {name: parameter.grad.clone() for name, parameter in free.items()}, loss.item()


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
        total = total + sum(terms(kind, *sides, batch.labels).values())
    return total


def assert_same(found, wanted):
    (found, found_loss), (wanted, wanted_loss) = found, wanted
    assert found_loss == pytest.approx(wanted_loss, rel=1e-12)
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_gradients_are_those_of_one_graph_with_dropout_on(network, batches):
    cached = gradients(network, lambda: cached_loss(network, batches, terms, chunk_tokens=CHUNK)[0])
    assert_same(cached, gradients(network, lambda: plain(network, batches, CHUNK)))
    check_gradients(network)

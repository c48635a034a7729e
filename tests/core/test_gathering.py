"""Two processes train on a part of the pairs each, and this process on all of them: the gradients must be the same."""

import os
import warnings
from contextlib import nullcontext
from datetime import timedelta
from multiprocessing import get_context

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch.nn.parallel import DistributedDataParallel

from polyvec.model.processing import Processor
from polyvec.train.data.batches import Labels, PairBatch, Vectors
from polyvec.train.loop.gradcache import _check_finite, cached_loss
from polyvec.train.loss.gathering import gather_documents, gather_names, gather_rows, mean_count, n_processes
from polyvec.train.loss.objective import Losses, terms

SECONDS = 60  # until processes that wait for each other are ended
CHUNK = 30
LOSSES = Losses(temperature=0.2, late_temperature=0.3, kl_stop_gradient="none", kl_negatives=True)
COLOURS = {"red": (56, 56), "blue": (28, 84), "lime": (84, 28)}
# Query, document, gold score, hard negatives. Processes share a query, a document, and a negative that is a document.
TEXTS = [
    [
        ("what is red", "an apple, or a fire engine in the sun", None, ("a pear", "the sea")),
        ("what is blue", "the sea", None, ()),
        ("a cat sleeps", "a cat is asleep on the warm stones of the old wall", 4.5, ()),
        ("a cat sleeps", "a dog barks", 0.5, ()),
    ],
    [
        ("what is red", "a brick", None, ("an apple, or a fire engine in the sun",)),
        ("two men talk", "two people are talking", 4.0, ()),
        ("what is a thing that is wet and wide and very far away from here", "the sea", None, ()),
    ],
]
IMAGES = [
    [("a red page", "red", None, ()), ("a blue page", "blue", None, ())],
    [("a green page", "lime", None, ("red",))],
]


class Examples:
    def __init__(self, checkpoint):
        self.processor = Processor(checkpoint.path, checkpoint.config)
        self.keys = {}  # a number for each content

    def encode(self, content):
        if content in COLOURS:
            return self.processor.image(Image.new("RGB", COLOURS[content], content))
        return self.processor.text(self.processor.texts([content], "Query: ")[0])

    def key(self, content):
        return self.keys.setdefault(content, len(self.keys))

    def batch(self, pairs):
        positives = list(dict.fromkeys(document for _, document, _, _ in pairs))
        documents = list(dict.fromkeys([*positives, *(negative for *_, negatives in pairs for negative in negatives)]))
        labels = Labels(
            targets=torch.tensor([documents.index(document) for _, document, _, _ in pairs]),
            query_keys=torch.tensor([self.key(query) for query, *_ in pairs]),
            document_keys=torch.tensor([self.key(document) for document in documents]),
            groups=torch.zeros(len(documents), dtype=torch.int64),
            in_batch=torch.tensor([document in positives for document in documents]),
            scores=torch.tensor([torch.nan if score is None else score for _, _, score, _ in pairs]),
            scales=torch.zeros(len(pairs), dtype=torch.int64),
        )
        encoded = [self.encode(document) for document in documents]
        masks = [np.ones(len(document.input_ids), bool) for document in encoded]
        return PairBatch([self.encode(query) for query, *_ in pairs], encoded, masks, labels, ["here"] * len(pairs))

    def step(self, texts, images):
        return {kind: self.batch(pairs) for kind, pairs in (("text", texts), ("image", images)) if pairs}


def cases(examples):
    """By name: the steps of both processes and of one, whether the backbone is trained, whether DDP seeks, the chunks.

    The first process has several chunks, the second has one chunk in the step in which it has no images.
    """
    both = (
        [examples.step(texts, images) for texts, images in zip(TEXTS, IMAGES, strict=True)],
        examples.step([*TEXTS[0], *TEXTS[1]], [*IMAGES[0], *IMAGES[1]]),
    )
    no_images = (
        [examples.step(TEXTS[0], IMAGES[0]), examples.step(TEXTS[1][1:2], [])],
        examples.step([*TEXTS[0], TEXTS[1][1]], IMAGES[0]),
    )
    return {
        "two accumulated steps": ([no_images, both], False, False, CHUNK),
        "a backbone": ([no_images], True, False, CHUNK),
        "a search for unused parameters": ([no_images], True, True, CHUNK),
        "two accumulated steps, each at once": ([no_images, both], False, False, None),
        "a backbone at once": ([no_images], True, False, None),
        "a search at once": ([no_images], True, True, None),
    }


def gradients(checkpoint, steps, *, backbone, chunk_tokens, seeks=None):
    """The gradients after the steps, and the sum of their losses."""
    network = checkpoint.load(torch.float64, torch.device("cpu"))  # in evaluation: without dropout
    if backbone:
        network.base_model.disable_adapter_layers()
        network.activation_checkpointing_enable()
    else:
        network.base_model.set_adapter("code")
    for name, parameter in network.named_parameters():
        adapter = ".code." in name or "projector.base_layer" in name
        parameter.requires_grad = ".lora_" not in name if backbone else adapter
    model = network if seeks is None else DistributedDataParallel(network, find_unused_parameters=seeks)
    total = torch.zeros(1, dtype=torch.float64)
    for number, step in enumerate(steps):
        postponed = model.no_sync() if seeks is not None and number < len(steps) - 1 else nullcontext()
        with postponed:
            loss, _ = cached_loss(model, step, compute, chunk_tokens=chunk_tokens)
            (loss / len(steps)).backward()
        total += loss.detach()
    found = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    return found, gather_rows(total).mean()


def compute(kind, queries, documents, labels):
    weights = LOSSES.text if kind == "text" else LOSSES.images
    return terms(queries, documents, labels, LOSSES, weights, sizes=[8, 16, 32, 64])


def gathered(rank):
    """What a process gathers, and how a loss that is not finite in the second process stops both."""
    names = gather_names(["image"] if rank else ["text", "image"])
    with pytest.raises(FloatingPointError) as caught:
        _check_finite(torch.tensor(torch.nan if rank else 1.0), {}, {})
    rows = gather_rows(torch.arange(3.0) if rank else torch.zeros(0))
    return {"rows": rows.tolist(), "names": names, "mean": mean_count(rank + 1), "message": str(caught.value)}


def train(rank, checkpoint, planned, folder):
    """The work of one of the two processes."""
    torch.set_num_threads(1)  # those of the parent are not in a fork
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(folder / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=SECONDS))
    results = {
        name: gradients(
            checkpoint, [parts[rank] for parts, _ in steps], backbone=backbone, seeks=seeks, chunk_tokens=chunk_tokens
        )
        for name, (steps, backbone, seeks, chunk_tokens) in planned.items()
    }
    results["gathered"] = gathered(rank)
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def planned(checkpoint):
    return cases(Examples(checkpoint))


@pytest.fixture(scope="module")
def processes(checkpoint, planned, tmp_path_factory):
    """What the two processes computed. They are forks, because their imports would take longer than all of the work."""
    if not hasattr(os, "fork") or torch.accelerator.is_available():
        pytest.skip("no fork on this platform, or a GPU: a fork of a process that used autograd on it cannot use it")
    folder = tmp_path_factory.mktemp("processes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about threads and forks
        forks = [get_context("fork").Process(target=train, args=(rank, checkpoint, planned, folder)) for rank in (0, 1)]
        for fork in forks:
            fork.start()
    for fork in forks:
        fork.join(2 * SECONDS)
        fork.kill()
    assert [fork.exitcode for fork in forks] == [0, 0]
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("number", range(6))
def test_two_processes_have_the_loss_and_gradients_of_one_with_all_pairs(checkpoint, planned, processes, number):
    case, (steps, backbone, _, _) = list(planned.items())[number]
    wholes = [whole for _, whole in steps]
    wanted, wanted_loss = gradients(checkpoint, wholes, backbone=backbone, chunk_tokens=None)
    for found, found_loss in (process[case] for process in processes):
        torch.testing.assert_close(found_loss, wanted_loss, rtol=1e-12, atol=0)
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_what_two_processes_gather(processes):
    first, second = (process["gathered"] for process in processes)
    assert first["rows"] == second["rows"] == [0, 1, 2]  # the first process has none
    assert first["names"] == second["names"] == ["text", "image"]
    assert first["mean"] == second["mean"] == 1.5
    assert "of another process" in first["message"]
    assert "the sum is nan" in second["message"]


def test_a_process_alone_keeps_what_it_has():
    documents = Vectors(torch.ones(2, 4), torch.ones(2, 3, 4), torch.ones(2, 3, dtype=torch.bool))
    ids = torch.arange(2)
    labels = Labels(ids, ids, ids, ids, ids > 0, ids.float(), ids)
    assert gather_documents(documents, labels) == (documents, labels)
    assert gather_rows(ids) is ids
    assert gather_names(["a", "b"]) == ["a", "b"]
    assert mean_count(3) == 3.0
    assert n_processes() == 1

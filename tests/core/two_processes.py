"""Two processes train on a part of the pairs each, then one process on all: `two_processes.py CHECKPOINT FOLDER`.

`gradients.pt` in the folder has the gradients of each case from "two" and from "one", and the losses. The second
process is a fork of the first after the imports, which take most of the time.
"""

import os
import sys
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from torch.nn.parallel import DistributedDataParallel

from polyvec.model.checkpoint import Checkpoint
from polyvec.model.processing import Processor
from polyvec.train.batches import Labels, PairBatch
from polyvec.train.gathering import gather_names, gather_rows, mean_count
from polyvec.train.gradcache import _check_finite, cached_loss
from polyvec.train.objective import Losses, terms

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
    """By name: the steps of both processes and of one, whether the backbone is trained, and whether DDP seeks.

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
        "two accumulated steps": ([no_images, both], False, False),
        "a backbone": ([no_images], True, False),
        "a search for unused parameters": ([both], False, True),
    }


def gradients(checkpoint, steps, *, backbone, seeks=None):
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
            loss, _ = cached_loss(model, step, compute, chunk_tokens=CHUNK)
            (loss / len(steps)).backward()
        total += loss.detach()
    found = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
    return found, gather_rows(total).mean()


def compute(kind, queries, documents, labels):
    weights = LOSSES.text if kind == "text" else LOSSES.images
    return terms(queries, documents, labels, LOSSES, weights, sizes=[8, 16, 32, 64])


def gather_checks(rank):
    """What the first process gathers: rows, names, a mean, and how a loss that is not finite in the other stops it."""
    rows = torch.arange(3.0) if rank else torch.zeros(0)
    names = gather_names(["image"] if rank else ["text", "image"])
    try:
        _check_finite(torch.tensor(torch.nan if rank else 1.0), {}, {})
    except FloatingPointError as error:
        message = str(error)
    return {"rows": gather_rows(rows), "names": names, "mean": mean_count(rank + 1), "message": message}


def main(checkpoint_path, folder):
    checkpoint = Checkpoint(Path(checkpoint_path))
    examples = Examples(checkpoint)
    planned = cases(examples)
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    child = os.fork()
    rank = 0 if child else 1
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    two = {
        name: gradients(checkpoint, [halves[rank] for halves, _ in steps], backbone=backbone, seeks=seeks)
        for name, (steps, backbone, seeks) in planned.items()
    }
    gathered = gather_checks(rank)
    dist.destroy_process_group()
    if rank:
        os._exit(0)
    one = {
        name: gradients(checkpoint, [whole for _, whole in steps], backbone=backbone)
        for name, (steps, backbone, _) in planned.items()
    }
    torch.save({"two": two, "one": one, "gathered": gathered}, Path(folder) / "gradients.pt")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])

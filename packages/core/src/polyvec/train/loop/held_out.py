"""Evaluation while training: search a held-out dataset with the network as it is."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Unpack

import torch
from peft import PeftModel

from polyvec.data.folders import Dataset
from polyvec.encoder import EncodeOptions, Encoder
from polyvec.evaluate.metrics import ndcg
from polyvec.inputs import check_options, check_side, check_task, checked_items, checked_size
from polyvec.model.batching import plan
from polyvec.model.checkpoint import Checkpoint
from polyvec.model.network import Outputs
from polyvec.model.processing import Encoded, Processor, checked_pixels, collate
from polyvec.outcomes import Encoding, Outcome, collect_shown
from polyvec.prompts import prefix
from polyvec.retrieval import Mode, encode_dataset, scores
from polyvec.train.loop.processes import from_all, rank
from polyvec.train.loss.gathering import n_processes
from polyvec.types import Embeddings, Failure, Input, Side

__all__ = ["NetworkEncoder", "measures"]

K = 10  # of nDCG@k
_WINDOW = 64  # items whose pixels are in memory at the same time


class NetworkEncoder(Encoder):
    """A network in training as an `Encoder`. It encodes with the adapter that is trained, without dropout.

    In several processes each encodes a part of the items, and all of them get all vectors. So all must make the same
    calls. `max_length` and `max_pixels` are the defaults of the options of the same names.
    """

    def __init__(
        self,
        network: PeftModel,
        checkpoint: Checkpoint,
        processor: Processor,
        *,
        max_length: int,
        max_pixels: int | None = None,
        token_budget: int = 4096,
    ) -> None:
        self._network, self._processor = network, processor
        self._max_length, self._max_pixels, self._token_budget = max_length, max_pixels, token_budget
        config = checkpoint.config
        self.fingerprint = f"{checkpoint.fingerprint()} in training"
        self.dim, self.multivector_dim, self.tasks = config.dim, config.multivector_dim, config.tasks
        self.sizes, self.license = tuple(sorted(config.matryoshka_dims)), config.license or ""

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Encode; see `Encoder.encode`. All items have one task: it names the prefix, not the adapter."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__)
        check_task(task, self.tasks)
        size = checked_size(options.get("truncate_dim"), self.dim, self.sizes)
        items = checked_items(inputs)
        length, area = options.get("max_length"), options.get("max_pixels")
        max_length = self._max_length if length is None else length
        self._processor.check_length(max_length, side=side, task=task)  # type: ignore[arg-type]  # it is a task
        prepare = partial(
            self._processor.item,
            prefix=prefix(task, side),  # type: ignore[arg-type]  # as above
            max_length=max_length,
            max_pixels=self._max_pixels if area is None else checked_pixels(self._processor.config, area),
        )
        own = self._outcomes(items, range(rank(), len(items), n_processes()), prepare)
        collected, _ = collect_shown(
            self,
            from_all(list(own)),
            len(items),
            dim=size,
            multivector=options.get("multivector", False),
            show_progress=options.get("show_progress", False),
        )
        return collected.result()

    def _outcomes(
        self, items: Sequence[Input], indices: Sequence[int], prepare: Callable[[Input], Encoded]
    ) -> Iterator[tuple[int, Outcome]]:
        remaining = iter(indices)
        while window := list(itertools.islice(remaining, _WINDOW)):
            ready: dict[int, Encoded] = {}
            for index in window:
                try:
                    ready[index] = prepare(items[index])
                except ValueError as error:
                    yield index, str(error)
            numbers = list(ready)
            for rows in plan([len(ready[index].input_ids) for index in numbers], self._token_budget):
                batch = [numbers[row] for row in rows]
                yield from zip(batch, self._encodings([ready[index] for index in batch]), strict=True)

    def _encodings(self, items: Sequence[Encoded]) -> Iterator[Encoding]:
        device = next(self._network.parameters()).device
        training = self._network.training
        self._network.eval()
        try:
            with torch.no_grad():
                outputs: Outputs = self._network(collate(items).to(device), multivector=True, packed=True)
        finally:
            self._network.train(training)
        assert outputs.multivector is not None, "it was asked for"
        dense, tokens = outputs.dense.float().cpu().numpy(), outputs.multivector.float().cpu().numpy()
        for row, item in enumerate(items):
            yield Encoding(dense[row], tokens[row, : len(item.input_ids)].copy(), item.grid, item.cut)


def measures(encoder: Encoder, dataset: Dataset, *, task: str) -> tuple[dict[str, float], Sequence[Failure]]:
    """Return nDCG@10 of dense search and of late interaction, and the queries and documents that were left out.

    Raises:
        ValueError: no query is left.
    """
    encoded = encode_dataset(encoder, dataset, task=task)
    modes: tuple[Mode, ...] = ("dense", "late") if encoder.multivector_dim else ("dense",)
    values = {f"{mode}_ndcg_at_{K}": ndcg(scores(encoded, mode=mode), encoded.relevant, k=K) for mode in modes}
    return values, encoded.left_out

"""From requests to vectors in one process: measure, plan batches, prepare them ahead, run them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float32

from polyvec.batching import plan, prepared
from polyvec.chunking import Span, token_spans, windows
from polyvec.compression import truncate
from polyvec.images import image_size
from polyvec.inputs import check_text
from polyvec.model.processing import Encoded, Processor
from polyvec.model.replica import Replica
from polyvec.types import Embeddings, Grid, Input


@dataclass(frozen=True, slots=True)
class Request:
    """An item and what it is encoded for."""

    item: Input
    prefix: str
    adapter: str


@dataclass(frozen=True, slots=True)
class Options:
    """What holds for all requests of a call. Runners give dense vectors at full length whatever `truncate_dim` is."""

    max_length: int
    max_pixels: int
    multivector: bool
    truncate_dim: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What one request gives.

    Attributes:
        dense: unit vector of full length.
        multivector: one unit vector per token; None unless asked for.
        grid: where an image's patches are in the multi-vector.
        cut_from: tokens that a text had before it was cut; None where it was not.
    """

    dense: Float32[np.ndarray, "dim"]
    multivector: Float32[np.ndarray, "tokens late_dim"] | None
    grid: Grid | None = None
    cut_from: int | None = None


Outcome = Encoding | str  # or why there is none


class Runner(Protocol):
    """What turns requests into vectors: an `Engine` here, or `polyvec.workers.Workers` elsewhere."""

    def run(self, requests: Sequence[Request], options: Options) -> Iterator[tuple[int, Outcome]]:
        """Each request's index and outcome, once, in any order, as they are ready."""
        ...

    def chunks(self, request: Request, spans: Sequence[Span], options: Options, overlap: int | None) -> list[Encoding]:
        """One encoding per span of the request's text, from one forward pass over all of it.

        A text of more than `options.max_length` tokens is read in windows that share `overlap` tokens; by default
        a quarter of them.

        Raises:
            ValueError: the overlap leaves nothing of a window, or a vector is not finite.
        """
        ...


class Engine:
    """Runs requests on one replica, batch by batch; other callers come in between."""

    def __init__(self, replica: Replica, processor: Processor, token_budget: int) -> None:
        self.replica, self.processor, self.token_budget = replica, processor, token_budget

    def run(self, requests: Sequence[Request], options: Options) -> Iterator[tuple[int, Outcome]]:
        """See `Runner`."""
        texts, lengths, cut, failed = self._measure(requests, options)
        yield from failed.items()
        readable = [index for index in range(len(requests)) if index not in failed]
        batches = _batches(lengths, {index: requests[index].adapter for index in readable}, self.token_budget)

        def prepare(batch: Sequence[int]) -> list[tuple[int, Encoded | str]]:
            return [(index, texts.get(index) or self._image(requests[index].item, options)) for index in batch]

        for _, ready in prepared(prepare, batches):
            good = [(index, item) for index, item in ready if not isinstance(item, str)]
            yield from ((index, item) for index, item in ready if isinstance(item, str))
            if not good:
                continue
            adapters = [requests[index].adapter for index, _ in good]
            found = self.replica.forward([item for _, item in good], adapters, multivector=options.multivector)
            for (index, item), vectors in zip(good, found, strict=True):
                if not vectors.finite:
                    yield index, "its vector is not finite: the weights, or sums of them in this dtype, overflow"
                    continue
                yield index, Encoding(vectors.dense, vectors.multivector, item.grid, cut.get(index))

    def chunks(self, request: Request, spans: Sequence[Span], options: Options, overlap: int | None) -> list[Encoding]:
        """See `Runner`."""
        assert isinstance(request.item, str), "only texts have chunks"
        ids, offsets = self.processor.offsets(request.prefix + request.item)
        begin = len(request.prefix)
        # As a passage of its own has the prefix, the span from the text's first character has it, too.
        ranges = np.array(token_spans(offsets, [(a + begin if a else 0, b + begin) for a, b in spans]), np.int64)
        n_prefix = sum(end <= begin for _, end in offsets)
        size = options.max_length - n_prefix
        shared = size // 4 if overlap is None else overlap
        if not 0 <= shared < size:
            raise ValueError(
                f"`overlap` is {shared}; windows of {options.max_length} tokens, {n_prefix} of them the prefix's, may "
                f"share 0 to {size - 1}."
                if size > 0
                else f"`max_length` is {options.max_length}; the prefix alone has {n_prefix} tokens."
            )
        sums = np.zeros((len(spans), self.replica.config.dim), np.float32)
        tokens: list[np.ndarray] = []
        for window in windows(len(ids) - n_prefix, size, shared):
            fresh = n_prefix + window.fresh if window.start else 0  # the first window pools the prefix
            pieces = ranges.clip(fresh, n_prefix + window.end) - window.start
            met = pieces[:, 0] < pieces[:, 1]
            if not met.any():
                tokens.append(
                    np.zeros((n_prefix + window.end - fresh, self.replica.config.multivector_dim), np.float32)
                )
                continue
            text = self.processor.text([*ids[:n_prefix], *ids[n_prefix + window.start : n_prefix + window.end]])
            found, rows = self.replica.sums(text, request.adapter, pieces[met], multivector=options.multivector)
            sums[met] += found
            if rows is not None:
                tokens.append(rows[fresh - window.start :])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise ValueError("the vector of a span is not finite: the weights, or sums of them in this dtype, overflow")
        dense = sums / norms
        whole = np.concatenate(tokens) if options.multivector else None
        return [
            Encoding(row, None if whole is None else whole[a:b].copy())
            for row, (a, b) in zip(dense, ranges.tolist(), strict=True)
        ]

    def _measure(
        self, requests: Sequence[Request], options: Options
    ) -> tuple[dict[int, Encoded], dict[int, int], dict[int, int], dict[int, str]]:
        """Tokenise all texts and read all image headers: lengths are known before anything is decoded.

        Returns:
            By index: the texts, all lengths, the lengths of texts before they were cut, what is wrong with the others.
        """
        lengths: dict[int, int] = {}
        cut: dict[int, int] = {}
        failed: dict[int, str] = {}
        texts: dict[int, str] = {}
        for index, request in enumerate(requests):
            try:
                if isinstance(request.item, str):
                    check_text(request.item)
                    texts[index] = request.prefix + request.item
                else:
                    grid = self.processor.grid(image_size(request.item), options.max_pixels)
                    lengths[index] = self.processor.image_length(grid)
            except ValueError as error:
                failed[index] = str(error)
        encoded = {}
        for index, ids in zip(texts, self.processor.texts(list(texts.values()), ""), strict=True):
            if len(ids) > options.max_length:
                cut[index] = len(ids)
            encoded[index] = self.processor.text(ids[: options.max_length])
            lengths[index] = len(encoded[index].input_ids)
        return encoded, lengths, cut, failed

    def _image(self, item: Input, options: Options) -> Encoded | str:
        assert not isinstance(item, str), "texts are encoded before batches are planned"
        try:
            return self.processor.image(item, self.replica.config.backbone.image_token_id, options.max_pixels)
        except ValueError as error:
            return str(error)


def _batches(lengths: Mapping[int, int], adapters: Mapping[int, str], token_budget: int) -> list[list[int]]:
    """Batches of one adapter each, which can be packed, as far as they are full; what is left shares its batches."""
    by_adapter: dict[str, list[int]] = {}
    for index, adapter in adapters.items():
        by_adapter.setdefault(adapter, []).append(index)

    def planned(indices: Sequence[int], *, packed: bool) -> list[list[int]]:
        batches = plan([lengths[index] for index in indices], token_budget, packed=packed)
        return [[indices[place] for place in batch] for batch in batches]

    full: list[list[int]] = []
    rest: list[int] = []
    for indices in by_adapter.values():
        *batches, last = planned(indices, packed=True)
        full += batches
        rest += last
    return full + planned(rest, packed=len(by_adapter) == 1)


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """All outcomes of a call.

    Attributes:
        kept: indices of what was encoded, ascending.
        embeddings: row i belonging to request `kept[i]`.
        failed: index → what is wrong with it.
        cut: index of a text that was cut → tokens it had before.
    """

    kept: list[int]
    embeddings: Embeddings
    failed: dict[int, str]
    cut: dict[int, int]


def gather(
    outcomes: Iterable[tuple[int, Outcome]], n: int, options: Options, dim: int, done: Callable[[], object]
) -> Gathered:
    """Put the outcomes of `n` requests in order, and dense vectors of `dim` numbers to size; `done` counts them."""
    size = options.truncate_dim or dim
    dense = np.zeros((n, size), np.float32)
    tokens: list[np.ndarray | None] = [None] * n
    grids: list[Grid | None] = [None] * n
    failed: dict[int, str] = {}
    cut: dict[int, int] = {}
    for index, outcome in outcomes:
        done()
        if isinstance(outcome, str):
            failed[index] = outcome
            continue
        dense[index] = truncate(outcome.dense[None], size)[0] if size < dim else outcome.dense
        tokens[index], grids[index] = outcome.multivector, outcome.grid
        if outcome.cut_from is not None:
            cut[index] = outcome.cut_from
    kept = [index for index in range(n) if index not in failed]
    embeddings = Embeddings(
        dense[kept] if failed else dense,
        tuple(rows for rows in tokens if rows is not None) if options.multivector else None,
        tuple(grids[index] for index in kept),
    )
    return Gathered(kept, embeddings, dict(sorted(failed.items())), cut)

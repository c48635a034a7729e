"""The engine of one process: it measures requests, plans batches, prepares them ahead and runs them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from polyvec.chunking import Span, token_spans, windows
from polyvec.content import image_of, text_of
from polyvec.engine.merging import Merging
from polyvec.engine.requests import Request
from polyvec.images import image_size
from polyvec.inputs import check_text
from polyvec.model.adapter_files import UserAdapter
from polyvec.model.batching import plan, prepare_ahead
from polyvec.model.processing import Encoded, Processor
from polyvec.model.replica import Replica
from polyvec.outcomes import Encoding, Outcome
from polyvec.types import Grid

_NOT_FINITE = "its vector is not finite: the weights, or sums of them in this dtype, overflow"


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One prepared item of a batch, its adapter, and whether its multi-vector is requested."""

    item: Encoded
    adapter: str
    multivector: bool


class Engine:
    """Runs requests on one replica, batch by batch. Calls that wait at the same time share batches."""

    def __init__(self, replica: Replica, processor: Processor, token_budget: int) -> None:
        self.replica, self.processor, self.token_budget = replica, processor, token_budget
        self._merging: Merging[Row, Encoding] = Merging(
            self._forward, self._fits, kind=lambda rows: frozenset(row.adapter for row in rows)
        )
        self._adapters: set[str] = set()  # names of the adapters that users loaded

    def run(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `Runner`."""
        texts, lengths, reasons = self._measure(requests)
        yield from reasons.items()
        adapters = {index: requests[index].adapter for index in range(len(requests)) if index not in reasons}

        def prepare(batch: Sequence[int]) -> list[tuple[int, Encoded | str]]:
            return [(index, self._encoded(requests[index], texts.get(index))) for index in batch]

        for _, items in prepare_ahead(prepare, _batches(lengths, adapters, self.token_budget)):
            rows: dict[int, Row] = {}
            for index, item in items:
                if isinstance(item, str):
                    yield index, item
                else:
                    rows[index] = Row(item, adapters[index], requests[index].multivector)
            if rows:
                for index, encoding in zip(rows, self._merging(list(rows.values())), strict=True):
                    yield index, encoding if encoding.finite else _NOT_FINITE

    def _forward(self, rows: Sequence[Row]) -> list[Encoding]:
        items, adapters = [row.item for row in rows], [row.adapter for row in rows]
        encodings = self.replica.forward(items, adapters, multivector=any(row.multivector for row in rows))
        return [
            encoding if row.multivector else replace(encoding, multivector=None)
            for row, encoding in zip(rows, encodings, strict=True)
        ]

    def _fits(self, rows: Sequence[Row]) -> bool:
        """Return True if rows fit into one batch. Padding counts if their adapters differ."""
        lengths = [len(row.item.input_ids) for row in rows]
        mixed = len({row.adapter for row in rows}) > 1
        return (max(lengths) * len(lengths) if mixed else sum(lengths)) <= self.token_budget

    def use(self, adapters: Sequence[UserAdapter]) -> None:
        """See `Runner`."""
        by_name = {adapter.name: adapter for adapter in adapters}
        new = by_name.keys() - self._adapters
        try:
            for name in new:
                self.replica.add_adapter(name, by_name[name].read(), self)
            self._adapters |= new
        except BaseException:
            for name in new:
                self.replica.remove_adapter(name, self)
            raise
        for name in self._adapters - by_name.keys():
            self._adapters.remove(name)
            self.replica.remove_adapter(name, self)

    def close(self) -> None:
        """See `Runner`. There are no processes."""

    def chunks(self, request: Request, spans: Sequence[Span], overlap: int | None) -> list[Encoding]:
        """See `Runner`."""
        assert isinstance(request.item, str), "only texts have chunks"
        ids, offsets = self.processor.offsets(request.prefix + request.item)
        begin = len(request.prefix)
        # A span from the first character includes the prefix, as it does when it is encoded alone.
        shifted = [(start + begin if start else 0, end + begin) for start, end in spans]
        ranges = np.array(token_spans(offsets, shifted), np.int64)
        n_prefix = sum(end <= begin for _, end in offsets)
        size = request.max_length - n_prefix
        n_shared = size // 4 if overlap is None else overlap
        if not 0 <= n_shared < size:
            raise ValueError(
                f"`overlap` is {n_shared}; windows of {request.max_length} tokens, {n_prefix} of them for the "
                f"prefix, may share 0 to {size - 1}."
            )
        config = self.replica.config
        sums = np.zeros((len(spans), config.dim), np.float32)
        tokens: list[np.ndarray] = []
        for window in windows(len(ids) - n_prefix, size, n_shared):
            fresh = n_prefix + window.fresh if window.start else 0  # the first window pools the prefix
            pieces = ranges.clip(fresh, n_prefix + window.end) - window.start
            inside = pieces[:, 0] < pieces[:, 1]
            if not inside.any():
                tokens.append(np.zeros((n_prefix + window.end - fresh, config.multivector_dim), np.float32))
                continue
            text = self.processor.text([*ids[:n_prefix], *ids[n_prefix + window.start : n_prefix + window.end]])
            added, rows = self.replica.sums(text, request.adapter, pieces[inside], multivector=request.multivector)
            sums[inside] += added
            if rows is not None:
                tokens.append(rows[fresh - window.start :])
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        if not (np.isfinite(norms) & (norms > 0)).all():
            raise ValueError("the vector of a span is not finite: the weights, or sums of them in this dtype, overflow")
        dense = sums / norms
        multivector = np.concatenate(tokens) if request.multivector else None
        return [
            Encoding(row, None if multivector is None else multivector[start:end].copy())
            for row, (start, end) in zip(dense, ranges.tolist(), strict=True)
        ]

    def _measure(self, requests: Sequence[Request]) -> tuple[dict[int, Encoded], dict[int, int], dict[int, str]]:
        """Tokenise all texts and read all image headers, to know all lengths before images are decoded.

        Returns:
            By index: encoded texts, also those of images, lengths of all readable items, and the reason for each
            unreadable item.
        """
        grids: dict[int, Grid] = {}
        reasons: dict[int, str] = {}
        texts: dict[int, str] = {}
        for index, request in enumerate(requests):
            try:
                image, text = image_of(request.item), text_of(request.item)
                if request.unreadable is not None:
                    reasons[index] = request.unreadable
                    continue
                if text is not None:
                    check_text(text)
                if image is not None:
                    grids[index] = self.processor.grid(image_size(image), request.max_pixels)
                if text is not None:
                    texts[index] = request.prefix + text
            except ValueError as error:
                reasons[index] = str(error)
        encoded: dict[int, Encoded] = {}
        max_lengths = [requests[index].max_length for index in texts]
        tokenised = self.processor.texts(list(texts.values()), "", max_lengths=max_lengths)
        for index, ids in zip(texts, tokenised, strict=True):
            encoded[index] = self.processor.text(ids, requests[index].max_length)
        lengths = {index: len(text.input_ids) for index, text in encoded.items()}
        lengths |= {index: self.processor.image_length(grid, lengths.get(index, 0)) for index, grid in grids.items()}
        return encoded, lengths, reasons

    def _encoded(self, request: Request, text: Encoded | None) -> Encoded | str:
        image = image_of(request.item)
        if image is None:
            assert text is not None, "texts are encoded before batches are planned"
            return text
        try:
            return self.processor.image(image, request.max_pixels, text)
        except ValueError as error:
            return str(error)


def _batches(lengths: Mapping[int, int], adapters: Mapping[int, str], token_budget: int) -> list[list[int]]:
    """Plan batches. Full ones have one adapter each, so they can be packed; the remaining items share batches."""
    by_adapter: dict[str, list[int]] = {}
    for index, adapter in adapters.items():
        by_adapter.setdefault(adapter, []).append(index)

    def plan_indices(indices: Sequence[int], *, packed: bool) -> list[list[int]]:
        batches = plan([lengths[index] for index in indices], token_budget, packed=packed)
        return [[indices[position] for position in batch] for batch in batches]

    full: list[list[int]] = []
    remaining: list[int] = []
    for indices in by_adapter.values():
        *batches, last = plan_indices(indices, packed=True)
        full += batches
        remaining += last
    return full + plan_indices(remaining, packed=len(by_adapter) == 1)

"""MaxSim for training: its memory does not grow with query tokens × document tokens × queries × documents."""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from polyvec.model.layers import at_least_float32

__all__ = ["late_scores"]

_N_SIMILARITIES = 1 << 22  # at work at a time, 16 MiB in float32: larger products fall out of a processor's cache
_N_ROWS = 1024  # query tokens of one product


def late_scores(
    queries: Float[Tensor, "queries query_tokens dim"],
    query_mask: Bool[Tensor, "queries query_tokens"],
    documents: Float[Tensor, "documents document_tokens dim"],
    document_mask: Bool[Tensor, "documents document_tokens"],
) -> Float[Tensor, "queries documents"]:
    """Return MaxSim of every query with every document, divided by the number of query tokens (eq. 2).

    Padding never takes part: masked document tokens cannot be the best match, masked query tokens add nothing.

    Where several document tokens match a query token equally well, the gradient goes to only one of them; the
    derivative is not defined there, and `amax` would share it. Kept for the backward pass are the position of each
    query token's best match in each document, 2 or 4 bytes.

    Raises:
        ValueError: a query or a document has no token outside its padding.
    """
    for kind, mask in (("query", query_mask), ("document", document_mask)):
        empty = (~mask.any(-1)).nonzero()
        if len(empty):
            raise ValueError(f"{kind} {int(empty[0])} of the batch has no token to score; leave out what is empty.")
    totals: Tensor = _MaxSim.apply(  # type: ignore[no-untyped-call]  # torch does not annotate it
        at_least_float32(queries), query_mask, at_least_float32(documents), document_mask
    )
    return totals / query_mask.sum(-1, keepdim=True)


class _MaxSim(torch.autograd.Function):
    """MaxSim of every query with every document. A row is a query token that is no padding."""

    @staticmethod
    def forward(
        ctx: Any,  # torch has no public type for it
        queries: Tensor,
        query_mask: Tensor,
        documents: Tensor,
        document_mask: Tensor,
    ) -> Tensor:
        rows = queries[query_mask]
        n_tokens = documents.shape[1]
        dtype = torch.int16 if n_tokens <= torch.iinfo(torch.int16).max else torch.int32
        positions = torch.empty(len(rows), len(documents), dtype=dtype, device=rows.device)
        totals = queries.new_zeros(len(queries), len(documents))
        for chunk, columns in _chunks(document_mask, min(len(rows), _N_ROWS)):
            tokens = documents[chunk][:, columns]  # (chunk, columns, dim)
            padding = ~document_mask[chunk][:, columns]
            best = queries.new_zeros(*query_mask.shape, len(chunk))
            parts = []
            for part, part_positions in zip(torch.split(rows, _N_ROWS), torch.split(positions, _N_ROWS), strict=True):
                similarities = (part @ tokens.flatten(0, 1).T).view(-1, *padding.shape)
                values, places = similarities.masked_fill_(padding, -torch.inf).max(-1)
                parts.append(values)
                part_positions[:, chunk] = columns[places].to(dtype)
            best[query_mask] = torch.cat(parts)
            totals[:, chunk] = best.sum(1)
        ctx.save_for_backward(queries, query_mask, documents, positions)
        return totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None, Tensor, None]:
        queries, query_mask, documents, positions = ctx.saved_tensors
        rows, owners = queries[query_mask], query_mask.nonzero()[:, 0]
        row_gradients = torch.zeros_like(rows)
        document_gradients = torch.zeros_like(documents)
        n_columns = documents.shape[1]
        n_documents = max(1, _N_SIMILARITIES // max(1, len(rows)))
        for start in range(0, len(documents), n_documents):
            chunk = slice(start, start + n_documents)
            weights = gradients[:, chunk][owners]  # (rows, chunk)
            tokens = documents[chunk].flatten(0, 1)
            offsets = n_columns * torch.arange(weights.shape[1], device=rows.device)
            matches = positions[:, chunk].long() + offsets  # positions in `tokens`
            row_gradients += functional.embedding_bag(matches, tokens, per_sample_weights=weights, mode="sum")
            # The reverse: for each document token, the rows that match it best.
            ordered, order = matches.flatten().sort(stable=True)
            starts = torch.searchsorted(ordered, torch.arange(len(tokens), device=rows.device))
            sums = functional.embedding_bag(
                order // len(offsets), rows, starts, per_sample_weights=weights.flatten()[order], mode="sum"
            )
            document_gradients[chunk] = sums.view(-1, *documents.shape[1:])
        query_gradients = torch.zeros_like(queries)
        query_gradients[query_mask] = row_gradients
        return query_gradients, None, document_gradients, None


def _chunks(
    mask: Bool[Tensor, "documents tokens"], n_rows: int
) -> Iterator[tuple[Int64[Tensor, "chunk"], Int64[Tensor, "columns"]]]:
    """Yield documents of similar length, whose similarities to `n_rows` rows fit, and the columns that they use."""
    lengths, order = mask.sum(-1).sort(descending=True)
    n_tokens = lengths.tolist()
    start = 0
    while start < len(order):
        chunk = order[start : start + max(1, _N_SIMILARITIES // max(1, n_rows * n_tokens[start]))]
        yield chunk, mask[chunk].any(0).nonzero()[:, 0]
        start += len(chunk)

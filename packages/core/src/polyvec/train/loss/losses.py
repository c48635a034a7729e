"""The paper's losses on plain tensors (arXiv 2506.18902, section 5). Softmaxes run from a query over documents.

Half precision is computed in float32; float64 stays float64. A mean over queries divides by `divisor` where it is
given: with several processes, the mean of their numbers of queries.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from polyvec.model.layers import at_least_float32

__all__ = ["cosent", "cosine_scores", "divergence", "info_nce"]


def cosine_scores(
    queries: Float[Tensor, "queries dim"], documents: Float[Tensor, "documents dim"]
) -> Float[Tensor, "queries documents"]:
    """Return the cosine of every query with every document; the rows need not have unit length."""
    queries, documents = (functional.normalize(at_least_float32(side), dim=-1) for side in (queries, documents))
    return queries @ documents.T


def info_nce(
    scores: Float[Tensor, "queries documents"],
    targets: Int64[Tensor, "queries"],
    temperature: float,
    excluded: Bool[Tensor, "queries documents"] | None = None,
    divisor: float | None = None,
) -> Float[Tensor, ""]:
    """Return the mean over queries of −ln softmax(scores / τ) at the query's document, column `targets[i]` (eq. 4).

    With columns of hard negatives beside those of the pairs' documents this is L_NCE+. Columns in `excluded`, which
    never names a target, are left out of the softmax. Without queries the loss is 0.
    """
    logits = _without(at_least_float32(scores) / temperature, excluded)
    return _mean(functional.cross_entropy(logits, targets, reduction="sum"), len(targets), divisor)


def cosent(
    scores: Float[Tensor, "pairs"],
    gold: Float[Tensor, "pairs"],
    scales: Int64[Tensor, "pairs"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return ln(1 + Σ exp((s_b − s_a) / τ)) over all a and b of one scale where the gold score of a is the higher.

    This is CoSENT (github.com/bojone/CoSENT), which the paper prints with a typesetting error. Pairs of different
    scales are never compared; equal gold scores ask for nothing, so the loss is 0 where all are equal. It takes
    O(n log n): for each b, the sum over a is the end of a cumulative sum in the order of the gold scores.
    """
    order = gold.argsort(stable=True)
    order = order[scales[order].argsort(stable=True)]  # by scale, then by gold score
    counts = torch.unique_consecutive(scales[order], return_counts=True)[1].tolist()
    logits = at_least_float32(scores)[order] / temperature
    exponents = [logits.new_zeros(1)]  # the 1 of the formula
    for ascending, ascending_gold in zip(torch.split(logits, counts), torch.split(gold[order], counts), strict=True):
        from_here = torch.logcumsumexp(-ascending.flip(0), dim=0).flip(0)  # ln Σ exp(−s_a) over this and all higher a
        from_here = torch.cat([from_here, from_here.new_full((1,), -torch.inf)])
        exponents.append(ascending + from_here[torch.searchsorted(ascending_gold, ascending_gold, right=True)])
    return torch.cat(exponents).logsumexp(dim=0)


def divergence(
    logits: Float[Tensor, "queries documents"],
    others: Float[Tensor, "queries documents"],
    excluded: Bool[Tensor, "queries documents"] | None = None,
    divisor: float | None = None,
) -> Float[Tensor, ""]:
    """Return KL(softmax(logits) ‖ softmax(others)), mean over queries (eq. 5); logits are scores over τ.

    Columns in `excluded` are left out of both softmaxes; each query has at least one other.
    """
    logs, other_logs = (
        functional.log_softmax(_without(at_least_float32(side), excluded), dim=-1) for side in (logits, others)
    )
    probabilities = logs.exp()
    if excluded is not None:  # both logarithms are −∞ there, and 0 · (−∞ + ∞) is no number
        logs, other_logs = logs.masked_fill(excluded, 0.0), other_logs.masked_fill(excluded, 0.0)
    return _mean((probabilities * (logs - other_logs)).sum(), len(logits), divisor)


def _without(
    logits: Float[Tensor, "queries documents"], excluded: Bool[Tensor, "queries documents"] | None
) -> Float[Tensor, "queries documents"]:
    return logits if excluded is None else logits.masked_fill(excluded, -torch.inf)


def _mean(total: Float[Tensor, ""], n_queries: int, divisor: float | None) -> Float[Tensor, ""]:
    return total / ((n_queries if divisor is None else divisor) or 1)

"""The paper's losses on plain tensors (arXiv 2506.18902, section 5). Softmaxes run from a query over documents."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Weights:
    """w1 to w3 of eq. 6 for one kind of pair; the paper does not publish their values."""

    dense: float = 1.0
    late: float = 1.0
    kl: float = 1.0


def cosine_scores(
    queries: Float[Tensor, "queries dim"], documents: Float[Tensor, "documents dim"]
) -> Float[Tensor, "queries documents"]:
    """Return the cosine of every query with every document; the rows need not have unit length."""
    return functional.normalize(queries.float(), dim=-1) @ functional.normalize(documents.float(), dim=-1).T


def late_scores(
    queries: Float[Tensor, "queries query_tokens dim"],
    query_mask: Bool[Tensor, "queries query_tokens"],
    documents: Float[Tensor, "documents document_tokens dim"],
    document_mask: Bool[Tensor, "documents document_tokens"],
) -> Float[Tensor, "queries documents"]:
    """Return MaxSim of every query with every document, divided by the number of query tokens (eq. 2).

    Padding never takes part: masked document tokens cannot be the best match, masked query tokens add nothing.
    """
    similarities = torch.einsum("qid,pjd->qpij", queries, documents).float()
    best = similarities.masked_fill(~document_mask[None, :, None, :], -torch.inf).amax(-1)  # (queries, documents, i)
    totals = best.masked_fill(~query_mask[:, None, :], 0.0).sum(-1)
    return totals / query_mask.sum(-1)[:, None]


def info_nce(
    scores: Float[Tensor, "queries documents"], targets: Int64[Tensor, "queries"], temperature: float
) -> Float[Tensor, ""]:
    """Return the mean over queries of −ln softmax(scores / τ) at the query's document, column `targets[i]` (eq. 4)."""
    return functional.cross_entropy(scores / temperature, targets)


def divergence(
    dense: Float[Tensor, "queries documents"], late: Float[Tensor, "queries documents"], temperature: float
) -> Float[Tensor, ""]:
    """Return KL(dense ‖ late) of the two softmaxes over documents, mean over queries (eq. 5)."""
    log_dense, log_late = (functional.log_softmax(scores / temperature, dim=-1) for scores in (dense, late))
    return functional.kl_div(log_late, log_dense, reduction="batchmean", log_target=True)


def joint(
    queries: Float[Tensor, "queries dim"],
    documents: Float[Tensor, "documents dim"],
    late: Float[Tensor, "queries documents"],
    targets: Int64[Tensor, "queries"],
    *,
    temperature: float,
    matryoshka_dims: Sequence[int],
    weights: Weights,
) -> dict[str, Float[Tensor, ""]]:
    """Return the three weighted terms for one kind of pair; their sum is its half of L_joint (eq. 6).

    InfoNCE on dense scores is the mean over Matryoshka sizes, each truncated and normalised. The KL term compares the
    full size with late interaction.
    """
    by_size = [cosine_scores(queries[:, :size], documents[:, :size]) for size in sorted(matryoshka_dims)]
    return {
        "dense": weights.dense * torch.stack([info_nce(scores, targets, temperature) for scores in by_size]).mean(),
        "late": weights.late * info_nce(late, targets, temperature),
        "kl": weights.kl * divergence(by_size[-1], late, temperature),
    }

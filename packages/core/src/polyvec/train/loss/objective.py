"""The joint loss of a batch of pairs (arXiv 2506.18902, section 5): the ranking of both heads and their divergence."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from polyvec.train.data.batches import Labels, Vectors
from polyvec.train.loss.gathering import gather_documents, gather_rows, mean_count
from polyvec.train.loss.losses import cosent, cosine_scores, divergence, info_nce
from polyvec.train.loss.maxsim import late_scores

__all__ = ["Losses", "Weights", "excluded", "terms"]

Direction = Literal["dense-late", "late-dense"]
StopGradient = Literal["late", "dense", "none"]
Sizes = Literal["full", "each"]


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights of the three terms for one kind of pair. A term of weight 0 is not computed.

    The paper does not publish its weights. At 1 the terms count alike: each is a cross-entropy or a divergence of
    the same softmaxes.
    """

    dense: float = 1.0
    late: float = 1.0
    kl: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dense", "late", "kl"):
            _check_number(name, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Losses:
    """The settings of the joint loss, and why each has its default.

    Attributes:
        text: w1 to w3 of eq. 6, for text pairs.
        images: w4 to w6 of eq. 6, for pairs of a text and an image.
        temperature: τ of softmaxes over dense scores. 0.02 is the paper's value for triplets; it has none for pairs.
        late_temperature: τ of softmaxes over late scores. 0.02 as for dense scores: the paper has one τ, and late
            scores divided by the number of query tokens are a mean of cosines.
        cosent_temperature: τ of CoSENT. 0.05 is what CoSENT's authors use (a scale of 20); the paper does not say.
        kl_direction: "dense-late" is KL(dense ‖ late) as eq. 5 prints it, "late-dense" the reverse.
        kl_stop_gradient: the head that the divergence does not train. "late": late interaction ranks better at every
            step, so the dense head learns from it; with "none" the late head is pulled towards the dense head, too.
        kl_negatives: whether the divergence is also over hard negatives. False: eq. 5 is over the documents of pairs.
        kl_sizes: "full" compares the full dense vectors with late interaction; "each" all Matryoshka sizes, with
            their weights. "full": the paper has one such term, and the sizes learn to rank from their own losses.
        matryoshka_weights: the weight of each size by its name, such as {"128": 1.0, "2048": 2.0}; they are divided
            by their sum. None: equal, as is usual; the paper does not say.
        false_negative_margin: a document whose score is above that of the query's own document by more than this is
            no negative. None: none is left out, as in the paper. 0 suits data with many answers that nobody
            labelled; 2 is as good as None.
    """

    text: Weights = field(default_factory=Weights)
    images: Weights = field(default_factory=Weights)
    temperature: float = 0.02
    late_temperature: float = 0.02
    cosent_temperature: float = 0.05
    kl_direction: Direction = "dense-late"
    kl_stop_gradient: StopGradient = "late"
    kl_negatives: bool = False
    kl_sizes: Sizes = "full"
    matryoshka_weights: Mapping[str, float] | None = None
    false_negative_margin: float | None = None

    def __post_init__(self) -> None:
        for name in ("temperature", "late_temperature", "cosent_temperature"):
            _check_number(name, getattr(self, name), positive=True)
        for name, choices in (
            ("kl_direction", get_args(Direction)),
            ("kl_stop_gradient", get_args(StopGradient)),
            ("kl_sizes", get_args(Sizes)),
            ("kl_negatives", (True, False)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"`{name}` is {getattr(self, name)!r}; use {' or '.join(map(repr, choices))}.")
        if self.false_negative_margin is not None:
            _check_number("false_negative_margin", self.false_negative_margin, signed=True)
        if not any(astuple(self.text) + astuple(self.images)):
            raise ValueError("all six weights are 0, so there is nothing to learn; give one of them a weight.")
        for size, weight in (self.matryoshka_weights or {}).items():
            _check_number(f"matryoshka_weights[{size!r}]", weight)

    @property
    def trains_late(self) -> bool:
        """Whether a term with a weight trains late interaction, and with it the projector."""
        kinds = (self.text, self.images)
        return any(weights.late or (weights.kl and self.kl_stop_gradient != "late") for weights in kinds)

    def size_weights(self, sizes: Sequence[int]) -> dict[int, float]:
        """Return the weights of a checkpoint's Matryoshka sizes; their sum is 1.

        Raises:
            ValueError: `matryoshka_weights` does not name exactly these sizes, or has no weight above 0.
        """
        names = {str(size): size for size in sorted(sizes)}
        weights = dict.fromkeys(names, 1.0) if self.matryoshka_weights is None else self.matryoshka_weights
        if weights.keys() != names.keys() or not sum(weights.values()):
            raise ValueError(
                f"`matryoshka_weights` is {dict(weights)}; this checkpoint's sizes are {', '.join(names)}. "
                "Give each a weight; 0 leaves a size out, and at least one is above 0."
            )
        return {size: weights[name] / sum(weights.values()) for name, size in names.items()}


def terms(
    queries: Vectors,
    documents: Vectors,
    labels: Labels,
    losses: Losses,
    weights: Weights,
    *,
    sizes: Sequence[int],
) -> dict[str, Float[Tensor, ""]]:
    """Return the terms "dense", "late" and "kl", times their weights; their sum is one half of L_joint (eq. 6).

    "dense" and "late" are InfoNCE over all documents, hard negatives included (L_NCE+), for queries without a gold
    score, plus CoSENT over queries with one. "dense" is their weighted mean over the Matryoshka `sizes`. "kl" is over
    all queries, each head with its own temperature.

    Means are over queries, and over those of all processes once gradients are averaged over the processes. Each
    process must call this for each batch, with or without pairs.
    """
    with torch.autocast(queries.dense.device.type, enabled=False):
        documents, labels = gather_documents(documents, labels)
        left_out = excluded(labels)
        size_weights = losses.size_weights(sizes)
        full = queries.dense.shape[1]
        dense = {
            size: cosine_scores(queries.dense[:, :size], documents.dense[:, :size]) for size in {*size_weights, full}
        }
        weighted = {}
        if weights.dense:
            no_negatives = _with_suspects(left_out, dense[full], labels, losses)
            by_size = [
                weight * _ranking(dense[size], labels, no_negatives, losses.temperature, losses.cosent_temperature)
                for size, weight in size_weights.items()
            ]
            weighted["dense"] = weights.dense * torch.stack(by_size).sum()
        if weights.late or weights.kl:
            late = late_scores(queries.tokens, queries.mask, documents.tokens, documents.mask)
        if weights.late:
            no_negatives = _with_suspects(left_out, late, labels, losses)
            ranking = _ranking(late, labels, no_negatives, losses.late_temperature, losses.cosent_temperature)
            weighted["late"] = weights.late * ranking
        if weights.kl:
            kl_weights = size_weights if losses.kl_sizes == "each" else {full: 1.0}
            divergences = [
                weight * _divergence(dense[size], late, labels, left_out, losses) for size, weight in kl_weights.items()
            ]
            weighted["kl"] = weights.kl * torch.stack(divergences).sum()
        return weighted


def excluded(labels: Labels) -> Bool[Tensor, "queries documents"]:
    """Return the documents that are no negatives of a query, by content and by group; never its own document.

    These are copies of another column, further positives of the same query, documents in a group with any positive of
    the query, and the query's own text.
    """
    contents = torch.unique(labels.document_keys, return_inverse=True)[1]
    groups = torch.unique(labels.groups, return_inverse=True)[1]
    # A positive of a query: the target of any query with its content, in any process.
    shared = labels.query_keys[:, None] == gather_rows(labels.query_keys)
    positives = gather_rows(labels.targets)
    left_out = _marked(contents, shared, positives) | (_marked(groups, shared, positives) & (labels.groups != 0))
    left_out |= labels.query_keys[:, None] == labels.document_keys
    left_out |= _is_copy(contents, labels.in_batch)
    return left_out.scatter(1, labels.targets[:, None], value=False)


def _marked(
    ids: Int64[Tensor, "documents"],
    shared: Bool[Tensor, "queries all_queries"],
    positives: Int64[Tensor, "all_queries"],
) -> Bool[Tensor, "queries documents"]:
    """True where a document has the id of a positive of the query. Ids count from 0."""
    counts = shared.new_zeros(len(shared), len(ids), dtype=torch.int32)
    return counts.index_add_(1, ids[positives], shared.int())[:, ids] > 0


def _is_copy(contents: Int64[Tensor, "documents"], in_batch: Bool[Tensor, "documents"]) -> Bool[Tensor, "documents"]:
    """True for all but one document of each content; the document that stays belongs to a pair if any does.

    Within a process contents are distinct already; documents of several processes may repeat each other.
    """
    n = len(contents)
    ranks = torch.arange(n, device=contents.device) + n * ~in_batch
    best = torch.full_like(contents, 2 * n).scatter_reduce(0, contents, ranks, "amin")
    return best[contents] != ranks


def _with_suspects(
    left_out: Bool[Tensor, "queries documents"],
    scores: Float[Tensor, "queries documents"],
    labels: Labels,
    losses: Losses,
) -> Bool[Tensor, "queries documents"]:
    """Also leave out documents that beat a query's own by more than the margin."""
    if losses.false_negative_margin is None:
        return left_out
    targets = labels.targets[:, None]
    scores = scores.detach()
    suspects = scores > scores.gather(1, targets) + losses.false_negative_margin
    return left_out | suspects.scatter(1, targets, value=False)


def _ranking(
    scores: Float[Tensor, "queries documents"],
    labels: Labels,
    left_out: Bool[Tensor, "queries documents"],
    temperature: float,
    cosent_temperature: float,
) -> Float[Tensor, ""]:
    scored = ~labels.scores.isnan()
    unscored = ~scored
    divisor = mean_count(int(unscored.sum()))
    loss = info_nce(scores[unscored], labels.targets[unscored], temperature, left_out[unscored], divisor)
    pairs = scores.gather(1, labels.targets[:, None])[scored, 0]
    gold, scales = labels.scores[scored], labels.scales[scored]
    return loss + cosent(gather_rows(pairs), gather_rows(gold), gather_rows(scales), cosent_temperature)


def _divergence(
    dense: Float[Tensor, "queries documents"],
    late: Float[Tensor, "queries documents"],
    labels: Labels,
    left_out: Bool[Tensor, "queries documents"],
    losses: Losses,
) -> Float[Tensor, ""]:
    dense, late = dense / losses.temperature, late / losses.late_temperature
    if losses.kl_stop_gradient == "late":
        late = late.detach()
    if losses.kl_stop_gradient == "dense":
        dense = dense.detach()
    if not losses.kl_negatives:
        left_out = left_out | ~labels.in_batch
    first, second = (dense, late) if losses.kl_direction == "dense-late" else (late, dense)
    return divergence(first, second, left_out, mean_count(len(dense)))


def _check_number(name: str, value: object, *, positive: bool = False, signed: bool = False) -> None:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if not math.isfinite(number) or (positive and number <= 0) or (number < 0 and not signed):
        wanted = "a number above 0" if positive else "a number" if signed else "0 or a number above it"
        raise ValueError(f"`{name}` is {value!r}; use {wanted}.")

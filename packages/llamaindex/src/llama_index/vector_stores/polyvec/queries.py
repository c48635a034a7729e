"""Queries of LlamaIndex as queries of a collection, and hits as results of LlamaIndex."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode, VectorStoreQueryResult
from qdrant_client import models

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.embeddings.polyvec.base import QueryEmbedding
from llama_index.embeddings.polyvec.images import ImageLike, image_input
from llama_index.vector_stores.polyvec.nodes import to_node
from polyvec import Embeddings, Input
from polyvec.compression import truncate
from polyvec.inputs import checked_whole
from qdrant_polyvec import MODES, Hit, Mode, Query, RankingOptions, Tasks

__all__ = ["QueryOptions", "check_options", "similarity"]

_MOST = 2**31 - 1  # results of one request
_UNUSED = {
    "alpha": "mode 'hybrid' has no weights: it fuses the ranks by MaxSim and by BM25",
    "sparse_top_k": "vector_store_kwargs={'candidates': …} is the number of candidates of each kind",
    "embedding_field": "vector_store_kwargs={'mode': …} chooses the vectors",
    "output_fields": "nodes come back whole",
}


class QueryOptions(RankingOptions, total=False):
    """Options of a query: the `vector_store_kwargs` of a retriever."""

    qdrant_filters: models.Filter | None
    """Qdrant's conditions on the payload, instead of `filters`."""
    node_ids: Sequence[str] | None
    """Search only these nodes."""
    query_image: ImageLike | None
    """Search by this image instead of the query's text."""
    mmr_threshold: float | None
    """Of the query mode `mmr`: 1 ranks by similarity alone, 0 by difference from better results alone. Default: 0.5."""


def check_options(options: Mapping[str, Any], names: Set[str]) -> None:
    """Refuse unknown options.

    Raises:
        TypeError: an option is not among `names`.
    """
    if unknown := sorted(options.keys() - names):
        raise TypeError(f"{unknown[0]!r} is no option of a query; the options are {', '.join(sorted(names))}.")


def query_content(query: VectorStoreQuery, options: QueryOptions) -> Input | None:
    """Return the image or the text of a query; None if there is neither."""
    image = options.get("query_image")
    return (query.query_str or None) if image is None else image_input(image)


def query_mode(query: VectorStoreQuery, content: Input | None, default: Mode) -> Mode:
    """Return the mode of a query whose options name none.

    Raises:
        ValueError: the query has a mode of LlamaIndex that is not offered.
    """
    if query.mode == VectorStoreQueryMode.HYBRID:
        return "hybrid"
    if query.mode not in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        raise ValueError(
            f"query mode {query.mode.value!r} is not offered: choose by vector_store_kwargs={{'mode': …}}, one of "
            f"{', '.join(map(repr, MODES))}."
        )
    return default if content is not None else "dense"  # an embedding alone has no multi-vector


def mmr_threshold(query: VectorStoreQuery, options: QueryOptions) -> float | None:
    """Return the threshold of maximal marginal relevance; None if the query has another mode.

    Raises:
        ValueError: it is not from 0 to 1, or goes with another mode.
    """
    threshold = options.get("mmr_threshold")
    threshold = query.mmr_threshold if threshold is None else threshold
    if query.mode != VectorStoreQueryMode.MMR:
        if threshold is not None:
            raise ValueError(f"`mmr_threshold` is {threshold!r}; it goes with the query mode 'mmr'.")
        return None
    threshold = 0.5 if threshold is None else threshold
    if not 0 <= threshold <= 1:
        raise ValueError(f"`mmr_threshold` is {threshold!r}; it must be from 0 to 1.")
    return threshold


def diverse(
    hits: Sequence[Hit], query: Embeddings, embeddings: Sequence[Embeddings | None], *, threshold: float, limit: int
) -> VectorStoreQueryResult:
    """Choose hits by maximal marginal relevance of their dense vectors, by LlamaIndex's own function.

    The similarities of the result are its scores: `threshold` times the cosine with the query, less `1 - threshold`
    times the cosine with the result before.
    """
    pairs = [(hit, one.dense[0].tolist()) for hit, one in zip(hits, embeddings, strict=True) if one is not None]
    if not pairs:
        return query_result([])
    vectors = [vector for _, vector in pairs]
    scores, keys = get_top_k_mmr_embeddings(
        truncate(query.dense, len(vectors[0]))[0].tolist(),
        vectors,
        similarity_top_k=limit,
        embedding_ids=list(range(len(pairs))),
        mmr_threshold=threshold,
    )
    result = query_result([pairs[key][0] for key in keys])
    result.similarities = [float(score) for score in scores]
    return result


def query_limit(query: VectorStoreQuery, mode: Mode) -> int:
    """Return the number of results: `hybrid_top_k` in mode `hybrid`, if there is one, else `similarity_top_k`.

    Raises:
        ValueError: the query has a `hybrid_top_k` in another mode, or a field that nothing here obeys.
    """
    for name, instead in _UNUSED.items():
        if (value := getattr(query, name)) is not None:
            raise ValueError(f"`{name}` is {value!r}, which is not offered: {instead}.")
    if query.hybrid_top_k is None:
        return checked_whole("similarity_top_k", query.similarity_top_k, _MOST, "nodes")
    if mode != "hybrid":
        raise ValueError(
            f"`hybrid_top_k` is {query.hybrid_top_k} in mode {mode!r}: it is the number of results in mode 'hybrid'."
        )
    return checked_whole("hybrid_top_k", query.hybrid_top_k, _MOST, "nodes")


def search_query(
    content: Input | None,
    embedding: Sequence[float] | None,
    *,
    mode: Mode,
    task: Tasks,
    embed_model: PolyvecEmbedding,
    is_own_task: bool,
) -> Query:
    """Return what a collection is searched by: the content of a query, or vectors with the query's own embedding.

    The embedding takes the place of the dense vector of a text, if it is of the task that is searched.

    Args:
        content: a text or image.
        embedding: of the query, as an index made it.
        mode: of the search.
        task: what is searched.
        embed_model: the store's.
        is_own_task: no option names the task. Otherwise an embedding of another task is left aside.

    Raises:
        ValueError: the query has neither content nor embedding, the mode needs more than an embedding, or the
            embedding cannot be compared with what is searched.
    """
    made_for = embed_model.task
    if isinstance(embedding, QueryEmbedding):
        made_for = embedding.task
        if embedding.fingerprint != embed_model.encoder.fingerprint:
            raise ValueError(
                f"the query's embedding is of the model {embedding.fingerprint!r}, the store's nodes of "
                f"{embed_model.encoder.fingerprint!r}: give the index the store's `embed_model`."
            )
        if made_for != task and (is_own_task or content is None):
            raise ValueError(
                f"the query's embedding is for the task {made_for!r}, the search for {task!r}; vectors of two tasks "
                f"cannot be compared: give the index the store's `embed_model`, or search for {made_for!r} by "
                f"vector_store_kwargs={{'task': {made_for!r}}}."
            )
    if content is None:
        if embedding is None:
            raise ValueError(
                "the query has neither text nor embedding; an image goes in vector_store_kwargs={'query_image': …} "
                "or in the `image_path` of a QueryBundle for PolyvecRetriever."
            )
        if mode != "dense":
            raise ValueError(f"mode {mode!r} needs the query's text; an embedding alone is searched in 'dense'.")
    elif embedding is None or not isinstance(content, str) or mode == "hybrid" or task != made_for:
        return content  # `hybrid` needs the words
    dense = np.asarray([embedding], np.float32)
    if content is None or mode == "dense":
        return Embeddings(dense, None, (None,))
    encoded = embed_model.watched.encode_query([content], task=made_for, multivector=True)
    return replace(encoded, dense=dense)


def query_result(hits: Sequence[Hit]) -> VectorStoreQueryResult:
    """Convert hits to nodes with their similarities."""
    return VectorStoreQueryResult(
        nodes=[to_node(hit) for hit in hits],
        similarities=[similarity(hit) for hit in hits],
        ids=[str(hit.id) for hit in hits],
    )


def similarity(hit: Hit) -> float:
    """Return a mean of cosines; for merged rankings, the fused score."""
    return hit.score if hit.similarity is None else hit.similarity

"""Late-interaction re-ranking of nodes that any retriever has found."""

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from llama_index.core.bridge.pydantic import ConfigDict, Field, field_validator
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # it is public
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import BaseNode, NodeWithScore, QueryBundle

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.embeddings.polyvec.images import image_input, node_input
from polyvec.scoring import maxsim
from polyvec.settings import encode_each
from polyvec.types import Input, UnreadableInputs

dispatcher = get_dispatcher(__name__)


class PolyvecRerank(BaseNodePostprocessor):
    """Orders nodes by MaxSim between the multi-vectors of the query and of each node, text or image.

    Scores are MaxSim divided by the number of query tokens: the mean of their best cosines, as `PolyvecVectorStore`
    gives them. The query is the bundle's text, or its image if it has no text. A node whose image cannot be read comes
    last, with a warning. The nodes themselves stay as they are.

    Examples:
        ```python
        from llama_index.embeddings.polyvec import PolyvecEmbedding
        from llama_index.postprocessor.polyvec import PolyvecRerank

        rerank = PolyvecRerank(embed_model=PolyvecEmbedding(model_name="demo"), top_n=3)
        rerank.postprocess_nodes(nodes, query_str="revenue by region")
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    embed_model: PolyvecEmbedding = Field(description="Makes the multi-vectors.")
    top_n: int = Field(default=3, gt=0, description="How many nodes are kept.")
    keep_retrieval_score: bool = Field(
        default=False, description="Keep the score that a node came with as `retrieval_score` in its metadata."
    )
    vector_store: Any = Field(  # Any: a PolyvecVectorStore, which needs the extra `qdrant`
        default=None,
        exclude=True,
        repr=False,
        description="A PolyvecVectorStore whose stored multi-vectors are taken for nodes that are in it.",
    )

    @field_validator("vector_store")
    @classmethod
    def _is_ours(cls, store: Any) -> Any:
        if store is not None and not hasattr(store, "collection"):
            raise ValueError(f"a {type(store).__name__} keeps no multi-vectors; leave `vector_store` out.")
        return store

    @classmethod
    def class_name(cls) -> str:
        return "PolyvecRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("a query is needed to re-rank: give `query_str` or `query_bundle`.")
        if not nodes:
            return []
        name = self.embed_model.model_name
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=self.top_n, model_name=name))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: name,
            EventPayload.QUERY_STR: query_bundle.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            found = self._ranked(nodes, query_bundle)
            event.on_end(payload={EventPayload.NODES: found})
        dispatcher.event(ReRankEndEvent(nodes=found))
        return found

    def _ranked(self, nodes: Sequence[NodeWithScore], query: QueryBundle) -> list[NodeWithScore]:
        encoder, task = self.embed_model.encoder, self.embed_model.task
        asked = encoder.encode_query([_asked(query)], task=task, multivector=True).multivector
        if asked is None:
            raise ValueError("this embedder makes no multi-vectors, so it cannot re-rank.")
        rows = self._stored([one.node for one in nodes])
        rows |= self._encoded({index: one.node for index, one in enumerate(nodes) if index not in rows})
        means = (maxsim(asked, list(rows.values()))[0] / len(asked[0])).tolist()
        scores = dict(zip(rows, means, strict=True))
        best = sorted(range(len(nodes)), key=lambda index: scores.get(index, -np.inf), reverse=True)[: self.top_n]
        return [self._scored(nodes[index], scores.get(index, -1.0)) for index in best]

    def _stored(self, nodes: Sequence[BaseNode]) -> dict[int, np.ndarray]:
        """The multi-vectors of nodes that are in the store as they are here, by their places."""
        if self.vector_store is None:
            return {}
        collection = self.vector_store.collection
        there = {
            str(one.id): one
            for one in collection.get([one.node_id for one in nodes])
            if one.task == self.embed_model.task and one.fingerprint == self.embed_model.encoder.fingerprint
        }
        same = {index: one.node_id for index, one in enumerate(nodes) if _is_same(one, there.get(one.node_id))}
        vectors = collection.embeddings(list(same.values()), multivector=True)
        return {index: vectors[key].multivector[0] for index, key in same.items() if key in vectors}

    def _encoded(self, nodes: Mapping[int, BaseNode]) -> dict[int, np.ndarray]:
        """The multi-vectors of nodes by their places, without those that cannot be read."""
        encode = partial(self.embed_model.encoder.encode_document, task=self.embed_model.task, multivector=True)
        places, kept = list(nodes), range(len(nodes))
        try:
            embeddings = encode_each(encode, list(nodes.values()), node_input)
        except UnreadableInputs as error:
            embeddings, kept = error.embeddings, error.kept  # type: ignore[assignment]  # both are sequences of int
            warnings.warn(
                f"{len(error.reasons)} nodes could not be read and come last; the first: "
                f"{next(iter(error.reasons.values()))}.",
                stacklevel=4,
            )
        return {places[place]: row for place, row in zip(kept, embeddings.multivector or (), strict=True)}

    def _scored(self, given: NodeWithScore, score: float) -> NodeWithScore:
        if not self.keep_retrieval_score:
            return NodeWithScore(node=given.node, score=score)
        node = given.node.model_copy(update={"metadata": {**given.node.metadata, "retrieval_score": given.score}})
        return NodeWithScore(node=node, score=score)


def _asked(query: QueryBundle) -> Input:
    if query.query_str:
        return query.query_str
    if query.image_path is not None:
        return image_input(query.image_path)
    raise ValueError("the query has neither text nor image.")


def _is_same(given: BaseNode, stored: Any) -> bool:
    """Whether a node is what is stored under its id, with the same text, image and metadata."""
    if stored is None or "_node_content" not in stored.payload:
        return False
    from llama_index.vector_stores.polyvec.nodes import node  # needs the extra `qdrant`, as the store that was given

    known = node(stored)
    return known.hash == given.hash and known.metadata == given.metadata

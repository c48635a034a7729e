"""Late-interaction re-ranking of the nodes of any retriever."""

from collections.abc import Sequence
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
from llama_index.embeddings.polyvec.watching import watched_by
from polyvec import Input
from polyvec.rerank import scores, stored_multivectors

dispatcher = get_dispatcher(__name__)


class PolyvecRerank(BaseNodePostprocessor):
    """Order nodes by MaxSim between the multi-vectors of the query and of each node, text or image.

    Scores are MaxSim divided by the number of query tokens, that is, means of cosines, as those of
    `PolyvecVectorStore`. The query is the bundle's text, or its image if it has no text. A node whose image cannot be
    read comes last, with a warning. The nodes themselves are not changed.

    Examples:
        ```python
        from llama_index.embeddings.polyvec import PolyvecEmbedding
        from llama_index.postprocessor.polyvec import PolyvecRerank

        rerank = PolyvecRerank(embed_model=PolyvecEmbedding(model_name="demo"), top_n=3)
        rerank.postprocess_nodes(nodes, query_str="revenue by region")
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    embed_model: PolyvecEmbedding = Field(description="The embedding that makes the multi-vectors.")
    top_n: int = Field(default=3, gt=0, description="Number of nodes that are kept.")
    keep_retrieval_score: bool = Field(
        default=False, description="Keep the retriever's score as `retrieval_score` in the node's metadata."
    )
    vector_store: Any = Field(  # Any: a PolyvecVectorStore, which needs the extra `qdrant`
        default=None,
        exclude=True,
        repr=False,
        description="A PolyvecVectorStore. Nodes that it holds unchanged are scored by their stored multi-vectors.",
    )

    @field_validator("vector_store")
    @classmethod
    def _check_vector_store(cls, store: Any) -> Any:
        if store is not None and not hasattr(store, "collection"):
            raise ValueError(f"a {type(store).__name__} keeps no multi-vectors; leave `vector_store` out.")
        return store

    def __getstate__(self) -> dict[str, Any]:
        if self.vector_store is not None:
            self.vector_store.__reduce__()  # raises if no pickle can open the store again: LlamaIndex would drop it
        return super().__getstate__()

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
            with watched_by(self.callback_manager):
                best = self._ranked(nodes, query_bundle)
            event.on_end(payload={EventPayload.NODES: best})
        dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _ranked(self, nodes: Sequence[NodeWithScore], query: QueryBundle) -> list[NodeWithScore]:
        similarities = scores(
            _query_input(query),
            [item.node for item in nodes],
            node_input,
            encoder=self.embed_model.watched,
            task=self.embed_model.task,
            stored=self._stored([item.node for item in nodes]),
        )
        best = np.argsort(-similarities, kind="stable")[: self.top_n]
        return [self._with_score(nodes[index], max(float(similarities[index]), -1.0)) for index in best]

    def _stored(self, nodes: Sequence[BaseNode]) -> dict[int, np.ndarray]:
        """Read the multi-vectors of nodes that the store holds unchanged, by position."""
        if self.vector_store is None:
            return {}
        collection = self.vector_store.collection
        return stored_multivectors(
            [node.node_id for node in nodes],
            lambda index, stored: _is_same(nodes[index], stored),
            get=collection.get,
            embeddings=partial(collection.embeddings, multivector=True),
            encoder=self.embed_model.encoder,
            task=self.embed_model.task,
        )

    def _with_score(self, item: NodeWithScore, score: float) -> NodeWithScore:
        if not self.keep_retrieval_score:
            return NodeWithScore(node=item.node, score=score)
        node = item.node.model_copy(update={"metadata": {**item.node.metadata, "retrieval_score": item.score}})
        return NodeWithScore(node=node, score=score)


def _query_input(query: QueryBundle) -> Input:
    if query.query_str:
        return query.query_str
    if query.image_path is not None:
        return image_input(query.image_path)
    raise ValueError("the query has neither text nor image.")


def _is_same(node: BaseNode, stored: Any) -> bool:
    """True if a node is stored under its id with the same text, image and metadata."""
    from llama_index.vector_stores.polyvec.nodes import to_node  # needs the extra `qdrant`, which brought the store

    stored_node = to_node(stored)
    return stored_node.hash == node.hash and stored_node.metadata == node.metadata

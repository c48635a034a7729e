"""Parts for LlamaIndex's pipelines: encoding by the store, and documents that stay until they are replaced."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, TransformComponent
from qdrant_client import models

from llama_index.embeddings.polyvec.base import cache_token, tell_images_apart
from llama_index.vector_stores.polyvec.base import PolyvecVectorStore
from llama_index.vector_stores.polyvec.filters import in_documents
from llama_index.vector_stores.polyvec.nodes import document_id
from qdrant_polyvec import UnstoredItems
from qdrant_polyvec.points import has_id

__all__ = ["LeaveToStore", "replacing"]


class LeaveToStore(TransformComponent):
    """Hand nodes on without vectors: a `PolyvecVectorStore` makes both kinds in one pass when they are added.

    It stands in the place of the embedding in a pipeline or an index, which would encode each node once more.
    LlamaIndex adds only nodes with an embedding to a store, so the nodes get an empty one. Other stores refuse it.

    Examples:
        ```python
        from llama_index.core.ingestion import IngestionPipeline
        from llama_index.vector_stores.polyvec import LeaveToStore

        IngestionPipeline(transformations=[LeaveToStore()], vector_store=store).run(documents=documents)
        ```
    """

    @classmethod
    def class_name(cls) -> str:
        return "LeaveToStore"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """Return what LlamaIndex's ingestion cache compares."""
        settings = super().to_dict(**kwargs)
        return settings | cache_token(settings)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ARG002 — as the base
        tell_images_apart(nodes, super().to_dict())
        for node in nodes:
            node.embedding = []
        return nodes


class _Replacing(PolyvecVectorStore):
    """A store that deletes a document's nodes when the new ones are stored, or at the end of the block."""

    _asked: set[str] = PrivateAttr(default_factory=set)  # documents to delete
    _stored: dict[str, list[str]] = PrivateAttr(default_factory=dict)  # ids of new nodes by document
    _unstored: set[str] = PrivateAttr(default_factory=set)  # documents with a node that could not be stored

    def __init__(self, store: PolyvecVectorStore) -> None:
        super(PolyvecVectorStore, self).__init__(stores_text=True)  # the collection is open already
        self._collection, self._embed_model, self._mode = store.collection, store.embed_model, store.mode

    def delete(self, ref_doc_id: str) -> None:  # type: ignore[override]  # as in the class above it
        self._asked.add(ref_doc_id)

    def add(self, nodes: Sequence[Any], **options: Any) -> list[str]:
        failed: set[str] = set()
        try:
            return super().add(nodes, **options)
        except UnstoredItems as error:
            failed = {str(failure.id) for failure in error.failures}
            raise
        except BaseException:
            failed = {node.node_id for node in nodes}
            raise
        finally:
            self._replace(nodes, failed, options.get("task"))

    def _replace(self, nodes: Sequence[BaseNode], failed: set[str], task: str | None) -> None:
        documents = {node.node_id: document for node in nodes if (document := document_id(node)) is not None}
        self._unstored |= {documents[key] for key in failed & documents.keys()}
        for key, document in documents.items():
            self._stored.setdefault(document, []).append(key)
        for document in set(documents.values()) - self._unstored:
            new: list[models.Condition] = [has_id(self._stored[document], self.collection.tenant)]
            old = [*self._own(task), in_documents([document])]
            self.collection.delete_where(models.Filter(must=old, must_not=new))

    def finish(self) -> None:
        """Delete the documents that have no new nodes."""
        for document in sorted(self._asked - self._stored.keys()):
            super().delete(document)


@contextmanager
def replacing(store: PolyvecVectorStore) -> Iterator[PolyvecVectorStore]:
    """Give a pipeline with a document store a store in which documents stay until their new versions are stored.

    LlamaIndex's `UPSERTS` strategies delete the nodes of a changed document before its new text is encoded: an error
    afterwards, such as an image that cannot be read, would leave nothing. In this block, the old nodes of a document
    are deleted once all of its new nodes are stored, and documents without new nodes at the end. After an error,
    documents that were not replaced keep what they had. Then load the document store as it was persisted before the
    block: in memory, it has forgotten these documents.

    Examples:
        ```python
        with replacing(store) as target:
            IngestionPipeline(transformations=[LeaveToStore()], docstore=docstore, vector_store=target).run(documents=…)
        ```
    """
    view = _Replacing(store)
    yield view
    view.finish()

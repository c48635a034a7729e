"""LlamaIndex's own events wherever something is encoded."""

import asyncio

import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import ImageNode, NodeWithScore, TextNode
from llama_index.core.vector_stores.types import VectorStoreQuery
from pydantic import Field

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.postprocessor.polyvec import PolyvecRerank
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import PolyvecVectorStore


class Listening(BaseEventHandler):
    heard: list = Field(default_factory=list)

    def handle(self, event, **_):
        self.heard.append(event)


@pytest.fixture
def listening(monkeypatch):
    """Handlers of events and spans at the root dispatcher."""
    root, events, spans = get_dispatcher(), Listening(), SimpleSpanHandler()
    monkeypatch.setattr(root, "event_handlers", [*root.event_handlers, events])
    monkeypatch.setattr(root, "span_handlers", [*root.span_handlers, spans])
    return events, spans


def chunks(events):
    """What was encoded, by the ends of embedding events; each has a start and as many vectors as chunks."""
    ends = [event for event in events.heard if event.class_name() == "EmbeddingEndEvent"]
    starts = [event for event in events.heard if event.class_name() == "EmbeddingStartEvent"]
    assert len(starts) == len(ends)
    assert all(len(end.embeddings) == len(end.chunks) > 0 for end in ends)
    found = [chunk for end in ends for chunk in end.chunks]
    events.heard.clear()
    return found


def test_every_encoding_is_an_event_and_a_span(folder, embed, pictures, listening):
    events, spans = listening
    image = ImageNode(id_="i", image_path=str(pictures[0]))
    folder.add([TextNode(text="a red fox"), image])
    assert sorted(chunks(events)) == sorted(["a red fox", str(pictures[0])])
    assert any(span.id_.startswith("WatchedEncoder.encode") for span in spans.completed_spans)
    folder.query(VectorStoreQuery(query_str="red", similarity_top_k=1))
    assert chunks(events) == ["red"]
    asyncio.run(folder.aquery(VectorStoreQuery(query_str="fox", similarity_top_k=1)))
    assert chunks(events) == ["fox"]
    PolyvecRetriever(folder).retrieve("a query")
    asyncio.run(PolyvecRetriever(folder).aretrieve("another"))
    assert chunks(events) == ["a query", "another"]
    scored = [NodeWithScore(node=TextNode(text="a whale"))]
    PolyvecRerank(embed_model=embed).postprocess_nodes(scored, query_str="whale")
    assert chunks(events) == ["whale", "a whale"]
    stored = [NodeWithScore(node=node) for node in folder.get_nodes()]
    PolyvecRerank(embed_model=embed, vector_store=folder).postprocess_nodes(stored, query_str="fox")
    assert chunks(events) == ["fox"]
    embed.get_query_multi_vector("q")
    embed.get_text_multi_vectors(["t"])
    embed.get_image_multi_vectors([pictures[0]])
    assert chunks(events) == ["q", "t", str(pictures[0])]
    embed.get_image_embedding(str(pictures[1]))
    asyncio.run(embed.aget_image_embedding(str(pictures[1])))
    embed([image])
    assert chunks(events) == [str(pictures[1]), str(pictures[1]), "i"]


def test_tokens_are_counted_by_whoever_has_callbacks(embed, folder, monkeypatch):
    folder.add([TextNode(text="a red fox")])
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = CallbackManager([counter])
    PolyvecRetriever(folder, callback_manager=manager).retrieve("two words")
    asyncio.run(PolyvecRetriever(folder, callback_manager=manager).aretrieve("two words"))
    assert counter.total_embedding_token_count == 4
    watched = PolyvecEmbedding(client=embed.client, callback_manager=manager)
    PolyvecVectorStore(watched, location=folder.client, collection_name="docs").add([TextNode(text="a blue whale")])
    assert counter.total_embedding_token_count == 7
    monkeypatch.setattr(Settings, "_callback_manager", manager)
    folder.query(VectorStoreQuery(query_str="blue whale", similarity_top_k=1))
    assert counter.total_embedding_token_count == 9


def test_an_encoding_that_fails_ends_its_event(folder, listening, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        folder.add([TextNode(id_="a", text="a red fox"), ImageNode(id_="broken", image_path=str(broken))])
    heard = [event.class_name() for event in listening[0].heard]
    assert heard.count("EmbeddingStartEvent") == heard.count("EmbeddingEndEvent") > 0
    assert folder.collection.embedder.fingerprint == "hash-64-32"

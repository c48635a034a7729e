import asyncio
import base64
import contextlib
import copy
import json
import pickle
import re
import shutil
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.core.vector_stores.types import VectorStoreQuery, VectorStoreQueryMode
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient, models

from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.postprocessor.polyvec import PolyvecRerank
from llama_index.readers.polyvec import PolyvecReader
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import LeaveToStore, PolyvecVectorStore, UnstoredItems
from llama_index.vector_stores.polyvec import filters as translation
from llama_index.vector_stores.polyvec.filters import qdrant_filter
from polyvec import maxsim
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, FingerprintError, Item, Schema, open_client

MODES = ("dense", "late", "two-stage")


def ask(text, k=3, **how):
    return VectorStoreQuery(query_str=text, similarity_top_k=k, **how)


def where(key, value, operator=FilterOperator.EQ):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def ids(nodes):
    return [node.node_id for node in nodes]


def test_text_and_image_nodes_live_in_one_collection(store, nodes, pictures):
    assert store.add(nodes) == ids(nodes)
    for mode in MODES:
        found = store.query(ask("a blue whale", k=1), mode=mode)
        assert found.ids == ["text-1"]
        assert 0.6 < found.similarities[0] < 1.001
        found = store.query(VectorStoreQuery(similarity_top_k=1), mode=mode, query_image=pictures[1])
        assert found.ids == ["image-1"]
    assert store.mode == "two-stage"
    assert store.collection.verify().ok


def test_nodes_come_back_as_they_were(store, nodes):
    nodes[0].relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id="doc-1")
    nodes[1].excluded_embed_metadata_keys = ["n"]
    store.add(nodes)
    for given, found in zip(nodes, store.get_nodes(ids(nodes)), strict=True):
        assert type(found) is type(given)
        assert found.model_dump() == given.model_dump()


def test_images_are_normalised_and_never_lost(folder, pictures):
    """Silent failure 7."""
    data = base64.b64encode(pictures[0].read_bytes())
    given = [
        ImageDocument(id_="document", image_path=str(pictures[0]), text="says", metadata={"n": 1}),
        Node(id_="resource", image_resource=MediaResource(path=pictures[1])),
        ImageNode(id_="base64", image=data.decode()),
        Node(id_="bytes", image_resource=MediaResource(data=data)),
    ]
    uri = f"data:image/png;base64,{data.decode()}"
    given += [
        ImageNode(id_="uri", image=uri),
        ImageNode(id_="url", image_url=uri),
        ImageNode(id_="path", image_path=uri),
        Node(id_="resource url", image_resource=MediaResource(url=uri)),
        ImageDocument(id_="document uri", image=uri),
    ]
    in_memory = [node.node_id for node in given[2:]]
    assert folder.add(given) == ["document", "resource", *in_memory]
    document, resource = folder.get_nodes(["document", "resource"])
    assert isinstance(document, ImageNode)
    assert (document.text, document.image_path, document.metadata) == ("says", str(pictures[0]), {"n": 1})
    assert isinstance(resource, ImageNode)
    assert resource.image_path == str(pictures[1])
    for kept in folder.get_nodes(in_memory):
        assert (kept.image, kept.image_url, kept.image_path) == (data.decode(), None, None)
    for record in folder.client.scroll(folder.collection.name, limit=99)[0]:
        assert data.decode() not in record.payload.get("_node_content", "")
    assert folder.query(VectorStoreQuery(similarity_top_k=9), query_image=uri, mode="dense").similarities[0] > 0.99


@pytest.mark.parametrize("field", ["image", "image_url", "image_path"])
def test_messages_quote_no_data_of_images(folder, embed, field):
    for data in ("data:image/png;base64,QUJD" + "Q" * 400, "data:image/png;base64,QUJD?" + "Q" * 400):
        node = ImageNode(id_="a", **{field: data})
        for use in (folder.add, embed, embed.get_image_embedding_batch):
            with pytest.raises(ValueError, match="image") as caught:
                use([node])
            assert "QUJD" not in str(caught.value)


def test_similarities_do_not_grow_with_the_query(store, embed, nodes):
    store.add(nodes[:3])
    for text in ("red fox", "red fox " * 10):
        rows = maxsim(
            [embed.get_query_multi_vector(text)],
            embed.get_text_multi_vectors([n.get_content("embed") for n in nodes[:3]]),
        )[0] / len(embed.get_query_multi_vector(text))
        found = store.query(ask(text))
        by_id = dict(zip(found.ids, found.similarities, strict=True))
        assert by_id == pytest.approx({f"text-{n}": row for n, row in enumerate(rows.tolist())}, abs=5e-3)


def test_an_embedding_of_the_query_finds_the_candidates(store, embed, nodes):
    store.add(nodes[:3])
    vector = embed.get_query_embedding("a blue whale")
    alone = VectorStoreQuery(query_embedding=vector, similarity_top_k=1)
    assert store.query(alone, mode="dense").ids == store.query(alone).ids == ["text-1"]
    assert store.query(alone, mode=None).ids == ["text-1"]
    with pytest.raises(ValueError, match="mode 'two-stage' needs the query's text"):
        store.query(alone, mode="two-stage")
    both = ask("a blue whale", k=1, query_embedding=vector)
    assert store.query(both).ids == store.query(both, mode="late").ids == ["text-1"]
    with pytest.raises(ValueError, match="has 8 numbers; the collection's have 64"):
        store.query(VectorStoreQuery(query_embedding=vector[:8]), mode="dense")


def test_a_query_of_nothing_is_refused(store, nodes):
    """Silent failure 3."""
    store.add(nodes)
    for query in (VectorStoreQuery(), ask("")):
        for mode in MODES:
            with pytest.raises(ValueError, match="neither text nor embedding"):
                store.query(query, mode=mode)
            with pytest.raises(ValueError, match="neither text nor embedding"):
                asyncio.run(store.aquery(query, mode=mode))


def test_options_and_modes_that_are_not_there_are_refused(store, nodes):
    store.add(nodes)
    with pytest.raises(TypeError, match="'top_k' is no option of a query"):
        store.query(ask("fox"), top_k=3)
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        store.query(ask("fox"), mode="fast")
    for mode in (VectorStoreQueryMode.SPARSE, VectorStoreQueryMode.SVM, VectorStoreQueryMode.TEXT_SEARCH):
        with pytest.raises(ValueError, match=f"query mode '{mode.value}' is not offered"):
            store.query(ask("fox", mode=mode))
    with pytest.raises(ValueError, match="needs a collection with BM25 vectors"):
        store.query(ask("fox", mode=VectorStoreQueryMode.HYBRID))
    with pytest.raises(TypeError, match="shard"):
        store.delete("doc", shard="a")
    with pytest.raises(TypeError, match="list of LlamaIndex nodes"):
        store.add(nodes[0])
    with pytest.raises(TypeError, match="list of LlamaIndex nodes"):
        store.add(["a text"])
    with pytest.raises(TypeError):
        store.add(nodes, batch=3)


def test_hybrid_is_a_mode_of_llamaindex_too(tmp_path, embed, nodes):
    with PolyvecVectorStore(embed, location=tmp_path, schema=Schema(bm25="english")) as store:
        store.add(nodes)
        hybrid = VectorStoreQueryMode.HYBRID
        assert store.query(ask("a blue whale", k=1, mode=hybrid)).ids == ["text-1"]
        assert len(store.query(ask("a blue whale", k=1, mode=hybrid, hybrid_top_k=3)).ids) == 3
        assert len(store.query(ask("a blue whale", k=4, hybrid_top_k=2), mode="hybrid").ids) == 2
        retriever = VectorStoreIndex.from_vector_store(store, embed_model=embed).as_retriever(
            vector_store_query_mode="hybrid", hybrid_top_k=2, similarity_top_k=1
        )
        assert len(retriever.retrieve("a blue whale")) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alpha", 0.5),
        ("alpha", 0.0),
        ("sparse_top_k", 3),
        ("hybrid_top_k", 3),
        ("mmr_threshold", 0.5),  # without the mode `mmr`
        ("embedding_field", "dense"),
        ("output_fields", ["n"]),
    ],
)
def test_fields_of_a_query_that_nothing_obeys_are_refused(folder, field, value):
    for query in (ask("fox", **{field: value}), VectorStoreQuery([1.0] * 64, **{field: value})):
        with pytest.raises(ValueError, match=f"`{field}` is "):
            folder.query(query)
        with pytest.raises(ValueError, match=f"`{field}` is "):
            asyncio.run(folder.aquery(query))


def test_the_filters_are_those_of_the_stock_store(store, nodes):
    store.add(nodes)
    both = MetadataFilters(
        filters=[MetadataFilter(key="n", value=1, operator=FilterOperator.GTE), *where("n", 11).filters],
        condition=FilterCondition.AND,
    )
    either = MetadataFilters(filters=[*where("n", 0).filters, *where("n", 11).filters], condition=FilterCondition.OR)
    for filters, wanted in (
        (where("n", 1), {"text-1"}),
        (where("n", 2, FilterOperator.GT), {"image-0", "image-1"}),
        (both, {"image-1"}),
        (either, {"text-0", "image-1"}),
        (where("n", 99), set()),
    ):
        assert set(store.query(ask("fox", k=9, filters=filters)).ids) == wanted
        assert set(ids(store.get_nodes(filters=filters))) == wanted
    given = models.Filter(must=[models.FieldCondition(key="n", match=models.MatchValue(value=1))])
    assert store.query(ask("fox", k=9), qdrant_filters=given).ids == ["text-1"]
    assert store.query(ask("fox", k=9, doc_ids=["nobody"])).ids == []


def test_filters_on_indexed_fields_look_at_indexed_keys_only(tmp_path, embed, nodes):
    def keys():
        with contextlib.closing(open_client(tmp_path)) as client:
            return client.get_collection("llamaindex").payload_schema.keys()

    with PolyvecVectorStore(embed, location=tmp_path) as store:
        store.add(nodes)  # its documents are deleted and asked for by these two keys
    assert {key for key in keys() if "." not in key} == {"doc_id", "_node_type"}
    schema = Schema(indexed={"n": "integer", "unit": "keyword"})
    with PolyvecVectorStore(embed, location=tmp_path, schema=schema) as store:
        filters = where("n", 1)
        assert store.query(ask("fox", k=9, filters=filters)).ids == ["text-1"]
    shown = [qdrant_filter(one).model_dump_json() for one in (filters, where("unit", "page 3"))]
    named = set(re.findall(r'"key":"(.*?)"', "".join(shown)))
    assert named == {"metadata.n", "n", "metadata.unit", "unit", "_polyvec.unit"}
    assert named <= keys()  # strict mode takes no others


def test_filters_are_translated_as_by_the_stock_store_which_looks_at_the_top_only(monkeypatch):
    monkeypatch.setattr(translation, "field_keys", lambda name, *, under="metadata": [] if under else [name])
    stock = QdrantVectorStore("docs", client=QdrantClient(":memory:"))
    values = {FilterOperator.EQ: "a", FilterOperator.IN: ["a"], FilterOperator.IS_EMPTY: None}
    values |= dict.fromkeys((FilterOperator.TEXT_MATCH, FilterOperator.TEXT_MATCH_INSENSITIVE), "word")
    other = {FilterOperator.ANY, FilterOperator.ALL, FilterOperator.CONTAINS, FilterOperator.NE, FilterOperator.NIN}
    parts = [where("n", values.get(operator, 2), operator) for operator in FilterOperator if operator not in other]
    parts += [where("n", 2.5), MetadataFilters(filters=[])]
    for condition in FilterCondition:
        filters = MetadataFilters(filters=parts, condition=condition)
        assert qdrant_filter(filters) == stock._build_subfilter(filters)


@pytest.mark.parametrize(
    ("value", "operator", "message"),
    [
        (None, FilterOperator.GT, "'>' is None; missing metadata are found by 'is_empty'"),  # not: all nodes
        (None, FilterOperator.EQ, "'==' is None"),
        (None, FilterOperator.NE, "'!=' is None"),
        (["x"], FilterOperator.EQ, r"'==' is \['x'\]; it takes a string or number"),
        (["x"], FilterOperator.NE, r"'!=' is \['x'\]; it takes a string or number"),
        ([], FilterOperator.ALL, "'all' is an empty list, which restricts nothing"),
        (1, FilterOperator.TEXT_MATCH, "'text_match' is 1; it takes a string"),
        (float("nan"), FilterOperator.GT, "'>' is nan, which is no JSON number"),
        (2**70, FilterOperator.EQ, "whole numbers beyond 64 bits"),
        (5, FilterOperator.IN, "'in' is 5; it takes lists"),
        (5, FilterOperator.NIN, "'nin' is 5; it takes lists"),
        (1.5, FilterOperator.ANY, "'any' is 1.5; it takes lists"),
        (5, FilterOperator.ALL, "'all' is 5; it takes lists"),
    ],
)
def test_values_that_an_operator_does_not_take_are_refused_by_name(value, operator, message):
    with pytest.raises(ValueError, match=f"the value of the filter on 'n' by .*{message}"):
        qdrant_filter(where("n", value, operator))


ACLS = {"secret": "secret", "public": "public", "null": None, "empty": [], "both": ["public", "secret"], "one": ["x"]}
OF_SECRET, NOT_OF_SECRET = {"secret", "both"}, {"public", "null", "empty", "one", "missing"}


@pytest.mark.parametrize(
    ("operator", "value", "wanted"),
    [
        (FilterOperator.EQ, "secret", OF_SECRET),
        (FilterOperator.CONTAINS, "secret", OF_SECRET),
        (FilterOperator.IN, ["secret"], OF_SECRET),
        (FilterOperator.ANY, ["secret", "x"], OF_SECRET | {"one"}),
        (FilterOperator.ALL, ["public", "secret"], {"both"}),
        (FilterOperator.NE, "secret", NOT_OF_SECRET),
        (FilterOperator.NIN, ["secret"], NOT_OF_SECRET),
        (FilterOperator.NIN, ["secret", "public"], {"null", "empty", "one", "missing"}),
        (FilterOperator.IS_EMPTY, None, {"null", "empty", "missing"}),
    ],
)
def test_negations_hold_wherever_what_they_negate_does_not(folder, operator, value, wanted):
    metadata = {**{name: {"acl": acl} for name, acl in ACLS.items()}, "missing": {}}
    folder.add([TextNode(id_=name, text=name, metadata=given) for name, given in metadata.items()])
    filters = where("acl", value, operator)
    opposite = MetadataFilters(filters=filters.filters, condition=FilterCondition.NOT)
    assert set(ids(folder.get_nodes(filters=filters))) == wanted
    assert set(folder.query(ask("public", k=9, filters=filters)).ids) == wanted
    assert set(ids(folder.get_nodes(filters=opposite))) == metadata.keys() - wanted
    folder.delete_nodes(filters=filters)
    assert set(ids(folder.get_nodes())) == metadata.keys() - wanted


def test_numbers_are_compared_by_every_operator(folder):
    folder.add([TextNode(id_=f"{n}", text="a", metadata={"n": n}) for n in (0.5, 1.5, 2.5)])
    folder.add([TextNode(id_=f"{n!r}", text="a", metadata={"m": n}) for n in (3, 3.0, 4, 2**60)])
    for operator, value, wanted in (
        (FilterOperator.EQ, 3, ["3", "3.0"]),
        (FilterOperator.IN, [3, 2**60], [f"{2**60}", "3", "3.0"]),
        (FilterOperator.ALL, [3], ["3", "3.0"]),
        (FilterOperator.NE, 3, ["0.5", f"{2**60}", "1.5", "2.5", "4"]),
    ):
        assert sorted(ids(folder.get_nodes(filters=where("m", value, operator)))) == sorted(wanted)
    for operator, value, wanted in (
        (FilterOperator.NE, 1.5, [f"{2**60}", "0.5", "2.5", "3", "3.0", "4"]),
        (FilterOperator.IN, [1.5, 2.5], ["1.5", "2.5"]),
        (FilterOperator.NIN, [1.5, 2.5], ["0.5", f"{2**60}", "3", "3.0", "4"]),
    ):
        assert sorted(ids(folder.get_nodes(filters=where("n", value, operator)))) == sorted(wanted)


def test_mmr_prefers_what_differs(folder, embed, nodes):
    """Two texts are the same: the second is left for what is different."""
    folder.add([TextNode(id_="again", text="the red fox"), *nodes[:3]])
    index = VectorStoreIndex.from_vector_store(folder, embed_model=embed)
    for threshold, wanted in ((1.0, {"again", "text-0"}), (0.3, None)):
        how = {"mmr_threshold": threshold}
        retriever = index.as_retriever(
            vector_store_query_mode="mmr", similarity_top_k=2, vector_store_kwargs={**how, "mode": "dense"}
        )
        for found in (retriever.retrieve("the red fox"), asyncio.run(retriever.aretrieve("the red fox"))):
            assert len(found) == 2
            chosen = {one.node.node_id for one in found}
            assert chosen == wanted if wanted else len(chosen & {"again", "text-0"}) == 1
        text = ask("the red fox", k=2, mode=VectorStoreQueryMode.MMR, **how)
        assert set(folder.query(text, mode="late").ids) == chosen
    with pytest.raises(ValueError, match="`mmr_threshold` is 2; it must be from 0 to 1"):
        folder.query(ask("fox", mode=VectorStoreQueryMode.MMR), mmr_threshold=2)
    with pytest.raises(ValueError, match="searches one task"):
        folder.query(ask("fox", mode=VectorStoreQueryMode.MMR), task=["retrieval", "code"])


def test_an_embedding_of_another_task_or_model_is_told(tmp_path):
    embed_model = PolyvecEmbedding(model_name="demo")
    code = embed_model.with_task("code")
    with PolyvecVectorStore(embed_model, location=tmp_path) as store:
        store.add([TextNode(id_="a", text="beta costs")])
        index = VectorStoreIndex.from_vector_store(store, embed_model=code)
        for retriever in (index.as_retriever(), index.as_retriever(vector_store_kwargs={"mode": "dense"})):
            with pytest.raises(ValueError, match="is for the task 'code', the search for 'retrieval'"):
                retriever.retrieve("beta costs")
        other = VectorStoreIndex.from_vector_store(store, embed_model=PolyvecEmbedding(client=HashEncoder(dim=64)))
        with pytest.raises(ValueError, match="is of the model 'hash-64"):
            other.as_retriever().retrieve("beta costs")
        asked = PolyvecVectorStore(code, location=store.client)
        for search in (PolyvecRetriever(asked).retrieve, lambda text: asked.query(ask(text)).nodes):
            with pytest.warns(UserWarning, match="has items of .*'retrieval', none of .*'code'"):
                assert search("beta costs") == []
        assert len(store.query(ask("beta costs", filters=where("n", 1))).ids) == 0  # without a warning


def test_ids_of_images_alone_are_no_scope(store, nodes):
    """Silent failure 2: an index hands on the ids of its images, which would hide its texts."""
    store.add(nodes)
    assert len(store.query(ask("fox", k=9, node_ids=["image-0", "image-1"])).ids) == 5
    assert store.query(ask("fox", k=9, node_ids=["text-0", "image-1"])).ids == ["text-0", "image-1"]
    assert store.query(ask("fox", k=9), node_ids=["image-1"]).ids == ["image-1"]


def test_index_nodes_hide_no_texts(store, nodes):
    """Silent failure 2, for index nodes."""
    store.add([*nodes, IndexNode(id_="index", text="a summary", index_id="s")])
    assert len(store.query(ask("fox", k=9, node_ids=["index", "image-0"])).ids) == 6
    store.delete_nodes(["index"])
    assert len(store.query(ask("fox", k=9, node_ids=["index", "image-0"])).ids) == 5


def test_documents_that_were_not_cut_are_their_own(store):
    store.add([Document(id_="a", text="alpha"), Document(id_="b", text="beta"), TextNode(id_="t", text="gamma")])
    assert store.query(ask("alpha", k=9, doc_ids=["a"])).ids == ["a"]
    assert store.query(ask("alpha", k=9, doc_ids=[])).ids == []
    store.delete("a")
    store.delete("None")
    assert sorted(ids(store.get_nodes())) == ["b", "t"]


def test_a_qdrant_filter_takes_the_place_of_the_filters_only(store, nodes):
    store.add(nodes)
    own = models.Filter(must=[models.FieldCondition(key="n", range=models.Range(gte=1))])
    how = {"qdrant_filters": own, "node_ids": ["text-0", "text-1"]}
    assert store.query(ask("fox", k=9), **how).ids == ["text-1"]
    assert store.query(ask("fox", k=9, doc_ids=["nobody"]), qdrant_filters=own).ids == []


def test_a_query_for_another_task_is_encoded_for_it(tmp_path):
    embed_model = PolyvecEmbedding(model_name="demo")
    with PolyvecVectorStore(embed_model, location=tmp_path) as store:
        store.add([TextNode(id_="a", text="beta costs"), TextNode(id_="b", text="alpha revenue")], task="code")
        given = embed_model.get_query_embedding("beta costs")
        for mode in MODES:
            plain = store.query(ask("beta costs"), mode=mode, task="code")
            found = store.query(ask("beta costs", query_embedding=given), mode=mode, task="code")
            assert found.similarities == pytest.approx(plain.similarities, abs=1e-5)
        assert len(store.query(ask("costs", query_embedding=given), mode="dense", task=["code", "retrieval"]).ids) == 2


def test_images_at_file_urls_get_a_path(folder, pictures):
    odd = pictures[0].parent / "a page.png"
    odd.write_bytes(pictures[0].read_bytes())
    given = [
        ImageNode(id_="a", image_url=odd.as_uri()),
        Node(id_="b", image_resource=MediaResource(url=odd.as_uri())),
    ]
    assert folder.add(given) == ["a", "b"]
    assert [node.image_path for node in folder.get_nodes(["a", "b"])] == [str(odd)] * 2
    assert given[0].image_path is None


def test_a_store_is_copied_and_a_pickle_opens_it_again(tmp_path):
    embed_model = PolyvecEmbedding(model_name="demo")
    with PolyvecVectorStore(embed_model, location=tmp_path / "index", collection_name="docs", mode="late") as store:
        store.add([TextNode(id_="a", text="a fox", metadata={"n": 1})])
        assert copy.deepcopy(store) is store
        retriever = PolyvecRetriever(store, similarity_top_k=1, filters=where("n", 1))
        pickled = pickle.dumps((store, retriever, PolyvecRerank(embed_model=embed_model, vector_store=store)))
        on_client = PolyvecVectorStore(embed_model, location=store.client)
    for given in (
        on_client,
        PolyvecRetriever(on_client),
        PolyvecRerank(embed_model=embed_model, vector_store=on_client),
    ):
        with pytest.raises(TypeError, match="on a client is not pickled"):
            pickle.dumps(given)
    again, retriever, rerank = pickle.loads(pickled)
    assert (again.mode, again.collection.name) == ("late", "docs")
    assert rerank.postprocess_nodes(retriever.retrieve("fox"), query_str="fox")[0].node.node_id == "a"
    again.close()


def test_all_parts_have_a_json_schema():
    for kind in (PolyvecEmbedding, PolyvecRerank, PolyvecVectorStore, LeaveToStore):
        assert json.dumps(kind.model_json_schema())


def test_deleting_needs_to_know_what(store, nodes):
    """Silent failure 16."""
    for node, document in zip(nodes, "aabbc", strict=True):
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document)
    store.add(nodes)
    with pytest.raises(ValueError, match=r"`clear\(\)` deletes everything"):
        store.delete_nodes()
    empty = MetadataFilters(filters=[])
    for filters in (empty, MetadataFilters(filters=[empty])):
        with pytest.raises(ValueError, match=r"`clear\(\)` deletes everything"):
            store.delete_nodes(filters=filters)
    store.delete_nodes(["text-0", "text-1"], filters=where("n", 1))  # both must hold
    assert ids(store.get_nodes(["text-0", "text-1"])) == ["text-0"]
    assert ids(store.get_nodes(["text-0", "text-2"], filters=where("n", 2))) == ["text-2"]
    store.delete("b")
    assert sorted(ids(store.get_nodes())) == ["image-1", "text-0"]
    store.delete_nodes([])
    store.delete_nodes(filters=where("n", 11))
    assert sorted(ids(store.get_nodes())) == ["text-0"]
    store.delete("nobody")
    store.clear()
    assert store.get_nodes() == []
    assert store.add(nodes) == ids(nodes)
    with pytest.raises(ValueError, match="`similarity_top_k` is 0"):
        store.query(VectorStoreQuery(query_str="fox", similarity_top_k=0))
    with pytest.raises(ValueError, match="`limit` is -1; it must be at least 0"):
        store.get_nodes(limit=-1)
    assert len(store.get_nodes(limit=2)) == len(store.get_nodes(ids(nodes), limit=2)) == 2


def test_more_nodes_than_a_page_are_read(folder):
    folder.add([TextNode(id_=str(n), text=f"word{n}") for n in range(600)])
    assert len(folder.get_nodes()) == 600


def test_async_gives_the_same(store, nodes, pictures):
    async def scenario():
        assert await store.async_add(nodes) == ids(nodes)
        for how in ({}, {"mode": "late"}, {"mode": "dense"}):
            assert (await store.aquery(ask("red fox"), **how)).ids == store.query(ask("red fox"), **how).ids
        found = await store.aquery(VectorStoreQuery(similarity_top_k=1), query_image=pictures[0])
        assert found.ids == ["image-0"]
        assert ids(await store.aget_nodes(["text-0"])) == ["text-0"]
        many = await asyncio.gather(*(store.aquery(ask(text, k=1)) for text in ("the red fox", "a blue whale") * 8))
        assert [one.ids[0] for one in many] == ["text-0", "text-1"] * 8
        await store.adelete_nodes(["text-0"])
        await store.adelete("nobody")
        assert len(await store.aget_nodes()) == 4
        await store.aclear()
        assert await store.aget_nodes() == []

    asyncio.run(scenario())


def test_what_cannot_be_stored_is_told_and_loses_nothing(folder, nodes, tmp_path):
    bad = [
        ImageNode(id_="nothing"),
        ImageNode(id_="gone", image_path=str(tmp_path / "gone.png")),
        ImageNode(id_="far", image_url="https://example.org/a.png"),
        TextNode(id_="odd", text="a", metadata={"n": object()}),
        TextNode(id_="wrong", text="a", embedding=[0.1] * 8),
        TextNode(id_="nan", text="a", metadata={"n": float("nan")}),
    ]
    with pytest.raises(UnstoredItems, match="items were not stored") as caught:
        folder.add([*bad, *nodes])
    reasons = {failure.id: failure.reason for failure in caught.value.failures}
    assert set(reasons) >= {"nothing", "gone", "far", "odd", "wrong"}
    assert "without an image" in reasons["nothing"]
    assert "another model made it" in reasons["wrong"]
    assert set(caught.value.ids) >= set(ids(nodes))
    assert set(ids(folder.get_nodes())) == set(caught.value.ids)


def test_the_same_again_costs_nothing_and_changes_are_seen(folder, embed, nodes, pictures):
    folder.add(nodes)
    embed.client.encoded.clear()
    folder.add(nodes)
    assert embed.client.encoded == []
    nodes[0].metadata["lang"] = "en"
    nodes[1].excluded_llm_metadata_keys = ["n"]
    folder.add(nodes)
    assert folder.get_nodes(["text-0"])[0].metadata["lang"] == "en"
    assert folder.get_nodes(["text-1"])[0].excluded_llm_metadata_keys == ["n"]
    pictures[0].write_bytes(pictures[2].read_bytes())
    folder.add(nodes)
    assert folder.query(VectorStoreQuery(similarity_top_k=1), query_image=pictures[2]).ids == ["image-0"]


def test_the_stock_store_reads_the_collection(folder, embed, nodes):
    folder.add(nodes)
    stock = QdrantVectorStore("docs", client=folder.collection.client, dense_vector_name="dense")
    query = VectorStoreQuery(query_embedding=embed.get_query_embedding("a blue whale"), similarity_top_k=1)
    found = stock.query(query)
    assert found.nodes[0].model_dump(exclude={"embedding"}) == nodes[1].model_dump(exclude={"embedding"})
    filtered = VectorStoreQuery(query_embedding=query.query_embedding, similarity_top_k=9, filters=where("n", 11))
    assert isinstance(stock.query(filtered).nodes[0], ImageNode)


def test_what_others_have_added_is_read(folder, pictures):
    folder.collection.add(
        [
            Item("some text", id="a", source="a.md", metadata={"n": 1}),
            Item(pictures[0], id=7, source=pictures[0].as_posix()),
        ]
    )
    text, image = folder.get_nodes(["a"])[0], folder.query(VectorStoreQuery(), query_image=pictures[0]).nodes[0]
    assert (text.text, text.metadata) == ("some text", {"n": 1, "source": "a.md"})
    assert (image.node_id, image.image_path) == ("7", pictures[0].as_posix())
    page = Item(np.zeros((28, 28)), id="b", source=pictures[1].as_posix(), unit="page 2")
    folder.collection.add([page])
    assert folder.get_nodes(["b"])[0].image_path is None  # the file would be taken for its first page


def test_reindexing_keeps_the_nodes(tmp_path, embed, nodes):
    with PolyvecVectorStore(embed, location=tmp_path, collection_name="docs") as store:
        store.add(nodes)
        assert store.collection.reindex(HashEncoder(dim=16, multivector_dim=8, name="new")).failed == []
    other = PolyvecEmbedding(client=HashEncoder(dim=16, multivector_dim=8, name="new"))
    with PolyvecVectorStore(other, location=tmp_path, collection_name="docs") as store:
        assert [node.model_dump() for node in store.get_nodes(ids(nodes))] == [node.model_dump() for node in nodes]


def test_another_models_collection_is_refused_and_kept(tmp_path, embed, nodes):
    with PolyvecVectorStore(embed, location=tmp_path) as store:
        store.add(nodes)
    for other in (
        PolyvecEmbedding(client=HashEncoder(dim=64, multivector_dim=32, name="other")),
        PolyvecEmbedding(client=HashEncoder(dim=64, multivector_dim=32), dimensions=8),
    ):
        with pytest.raises(FingerprintError, match="cannot be compared"):
            PolyvecVectorStore(other, location=tmp_path)
    with PolyvecVectorStore(embed, location=tmp_path) as store:
        assert len(store.get_nodes()) == 5
        with PolyvecVectorStore(embed, location=tmp_path) as again:  # as a cell of a notebook that runs once more
            assert len(again.get_nodes()) == 5
        assert len(store.get_nodes()) == 5
    with pytest.raises(TypeError, match="it is a PolyvecEmbedding"):
        PolyvecVectorStore(HashEncoder(), location=tmp_path)
    with pytest.raises(ValueError, match="`mode` is 'fast'"):
        PolyvecVectorStore(embed, location=tmp_path, mode="fast")


def test_tenants_share_a_collection(tmp_path, embed, nodes):
    client = open_client(tmp_path)
    ann, bob = (PolyvecVectorStore(embed, location=client, tenant=name) for name in ("ann", "bob"))
    ann.add(nodes)
    bob.add(nodes[:1])
    assert len(ann.query(ask("fox", k=9, node_ids=["image-0", "image-1"])).ids) == 5
    bob.clear()
    assert (len(ann.get_nodes()), len(bob.get_nodes())) == (5, 0)
    client.close()


def test_tasks_are_spaces_of_their_own(folder):
    folder.add([TextNode(id_="code", text="def fox(): ...")], task="code")
    folder.add([TextNode(id_="text", text="a fox")])
    assert folder.query(ask("fox")).ids == ["text"]
    assert folder.query(ask("fox"), task="code").ids == ["code"]
    assert set(folder.query(ask("fox"), task=["retrieval", "code"]).ids) == {"text", "code"}


def test_document_texts_are_stored_too(folder, embed):
    folder.add([Document(id_="d", text="a red fox", metadata={"page_content": "x", "metadata": "y", "n": 1})])
    (found,) = folder.get_nodes(["d"])
    assert found.get_content() == "a red fox"
    assert found.metadata == {"page_content": "x", "metadata": "y", "n": 1}
    assert isinstance(Collection.open(folder.collection.client, "docs", embedder=embed.encoder).get(["d"]), list)
    assert np.isfinite(folder.query(ask("a red fox")).similarities).all()


def test_metadata_are_stored_as_json(folder, embed):
    metadata = {"day": date(2026, 1, 2), "at": datetime(2026, 1, 2, 3, 4), "n": np.int64(3), "score": np.float32(0.5)}
    stored = {"day": "2026-01-02", "at": "2026-01-02T03:04:00", "n": 3, "score": 0.5}
    folder.add([TextNode(id_="a", text="a fox", metadata=metadata), TextNode(id_="b", text="a whale")])
    assert folder.get_nodes(["a"])[0].metadata == stored
    assert stored.items() <= folder.collection.get(["a"])[0].metadata.items()
    for again in (TextNode(id_="a", text="a fox", metadata=metadata), folder.get_nodes(["a"])[0]):
        folder.add([again])
    assert len(embed.client.encoded) == 2
    with pytest.raises(UnstoredItems, match=r"c: metadata\['x'\] is nan, which is no JSON number"):
        folder.add([TextNode(id_="c", text="an owl", metadata={"x": float("nan")})])  # LlamaIndex would store None


def test_metadata_of_a_document_are_stored_with_its_nodes(folder):
    document = Document(id_="d", text="a fox. a whale.", metadata={"n": np.int64(3), "price": Decimal("1.50")})
    nodes = SentenceSplitter()([document])
    folder.add(nodes)
    (node,) = folder.get_nodes()
    assert node.metadata == node.source_node.metadata == {"n": 3, "price": "1.50"}
    assert nodes[0].source_node.metadata == document.metadata  # the caller's nodes stay as they are


def test_dates_are_compared_as_moments(store):
    days = {"a": date(2026, 1, 2), "b": "2026-01-02T10:00:00+02:00", "c": "2026-02-01", "d": "soon"}
    store.add([TextNode(id_=key, text="fox", metadata={"day": day}) for key, day in days.items()])

    def passing(operator, value):
        return {node.node_id for node in store.get_nodes(filters=where("day", value, operator))}

    assert passing(">", "2026-01-02") == {"b", "c"}
    assert passing("<=", "2026-01-02T08:00Z") == {"a", "b"}
    assert passing("==", "2026-01-02") == {"a"}
    assert passing("==", "2026-01-02T08:00Z") == set()  # a string is compared as it is
    for value in ("soon", "2026-02-30"):
        with pytest.raises(ValueError, match=f"by '>' is '{value}'; it takes numbers and dates"):
            passing(">", value)


def test_a_picture_is_found_from_any_working_directory(folder, pictures, monkeypatch):
    monkeypatch.chdir(pictures[0].parent)
    name = pictures[0].name
    nodes = [
        ImageNode(id_="a", image_path=name),
        ImageNode(id_="b", image_url=pictures[0].as_uri().replace("file:///", "file:/")),
        ImageDocument(id_="c", image_path=f"./{name}"),
        Node(id_="d", image_resource=MediaResource(path=Path("gone/..") / name)),
    ]
    folder.add(nodes)
    stored = folder.get_nodes(["a", "b", "c", "d"])
    assert {node.image_path for node in stored} == {str(pictures[0])}
    assert {item.source for item in folder.collection.all()} == {str(pictures[0])}
    with pytest.raises(UnstoredItems, match="is on the host 'server'"):
        folder.add([ImageNode(id_="e", image_path="file://server/a.png")])


def test_names_that_are_not_unicode_fail_alone(folder, pictures, tmp_path):
    bad = tmp_path / "m\udce9.png"
    shutil.copy(pictures[0], bad)
    nodes = [
        ImageNode(id_="a", image_path=str(bad)),
        TextNode(id_="b", text="\udce9"),
        TextNode(id_="\udce9", text="fox"),
        TextNode(id_="d", text="fox", metadata={"file_path": str(bad)}),
        TextNode(id_="e", text="whale"),
    ]
    with pytest.raises(UnstoredItems, match=r"m\\udce9.png: its name is not Unicode") as caught:
        folder.add(nodes)
    assert caught.value.ids == ["e"]
    with pytest.raises(ValueError, match=r"m\\udce9.png: its name is not Unicode, so no index can keep it"):
        PolyvecReader(page_folder=tmp_path / "pages").load_data(bad)


def test_a_reader_takes_uris_and_names_files_by_absolute_paths(pictures, report, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    reader = PolyvecReader(page_folder="pages")
    for file in (report, report.as_uri(), Path(report.name), f"./pages/../{report.name}"):
        documents = reader.load_data(file)
        assert [document.metadata["file_path"] for document in documents] == [str(report)] * 2
        assert documents[0].image_path.startswith(str(tmp_path / "pages"))
    assert reader.load_data(pictures[0].as_uri())[0].image_path == str(pictures[0])


def test_metadata_of_any_name_are_kept_and_filtered_by(store):
    names = ["dc.title", "a key", "tags[]", "größe", "page_content", "metadata", "_polyvec", "text", "embedding", "id_"]
    names += ["_node_content", "_node_type", "doc_id", "document_id", "ref_doc_id", "metadata.x", "doc_id.x"]
    metadata = dict.fromkeys(names, "Report") | {"nested": {"dc.title": "Report"}}
    document = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="book")}
    store.add(
        [
            TextNode(id_="a", text="Report", metadata=metadata, relationships=document),
            TextNode(id_="b", text="Report", metadata=dict.fromkeys(names, "secret")),
            TextNode(id_="c", text="Report", relationships=document),
        ]
    )
    assert store.get_nodes(["a"])[0].metadata == metadata
    own = {"doc_id", "document_id", "ref_doc_id"}
    kinds = {"_node_type", "_node_content"}

    def passing(*condition):
        return {node.node_id for node in store.get_nodes(filters=where(*condition))}

    for name in names:
        others = {"c"} if name in own | kinds else set()  # LlamaIndex writes a document's id, class and JSON there
        assert passing(name, "Report") == {"a"}, name
        assert passing(name, "secret", FilterOperator.NE) == {"a", "c"}, name
        assert passing(name, ["Report", "x"], FilterOperator.IN) == {"a"}, name
        assert passing(name, ["secret", "x"], FilterOperator.NIN) == {"a", "c"}, name
        assert passing(name, None, FilterOperator.IS_EMPTY) == {"c"} - others, name
    assert passing('nested."dc.title"', "Report") == {"a"}
    for name in own:
        assert passing(name, "book") == {"c"}
    store.delete("book")
    assert {node.node_id for node in store.get_nodes()} == {"b"}


def test_names_that_no_filter_reaches_are_refused(folder):
    with pytest.raises(UnstoredItems, match="a quotation mark or backslash would keep filters from it"):
        folder.add([TextNode(id_="a", text="fox", metadata={'a"b': 1}), TextNode(id_="b", text="fox")])
    assert ids(folder.get_nodes()) == ["b"]
    with pytest.raises(ValueError, match="cannot be filtered by"):
        folder.get_nodes(filters=where('a"b', 1))

"""One collection, three doors: items that one door added, and another one adds again, edits or deletes."""

import asyncio
from contextlib import closing

import pytest
from click.testing import CliRunner
from langchain_core.documents import Document
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import Document as LlamaIndexDocument
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    MetadataMode,
    NodeRelationship,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters, VectorStoreQuery
from PIL import Image

from langchain_polyvec import PolyvecEmbeddings
from langchain_polyvec import PolyvecVectorStore as LangChainStore
from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import PolyvecVectorStore as LlamaIndexStore
from llama_index.vector_stores.polyvec import replacing
from polyvec import Embedder
from polyvec.images import open_image
from qdrant_polyvec import Collection, Item, Schema, UnstoredItems, commands, open_client
from tests.counting import Counting

NAME = "550e8400-e29b-41d4-a716-446655440000"


@pytest.fixture
def encoder():
    return Counting()


@pytest.fixture
def client(tmp_path):
    with closing(open_client(tmp_path / "index")) as client:
        yield client


def langchain(client, encoder, **options):
    return LangChainStore(PolyvecEmbeddings(client=encoder), location=client, collection_name="docs", **options)


def llamaindex(client, encoder, **options):
    return LlamaIndexStore(PolyvecEmbedding(client=encoder), location=client, collection_name="docs", **options)


def where(key, value, operator=FilterOperator.EQ):
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def add_again(door, client, encoder, *, tag=None, ending=""):
    """Add everything again through a door as it is read there, or with a tag in the metadata or another text."""
    if door == "langchain":
        store = langchain(client, encoder)
        items = list(store.documents())
        for item in items:
            item.page_content += ending
            item.metadata.update(tag or {})
        return store.add_documents(items)
    store = llamaindex(client, encoder)
    nodes = store.get_nodes()
    for node in nodes:
        node.text += ending
        node.metadata.update(tag or {})
        node.excluded_embed_metadata_keys = list(node.metadata)
    return store.add(nodes)


@pytest.mark.parametrize("options", [[], ["--late-chunking"]], ids=["alone", "late"])
@pytest.mark.parametrize("door", ["langchain", "llamaindex"])
def test_a_part_of_a_file_stays_that_part_when_it_is_added_again(encoder, tmp_path, monkeypatch, door, options):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    monkeypatch.chdir(tmp_path)

    def index(text):
        (tmp_path / "a.md").write_text(text, encoding="utf-8")
        arguments = ["a.md", "--location", str(tmp_path / "index"), "--collection", "docs", *options]
        result = CliRunner().invoke(commands.index, arguments)
        assert result.exit_code == 0, result.output

    def parts():
        return {one.id: (one.content, one.unit, one.context, one.metadata) for one in docs.all()}

    def owns():
        name = client.get_collections().collections[0].name
        return {one.id: one.payload["_polyvec"] for one in client.scroll(name, limit=9)[0]}

    index("# One\n\na fox\n\n# Two\n\na whale")
    with closing(open_client(tmp_path / "index")) as client:
        docs = Collection.open(client, "docs", embedder=encoder)
        before, own = parts(), owns()
        assert all(unit and context for _, unit, context, _ in before.values())
        encoder.encoded.clear()
        for _ in range(2):
            add_again(door, client, encoder)
            assert (parts(), owns(), encoder.encoded) == (before, own, [])
        add_again(door, client, encoder, tag={"tag": "mine"})
        assert (owns(), encoder.encoded) == (own, [])
        assert {one.metadata["tag"] for one in docs.all()} == {"mine"}
        add_again(door, client, encoder, ending=" again")
        assert len(encoder.encoded) == len(before)
        assert all(one.content.endswith(" again") for one in docs.all())
        assert {one.id: one.unit for one in docs.all()} == {key: unit for key, (_, unit, _, _) in before.items()}
    index("# One\n\na wolf")
    with closing(open_client(tmp_path / "index")) as client:
        kept = [one.content.splitlines()[-1] for one in Collection.open(client, "docs", embedder=encoder).all()]
    assert kept == ["a wolf"]


def test_metadata_that_llamaindex_embeds_are_no_text_for_other_doors(client, encoder):
    schema = Schema(bm25="english")
    nodes, store = llamaindex(client, encoder, schema=schema), langchain(client, encoder)
    shown = {"author": "ann", "window": "long"}
    given = [
        TextNode(id_="a", text="Revenue rose.\n", metadata=shown, excluded_llm_metadata_keys=["window"]),
        LlamaIndexDocument(id_="b", text="Costs fell.", metadata=shown, excluded_embed_metadata_keys=["window"]),
        TextNode(id_="c", text="Both.", metadata=shown, text_template="<{metadata_str}>\n{content}"),
        TextNode(id_="d", text="Around.", metadata=shown, text_template="<{content}> {metadata_str}"),
        TextNode(
            id_="f",
            text=" Own.\n",
            metadata=shown,
            text_template="{metadata_str} — {content}",
            metadata_template="{key}",
        ),
        TextNode(id_="g", text="ann", metadata=shown, metadata_seperator=" | ", metadata_template="{key}={value}"),
        TextNode(id_="e", text="", metadata=shown),
    ]
    nodes.add(given)
    embedded = [node.get_content(metadata_mode=MetadataMode.EMBED) for node in given]
    assert sorted(encoder.encoded) == sorted(embedded)
    assert embedded[:2] == ["author: ann\nwindow: long\n\nRevenue rose.", "author: ann\n\nCosts fell."]
    ids = [node.node_id for node in given]
    assert embedded[3:6] == [
        "<Around.> author: ann\nwindow: long",
        "author\nwindow —  Own.",
        "author=ann | window=long\n\nann",
    ]
    texts = [one.page_content for one in store.get_by_ids(ids)]
    assert texts == ["Revenue rose.", "Costs fell.", "Both.", "Around.", " Own.", "ann", embedded[-1]]
    assert [node.get_content() for node in nodes.get_nodes(ids)] == [node.get_content() for node in given]
    assert {hit.id for hit in store.hits("ann", 9, mode="hybrid")} >= set(ids[:4])
    encoder.encoded.clear()
    nodes.add(given)
    nodes.add(nodes.get_nodes())
    assert encoder.encoded == []


def test_a_node_whose_metadata_langchain_edits_keeps_its_text_and_its_vectors(client, encoder):
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    nodes.add([TextNode(id_="a", text="Revenue rose.", metadata={"author": "ann"})])
    encoder.encoded.clear()
    (document,) = store.get_by_ids(["a"])
    document.metadata["checked"] = 1
    store.add_documents([document])
    (node,) = nodes.get_nodes()
    assert (node.text, node.metadata) == ("Revenue rose.", {"author": "ann", "checked": 1})
    nodes.add([node])
    assert encoder.encoded == []
    assert nodes.collection.get(["a"])[0].context == "author: ann\n"


def test_a_node_that_hides_its_metadata_is_encoded_without_them(client, encoder):
    nodes = llamaindex(client, encoder)
    for hidden in ([], ["author"], []):
        given = TextNode(id_="a", text="Costs", metadata={"author": "ann"}, excluded_embed_metadata_keys=hidden)
        nodes.add([given])
        assert encoder.encoded[-1] == given.get_content(metadata_mode=MetadataMode.EMBED)
        assert nodes.collection.get(["a"])[0].context == ("" if hidden else "author: ann\n")
    assert len(encoder.encoded) == 3


def edit(store, key, change):
    (document,) = store.get_by_ids([key])
    change(document.metadata)
    store.add_documents([document])


@pytest.mark.parametrize(
    ("change", "context"),
    [
        (lambda _: None, "author: ann\n"),
        (lambda metadata: metadata.update(author="bob"), "author: bob\n"),
        (lambda metadata: metadata.pop("author"), ""),
        (lambda metadata: metadata.update(checked=1), "author: ann\n"),
    ],
    ids=["none", "another value", "popped", "added"],
)
def test_the_context_is_what_a_node_embeds_when_it_is_added(client, encoder, change, context):
    """Whoever changed the metadata since it was made, and through whichever door."""
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    own = TextNode(id_="own", text="Costs", metadata={"author": "ann"})
    nodes.add([own, *(TextNode(id_=key, text="Costs", metadata={"author": "ann"}) for key in ("read", "edited"))])
    change(own.metadata)
    nodes.add([own])
    (read,) = nodes.get_nodes(["read"])
    edit(store, "edited", change)
    change(read.metadata)
    nodes.add([read, *nodes.get_nodes(["edited"])])
    edited, again = (nodes.collection.get([key])[0].context for key in ("edited", "read"))
    shown = own.get_content(metadata_mode=MetadataMode.EMBED).removesuffix("\nCosts").removesuffix("Costs")
    assert (nodes.collection.get(["own"])[0].context, again) == (shown, shown)
    assert edited == context
    for key in ("own", "edited"):
        edit(store, key, lambda metadata: metadata.update(by="langchain"))
        nodes.add([TextNode(id_=key, text="Costs")])
        assert nodes.collection.get([key])[0].context == ""


def test_a_part_of_a_file_that_lost_its_headings_gets_them_back(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    (tmp_path / "a.md").write_text("# One\n\na fox")
    arguments = [str(tmp_path / "a.md"), "--location", str(tmp_path / "index")]
    CliRunner().invoke(commands.index, arguments)
    contexts = []
    for change in (lambda metadata: metadata.update(tag="mine"), lambda metadata: metadata.pop("tag")):
        with closing(open_client(tmp_path / "index")) as client:
            nodes = llamaindex(client, encoder)
            (node,) = nodes.get_nodes()
            change(node.metadata)
            nodes.add([node])
            contexts.append(next(nodes.collection.all()).context)
        CliRunner().invoke(commands.index, arguments)
        with closing(open_client(tmp_path / "index")) as client:
            contexts.append(next(Collection.open(client, "docs", embedder=None).all()).context)
    assert contexts == ["tag: mine\n", "tag: mine\n", "", "a.md › One"]


def handbook(store, text):
    node = TextNode(text=text, metadata={"lang": "en"}, excluded_embed_metadata_keys=["lang"])
    node.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="handbook")}
    store.add([node])


def replace_document(client, encoder):
    index = VectorStoreIndex.from_vector_store(
        llamaindex(client, encoder), embed_model=PolyvecEmbedding(client=encoder)
    )
    index.update_ref_doc(LlamaIndexDocument(id_="handbook", text="new"))


def replace_in_a_block(client, encoder):
    with replacing(llamaindex(client, encoder)) as target:
        handbook(target, "new")


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (replace_document, ["new"]),
        (replace_in_a_block, ["new"]),
        (lambda *where: llamaindex(*where).delete("handbook"), []),
        (lambda *where: llamaindex(*where).clear(), []),
        (lambda *given: llamaindex(*given).delete_nodes(filters=where("lang", "en")), []),
        (lambda *where: langchain(*where).delete(filter={"lang": "en"}), []),
    ],
    ids=["update_ref_doc", "replacing", "delete", "clear", "delete_nodes", "langchain"],
)
def test_a_store_without_a_tenant_changes_items_of_nobody_only(client, encoder, change, left):
    tenants = {name: llamaindex(client, encoder, tenant=name) for name in ("ann", "bob")}
    nobody = llamaindex(client, encoder)
    for name, store in {**tenants, "nobody": nobody}.items():
        handbook(store, f"of {name}")
    change(client, encoder)
    for name, store in tenants.items():
        assert [node.text for node in store.get_nodes()] == [f"of {name}"]
    assert [node.text for node in nobody.get_nodes()] == left
    tenants["ann"].delete("handbook")
    assert [node.text for node in tenants["bob"].get_nodes()] == ["of bob"]


def test_a_store_without_a_tenant_finds_all_and_lists_items_of_nobody(client, encoder):
    langchain(client, encoder, tenant="ann").add_texts(["a fox of ann"], ids=["1"])
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    store.add_texts(["a fox"], ids=["2"])
    assert {one.page_content for one in store.similarity_search("fox")} == {"a fox", "a fox of ann"}
    assert [one.id for one in store.documents()] == [node.node_id for node in nodes.get_nodes()] == ["2"]
    assert nodes.get_nodes(["1"]) == store.get_by_ids(["1"]) == []
    store.add_documents(store.documents())
    nodes.add(nodes.get_nodes())
    assert store.collection.count() == 2  # nothing is doubled
    assert nodes.collection.delete(sources=list(nodes.collection.sources())) == 2  # the collection's own covers all


def test_items_of_several_tenants_with_one_id_are_several_results(client, encoder):
    texts = {"ann": "a fox of ann", "bob": "a fox of bob", None: "a fox"}
    for tenant, text in texts.items():
        langchain(client, encoder, tenant=tenant).add_texts([text], ids=["1"])
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    retriever = PolyvecRetriever(nodes, similarity_top_k=9)
    several = QueryBundle("fox", custom_embedding_strs=["a fox", "ann"])
    diverse = VectorStoreQuery(query_str="fox", similarity_top_k=9, mode="mmr")
    asked = {
        "one part": [one.text for one in retriever.retrieve("fox")],
        "several": [one.text for one in retriever.retrieve(several)],
        "asynchronous": [one.text for one in asyncio.run(retriever.aretrieve(several))],
        "mmr": [node.text for node in nodes.query(diverse).nodes],
        "langchain": [one.page_content for one in store.similarity_search("fox", 9)],
        "langchain mmr": [one.page_content for one in store.max_marginal_relevance_search("fox", 9)],
    }
    assert {how: sorted(found) for how, found in asked.items()} == dict.fromkeys(asked, sorted(texts.values()))
    own = [langchain(client, encoder, tenant=hit.tenant).collection.embeddings(["1"])["1"] for hit in store.hits("fox")]
    for vectors, read in zip(own, store.collection.embeddings_of(store.hits("fox")), strict=True):
        assert (vectors.dense == read.dense).all()


@pytest.mark.parametrize("source", [3, 2.5, True, ["a.md", "b.md"], {"url": "u"}])
def test_a_source_of_any_kind_is_the_users_through_each_door(client, encoder, source):
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    metadata = {"source": source, "file_path": "c.md"}
    document = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc")}
    nodes.add([TextNode(id_="a", text="t", metadata=metadata, relationships=document)])
    store.add_texts(["t"], [metadata], ids=["b"])
    for key in ("a", "b"):
        assert store.get_by_ids([key])[0].metadata == metadata
        assert nodes.get_nodes([key])[0].metadata == metadata
    value = source[0] if isinstance(source, list) else source
    if not isinstance(source, dict):
        assert len(store.similarity_search("t", filter={"source": value})) == 2
        if not isinstance(source, bool):
            assert len(nodes.get_nodes(filters=where("source", value))) == 2
    store.add_documents(store.documents())
    nodes.add(nodes.get_nodes())
    assert [one.metadata for one in store.documents()] == [metadata] * 2


def test_each_spelling_of_a_uuid_is_an_item_through_each_door(client, encoder):
    ids = [NAME, NAME.upper(), NAME.replace("-", ""), f"{{{NAME}}}", f"urn:uuid:{NAME}"]
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    nodes.add([TextNode(id_=key, text=key) for key in ids[:3]])
    store.add_texts(ids[3:], ids=ids[3:])
    assert [node.text for node in nodes.get_nodes(ids)] == [one.page_content for one in store.get_by_ids(ids)] == ids
    store.delete(ids[1:2])
    nodes.delete_nodes(ids[2:3])
    assert sorted(one.id for one in store.documents()) == sorted([ids[0], *ids[3:]])


def test_an_item_with_a_number_as_id_is_found_by_that_number(client, encoder):
    Collection.open(client, "docs", embedder=encoder).add(["a fox", "a whale"], ids=[7, 8])
    nodes = llamaindex(client, encoder)
    assert [node.text for node in nodes.get_nodes(["7"])] == ["a fox"]
    assert nodes.hits("fox", filter=nodes.condition(None, node_ids=["8"]))[0].id == 8
    nodes.delete_nodes(["7"])
    assert [one.id for one in langchain(client, encoder).documents()] == ["8"]


def test_nodes_of_one_task_are_read_by_themselves(client, encoder):
    nodes = llamaindex(client, encoder)
    nodes.add([TextNode(id_="text", text="a fox")])
    nodes.add([TextNode(id_="code", text="def fox(): ...")], task="code")
    assert [node.node_id for node in nodes.get_nodes(task="code")] == ["code"]
    assert [node.node_id for node in nodes.get_nodes(["text", "code"], task="retrieval")] == ["text"]


def test_a_users_label_of_a_page_stays(client, encoder, pictures, tmp_path):
    nodes, store, scan = llamaindex(client, encoder), langchain(client, encoder), tmp_path / "scan.tif"
    first, second = (open_image(path) for path in pictures[:2])
    first.save(scan, save_all=True, append_images=[second])
    store.add_images([scan], [{"page_label": "iv"}], ids=["a"])
    store.add_images([scan], ids=["b"])
    ids = ["a#page=2", "b#page=2"]
    before = store.get_by_ids(ids)
    assert [one.metadata["page_label"] for one in before] == ["iv", "2"]
    nodes.add(nodes.get_nodes())
    assert store.get_by_ids(ids) == before
    assert [node.node_id for node in nodes.get_nodes(ids, filters=where("page_label", "iv"))] == ids[:1]
    assert "page_label" not in nodes.collection.get(ids[1:])[0].metadata


def test_an_image_with_a_start_index_stays_an_image(client, encoder, pictures):
    store = langchain(client, encoder)
    store.add_images([pictures[0]], [{"start_index": 0}], ids=["a"])
    store.add_documents(store.documents())
    assert [one.kind for one in store.collection.all()] == ["image"]


def test_an_image_is_what_its_source_of_any_kind_says(client, encoder, pictures):
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    store.add_images([pictures[0]], [{"source": 3}], ids=["a"])
    nodes.add([ImageNode(id_="b", image_path=str(pictures[0]), metadata={"source": 3})])
    for one in store.get_by_ids(["a", "b"]):
        assert (one.page_content, one.metadata["source"]) == ("", 3)
    assert [node.text for node in nodes.get_nodes(["a", "b"])] == ["", ""]


def test_a_replaced_document_of_langchain_is_no_node_any_more(client, encoder):
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    nodes.add([TextNode(id_="a", text="Revenue rose.", metadata={"author": "ann"})])
    store.add_documents([Document("a whale")], ids=["a"])
    assert encoder.encoded[-1] == "a whale"
    assert nodes.collection.get(["a"])[0].context == ""


def test_metadata_that_langchain_edits_leave_a_node_what_it_is(client, encoder):
    nodes, store = llamaindex(client, encoder), langchain(client, encoder)
    parent = NodeRelationship.PARENT
    whole = TextNode(id_="whole", text="Costs rose. Revenue fell.")
    part = TextNode(id_="part", text="Costs rose.", metadata={"file_path": "a.md"})
    part.relationships = {parent: whole.as_related_node_info(), NodeRelationship.SOURCE: RelatedNodeInfo(node_id="a")}
    part.excluded_llm_metadata_keys = ["file_path"]
    nodes.add([part, IndexNode(id_="index", text="a summary", index_id="deep")])
    for key in ("part", "index"):
        edit(store, key, lambda metadata: metadata.update(tag=1))
    again, index = nodes.get_nodes(["part", "index"])
    assert again.metadata == {"file_path": "a.md", "tag": 1}
    assert again.relationships[parent].node_id == "whole"
    assert again.excluded_llm_metadata_keys == ["file_path"]
    assert (type(index), index.index_id) == (IndexNode, "deep")
    edit(store, "part", lambda metadata: metadata.pop("tag"))
    assert nodes.get_nodes(["part"])[0].metadata == {"file_path": "a.md"}
    nodes.delete("a")
    assert [item.id for item in nodes.collection.all()] == ["index"]


def test_an_edited_text_of_a_file_keeps_its_file(client, encoder):
    store, nodes = langchain(client, encoder), llamaindex(client, encoder)
    docs = store.collection
    of_file = {"source": "/x/a.md", "root": "/x", "task": "retrieval"}
    docs.add([Item("Costs", id="a", unit="L1", **of_file), Item("Tax", id="b", unit="L2", **of_file)])
    store.add_documents([Document("Costs rose.", id="a", metadata={"source": "https://x/y", "tag": 1})])
    nodes.add([TextNode(id_="b", text="Tax", metadata={"lang": "en"})])
    assert [item.source for item in docs.get(["a", "b"])] == ["/x/a.md", "/x/a.md"]
    assert docs.get(["a"])[0].metadata == {"source": "/x/a.md", "tag": 1}


def test_an_empty_text_does_not_take_the_place_of_a_picture(client, encoder, tmp_path):
    store = langchain(client, encoder)
    Image.new("RGB", (20, 20), "red").save(tmp_path / "red.png")
    store.add_images([tmp_path / "red.png"], ids=["a"])
    with pytest.raises(UnstoredItems, match="its id is that of an image, and it is an empty text"):
        store.add_documents([Document("", id="a", metadata={"source": "red.png"})])
    assert store.collection.get(["a"])[0].kind == "image"

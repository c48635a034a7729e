"""The labels that a PDF gives to its pages, through every door: whatever writes a page, whatever reads it."""

import json
from contextlib import closing

import pytest
from click.testing import CliRunner
from llama_index.core.schema import ImageNode, MetadataMode
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters

from langchain_polyvec import PolyvecEmbeddings, PolyvecLoader, content_blocks
from langchain_polyvec import PolyvecVectorStore as LangChainStore
from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.readers.polyvec import PolyvecReader
from llama_index.vector_stores.polyvec import PolyvecVectorStore as LlamaIndexStore
from polyvec import Embedder
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, commands, open_client
from qdrant_polyvec.binding import aliased
from tests.core.pdfs import labelled
from tests.counting import Counting

BOOK = b"<</Nums[0<</S/r>>2<</S/D>>]>>"
LABELS = ["i", "ii", "1", "2"]  # a label may be the number of another page
UNITS = ["page 1", "page 2", "page 3", "page 4"]
WRITERS = ("command", "langchain", "loader", "llamaindex")


@pytest.fixture(scope="module")
def encoder():
    return Counting(dim=16, multivector_dim=8)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    book = tmp_path_factory.mktemp("home") / "book.pdf"
    book.write_bytes(labelled(BOOK, 4))
    return book


@pytest.fixture(scope="module")
def location(tmp_path_factory, book, encoder):
    """A folder with a collection for each writer, named after it."""
    location = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
        run("index", str(book), "--location", str(location), "--collection", "command", "--dpi", "72")
    with closing(open_client(location)) as client:
        langchain(client, "langchain", encoder).add_pdfs([book], dpi=72)
        langchain(client, "loader", encoder).add_documents(PolyvecLoader(book, dpi=72).load())
        reader = PolyvecReader(page_folder=book.parent / "drawn", dpi=72)
        llamaindex(client, "llamaindex", encoder).add(reader.load_data(book))
    return location


@pytest.fixture
def client(location):
    with closing(open_client(location)) as client:
        yield client


def run(name, *arguments):
    result = CliRunner().invoke(getattr(commands, name), arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def langchain(client, name, encoder):
    return LangChainStore(PolyvecEmbeddings(client=encoder), location=client, collection_name=name)


def llamaindex(client, name, encoder):
    return LlamaIndexStore(PolyvecEmbedding(client=encoder), location=client, collection_name=name)


def facts(collection):
    """Unit, number and label of each page."""
    return sorted((item.unit, item.picture.page, item.picture.page_label) for item in collection.all())


EXPECTED = [(unit, number, label) for number, (unit, label) in enumerate(zip(UNITS, LABELS, strict=True), start=1)]


@pytest.mark.parametrize("writer", WRITERS)
def test_langchain_reads_finds_and_cites_labels(client, encoder, writer):
    store = langchain(client, writer, encoder)
    assert facts(store.collection) == EXPECTED
    documents = sorted(store.documents(), key=lambda one: one.metadata["unit"])
    seen = [(one.metadata["page"], one.metadata["page_label"], one.metadata["unit"]) for one in documents]
    assert seen == [(number - 1, label, unit) for unit, number, label in EXPECTED]
    for label, unit in zip(LABELS, UNITS, strict=True):
        (found,) = store.similarity_search("x", k=9, filter={"page_label": label})
        assert found.metadata["unit"] == unit
    assert content_blocks(documents[1:2])[0]["text"].endswith("book.pdf, page ii")


@pytest.mark.parametrize("writer", WRITERS)
def test_llamaindex_reads_finds_and_shows_labels(client, encoder, writer):
    store = llamaindex(client, writer, encoder)
    nodes = sorted(store.get_nodes(), key=lambda node: node.metadata["page_number"])
    assert [node.metadata["page_label"] for node in nodes] == LABELS
    assert [node.metadata["page_number"] for node in nodes] == [1, 2, 3, 4]
    for key, values in {"page_label": LABELS, "page_number": [1, 2, 3, 4]}.items():
        for value, node in zip(values, nodes, strict=True):
            found = store.get_nodes(filters=MetadataFilters(filters=[MetadataFilter(key=key, value=value)]))
            assert [one.node_id for one in found] == [node.node_id]
    assert "page_label: ii" in nodes[1].get_content(MetadataMode.LLM)


@pytest.mark.parametrize("writer", WRITERS)
def test_labels_survive_both_doors_and_nothing_is_encoded_again(client, encoder, writer):
    documents = list(langchain(client, writer, encoder).documents())
    nodes = llamaindex(client, writer, encoder).get_nodes()
    n_before = len(encoder.encoded)
    langchain(client, writer, encoder).add_documents(documents)
    llamaindex(client, writer, encoder).add(nodes)
    assert len(encoder.encoded) == n_before
    of_documents = langchain(client, f"{writer}-documents", encoder)
    of_documents.add_documents(documents)
    of_nodes = llamaindex(client, f"{writer}-nodes", encoder)
    of_nodes.add([ImageNode.from_dict(node.to_dict()) for node in nodes])  # as a cache keeps them
    of_both = langchain(client, f"{writer}-both", encoder)
    of_both.add_documents(langchain(client, f"{writer}-nodes", encoder).documents())
    for store in (langchain(client, writer, encoder), of_documents, of_nodes, of_both):
        assert facts(store.collection) == EXPECTED
        assert not any({"page", "page_label", "page_number"} & item.metadata.keys() for item in store.collection.all())


def test_labels_survive_a_copy_and_another_model(client, encoder):
    with Collection.open(client, "command", embedder=None) as docs:
        docs.copy_to(client, "copy")
    with Collection.open(client, "copy", embedder=None) as copy:
        assert facts(copy) == EXPECTED
        copy.reindex(HashEncoder(dim=16, multivector_dim=8, name="other"))
        assert facts(copy) == EXPECTED


def test_the_command_line_shows_labels_and_takes_them(location, book, encoder, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    monkeypatch.chdir(book.parent)
    where = ["--location", str(location), "--collection", "command"]
    out = run("search", "x", "--mode", "dense", *where)
    assert sorted(line.split("  ")[-1] for line in out.splitlines() if "book" in line) == [
        "book.pdf:page 1 (i)", "book.pdf:page 2 (ii)", "book.pdf:page 3 (1)", "book.pdf:page 4 (2)",
    ]  # fmt: skip
    assert run("show", "book.pdf:page 3 (1)", *where) == run("show", "book.pdf:page 3", *where)
    assert run("show", "book.pdf:page 3", *where).startswith("book.pdf:page 3 (1)\n")
    (item,) = json.loads(run("show", "book.pdf:page 3", *where, "--json"))["items"]
    assert (item["unit"], item["picture"]["page_label"]) == ("page 3", "1")


def test_pages_of_an_earlier_version_get_their_labels_without_being_encoded(tmp_path, book, encoder, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    where = ["--location", str(tmp_path / "index")]
    run("index", str(book), *where)
    with closing(open_client(tmp_path / "index")) as client:
        name = aliased(client, "docs")
        for record in client.scroll(name)[0]:
            own = record.payload["_polyvec"]
            earlier = {**own, "picture": {**own["picture"], "page_label": str(own["picture"]["page"])}}
            client.set_payload(name, {"_polyvec": earlier}, points=[record.id])
        with Collection.open(client, "docs", embedder=None) as docs:
            assert [label for _, _, label in facts(docs)] == [None] * 4
    n_before = len(encoder.encoded)
    run("index", str(book), *where)
    with closing(open_client(tmp_path / "index")) as client, Collection.open(client, "docs", embedder=None) as docs:
        assert facts(docs) == EXPECTED
    assert len(encoder.encoded) == n_before


def test_a_users_own_label_stays(client, encoder, book):
    store, nodes = langchain(client, "own", encoder), llamaindex(client, "own", encoder)
    store.add_pdfs([book], [{"page_label": "cover"}], dpi=72)
    assert {one.metadata["page_label"] for one in store.documents()} == {"cover"}
    assert {node.metadata["page_label"] for node in nodes.get_nodes()} == {"cover"}
    assert facts(store.collection) == EXPECTED
    nodes.add(nodes.get_nodes())
    assert {one.metadata["page_label"] for one in store.documents()} == {"cover"}
    assert facts(store.collection) == EXPECTED

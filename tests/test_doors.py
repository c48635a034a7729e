"""One collection, three doors: what one of the command line, LangChain and LlamaIndex has written, the others use."""

import base64
import gc
import io
import json
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from langchain_classic.retrievers.parent_document_retriever import ParentDocumentRetriever
from langchain_core.documents import Document
from langchain_core.stores import InMemoryStore
from langchain_text_splitters import CharacterTextSplitter
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, ImageBlock, LLMMetadata
from llama_index.core.chat_engine.multi_modal_context import MultiModalContextChatEngine
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.llms import CustomLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    ImageNode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
    TransformComponent,
)
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import FilterOperator, MetadataFilter, MetadataFilters
from PIL import Image
from pydantic import Field

from langchain_polyvec import PolyvecEmbeddings, PolyvecRerank, UnstoredItems, content_blocks
from langchain_polyvec import PolyvecVectorStore as LangChainStore
from llama_index.embeddings.polyvec import PolyvecEmbedding
from llama_index.embeddings.polyvec.images import image_input
from llama_index.postprocessor.polyvec import PolyvecRerank as LlamaIndexRerank
from llama_index.readers.polyvec import PolyvecReader
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import LeaveToStore
from llama_index.vector_stores.polyvec import PolyvecVectorStore as LlamaIndexStore
from polyvec import Embedder
from polyvec.images import open_image
from polyvec.pdf import pages
from polyvec.pictures import Picture
from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, Item, commands, files, open_client
from qdrant_polyvec.binding import aliased
from qdrant_polyvec.fingerprint import Fingerprint
from qdrant_polyvec.pictures import named_metadata
from tests.counting import Counting

EXAMPLES = Path(__file__).parent.parent / "examples" / "pages"
TEXT = "a red fox"
WRITERS = ("command", "langchain", "llamaindex")


class Seeing(CustomLLM):
    """Keeps what it is shown."""

    shown: list = Field(default_factory=list)

    @property
    def metadata(self):
        return LLMMetadata(model_name="multi-seeing", is_chat_model=True)

    @classmethod
    def class_name(cls):
        return "multi_modal_seeing"

    def complete(self, prompt, formatted=False, **how):
        return CompletionResponse(text="So it is.")

    def stream_complete(self, prompt, formatted=False, **how):
        yield self.complete(prompt)

    def chat(self, messages, **how):
        self.shown += [block for message in messages for block in message.blocks]
        return ChatResponse(message=ChatMessage("So it is.", role="assistant"))


@pytest.fixture(scope="module")
def encoder():
    return Counting()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a text, an image and a PDF of two pages."""
    home = tmp_path_factory.mktemp("home")
    (home / "notes.md").write_text(TEXT, encoding="utf-8")
    drawn = []
    for number in (1, 2, 3):
        with Image.open(EXAMPLES / f"page-0{number}.png") as page:
            drawn.append(page.convert("RGB").resize((120, 170)))
    drawn[0].save(home / "photo.png")
    drawn[1].save(home / "report.pdf", save_all=True, append_images=drawn[2:])
    return home


@pytest.fixture(scope="module")
def client(tmp_path_factory, encoder, home):
    """A client of a folder with a collection for each writer, named after it."""
    location = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
        patch.chdir(home)
        options = ["--location", str(location), "--collection", "command", "--dpi", "72"]
        result = CliRunner().invoke(commands.index, [".", *options])
        assert result.exit_code == 0, result.output
    client = open_client(location)
    with_langchain = langchain(client, "langchain", encoder)
    with_langchain.add_texts([TEXT], [{"source": str(home / "notes.md"), "lang": "en"}])
    with_langchain.add_images([home / "photo.png"], [{"lang": "en"}])
    with_langchain.add_pdfs([home / "report.pdf"], [{"lang": "en"}], dpi=72, thumbnails=True)
    with_llamaindex = llamaindex(client, "llamaindex", encoder)
    reader, info = PolyvecReader(page_folder=home.parent / "drawn", dpi=72), {"lang": "en"}
    text = TextNode(
        text=TEXT,
        metadata={"source": str(home / "notes.md"), **info},
        excluded_embed_metadata_keys=["source", "lang"],
    )
    nodes = [text, ImageNode(image_path=str(home / "photo.png"), metadata={"source": str(home / "photo.png"), **info})]
    with_llamaindex.add([*nodes, *reader.load_data(home / "report.pdf", extra_info=info)])
    yield client
    client.close()


@pytest.fixture(params=WRITERS)
def writer(request):
    return request.param


@pytest.fixture
def documents(client, encoder, writer):
    """What LangChain reads, by name."""
    return by_name(langchain(client, writer, encoder).documents(), lambda one: (one.metadata, one.page_content))


@pytest.fixture
def nodes(client, encoder, writer):
    """What LlamaIndex reads, by name."""
    return by_name(llamaindex(client, writer, encoder).get_nodes(), lambda one: (one.metadata, one.text))


def langchain(client, name, encoder, **options):
    return LangChainStore(PolyvecEmbeddings(client=encoder), location=client, collection_name=name, **options)


def llamaindex(client, name, encoder, **options):
    embed_model = PolyvecEmbedding(client=encoder)
    return LlamaIndexStore(embed_model, location=client, collection_name=name, **options)


def by_name(items, parts):
    """Name the items of each collection: text, photo.png, page 1, page 2."""
    named = {}
    for item in items:
        metadata, text = parts(item)
        label = metadata.get("page_label")
        named["text" if text else f"page {label}" if label else Path(metadata["source"]).name] = item
    assert sorted(named) == ["page 1", "page 2", "photo.png", "text"]
    return named


def size(data):
    return Image.open(io.BytesIO(base64.b64decode(data))).size


def drawn_pages(home):
    return [page.image for page in pages(home / "report.pdf", dpi=72)]


def test_langchain_reads_what_an_item_is(documents, home, writer):
    assert documents["text"].page_content == TEXT
    assert not documents["text"].metadata.keys() & {"image_uri", "image_sha256", "mime_type", "thumbnail", "_polyvec"}
    photo = documents["photo.png"].metadata
    assert photo["image_uri"] == str(home / "photo.png")
    assert photo["mime_type"] == "image/png"
    assert len(photo["image_sha256"]) == 64
    for number in (1, 2):
        page = documents[f"page {number}"].metadata
        assert page["source"] == str(home / "report.pdf")
        assert (page["page"], page["page_label"], page["unit"]) == (number - 1, str(number), f"page {number}")
        ends = f"page-000{number}.png" if writer == "llamaindex" else f"{home}/report.pdf#page={number}&dpi=72"
        assert page["image_uri"].endswith(ends)


def test_llamaindex_reads_what_an_item_is(nodes, home, writer):
    assert (type(nodes["text"]), nodes["text"].text) == (TextNode, TEXT)
    assert nodes["text"].get_content("embed") == TEXT  # as it was encoded
    assert nodes["photo.png"].image_path == str(home / "photo.png")
    for number, page in enumerate(drawn_pages(home), start=1):
        node = nodes[f"page {number}"]
        assert isinstance(node, ImageNode)
        assert Path(node.metadata.get("source", node.metadata.get("file_path"))).name == "report.pdf"
        (block,) = node.get_content_blocks()
        assert Image.open(block.resolve_image()).size == page.size
        assert all(len(str(value)) < 500 for value in node.metadata.values())


def test_both_search(client, encoder, writer, home):
    with_langchain, with_llamaindex = (door(client, writer, encoder) for door in (langchain, llamaindex))
    image = drawn_pages(home)[1]
    assert with_langchain.similarity_search("red fox", k=1)[0].page_content == TEXT
    assert with_langchain.similarity_search_by_image(image, k=1)[0].metadata["page_label"] == "2"
    assert PolyvecRetriever(with_llamaindex, similarity_top_k=1).retrieve("red fox")[0].text == TEXT
    (hit,) = with_llamaindex.hits(image, limit=1)
    assert with_llamaindex.get_nodes([hit.id])[0].metadata["page_label"] == "2"


def test_the_command_line_searches(client, writer, encoder, home, capsys, monkeypatch):
    with Collection.open(client, writer, embedder=encoder) as docs:
        (hit,) = docs.search(drawn_pages(home)[1], limit=1)
        assert (hit.kind, hit.unit, hit.picture.page) == ("image", "page 2", 2)
        report = docs.reindex(Other(), load=lambda source, unit: files.load(source, unit), keep_old=True)
        assert report.failed == []
        back = docs.reindex(encoder)
        assert back.failed == []


class Other(HashEncoder):
    def __init__(self):
        super().__init__(dim=16, multivector_dim=8, name="other")


def test_both_filter_by_the_same_names(client, encoder, writer):
    with_langchain, with_llamaindex = (door(client, writer, encoder) for door in (langchain, llamaindex))

    def labels(filters):
        found = with_langchain.similarity_search("fox", k=9, filter=filters)
        return sorted(one.metadata.get("page_label", "") for one in found)

    def labels_of_nodes(key, value, operator=FilterOperator.EQ):
        filters = MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])
        return sorted(one.metadata.get("page_label", "") for one in with_llamaindex.get_nodes(filters=filters))

    pages_of = {one.metadata["source"] for one in with_langchain.documents() if "page" in one.metadata}
    (source,) = pages_of
    assert labels({"source": source}) == labels_of_nodes("source", source) == ["1", "2"]
    assert labels({"page": 1}) == labels({"page": {"$gte": 1}}) == labels({"page_label": "2"}) == ["2"]
    assert labels({"page": {"$in": [0, 7]}}) == labels({"unit": "page 1"}) == ["1"]
    assert labels({"page": None}) == [*labels({"image_uri": None, "page": None}), ""] == ["", ""]
    assert labels_of_nodes("page_label", "2") == ["2"]
    assert labels_of_nodes("page_label", ["1", "2"], FilterOperator.IN) == ["1", "2"]
    assert labels_of_nodes("page_label", None, FilterOperator.IS_EMPTY) == ["", ""]
    tagged = [] if writer == "command" else ["", "", "1", "2"]
    assert labels({"lang": "en"}) == labels_of_nodes("lang", "en") == tagged


def test_both_re_rank_by_stored_vectors_and_otherwise_by_the_picture(client, encoder, documents, nodes, writer, home):
    with_langchain, with_llamaindex = (door(client, writer, encoder) for door in (langchain, llamaindex))
    texts_and_pictures = sorted([(120, 170), *(page.size for page in drawn_pages(home))])

    def encoded():
        found = [one if isinstance(one, str) else one.size for one in map(shown, encoder.encoded)]
        encoder.encoded.clear()
        return sorted(one for one in found if not isinstance(one, str)), [one for one in found if isinstance(one, str)]

    def shown(one):
        return open_image(one) if isinstance(one, Path) else one

    encoder.encoded.clear()
    embeddings, embed_model = with_langchain.embeddings, with_llamaindex.embed_model
    scored = [NodeWithScore(node=node, score=0.0) for node in nodes.values()]
    PolyvecRerank(embeddings=embeddings, vectorstore=with_langchain).compress_documents([*documents.values()], "fox")
    LlamaIndexRerank(embed_model=embed_model, vector_store=with_llamaindex).postprocess_nodes(scored, query_str="fox")
    assert encoded() == ([], [])
    PolyvecRerank(embeddings=embeddings).compress_documents([*documents.values()], "fox")
    assert encoded() == (texts_and_pictures, [TEXT])
    LlamaIndexRerank(embed_model=embed_model).postprocess_nodes(scored, query_str="fox")
    assert encoded() == (texts_and_pictures, [TEXT])


def test_both_copy_whatever_it_is(client, encoder, documents, nodes, writer):
    copies = langchain(client, f"{writer}-documents", encoder), llamaindex(client, f"{writer}-nodes", encoder)
    copies[0].add_documents(documents.values())
    copies[1].add([*nodes.values()])
    old = Collection.open(client, writer, embedder=encoder)
    ids = [one.id for one in old.all()]
    kinds = {one.id: (one.kind, one.picture and one.picture.page) for one in old.all()}
    for copy in copies:
        assert {one.id: (one.kind, one.picture and one.picture.page) for one in copy.collection.all()} == kinds
        for key in [key for key in ids if kinds[key][0] == "image"]:
            same = old.embeddings([key])[key].dense @ copy.collection.embeddings([key])[key].dense.T
            assert same[0, 0] == pytest.approx(1, abs=2e-3)
    again = langchain(client, f"{writer}-nodes", encoder)
    assert sorted(one.metadata.get("page_label", "") for one in again.documents()) == ["", "", "1", "2"]


def test_the_command_line_leaves_to_others_what_they_added(tmp_path, home, encoder, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    folder = shutil.copytree(home, tmp_path / "files")
    (folder / "n.ipynb").write_text(json.dumps({"nbformat": 4, "cells": [{"cell_type": "code", "source": "f()"}]}))

    def index():
        arguments = [str(folder), "--location", str(tmp_path / "index"), "--dpi", "72", "--json"]
        result = CliRunner().invoke(commands.index, arguments)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    index()
    report, notes, notebook = (str(folder / name) for name in ("report.pdf", "notes.md", "n.ipynb"))
    with closing(open_client(tmp_path / "index")) as client:
        with_langchain, with_llamaindex = (door(client, "docs", encoder) for door in (langchain, llamaindex))
        made = {node.node_id for node in with_llamaindex.get_nodes()}
        photo = next(one for one in with_langchain.documents() if one.metadata.get("unit") == "image")
        photo.metadata["tag"] = "mine"
        with_langchain.add_documents([photo])
        (text,) = (node for node in with_llamaindex.get_nodes() if node.get_content() == TEXT)
        text.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="handbook")}
        with_llamaindex.add([text])
        with_langchain.add_pdfs([report], [{"dept": "finance"}], dpi=72)
        with_langchain.add_texts(["a note"], [{"source": notebook}])
        reader = PolyvecReader(page_folder=tmp_path / "drawn", dpi=72)
        crop = ImageNode(image_path=str(home / "photo.png"), metadata={"source": report, "page_label": "2"})
        note = TextNode(text="another note", metadata={"source": notes})
        with_llamaindex.add([crop, note, *reader.load_data(report, extra_info={"dept": "finance"})])
        before = {one.id: one.payload for one in client.scroll("docs", limit=99)[0]}
    encoder.encoded.clear()
    again = index()
    assert (again["ok"], len(again["skipped"]), again["removed"], encoder.encoded) == ([], len(made), [], [])
    with closing(open_client(tmp_path / "index")) as client:
        assert {one.id: one.payload for one in client.scroll("docs", limit=99)[0]} == before
    for name in ("notes.md", "n.ipynb", "report.pdf"):
        (folder / name).unlink()
    (folder / "photo.png").rename(folder / "renamed.png")
    assert set(index()["removed"]) == made
    with closing(open_client(tmp_path / "index")) as client:
        left = {one.id: one.payload for one in client.scroll("docs", limit=99)[0]}
        assert left.keys() >= before.keys() - made
        (photo,) = (one for one in langchain(client, "docs", encoder).documents() if "tag" in one.metadata)
        assert photo.metadata["source"] == photo.metadata["image_uri"] == str(folder / "renamed.png")


def test_a_renamed_file_keeps_its_node(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "notes.md").write_text(TEXT)
    arguments = [str(tmp_path), "--location", str(tmp_path / "index")]
    CliRunner().invoke(commands.index, arguments)
    with closing(open_client(tmp_path / "index")) as client:
        store = llamaindex(client, "docs", encoder)
        (node,) = store.get_nodes()
        node.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="handbook")}
        store.add([node])
    (tmp_path / "one").rename(tmp_path / "two")
    CliRunner().invoke(commands.index, arguments)
    with closing(open_client(tmp_path / "index")) as client:
        (renamed,) = llamaindex(client, "docs", encoder).get_nodes()
        assert (renamed.ref_doc_id, renamed.get_content()) == ("handbook", TEXT)
        assert renamed.metadata["source"] == str(tmp_path / "two" / "notes.md")
        assert llamaindex(client, "docs", encoder).get_nodes([renamed.node_id]) == [renamed]


def test_the_node_of_a_renamed_picture_shows_the_new_file(tmp_path, encoder, home, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    files = tmp_path / "files"
    files.mkdir()
    shutil.copy(home / "photo.png", files / "photo.png")
    shutil.copy(home / "report.pdf", files / "report.pdf")
    arguments = [str(files), "--location", str(tmp_path / "index"), "--dpi", "72"]
    CliRunner().invoke(commands.index, arguments)
    with closing(open_client(tmp_path / "index")) as client:
        store = llamaindex(client, "docs", encoder)
        nodes = store.get_nodes()
        for node in nodes:
            node.relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="handbook")}
        store.add(nodes)
    files.rename(tmp_path / "renamed")
    CliRunner().invoke(commands.index, [str(tmp_path / "renamed"), *arguments[1:]])
    with closing(open_client(tmp_path / "index")) as client:
        for node in llamaindex(client, "docs", encoder).get_nodes():
            item = Collection.open(client, "docs", embedder=None).get([node.node_id])[0]
            if item.source.startswith(str(tmp_path / "renamed")):
                assert node.ref_doc_id == "handbook"
                assert open_image(image_input(node)).size
                assert str(files) not in node.model_dump_json()


def test_images_that_are_added_again_through_another_door_are_left_alone(client, encoder, documents, nodes, writer):
    before = {one.id: one.payload for one in client.scroll(writer, limit=9)[0]}
    images = [one for name, one in documents.items() if name != "text"]
    langchain(client, writer, encoder).add_documents(images)
    assert {one.id: one.payload for one in client.scroll(writer, limit=9)[0]} == before


def test_langchain_puts_pictures_into_a_prompt(documents, home):
    blocks = content_blocks(documents.values())
    images = [block for block in blocks if block["type"] == "image"]
    assert sorted(size(block["base64"]) for block in images) == sorted(
        [(120, 170), *(page.size for page in drawn_pages(home))]
    )
    told = "\n".join(block["text"] for block in blocks if block["type"] == "text")
    assert len(told) < 1000
    assert all(part in told for part in (TEXT, "notes.md", "report.pdf, page 1", "report.pdf, page 2"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LlamaIndex leaves its memory open
@pytest.mark.parametrize("kind", ["engine", "chat"])
def test_llamaindex_puts_pictures_into_a_prompt(client, encoder, writer, home, kind):
    retriever = PolyvecRetriever(llamaindex(client, writer, encoder), similarity_top_k=9)
    seeing = Seeing()
    if kind == "engine":
        RetrieverQueryEngine.from_args(retriever, llm=seeing, multimodal=True).query("what is there?")
    else:
        engine = MultiModalContextChatEngine.from_defaults(retriever=retriever, multi_modal_llm=seeing)
        engine.chat("what is there?")
        del engine
        gc.collect()
    images = [Image.open(ImageBlock.model_validate(block).resolve_image()) for block in pictures_of(seeing)]
    assert sorted(image.size for image in images) == sorted([(120, 170), *(page.size for page in drawn_pages(home))])
    told = "\n".join(block.text for block in seeing.shown if hasattr(block, "text"))
    assert len(told) < 4000
    assert TEXT in told
    assert "sha256:" not in told


def test_an_index_of_llamaindex_over_what_others_wrote_keeps_pictures(client, encoder, nodes, writer):
    store = llamaindex(client, f"{writer}-index", encoder)
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex([*nodes.values()], storage_context=context, embed_model=store.embed_model)
    seeing = Seeing()
    index.as_query_engine(llm=seeing, multimodal=True, similarity_top_k=9).query("what is there?")
    assert len([*pictures_of(seeing)]) == 3


def pictures_of(seeing):
    """The blocks of pictures, with their data decoded."""
    for block in seeing.shown:
        if isinstance(block, ImageBlock):
            url = str(block.url or "")
            data = base64.b64decode(url.partition(",")[2]) if url.startswith("data:") else None
            yield ImageBlock(image=data) if data else block


def test_pages_are_pages_behind_a_cache_or_a_document_store_of_llamaindex(client, encoder, nodes, writer):
    cache, docstore = IngestionCache(), SimpleDocumentStore()
    old = langchain(client, writer, encoder).collection
    kinds = {one.id: (one.kind, one.picture and one.picture.uri) for one in old.all()}
    for name in ("first", "second"):
        store = llamaindex(client, f"{writer}-{name}", encoder)
        steps = [Untouched(), LeaveToStore()]
        IngestionPipeline(transformations=steps, vector_store=store, cache=cache).run(nodes=[*nodes.values()])
        assert {one.id: (one.kind, one.picture and one.picture.uri) for one in store.collection.all()} == kinds
    docstore.add_documents([*nodes.values()])
    kept = [*docstore.docs.values()]
    store = llamaindex(client, f"{writer}-kept", encoder)
    store.add(kept)
    assert {one.id: (one.kind, one.picture and one.picture.uri) for one in store.collection.all()} == kinds
    for key, node in zip(docstore.docs, store.get_nodes([*docstore.docs]), strict=True):
        assert (node.node_id, type(node), node.metadata) == (key, type(by_id(nodes)[key]), by_id(nodes)[key].metadata)


class Untouched(TransformComponent):
    def __call__(self, nodes, **_):
        return nodes


def by_id(nodes):
    return {node.node_id: node for node in nodes.values()}


def test_an_index_of_a_changed_file_keeps_what_others_said_of_it(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(Embedder, "from_pretrained", lambda *_, **__: encoder)
    monkeypatch.chdir(tmp_path)
    options = ["a.md", "--location", str(tmp_path / "index"), "--collection", "docs"]

    def index(text):
        (tmp_path / "a.md").write_text(text, encoding="utf-8")
        result = CliRunner().invoke(commands.index, options)
        assert result.exit_code == 0, result.output

    index("# One\n\na fox\n\n# Two\n\na whale")
    with closing(open_client(tmp_path / "index")) as client:
        langchain(client, "docs", encoder).add_texts(["a note"], [{"source": "a.md"}], ids=["note"])
        llamaindex(client, "docs", encoder).add([TextNode(id_="node", text="a node", metadata={"file_path": "a.md"})])
    index("# One\n\na wolf")
    with closing(open_client(tmp_path / "index")) as client:
        kept = [one.content.splitlines()[-1] for one in Collection.open(client, "docs", embedder=encoder).all()]
    assert sorted(kept) == ["a node", "a note", "a wolf"]


def test_both_delete(client, encoder, writer):
    old = Collection.open(client, writer, embedder=None)
    ids = [str(one.id) for one in old.all()]
    old.copy_to(client, f"{writer}-less")
    with_langchain, with_llamaindex = (door(client, f"{writer}-less", encoder) for door in (langchain, llamaindex))
    with_langchain.delete(ids[:1])
    with_llamaindex.delete_nodes(ids[1:2])
    assert sorted(one.id for one in with_langchain.documents()) == sorted(ids[2:])
    page = MetadataFilters(filters=[MetadataFilter(key="page_label", value=["1", "2"], operator=FilterOperator.IN)])
    with_llamaindex.delete_nodes(filters=page)
    assert not [one for one in with_langchain.documents() if "page" in one.metadata]


def test_a_node_that_langchain_replaced_is_deleted_by_its_id(client, encoder):
    store, nodes = langchain(client, "replaced", encoder), llamaindex(client, "replaced", encoder)
    parent = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="report")}
    nodes.add([TextNode(id_=key, text=TEXT, relationships=parent) for key in ("a", "b")])
    store.add_documents([Document("a whale")], ids=["a"])
    nodes.delete("report")
    assert [node.node_id for node in nodes.get_nodes()] == ["a"]  # its link to the document is lost
    nodes.delete_nodes(["a"])
    assert nodes.get_nodes() == []


def test_tenants_are_kept_apart_by_both(client, encoder, home):
    ann, bob = (langchain(client, "tenants", encoder, tenant=name) for name in ("ann", "bob"))
    ann.add_images([home / "photo.png"])
    bob.add_texts(["a blue whale"], ids=["1"])
    (seen,) = llamaindex(client, "tenants", encoder, tenant="ann").get_nodes()
    assert seen.image_path == str(home / "photo.png")
    whale = llamaindex(client, "tenants", encoder, tenant="bob")
    assert [one.text for one in whale.get_nodes()] == ["a blue whale"]
    whale.delete_nodes(["1"])
    whale.add([ImageNode(id_="1", image_path=str(home / "photo.png"))])
    (copied,) = bob.documents()
    assert copied.metadata["image_uri"] == str(home / "photo.png")
    assert len(list(ann.documents())) == 1


def test_images_in_memory_are_images_through_every_door(client, encoder, home):
    """Base64 of a node, a `data:` URI of a document, bytes without and with a thumbnail."""
    data = base64.b64encode((home / "photo.png").read_bytes()).decode()
    nodes = llamaindex(client, "memory-nodes", encoder)
    nodes.add([ImageNode(id_="base64", image=data)])
    documents = langchain(client, "memory-documents", encoder)
    uri = f"data:image/png;base64,{data}"
    documents.add_documents([Document("says", metadata={"image_uri": uri}, id="uri")])
    documents.add_images([(home / "photo.png").read_bytes()], ids=["small"], thumbnails=True)
    documents.add_images([(home / "photo.png").read_bytes()], ids=["lost"])
    (read,) = langchain(client, "memory-nodes", encoder).documents()
    assert size(content_blocks([read])[1]["base64"]) == (120, 170)
    assert nodes.get_nodes(["base64"])[0].image == data
    other = llamaindex(client, "memory-documents", encoder)
    kept, small, lost = other.get_nodes(["uri", "small", "lost"])
    assert (kept.image, kept.text) == (data, "says")
    assert size(small.image) == (120, 170)
    assert isinstance(lost, ImageNode)
    with pytest.warns(UserWarning, match="left out: the image was added from memory"):
        assert [block.text for block in lost.get_content_blocks()] == [""]
    for copy, given in ((langchain(client, "c", encoder).add_documents, [*documents.documents()]),
                        (llamaindex(client, "d", encoder).add, [kept, small, lost])):  # fmt: skip
        with pytest.raises(UnstoredItems if copy.__self__.__class__ is LangChainStore else Exception) as caught:
            copy(given)
        assert caught.value.ids == ["uri"]


def test_a_lost_page_is_shown_by_its_thumbnail(client, encoder, home, tmp_path):
    report = tmp_path / "gone.pdf"
    report.write_bytes((home / "report.pdf").read_bytes())
    store = langchain(client, "gone", encoder)
    store.add_pdfs([report], thumbnails=True)
    report.unlink()
    for node in llamaindex(client, "gone", encoder).get_nodes():
        (block,) = node.get_content_blocks()
        assert Image.open(block.resolve_image()).format == "JPEG"
    assert sum(block["type"] == "image" for block in content_blocks(store.documents())) == 2


RESERVED = {"image_sha256": "abc", "thumbnail": "data:image/png;base64,AAAA", "image_uri": "nowhere.png"}
RESERVED |= {"mime_type": "text/x", "page": 3, "page_label": "iv", "unit": "kg", "kind": "image", "_polyvec": "x"}


def test_words_of_ours_in_the_metadata_of_a_text_are_the_users(client, encoder):
    store, nodes = langchain(client, "words", encoder), llamaindex(client, "words-nodes", encoder)
    store.add_texts([TEXT], [RESERVED], ids=["a"])
    plain = {key: value for key, value in RESERVED.items() if key != "image_uri"}
    store.add_documents([Document(TEXT, metadata=plain, id="b")])
    nodes.add([TextNode(id_="c", text=TEXT, metadata=RESERVED, excluded_embed_metadata_keys=list(RESERVED))])
    (first, second), (third,) = (
        store.get_by_ids(["a", "b"]),
        langchain(client, "words-nodes", encoder).get_by_ids(["c"]),
    )
    assert second.metadata == plain
    mark = {"kind": "text", "own": {"_polyvec": "x"}}  # or `image_uri` would make it an image
    named = {**RESERVED, "_polyvec": mark}
    assert first.metadata == named
    assert third.metadata.items() >= named.items()
    for found in ([first, second], [third]):
        blocks = content_blocks(found)
        assert [block["type"] for block in blocks] == ["text"] * len(found)
        copy = langchain(client, f"words-{found[0].id}", encoder)
        copy.add_documents(found)
        assert {one.kind for one in copy.collection.all()} == {"text"}
        assert list(copy.get_by_ids([found[0].id])) == [found[0]]
    seen = llamaindex(client, "words", encoder).get_nodes(["a"])[0]
    assert (type(seen), seen.metadata) == (TextNode, RESERVED)
    for key, value in RESERVED.items():
        assert len(store.similarity_search("fox", filter={key: value})) == (1 if key == "image_uri" else 2), key


@pytest.mark.parametrize("own", ["x", "image", "text", {"kind": "text", "own": {}}, {"kind": 3}, None])
def test_keys_that_documents_use_themselves_are_the_users_and_are_copied(client, encoder, home, own):
    client = open_client(":memory:")
    metadatas = [
        {"_polyvec": own},
        {"_polyvec": own, "image_uri": "mine"},
        {"image_uri": "mine"},
        {"image_uri": ["mine"]},
    ]
    photo = str(home / "photo.png")
    nodes = llamaindex(client, "keys", encoder)
    for index, metadata in enumerate(metadatas):
        hidden = list(metadata)
        nodes.add([TextNode(id_=f"text {index}", text=TEXT, metadata=metadata, excluded_embed_metadata_keys=hidden)])
        nodes.add([ImageNode(id_=f"image {index}", image_path=photo, metadata=metadata)])
        nodes.add([ImageNode(id_=f"data {index}", image=base64.b64encode(Path(photo).read_bytes()), metadata=metadata)])
    kinds = {one.id: (one.kind, named_metadata(one.metadata)) for one in nodes.collection.all()}
    for name in ("copy", "again"):
        documents = langchain(client, "keys", encoder).documents()
        store = langchain(client, name, encoder)
        store.add_documents(documents)
        kept = {one.id: (one.kind, named_metadata(one.metadata)) for one in store.collection.all()}
        assert {key: (kind, metadata | {"source": 0}) for key, (kind, metadata) in kept.items()} == {
            key: (kind, metadata | {"source": 0}) for key, (kind, metadata) in kinds.items()
        }
    store.add_images([photo], [{"image_uri": "mine"}], ids=["own"])
    (shown,) = store.get_by_ids(["own"])
    assert shown.metadata["image_uri"] == photo
    store.add_documents([shown])
    assert store.collection.get(["own"])[0].metadata == {"image_uri": "mine", "source": photo}


def test_words_of_ours_in_the_metadata_of_an_image_are_the_users(client, encoder, home):
    """Also if the image is copied as it is read, with what is known about it."""
    uri, theirs = str(home / "photo.png"), {"mime_type": ["text/x"], "thumbnail": "small.png"}
    page = f"{home}/report.pdf#page=1"
    store, copy = (langchain(client, f"image-words{name}", encoder) for name in ("", "-copy"))
    store.add_images([uri], [{"image_sha256": "abc", **theirs}], ids=["a"])
    store.add_images([uri], [{"lang": "en"}], ids=["b"], thumbnails=True)
    store.add_documents([Document("", metadata={"image_uri": page, **theirs}, id="c")])
    copy.add_documents(store.documents())
    assert {one.id: one for one in copy.documents()} == {one.id: one for one in store.documents()}
    kept = {one.id: one for one in store.collection.all()}
    assert kept["a"].metadata.items() >= {"image_sha256": "abc", **theirs}.items()
    kept = {one.id: one for one in copy.collection.all()}
    assert kept["a"].metadata["thumbnail"] == "small.png"
    assert kept["b"].metadata.keys() == {"source", "lang"}
    assert kept["b"].picture.thumbnail
    assert kept["c"].metadata.items() >= theirs.items()


def test_an_image_file_keeps_its_thumbnail_when_it_is_copied_through_llamaindex(client, encoder, home, tmp_path):
    photo = tmp_path / "photo.png"
    photo.write_bytes((home / "photo.png").read_bytes())
    store, last = (langchain(client, f"small-{name}", encoder) for name in ("documents", "last"))
    first, second, third = (llamaindex(client, f"small-{name}", encoder) for name in ("documents", "nodes", "again"))
    store.add_images([photo], ids=["a"], thumbnails=True)
    nodes = first.get_nodes()
    assert nodes[0].image_path == str(photo)
    second.add(nodes)
    third.add(second.get_nodes())
    last.add_documents(langchain(client, "small-again", encoder).documents())
    given, copied = store.get_by_ids(["a"]), last.get_by_ids(["a"])
    assert copied == given
    assert copied[0].metadata["thumbnail"]
    (block,) = third.get_nodes()[0].get_content_blocks()
    assert Image.open(block.resolve_image()).size == (120, 170)
    third.add([nodes[0].model_copy(update={"id_": "b", "image_path": str(home / "photo.png")})])
    assert third.collection.get(["b"])[0].picture.uri == str(home / "photo.png")
    third.delete_nodes(["b"])
    Image.new("RGB", (9, 9)).save(photo)
    third.add(third.get_nodes())
    assert third.collection.get(["a"])[0].picture.thumbnail is None  # it is of the older image


def test_an_image_is_shown_by_its_own_facts_whatever_its_metadata_say(client, encoder, home):
    nodes = llamaindex(client, "own-facts", encoder)
    wrong = {"image_uri": "other.png", "image_sha256": "0", "lang": "en"}
    nodes.add([ImageNode(id_="a", image_path=str(home / "photo.png"), metadata=wrong)])
    (found,) = langchain(client, "own-facts", encoder).documents()
    assert found.metadata["image_uri"] == str(home / "photo.png")
    assert size(content_blocks([found])[1]["base64"]) == (120, 170)  # without a warning of a change
    assert nodes.get_nodes(["a"])[0].metadata == wrong


def test_two_documents_of_one_picture_are_two_items_and_the_same_again_is_one(client, encoder, home):
    store = langchain(client, "pictures", encoder)
    uri = str(home / "photo.png")
    given = [
        Document("the front", metadata={"image_uri": uri, "source": "a"}),
        Document("the back", metadata={"image_uri": uri, "source": "b"}),
        Document("the back", metadata={"image_uri": uri, "source": "c"}),
        Document("", metadata={"image_uri": uri}),
        Document("", metadata={"image_uri": uri, "source": uri}),  # as it is read
    ]
    ids = store.add_documents(given)
    assert len(set(ids)) == store.collection.count() == 4
    assert store.add_documents(given) == ids
    assert store.add_images([uri]) == ids[3:4] == ids[4:]
    assert {one.kind for one in store.collection.all()} == {"image"}
    bare = [Document(one.page_content, metadata=one.metadata) for one in store.get_by_ids(ids)]
    assert store.add_documents(bare) == ids[:4]  # as they are read
    assert store.collection.count() == 4


def test_chunks_of_a_text_are_texts(client, encoder, home):
    store = langchain(client, "chunks", encoder)
    splitter = CharacterTextSplitter(separator=". ", chunk_size=20, chunk_overlap=0)
    retriever = ParentDocumentRetriever(vectorstore=store, docstore=InMemoryStore(), child_splitter=splitter)
    parents = [
        Document(text, metadata={"image_uri": str(home / "photo.png"), "n": n})
        for n, text in enumerate(("A red fox. It runs quickly", "A blue whale. It swims deep"))
    ]
    retriever.add_documents(parents)
    assert retriever.invoke("A blue whale")[0] == parents[1]
    assert {one.kind for one in store.collection.all()} == {"text"}
    assert store.collection.count() == 4
    single = Document("It swims", metadata={"image_uri": str(home / "photo.png"), "start_index": 14})
    assert store.stored(store.add_documents([single]))[0].kind == "text"


def test_a_collection_of_layout_1_is_brought_over_by_reindex(client, encoder, home, monkeypatch):
    """As the command line and LangChain wrote it before."""
    fingerprint = replace(Fingerprint.of(encoder, None), schema=1)
    with monkeypatch.context() as patch:
        patch.setattr(Fingerprint, "of", lambda *_: fingerprint)
        docs = Collection.open(client, "old", embedder=encoder)
    docs.add([Item(home / "photo.png", id=1, unit="image"), Item(home / "photo.png", id=2), Item(TEXT, id=3)])
    facts = {"image_uri": f"{home}/report.pdf#page=2", "image_sha256": "ab", "page": 1, "page_label": "2", "n": 5}
    name = aliased(client, "old")
    for key, (changed, unit) in {1: ({}, "image"), 2: (facts, "page 2")}.items():
        payload = client.retrieve(name, [key])[0].payload
        del payload["_polyvec"]["picture"]
        own = {**payload["_polyvec"], "unit": unit} | ({"path": str(home / "photo.png")} if key == 1 else {})
        client.overwrite_payload(
            name, {**payload, "metadata": {**payload["metadata"], **changed}, "_polyvec": own}, points=[key]
        )
    with pytest.raises(ValueError, match=r"has layout 1; this version of qdrant-polyvec has 2.*`reindex` it"):
        langchain(client, "old", encoder)
    encoder.encoded.clear()
    assert Collection.open(client, "old", embedder=None).reindex(encoder).failed == []
    assert encoder.encoded == []
    photo, page, text = langchain(client, "old", encoder).get_by_ids(["1", "2", "3"])
    assert photo.metadata["image_uri"] == str(home / "photo.png")
    assert page.metadata == {**facts, "source": str(home / "photo.png"), "unit": "page 2"}
    (stored,) = Collection.open(client, "old", embedder=encoder).get([2])
    assert stored.picture == Picture(uri=facts["image_uri"], page=2, sha256="ab")
    assert stored.metadata == {"n": 5, "source": str(home / "photo.png")}
    assert json.dumps(text.metadata) == "{}"

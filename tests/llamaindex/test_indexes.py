"""LlamaIndex's own pipelines, indexes, engines and readers over our parts."""

import asyncio
import base64
import gc

import pytest
from llama_index.core import (
    Settings,
    SimpleDirectoryReader,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, ImageBlock, LLMMetadata
from llama_index.core.chat_engine.multi_modal_context import MultiModalContextChatEngine
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import CustomLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageDocument, ImageNode, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from PIL import Image
from pydantic import Field

from llama_index.readers.polyvec import PolyvecReader
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import PolyvecVectorStore
from polyvec.pdf import PasswordError
from tests.core.pdfs import encrypted


class Seeing(CustomLLM):
    """Answers as it is told, and keeps what it was shown."""

    shown: list = Field(default_factory=list)

    @property
    def metadata(self):
        return LLMMetadata(model_name="multi-seeing", is_chat_model=True)

    @classmethod
    def class_name(cls):
        return "multi_modal_seeing"

    def complete(self, prompt, formatted=False, **how):
        self.shown.append([prompt])
        return CompletionResponse(text="So it is.")

    def stream_complete(self, prompt, formatted=False, **how):
        yield self.complete(prompt)

    def chat(self, messages, **how):
        self.shown.append([block for message in messages for block in message.blocks])
        return ChatResponse(message=ChatMessage("So it is.", role="assistant"))

    async def achat(self, messages, **how):
        return self.chat(messages, **how)

    def images(self):
        return [block for blocks in self.shown for block in blocks if isinstance(block, ImageBlock)]


@pytest.fixture(autouse=True)
def no_default_models(embed, monkeypatch):
    monkeypatch.setattr(Settings, "_embed_model", embed)
    monkeypatch.setattr(Settings, "_llm", Seeing())


def ids(found):
    return [one.node.node_id for one in found]


def test_a_pipeline_stores_texts_and_images(store, embed, nodes, pictures):
    """Silent failures 6 and 13."""
    found = IngestionPipeline(transformations=[embed], vector_store=store).run(nodes=nodes)
    assert len(found) == len(store.get_nodes()) == 5
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed)
    retriever = index.as_retriever(similarity_top_k=1)
    assert ids(retriever.retrieve("a blue whale")) == ["text-1"]
    assert ids(asyncio.run(retriever.aretrieve("a blue whale"))) == ["text-1"]
    for mode in ("dense", "late", "two-stage"):
        retriever = index.as_retriever(similarity_top_k=1, vector_store_kwargs={"mode": mode})
        assert ids(retriever.retrieve("the red fox")) == ["text-0"]
    assert ids(PolyvecRetriever(store, similarity_top_k=1).retrieve("a blue whale")) == ["text-1"]


def test_an_asynchronous_pipeline_does_the_same(store, embed, nodes):
    pipeline = IngestionPipeline(transformations=[embed], vector_store=store)
    assert len(asyncio.run(pipeline.arun(nodes=nodes))) == len(store.get_nodes()) == 5


def test_an_index_of_mixed_documents_drops_nothing(store, embed, pictures):
    """Silent failures 1 and 2: images get the vectors of their pictures, and texts stay in reach."""
    documents = [
        Document(id_="text", text="a blue whale"),
        ImageDocument(id_="image", image_path=str(pictures[0]), metadata={"file_path": str(pictures[0])}),
    ]
    context = StorageContext.from_defaults(vector_store=store)
    index = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embed)
    assert len(store.get_nodes()) == 2
    (text,) = index.as_retriever(similarity_top_k=1).retrieve("a blue whale")
    assert text.node.ref_doc_id == "text"
    assert len(index.as_retriever(similarity_top_k=9).retrieve("anything")) == 2
    index.insert_nodes([ImageNode(id_="more", image_path=str(pictures[1])), TextNode(id_="words", text="a red fox")])
    assert len(index.as_retriever(similarity_top_k=9).retrieve("anything")) == 4
    (found,) = PolyvecRetriever(store, similarity_top_k=1).retrieve(QueryBundle("", image_path=str(pictures[0])))
    assert found.node.ref_doc_id == "image"
    index.delete_ref_doc("image")
    assert len(store.get_nodes()) == 3


def test_one_embedding_serves_texts_and_images_of_a_multimodal_index(tmp_path, embed, pictures):
    texts = PolyvecVectorStore(embed, location=tmp_path / "index", collection_name="texts")
    images = PolyvecVectorStore(embed, location=texts.collection.client, collection_name="images")
    documents = [
        Document(id_="text", text="a blue whale"),
        # Without any text or metadata the index would leave them out, before any part of ours sees them.
        ImageDocument(id_="image", image_path=str(pictures[0]), metadata={"file_path": str(pictures[0])}),
        ImageDocument(id_="other", image_path=str(pictures[1]), metadata={"file_path": str(pictures[1])}),
    ]
    context = StorageContext.from_defaults(vector_store=texts, image_store=images)
    index = MultiModalVectorStoreIndex.from_documents(
        documents, storage_context=context, embed_model=embed, image_embed_model=embed
    )
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    found = retriever.retrieve("a blue whale")
    assert found[0].node.ref_doc_id == "text"
    assert isinstance(found[1].node, ImageNode)
    (found,) = retriever.image_to_image_retrieve(str(pictures[1]))
    assert found.node.ref_doc_id == "other"
    texts.close()


def test_page_images_reach_a_multimodal_model(store, embed, nodes, pictures):
    store.add(nodes)
    seeing = Seeing()
    retriever = PolyvecRetriever(store, similarity_top_k=5)
    engine = RetrieverQueryEngine.from_args(retriever, llm=seeing, multimodal=True)
    assert str(engine.query("what is there?")) == "So it is."
    shown = {base64.b64decode(str(block.url).partition(",")[2]) for block in seeing.images()}
    assert shown == {path.read_bytes() for path in pictures[:2]}
    told = " ".join(str(getattr(block, "text", "")) for blocks in seeing.shown for block in blocks)
    assert all(text in told for text in ("the red fox", "a blue whale"))
    index = VectorStoreIndex.from_vector_store(store, embed_model=embed)
    other = Seeing()
    assert str(index.as_query_engine(llm=other, multimodal=True, similarity_top_k=5).query("what?")) == "So it is."
    assert len(other.images()) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # LlamaIndex leaves its memory open
def test_page_images_reach_a_multimodal_chat(store, embed, nodes):
    store.add(nodes)
    seeing = Seeing()
    retriever = PolyvecRetriever(store, similarity_top_k=5)
    engine = MultiModalContextChatEngine.from_defaults(retriever=retriever, multi_modal_llm=seeing)
    assert str(engine.chat("what is there?")) == "So it is."
    assert len(seeing.images()) == 2
    del engine
    gc.collect()


def test_a_document_store_sees_a_changed_image(folder, embed, pictures):
    """Silent failure 12."""
    pipeline = IngestionPipeline(
        transformations=[embed],
        vector_store=folder,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS,
    )

    def documents():
        found = [PolyvecReader().load_data(path)[0] for path in pictures]
        for document, path in zip(found, pictures, strict=True):
            document.id_ = path.name
        return found

    assert len(pipeline.run(documents=documents())) == 3
    assert pipeline.run(documents=documents()) == []
    pictures[1].write_bytes(pictures[0].read_bytes())
    (changed,) = pipeline.run(documents=documents())
    assert changed.node_id == pictures[1].name
    assert len(folder.get_nodes()) == 3


def test_an_index_is_kept_and_loaded_again(tmp_path, embed, nodes):
    location, persisted = tmp_path / "index", str(tmp_path / "storage")
    with PolyvecVectorStore(embed, location=location) as store:
        context = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex(nodes, storage_context=context, embed_model=embed).storage_context.persist(persisted)
    with PolyvecVectorStore(embed, location=location) as store:
        context = StorageContext.from_defaults(vector_store=store, persist_dir=persisted)
        index = load_index_from_storage(context, embed_model=embed)
        assert ids(index.as_retriever(similarity_top_k=1).retrieve("a blue whale")) == ["text-1"]
        assert len(index.as_retriever(similarity_top_k=9).retrieve("fox")) == 5


@pytest.fixture
def library(tmp_path, pictures, report):
    folder = tmp_path / "library"
    folder.mkdir()
    (folder / "notes.md").write_text("# Notes\n\nA blue whale swims.", encoding="utf-8")
    (folder / "fox.py").write_text("def fox():\n    return 'red'\n", encoding="utf-8")
    pictures[0].rename(folder / "page.png")
    report.rename(folder / "report.pdf")
    return folder


def test_a_folder_of_all_kinds_is_read(library, store, embed, tmp_path):
    """Silent failures 8 and 9: pictures are read as pictures, and survive a splitter."""
    reader = PolyvecReader(page_folder=tmp_path / "pages")
    documents = SimpleDirectoryReader(
        str(library), file_extractor=reader.file_extractor(), raise_on_error=True
    ).load_data()
    assert len(documents) == 5
    pictures = [one for one in documents if isinstance(one, ImageDocument)]
    assert len(pictures) == 3
    assert {one.metadata.get("page_label") for one in pictures} == {None, "1", "2"}
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embed], vector_store=store)
    found = pipeline.run(documents=documents)
    assert len(store.get_nodes()) == len(found) == 5
    assert sum(isinstance(node, ImageNode) for node in store.get_nodes()) == 3
    assert "blue whale" in PolyvecRetriever(store, similarity_top_k=1).retrieve("A blue whale swims")[0].text


def test_pages_are_drawn_once_and_again_when_the_file_has_changed(report, tmp_path, pictures):
    reader = PolyvecReader(page_folder=tmp_path / "pages")
    first = reader.load_data(report)
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "pages").rglob("*.png"))]
    again = reader.load_data(report, extra_info={"lang": "en"})
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "pages").rglob("*.png"))] == times
    assert [one.image_path for one in again] == [one.image_path for one in first]
    assert again[0].metadata["lang"] == "en"
    with Image.open(pictures[0]) as picture:
        picture.convert("RGB").save(report)
    assert reader.load_data(report)[0].image_path != first[0].image_path


def test_what_cannot_be_read_is_told(tmp_path, report):
    reader = PolyvecReader(page_folder=tmp_path / "pages")
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 no more")
    for name in ("broken.png", "broken.pdf", "gone.png", "gone.pdf"):
        with pytest.raises((OSError, ValueError), match=name.replace(".", r"\.")):
            reader.load_data(tmp_path / name)


def test_documents_that_are_gone_are_deleted(folder, embed, library, tmp_path):
    pipeline = IngestionPipeline(
        transformations=[embed],
        vector_store=folder,
        docstore=SimpleDocumentStore(),
        docstore_strategy=DocstoreStrategy.UPSERTS_AND_DELETE,
    )
    extractors = PolyvecReader(page_folder=tmp_path / "pages").file_extractor()

    def run():
        reader = SimpleDirectoryReader(str(library), file_extractor=extractors, filename_as_id=True)
        return pipeline.run(documents=reader.load_data())

    assert len(run()) == len(folder.get_nodes()) == 5
    assert run() == []
    (library / "page.png").unlink()
    run()
    assert len(folder.get_nodes()) == 4


def test_pages_are_read_when_they_are_asked_for(tmp_path, scan):
    pages = PolyvecReader(page_folder=tmp_path / "pages").lazy_load_data(scan, {"lang": "en"})
    assert next(pages).metadata["lang"] == "en"
    assert len(list((tmp_path / "pages").rglob("*.png"))) == 1
    assert [one.metadata["page_label"] for one in pages] == ["2", "3"]


def test_the_pages_of_a_tiff_are_documents(tmp_path, scan):
    documents = PolyvecReader(page_folder=tmp_path / "pages").load_data(scan)
    assert [one.metadata["page_label"] for one in documents] == ["1", "2", "3"]
    with Image.open(documents[1].image_path) as picture:
        assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (0, 255, 0))
    with pytest.raises(ValueError, match="local files only"):
        PolyvecReader().load_data(scan, fs=object())


def test_a_bad_page_is_left_out_with_a_warning(tmp_path, torn_scan):
    with pytest.warns(UserWarning, match=r"1 of 3 pages .*scan\.tif.* page 2: "):
        documents = PolyvecReader(page_folder=tmp_path / "pages").load_data(torn_scan)
    assert [one.metadata["page_label"] for one in documents] == ["1", "3"]


def test_an_encrypted_pdf_is_read_with_its_password(tmp_path):
    sealed = tmp_path / "sealed.pdf"
    sealed.write_bytes(encrypted(b"s3same", b"owner's", n_pages=2))
    with pytest.raises(PasswordError, match="is encrypted; pass `password=`"):
        PolyvecReader(page_folder=tmp_path / "pages").load_data(sealed)
    reader = PolyvecReader(page_folder=tmp_path / "pages", password="s3same")
    documents = reader.load_data(sealed)
    assert [one.metadata["page_label"] for one in documents] == ["1", "2"]
    assert "s3same" not in f"{reader!r} {vars(reader)} {[one.to_dict() for one in documents]}"

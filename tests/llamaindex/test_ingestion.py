"""LlamaIndex's ingestion pipelines with a document store: nothing is lost, and nothing is encoded twice."""

import asyncio

import pytest
from llama_index.core import SimpleDirectoryReader, StorageContext, VectorStoreIndex
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.schema import Document, ImageNode, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters

from llama_index.readers.polyvec import PolyvecReader
from llama_index.retrievers.polyvec import PolyvecRetriever
from llama_index.vector_stores.polyvec import LeaveToStore, PolyvecVectorStore, UnstoredItems, replacing


@pytest.fixture(params=["embed", "leave"])
def transformation(request, embed):
    return embed if request.param == "embed" else LeaveToStore()


def pipeline(store, *transformations, docstore=None, strategy=DocstoreStrategy.UPSERTS):
    return IngestionPipeline(
        transformations=list(transformations), vector_store=store, docstore=docstore, docstore_strategy=strategy
    )


def texts(store):
    return sorted(node.text for node in store.get_nodes())


def documents(*texts):
    return [Document(id_=f"d{n}", text=text) for n, text in enumerate(texts)]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_blank_document_is_stored_and_takes_no_other_with_it(folder, transformation, is_async):
    ingest = pipeline(folder, transformation, docstore=SimpleDocumentStore())

    def run(given):
        return asyncio.run(ingest.arun(documents=given)) if is_async else ingest.run(documents=given)

    run(documents("a red fox", "a blue whale"))
    run(documents("a red fox runs", ""))
    assert texts(folder) == ["", "a red fox runs"]
    assert run(documents("a red fox runs", "")) == []
    run(documents("a red fox runs", "a whale again"))
    assert texts(folder) == ["a red fox runs", "a whale again"]


def test_an_empty_file_of_a_folder_stops_nothing(folder, embed, tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "fox.py").write_text("FOX = 'red'\n")
    reader = SimpleDirectoryReader(
        str(package), file_extractor=PolyvecReader(page_folder=tmp_path / "pages").file_extractor()
    )
    pipeline(folder, embed).run(documents=reader.load_data())
    assert len(folder.get_nodes()) == 2
    pipeline(folder, SentenceSplitter(), embed).run(documents=reader.load_data())
    assert (
        PolyvecRetriever(folder, similarity_top_k=1).retrieve("FOX = 'red'")[0].node.metadata["file_name"] == "fox.py"
    )


def test_nodes_that_are_left_to_the_store_are_encoded_once(folder, embed, nodes):
    embed.client.encoded.clear()
    pipeline(folder, LeaveToStore()).run(nodes=nodes)
    assert len(embed.client.encoded) == len(folder.get_nodes()) == 5
    embed.client.encoded.clear()
    context = StorageContext.from_defaults(vector_store=folder)
    given = [Document(id_="more", text="a green frog")]
    VectorStoreIndex.from_documents(
        given, storage_context=context, embed_model=embed, transformations=[SentenceSplitter(), LeaveToStore()]
    )
    assert len(embed.client.encoded) == 1
    assert PolyvecRetriever(folder, similarity_top_k=1).retrieve("a green frog")[0].node.ref_doc_id == "more"


def test_one_cache_confuses_no_images_that_are_left_to_the_store(folder, pictures):
    ingest = pipeline(folder, LeaveToStore())
    for n in range(2):
        ingest.run(nodes=[ImageNode(id_=f"image-{n}", image_path=str(pictures[n]))])
    assert sorted(node.image_path for node in folder.get_nodes()) == [str(path) for path in pictures[:2]]
    settings = LeaveToStore().to_dict()
    ingest.run(nodes=[TextNode(text="a")])
    assert LeaveToStore().to_dict() == settings


def test_what_was_there_stays_until_the_new_is_stored(folder, embed):
    docstore = SimpleDocumentStore()
    splitter = SentenceSplitter(chunk_size=20, chunk_overlap=0)
    long = "The red fox runs over the hills. " * 8
    with replacing(folder) as target:
        pipeline(target, splitter, embed, docstore=docstore).run(documents=documents(long))
    before = texts(folder)
    assert len(before) > 1

    class BrokenError(RuntimeError):
        pass

    def broken(*_, **__):
        raise BrokenError

    kept = SimpleDocumentStore.from_dict(docstore.to_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embed.client, "encode", broken)
        with pytest.raises(BrokenError), replacing(folder) as target:
            pipeline(target, splitter, embed, docstore=docstore).run(documents=documents("A fox."))
    assert texts(folder) == before
    with replacing(folder) as target:
        pipeline(target, splitter, embed, docstore=kept).run(documents=documents("A fox."))
    assert texts(folder) == ["A fox."]


def test_a_document_with_an_image_that_cannot_be_read_keeps_its_nodes(folder, pictures, tmp_path):
    def images(paths):
        return [ImageNode(id_=name, image_path=str(path), metadata={"n": str(path)}) for name, path in paths.items()]

    docstore = SimpleDocumentStore()
    with replacing(folder) as target:
        pipeline(target, LeaveToStore(), docstore=docstore).run(nodes=images({"a": pictures[0], "b": pictures[1]}))
    gone = tmp_path / "gone.png"
    with pytest.raises(UnstoredItems, match=r"gone\.png"), replacing(folder) as target:
        pipeline(target, LeaveToStore(), docstore=docstore).run(nodes=images({"a": gone, "b": pictures[2]}))
    assert {node.node_id: node.image_path for node in folder.get_nodes()} == {
        "a": str(pictures[0]),
        "b": str(pictures[2]),
    }


def test_documents_that_are_gone_are_deleted_at_the_end(folder):
    docstore = SimpleDocumentStore()
    for given in (documents("a red fox", "a blue whale"), documents("a red fox")):
        with replacing(folder) as target:
            pipeline(target, LeaveToStore(), docstore=docstore, strategy=DocstoreStrategy.UPSERTS_AND_DELETE).run(
                documents=given
            )
    assert texts(folder) == ["a red fox"]


def test_stores_of_two_tasks_keep_their_nodes_of_the_same_documents(folder, embed):
    code = PolyvecVectorStore(embed.with_task("code"), location=folder.client, collection_name=folder.collection.name)
    for store in (folder, code):
        with replacing(store) as target:
            pipeline(target, SentenceSplitter(), LeaveToStore(), docstore=SimpleDocumentStore()).run(
                documents=documents("a fox")
            )
    assert sorted(node.task for node in folder.collection.all()) == ["code", "retrieval"]
    of_document = MetadataFilters(filters=[MetadataFilter(key="doc_id", value="d0")])
    code.delete_nodes(filters=of_document)
    assert [node.task for node in folder.collection.all()] == ["retrieval"]
    code.delete("d0")
    assert texts(folder) == ["a fox"]
    folder.delete("d0")
    assert texts(folder) == []
    folder.add([TextNode(id_="a", text="a")], task="code")
    folder.delete_nodes(["a"])  # an id names one node, whatever its task
    assert texts(folder) == []

import asyncio
import os
import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from langchain_classic.retrievers.ensemble import EnsembleRetriever
from langchain_classic.retrievers.parent_document_retriever import ParentDocumentRetriever
from langchain_classic.retrievers.time_weighted_retriever import TimeWeightedVectorStoreRetriever
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.stores import InMemoryStore
from langchain_text_splitters import CharacterTextSplitter

from langchain_polyvec import PolyvecRetriever, UnstoredItems

VALUES = {
    "day": date(2026, 1, 2),
    "at": datetime(2026, 1, 2, 3, tzinfo=UTC),
    "id": UUID(int=5),
    "price": Decimal("1.10"),
    "path": Path("a/b"),
    "score": np.float32(0.5),
    "tags": {"b", "a"},
}
STORED = {
    "day": "2026-01-02",
    "at": "2026-01-02T03:00:00Z",
    "id": "00000000-0000-0000-0000-000000000005",
    "price": "1.10",
    "path": "a/b",
    "score": 0.5,
    "tags": ["a", "b"],
}


def test_metadata_are_stored_as_json_and_the_same_again_is_the_same_document(store):
    ids = store.add_texts(["a fox"], [VALUES])
    assert store.add_texts(["a fox"], [VALUES]) == ids
    assert store.add_texts(["a fox"], [STORED]) == ids  # as a search returns them
    assert store.similarity_search("fox") == [Document(id=ids[0], page_content="a fox", metadata=STORED)]
    for name, value in VALUES.items():
        if name != "tags":
            assert len(store.similarity_search("fox", filter={name: value})) == 1, name


def test_metadata_of_pictures_and_pages_are_stored_as_json(folder, pictures, report):
    pdf = Blob.from_data(report.read_bytes(), mime_type="application/pdf", metadata=VALUES)
    added = [
        folder.add_images(pictures[:1], [VALUES]),
        folder.add_images([pictures[1].read_bytes()], [VALUES]),
        folder.add_pdfs([report], [VALUES]),
        folder.add_blobs([pdf]),
        folder.add_documents([Document("", metadata={**VALUES, "image_uri": str(pictures[2])})]),
    ]
    assert folder.add_blobs([pdf]) == added[3]
    for document in folder.get_by_ids([key for ids in added for key in ids]):
        assert STORED.items() <= document.metadata.items()


def test_metadata_that_cannot_be_kept_lose_no_other_document(folder, pictures):
    bad = {"x": [float("nan")]}
    with pytest.raises(UnstoredItems) as caught:
        folder.add_texts(["one", "two", "three"], [None, bad, None], ids=[None, "b", None])
    assert [str(failure) for failure in caught.value.failures] == [
        "b: metadata['x'][0] is nan, which is no JSON number: use None or a string"
    ]
    assert len(caught.value.ids) == 2
    with pytest.raises(UnstoredItems, match=r"page-0.png: metadata\['x'\]\[0\] is nan") as caught:
        folder.add_images(pictures[:2], [bad, None])
    assert len(caught.value.ids) == 1


def test_a_time_weighted_retriever_runs(store):
    retriever = TimeWeightedVectorStoreRetriever(vectorstore=store, k=1, decay_rate=0)
    retriever.add_documents([Document("a red fox")])
    retriever.add_documents([Document("a blue whale")], current_time=datetime(2026, 1, 2))
    assert [one.page_content for one in retriever.invoke("a blue whale")] == ["a blue whale"]
    stored = store.similarity_search("a blue whale", k=1)[0].metadata
    assert datetime.fromisoformat(stored["created_at"]) == retriever.memory_stream[1].metadata["created_at"]
    assert store.similarity_search("fox", filter={"created_at": {"$lt": datetime(2026, 1, 1)}}) == []


@pytest.mark.parametrize("search_type", ["similarity", "mmr"])
def test_a_parent_document_retriever_runs(folder, search_type):
    splitter = CharacterTextSplitter(separator=". ", chunk_size=20, chunk_overlap=0)
    retriever = ParentDocumentRetriever(
        vectorstore=folder, docstore=InMemoryStore(), child_splitter=splitter, search_type=search_type
    )
    texts = ("A red fox. It runs", "A whale. It swims")
    parents = [Document(text, metadata={"day": date(2026, 1, 2)}) for text in texts]
    retriever.add_documents(parents)
    assert retriever.invoke("A whale")[0] == parents[1]
    assert asyncio.run(retriever.ainvoke("A whale"))[0] == parents[1]
    assert {document.metadata["day"] for document in folder.similarity_search("fox")} == {"2026-01-02"}


def test_an_ensemble_of_retrievers_runs(folder):
    folder.add_texts(["a fox", "a whale"], [VALUES, None])
    ours = PolyvecRetriever(vectorstore=folder, search_kwargs={"filter": {"day": {"$gte": "2026-01-01"}}})
    ensemble = EnsembleRetriever(retrievers=[folder.as_retriever(search_kwargs={"k": 2}), ours], id_key="day")
    folder.delete([folder.similarity_search("a whale", k=1)[0].id])
    assert [one.page_content for one in ensemble.invoke("fox")] == ["a fox"]


def test_a_picture_is_one_document_however_its_path_is_written(folder, pictures, report, monkeypatch):
    home = report.parent
    monkeypatch.chdir(home)
    (home / "notebooks").mkdir()

    def add():
        up = Path(os.path.relpath(home))
        picture, pdf = up / pictures[0].name, up / report.name
        return (
            folder.add_images([picture])
            + folder.add_images([f"./{picture}"])
            + folder.add_images([(home / "notebooks/.." / picture.name).as_uri()])
            + folder.add_images([{"type": "image", "url": pictures[0].as_uri()}])
            + folder.add_blobs([Blob.from_path(picture)])
            + folder.add_documents([Document("", metadata={"image_uri": str(picture)})]),
            folder.add_pdfs([pdf]),
            folder.add_pdfs([report.as_uri()]),
            folder.add_blobs([Blob.from_path(f"notebooks/../{pdf}" if up == Path() else pdf)]),
            folder.add_images([f"{pdf}#page={number}" for number in (1, 2)]),
        )

    images, *pages = add()
    assert len(set(images)) == 1
    assert len({*map(tuple, pages)}) == 1
    monkeypatch.chdir("notebooks")
    assert add() == (images, *pages)
    assert folder.collection.count() == 3
    assert folder.collection.sources() == {str(pictures[0]): 1, str(report): 2}
    assert folder.add_images([Path("..") / pictures[0].name], [{"source": "as I wrote it"}]) == images[:1]
    assert folder.get_by_ids(images[:1])[0].metadata["source"] == "as I wrote it"


def test_a_text_of_a_loader_is_one_document_in_any_working_directory(folder, tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text("a red fox", encoding="utf-8")
    (tmp_path / "notebooks").mkdir()
    ids = []
    for here, path in (("", "a.md"), ("notebooks", "../a.md")):
        monkeypatch.chdir(tmp_path / here)
        ids += folder.add_blobs([Blob.from_path(path)])
    assert len(set(ids)) == 1
    assert folder.get_by_ids(ids)[0].metadata == {"source": str(tmp_path / "a.md")}


def test_files_whose_names_are_not_unicode_fail_alone(folder, pictures, report, tmp_path):
    picture, pdf = (tmp_path / os.fsdecode(b"m\xe9" + end) for end in (b".png", b".pdf"))
    shutil.copy(pictures[0], picture)
    shutil.copy(report, pdf)
    calls = [
        (lambda: folder.add_images([str(picture), pictures[0]]), 1),
        (lambda: folder.add_pdfs([pdf, report]), 2),
        (lambda: folder.add_blobs([Blob.from_path(picture), Blob.from_path(pdf), Blob.from_path(pictures[0])]), 1),
        (lambda: folder.add_documents([Document("", metadata={"image_uri": str(picture)}), Document("ok")]), 1),
    ]
    for call, n_stored in calls:
        with pytest.raises(UnstoredItems, match=r"m\\udce9.p.*(not Unicode|lone surrogate)") as caught:
            call()
        assert len(caught.value.ids) == n_stored
    assert folder.similarity_search_by_image(picture, k=1)[0].metadata["source"] == str(
        pictures[0]
    )  # to search is fine


def test_urls_of_pdfs_are_never_fetched(folder, report):
    with pytest.raises(UnstoredItems, match="is not fetched") as caught:
        folder.add_pdfs(["https://example.com/a.pdf", report])
    assert len(caught.value.ids) == 2

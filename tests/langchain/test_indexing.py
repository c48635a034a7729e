"""`langchain_core.indexing` against the store."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index


@pytest.fixture
def records():
    manager = InMemoryRecordManager(namespace="docs")
    manager.create_schema()
    return manager


def documents(*texts):
    return [Document(text, metadata={"source": text.split()[0]}) for text in texts]


def contents(store):
    return sorted(one.page_content for one in store.similarity_search("a", k=20))


def counts(result):
    return [result[key] for key in ("num_added", "num_updated", "num_skipped", "num_deleted")]


@pytest.mark.parametrize(
    "key_encoder",
    [
        pytest.param("sha1", marks=pytest.mark.filterwarnings("ignore:Using SHA-1:UserWarning")),
        "blake2b",
    ],
)
def test_incremental_replaces_what_has_changed(store, records, key_encoder):
    how = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": key_encoder}
    assert counts(index(documents("a 1", "b 1"), records, store, **how)) == [2, 0, 0, 0]
    assert counts(index(documents("a 1", "b 1"), records, store, **how)) == [0, 0, 2, 0]
    assert counts(index(documents("a 2"), records, store, **how)) == [1, 0, 0, 1]
    assert contents(store) == ["a 2", "b 1"]


def test_full_deletes_what_is_no_more(store, records):
    how = {"cleanup": "full", "key_encoder": "sha256"}
    index(documents("a 1", "b 1", "c 1"), records, store, **how)
    assert counts(index(documents("b 1", "d 1"), records, store, **how)) == [1, 0, 1, 2]
    assert contents(store) == ["b 1", "d 1"]
    assert counts(index([], records, store, **how)) == [0, 0, 0, 2]
    assert contents(store) == []


def test_it_is_the_same_in_async(store, records):
    how = {"cleanup": "full", "key_encoder": "sha256"}
    asyncio.run(aindex(documents("a 1", "b 1"), records, store, **how))
    assert counts(asyncio.run(aindex(documents("b 1"), records, store, **how))) == [0, 0, 1, 1]
    assert contents(store) == ["b 1"]


def test_images_are_indexed_as_documents(store, records, pictures):
    def images(paths):
        return [Document("", metadata={"image_uri": str(path), "source": str(path)}) for path in paths]

    how = {"cleanup": "full", "key_encoder": "sha256", "source_id_key": "source"}
    assert counts(index(images(pictures), records, store, **how)) == [3, 0, 0, 0]
    assert counts(index(images(pictures[:2]), records, store, **how)) == [0, 0, 2, 1]
    found = store.similarity_search_by_image(pictures[1], k=5)
    assert found[0].metadata["source"] == str(pictures[1])
    assert len(found) == 2


def test_options_of_adding_are_handed_on(store, records):
    index(documents("a 1"), records, store, upsert_kwargs={"task": "code"}, key_encoder="sha256", batch_size=1)
    assert store.similarity_search("a") == []
    assert len(store.similarity_search("a", task="code")) == 1

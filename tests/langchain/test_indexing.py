"""`langchain_core.indexing` against the store."""

import asyncio

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, aindex, index
from PIL import Image

from langchain_polyvec import PolyvecLoader, PolyvecVectorStore, UnstoredItems
from polyvec.pdf import PasswordError
from tests.core.pdfs import encrypted


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
    with pytest.warns(UserWarning, match="has items of the task 'code', none of the task 'retrieval'"):
        assert store.similarity_search("a") == []
    assert len(store.similarity_search("a", task="code")) == 1


def both_tasks(store):
    """The store, one of another task on the same collection, and a record manager for each."""
    code = PolyvecVectorStore(
        store.embeddings.with_task("code"), location=store.collection.client, collection_name="docs"
    )
    managers = [InMemoryRecordManager(namespace=name) for name in ("a", "b")]
    for manager in managers:
        manager.create_schema()
    return (store, managers[0]), (code, managers[1])


def test_a_task_does_not_take_over_what_another_one_has_indexed(folder):
    (store, first), (code, second) = both_tasks(folder)
    how = {"cleanup": "full", "key_encoder": "sha256"}
    index(documents("a 1", "b 1"), first, store, **how)
    with pytest.raises(UnstoredItems, match="its id is that of an item of the task 'retrieval'"):
        index(documents("a 1", "b 1"), second, code, **how)
    assert contents(store) == ["a 1", "b 1"]
    assert counts(index(documents("a 1", "b 1"), first, store, **how)) == [0, 0, 2, 0]
    assert second.list_keys() == []


def test_two_tasks_index_the_same_documents_with_ids_of_their_own(folder):
    stores = both_tasks(folder)
    for store, records in stores:
        how = {"cleanup": "full", "key_encoder": store.document_key}
        assert counts(index(documents("a 1", "b 1"), records, store, **how)) == [2, 0, 0, 0]
    for store, records in stores:
        how = {"cleanup": "full", "key_encoder": store.document_key}
        assert counts(index(documents("a 1"), records, store, **how)) == [0, 0, 1, 1]
        assert contents(store) == ["a 1"]
    (code, records) = stores[1]
    index([], records, code, cleanup="full", key_encoder=code.document_key)
    assert contents(stores[0][0]) == ["a 1"]


def test_a_loader_shows_changed_files_and_lost_pages(folder, records, tmp_path):
    def write(*colours):
        pages = [Image.new("RGB", (60, 80), colour) for colour in colours]
        pages[0].save(home / "report.pdf", save_all=True, append_images=pages[1:])

    def labels():
        return sorted(one.metadata.get("page_label", "") for one in folder.documents())

    home = tmp_path / "home"
    (home / ".hidden").mkdir(parents=True)
    for name in ("photo.png", ".hidden/other.png"):
        Image.new("RGB", (60, 80), "green").save(home / name)
    (home / "notes.txt").write_text("no picture", encoding="utf-8")
    write("red", "blue", "white")
    loader = PolyvecLoader(home)
    how = {"cleanup": "full", "key_encoder": "sha256", "source_id_key": "source"}
    assert counts(index(loader, records, folder, **how)) == [4, 0, 0, 0]
    assert labels() == ["", "1", "2", "3"]
    assert counts(index(loader, records, folder, **how)) == [0, 0, 4, 0]
    write("red", "black")
    assert counts(index(loader, records, folder, **how)) == [2, 0, 1, 3]
    assert labels() == ["", "1", "2"]
    page = next(one for one in folder.documents() if one.metadata.get("page_label") == "2")
    assert page.metadata["source"] == str(home / "report.pdf")
    assert page.metadata["page"] == 1
    (home / "broken.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"broken\.png"):
        loader.load()
    with pytest.warns(UserWarning, match="broken.png' is not loaded"):
        assert len(PolyvecLoader([home], on_error="warn").load()) == 3
    with pytest.raises(ValueError, match="`on_error` is 'skip'"):
        PolyvecLoader(home, on_error="skip")


def test_encrypted_pdfs_are_loaded_and_stored_with_their_password(tmp_path, folder, records):
    sealed = tmp_path / "sealed.pdf"
    sealed.write_bytes(encrypted(b"s3same", b"owner's", n_pages=2))
    with pytest.raises(PasswordError, match="is encrypted; pass `password=`"):
        PolyvecLoader(sealed).load()
    loader = PolyvecLoader(sealed, password="s3same")
    assert "s3same" not in f"{loader!r} {vars(loader)}"
    pages = loader.load()
    assert [page.metadata["page_label"] for page in pages] == ["1", "2"]
    assert "s3same" not in repr(pages)
    with pytest.raises(UnstoredItems, match=r"pass `password=`") as refused:
        folder.add_documents(pages)
    assert "s3same" not in str(refused.value)
    how = {"vector_store": folder, "source_id_key": "source", "key_encoder": "blake2b"}
    assert counts(index(loader, records, **how, upsert_kwargs={"password": "s3same"})) == [2, 0, 0, 0]
    assert sorted(one.metadata["unit"] for one in folder.documents()) == ["page 1", "page 2"]

"""Too little room on the disk. Its free space is a stand-in: a file system of a known size takes rights to mount it."""

import errno
from types import SimpleNamespace

import numpy as np
import pytest

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection, NoRoomError, StoreError, open_client
from qdrant_polyvec.edge import room

MIB = 2**20


@pytest.fixture
def disk(monkeypatch):
    usage = SimpleNamespace(free=100 * MIB)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    return usage


@pytest.fixture
def docs(tmp_path, disk):
    with Collection.open(tmp_path / "index", "docs", embedder=HashEncoder()) as docs:
        assert docs.add(["a fox", "an owl"], ids=["fox", "owl"]).ok == ["fox", "owl"]
        yield docs


def test_a_full_disk_is_an_error_before_anything_is_written_and_searches_go_on(docs, disk):
    disk.free = 0
    for change in (
        lambda: docs.add(["a newt"], ids=["newt"]),
        lambda: docs.delete(ids=["fox"]),
        lambda: docs.client.set_payload(docs.name, {"seen": True}, points=[1]),
        lambda: docs.client.create_collection("other", {}),
        docs.optimize,
    ):
        with pytest.raises(NoRoomError, match=r"too little room on the disk of '.*index.*': 0\.0 MiB are left, and"):
            change()
    assert [hit.id for hit in docs.search("an owl", limit=1)] == ["owl"]
    disk.free = 100 * MIB
    assert docs.count() == 2
    assert docs.add(["a newt"], ids=["newt"]).ok == ["newt"]


def test_the_report_says_what_is_stored(docs, disk):
    def texts():
        yield "a newt"
        yield "a hawk"
        disk.free = 0
        yield "a moth"

    with pytest.raises(NoRoomError) as caught:
        docs.add(texts(), batch_size=1)
    assert isinstance(caught.value, StoreError)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == errno.ENOSPC
    stored = [item.content for item in docs.get(caught.value.report.ok)]
    assert stored == ["a newt", "a hawk"][: len(stored)]
    disk.free = 100 * MIB
    assert docs.count() == 2 + len(stored)


def test_a_collection_opens_with_little_room_and_says_how_much_is_missing(tmp_path, disk, docs):
    docs.close()
    disk.free = room.OPENING - 1
    with pytest.raises(NoRoomError, match=r"8\.0 MiB are left, and opening the collection takes up to 8\.0 MiB"):
        Collection.open(tmp_path / "index", "docs", embedder=HashEncoder())
    disk.free = room.OPENING
    with Collection.open(tmp_path / "index", "docs", embedder=HashEncoder()) as opened:
        assert opened.count() == 2


def test_a_write_takes_three_times_its_vectors(tmp_path, disk):
    client = open_client(tmp_path)
    client.create_collection("plain", {"size": 2**16, "distance": "Dot"})
    point = {"id": 1, "vector": np.ones(2**16, np.float32)}
    disk.free = room.WRITING + 3 * 4 * 2**16 - 1
    with pytest.raises(NoRoomError, match=r"16\.7 MiB are left, and `upsert` takes up to 16\.8 MiB"):
        client.upsert("plain", [point])
    disk.free += 1
    client.upsert("plain", [point])
    client.close()


def test_room_is_what_files_take_not_what_they_seem_to(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(32 * MIB)
    (tmp_path / "full").write_bytes(bytes(MIB))
    assert MIB <= room.allocated(tmp_path) < 2 * MIB

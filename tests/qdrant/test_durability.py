"""What must survive: a second opener, a killed process, a forked child."""

import os
import subprocess
import sys
import textwrap

import pytest
from qdrant_client import models

from qdrant_polyvec import FolderLockedError, open_client, schema

PATIENCE = 300  # seconds for another process to start and end; on a busy disk that takes long


def struct(identity):
    return models.PointStruct(id=identity, vector={"dense": [1.0, 0.0], "late": [[1.0, 0.0]] * 4})


def python(code, *arguments, **how):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True, **how
    )


OPEN = """
    import sys
    from qdrant_polyvec import FolderLockedError, open_client
    try:
        open_client(sys.argv[1]).count("docs")
    except FolderLockedError as error:
        print(error)
"""


def test_a_second_opener_is_refused_and_harms_nothing(tmp_path):
    # The engine refuses it too, but only after it has truncated a journal: the owner's next flush would fail.
    client = open_client(tmp_path)
    schema.create(client, "docs", dense=2, late=2, metadata={})
    client.upsert("docs", [struct(i) for i in range(50)])
    shard = client._client._opened["docs"].shard
    shard.flush()
    with pytest.raises(FolderLockedError, match=r"open in another client\. Close that one first, or share it"):
        open_client(tmp_path)
    other = python(OPEN, tmp_path)
    assert repr(str(tmp_path)) in other.communicate(timeout=PATIENCE)[0]
    client.upsert("docs", [struct(i) for i in range(50, 100)])
    shard.flush()
    client.close()
    again = open_client(tmp_path)
    assert again.count("docs").count == 100
    again.close()


def test_the_clients_own_local_mode_cannot_open_the_folder_meanwhile(tmp_path):
    # Integrations build a second client from the options of the first; it must not get an empty collection.
    client = open_client(tmp_path)
    assert client.init_options["location"] is None
    code = """
        import sys
        from qdrant_client import QdrantClient
        try:
            QdrantClient(path=sys.argv[1])
        except RuntimeError as error:
            print(error)
    """
    assert "already accessed" in python(code, client.init_options["path"]).communicate(timeout=PATIENCE)[0]
    client.close()


INGEST = """
    import sys
    from qdrant_client import models
    from qdrant_polyvec import edge, open_client, schema
    edge.FLUSH_EVERY_BYTES = int(sys.argv[2])
    client = open_client(sys.argv[1])
    schema.create(client, "docs", dense=2, late=2, metadata={"made": "here"})
    for start in range(0, 1_000_000, 8):
        points = [
            models.PointStruct(id=i, vector={"dense": [1.0, i], "late": [[1.0, 0.0]] * 4}, payload={"n": i})
            for i in range(start, start + 8)
        ]
        client.upsert("docs", points)
        print(start + 8, flush=True)
"""


@pytest.mark.parametrize("flush_every", [2**28, 2_000])
def test_a_killed_process_loses_no_acknowledged_point(tmp_path, flush_every):
    process = python(INGEST, tmp_path, flush_every)
    acknowledged = 0
    while acknowledged < 200:
        acknowledged = int(process.stdout.readline())
    process.kill()
    acknowledged = max([acknowledged, *map(int, process.communicate()[0].split("\n")[:-1])])
    client = open_client(tmp_path)
    records, _ = client.scroll("docs", limit=10 * acknowledged)
    assert {record.id for record in records} >= set(range(acknowledged))
    assert all(record.payload == {"n": record.id} for record in records)
    assert client.get_collection("docs").config.metadata == {"made": "here"}
    client.close()


EXIT = """
    import sys
    from qdrant_polyvec import open_client, schema
    client = open_client(sys.argv[1])
    schema.create(client, "docs", dense=2, late=2, metadata={})

    class Watched:
        def flush(self): print("flushed")
        def close(self): print("closed")

    client._client._opened["docs"].shard = Watched()
"""


def test_the_end_of_the_process_flushes_and_closes(tmp_path):
    assert python(EXIT, tmp_path).communicate(timeout=PATIENCE)[0].split() == ["flushed", "closed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_neither_flushes_nor_unlocks(tmp_path):
    client = open_client(tmp_path)
    child = os.fork()
    if child == 0:
        client.close()
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(FolderLockedError):
        open_client(tmp_path)
    client.close()
    open_client(tmp_path).close()

"""What must survive: a second opener, a killed process, a forked child."""

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import httpx
import pytest
from qdrant_client import models

from qdrant_polyvec.clients import open_client
from qdrant_polyvec.edge.folder import FolderLockedError

VECTORS = {
    "dense": models.VectorParams(size=2, distance=models.Distance.DOT),
    "late": models.VectorParams(
        size=2,
        distance=models.Distance.DOT,
        hnsw_config=models.HnswConfigDiff(m=0),
        multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
    ),
}
PATIENCE = 300  # seconds for another process to start and end; on a busy disk that takes long


def struct(identity):
    return models.PointStruct(id=identity, vector={"dense": [1.0, 0.0], "late": [[1.0, 0.0]] * 4})


def python(code, *arguments, **how):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], stdout=subprocess.PIPE, text=True, **how
    )


OPEN = """
    import sys
    from qdrant_polyvec.edge.folder import FolderLockedError
    from qdrant_polyvec.clients import open_client
    try:
        open_client(sys.argv[1]).count("docs")
    except FolderLockedError as error:
        print(error)
"""


def test_a_second_opener_is_refused_and_harms_nothing(tmp_path):
    # The engine refuses it too, but only after it has truncated a journal: the owner's next flush would fail.
    client = open_client(tmp_path)
    client.create_collection("docs", VECTORS)
    client.upsert("docs", [struct(i) for i in range(50)])
    shard = client._client._use.index.opened["docs"].shard.engine
    shard.flush()
    other = python(OPEN, tmp_path)
    told = other.communicate(timeout=PATIENCE)[0]
    assert repr(str(tmp_path)) in told
    assert "is open in another process. Close it there first. Processes cannot share a folder" in told
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


CREATE = """
    import json, os, sys, threading
    from qdrant_client import models
    from qdrant_polyvec.edge import shard
    from qdrant_polyvec.clients import open_client
    client = open_client(sys.argv[1])
    if not client.collection_exists("docs"):
        client.create_collection(
            "docs",
            {
                "dense": models.VectorParams(size=2, distance="Dot"),
                "late": models.VectorParams(
                    size=2,
                    distance="Dot",
                    hnsw_config=models.HnswConfigDiff(m=0),
                    multivector_config=models.MultiVectorConfig(comparator="max_sim"),
                ),
            },
            sparse_vectors_config={"words": models.SparseVectorParams()},
            optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1),
            metadata={"made": "here"},
        )

    def points(start, n):
        return [
            models.PointStruct(
                id=i,
                vector={
                    "dense": [1.0, i],
                    "late": [[1.0, 0.0]] * 4,
                    "words": models.SparseVector(indices=[i % 50], values=[1.0]),
                },
                payload={"n": i},
            )
            for i in range(start, start + n)
        ]
"""
INGEST = (
    CREATE
    + """
    shard.FLUSH_EVERY_BYTES = int(sys.argv[2])
    for start in range(0, 1_000_000, 8):
        client.upsert("docs", points(start, 8))
        print(start + 8, flush=True)
"""
)


def everything_is_there(folder, n_acknowledged):
    client = open_client(folder)
    records, _ = client.scroll("docs", limit=10 * n_acknowledged, with_vectors=True)
    assert {record.id for record in records} >= set(range(n_acknowledged))
    assert all(record.payload == {"n": record.id} for record in records)
    assert all(record.vector["dense"] == [1.0, record.id] for record in records)
    assert all(record.vector["words"].indices == [record.id % 50] for record in records)
    assert client.get_collection("docs").config.metadata == {"made": "here"}
    best = client.query_points("docs", query=[0.0, 1.0], using="dense", limit=1).points
    assert best[0].id == max(record.id for record in records)
    client._client.optimize("docs")
    assert client.count("docs").count == len(records)
    client.close()


@pytest.mark.parametrize("flush_every", [2**28, 100])
def test_a_killed_process_loses_no_acknowledged_point(tmp_path, flush_every):
    process = python(INGEST, tmp_path, flush_every)
    acknowledged = 0
    while acknowledged < 200:
        acknowledged = int(process.stdout.readline())
    process.kill()
    acknowledged = max([acknowledged, *map(int, process.communicate()[0].split("\n")[:-1])])
    everything_is_there(tmp_path, acknowledged)


BUSY = (
    CREATE
    + """
    for start in range(0, 4000, 500):
        client.upsert("docs", points(start, 500))
    print("begin", flush=True)
    while True:
        if sys.argv[2] == "flush":
            client._client._use.index.opened["docs"].shard.engine.flush()
        else:
            client._client.optimize("docs", in_worker=sys.argv[2] == "worker")
        client.upsert("docs", points(0, 1000))
"""
)


@pytest.mark.parametrize("delay", [0.0, 0.1])
@pytest.mark.parametrize("call", ["flush", "optimize"])
def test_a_process_killed_while_it_flushes_or_optimizes_loses_nothing(tmp_path, call, delay):
    process = python(BUSY, tmp_path, call)
    assert process.stdout.readline() == "begin\n"
    time.sleep(delay)
    process.kill()
    process.communicate()
    everything_is_there(tmp_path, 4000)


def test_a_worker_holds_the_lock_of_its_killed_parent_until_it_has_ended(tmp_path):
    # The worker waits for a line before it ends, so that it outlives its parent for as long as the test looks.
    code = (
        CREATE
        + """
    from qdrant_polyvec.edge import optimizing
    client.upsert("docs", points(0, 4000))
    slow = os.path.join(sys.argv[1], "slow.py")
    with open(slow, "w") as file:
        file.write("import sys; from qdrant_polyvec.edge.optimizing import main; main(sys.argv[1])")
        file.write("; open(sys.argv[1] + '.optimized', 'w').close(); open(sys.argv[1] + '.pipe').read()")
    run = optimizing.subprocess.run
    os.mkfifo(str(client._client._use.index.folder.shard("docs")) + ".pipe")
    def slowly(command, **how):
        assert command[1:3] == ["-m", "qdrant_polyvec.edge.optimizing"]
        return run([command[0], slow, command[3]], **how)
    optimizing.subprocess.run = slowly
    print("begin", flush=True)
    client._client.optimize("docs", in_worker=True)
"""
    )
    process = python(code, tmp_path)
    assert process.stdout.readline() == "begin\n"
    optimized = tmp_path / "docs.edge.optimized"
    wait_until(optimized.exists)
    with pytest.raises(FolderLockedError):
        open_client(tmp_path)
    process.kill()
    process.wait()
    with pytest.raises(FolderLockedError):  # the worker goes on
        open_client(tmp_path)
    with (tmp_path / "docs.edge.pipe").open("w"):
        pass  # the worker reads nothing and ends
    process.communicate()
    wait_until(lambda: is_free(tmp_path))
    everything_is_there(tmp_path, 4000)


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_a_parent_killed_at_any_moment_of_a_workers_optimization_loses_nothing(tmp_path, delay):
    process = python(BUSY, tmp_path, "worker")
    assert process.stdout.readline() == "begin\n"
    time.sleep(delay)
    process.kill()
    process.communicate()
    wait_until(lambda: is_free(tmp_path))
    everything_is_there(tmp_path, 4000)


def test_a_killed_worker_leaves_the_collection_open_and_whole(tmp_path):
    code = (
        CREATE
        + """
    import signal, subprocess
    client.upsert("docs", points(0, 4000))
    run = subprocess.Popen.communicate
    def killing(self, *arguments, **how):
        threading.Timer(float(sys.argv[2]), self.kill).start()
        return run(self, *arguments, **how)
    subprocess.Popen.communicate = killing
    try:
        client._client.optimize("docs", in_worker=True)
    except Exception as error:
        print(type(error).__name__, error)
    client.upsert("docs", points(4000, 10))
    print(client.count("docs").count)
"""
    )
    told = python(code, tmp_path, 0.01).communicate(timeout=PATIENCE)[0]
    assert "EngineError" in told
    assert "exit status -9" in told
    assert "4010" in told
    everything_is_there(tmp_path, 4010)


def is_free(folder):
    try:
        open_client(folder).close()
    except FolderLockedError:
        return False
    return True


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


EXIT = """
    import sys
    from qdrant_client import models
    from qdrant_polyvec.clients import open_client
    client = open_client(sys.argv[1])
    client.create_collection("docs", {"d": models.VectorParams(size=2, distance="Dot")})

    class Watched:
        def flush(self): print("flushed")
        def close(self): print("closed")

    client._client._use.index.opened["docs"].shard.engine = Watched()
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
    assert "is open in another process" in python(OPEN, tmp_path).communicate(timeout=PATIENCE)[0]
    client.close()
    open_client(tmp_path).close()


FORKED = """
    import gc, os, sys
    from qdrant_client import models
    from qdrant_polyvec.clients import open_client
    client = open_client(sys.argv[1])
    client.create_collection("docs", {"d": models.VectorParams(size=2, distance="Dot")})
    client.upsert("docs", [models.PointStruct(id=i, vector={"d": [1.0, i]}) for i in range(100)])
    files = lambda: {
        os.path.join(path, name): os.stat(os.path.join(path, name)).st_mtime_ns
        for path, _, names in os.walk(sys.argv[1]) for name in names
    }
    before = files()
    child = os.fork()
    if child == 0:
        try:
            client.count("docs")
        except RuntimeError as error:
            print(error, flush=True)
        backend = client._client
        del client, backend
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    written = {name for name, when in files().items() if before.get(name) != when}
    print("child wrote", sorted(os.path.basename(name) for name in written if "wal" not in name), flush=True)
    client.upsert("docs", [models.PointStruct(id=100, vector={"d": [1.0, 1.0]})])
    print(client.count("docs").count)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_that_drops_its_copy_writes_nothing(tmp_path):
    # The engine's destructor would flush, and panic because its threads are not there.
    told = python(FORKED, tmp_path).communicate(timeout=PATIENCE)[0].splitlines()
    assert "this is its forked child. Fork before opening it" in told[0]
    assert told[1:] == ["child wrote []", "101"]


class Ports(BaseHTTPRequestHandler):
    """Answers every request, over a connection that stays open, and notes the client's port."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list] = []

    def do_GET(self):
        self.seen.append(self.client_address[1])
        body = b'{"result": {"collections": []}, "status": "ok", "time": 0.0}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ports)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = open_client(f"http://127.0.0.1:{server.server_port}", check_compatibility=False, limits=httpx.Limits())
    client.get_collections()
    child = os.fork()
    if child == 0:
        client.get_collections()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.get_collections()
    server.shutdown()
    server.server_close()
    mine, of_child, again = Ports.seen
    assert mine == again != of_child


def test_clients_of_one_process_share_a_folder(tmp_path):
    clients = [open_client(tmp_path) for _ in range(3)]
    clients[0].create_collection("docs", VECTORS)
    clients[1].upsert("docs", [struct(i) for i in range(5)])
    clients[0].close()
    clients[0].close()
    with pytest.raises(RuntimeError, match="is closed; open it again"):
        clients[0].count("docs")
    assert [client.count("docs").count for client in clients[1:]] == [5, 5]
    told = python(OPEN, tmp_path).communicate(timeout=PATIENCE)[0]
    assert "is open in another process" in told
    clients[1].close()
    del clients[2:]  # without closing it
    gc.collect()
    assert python(OPEN, tmp_path).communicate(timeout=PATIENCE)[0] == ""


def test_a_folder_is_one_by_any_name(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "index")
    first, second = open_client(tmp_path / "index"), open_client(tmp_path / "link")
    first.create_collection("docs", VECTORS)
    assert second.collection_exists("docs")
    first.close()
    second.close()


def test_threads_that_open_and_close_a_folder_do_not_close_it_for_each_other(tmp_path):
    with contextlib.closing(open_client(tmp_path)) as client:
        client.create_collection("docs", VECTORS)

    def work(number):
        for _ in range(20):
            with contextlib.closing(open_client(tmp_path)) as client:
                client.upsert("docs", [struct(number)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with contextlib.closing(open_client(tmp_path)) as client:
        assert client.count("docs").count == 4

"""An ingest that is killed at any point and called again ends with everything stored once."""

import subprocess
import sys
import textwrap
import time

from polyvec.testing import HashEncoder
from qdrant_polyvec import Collection

PATIENCE = 300  # seconds for another process to start and end; on a busy disk that takes long
N = 400

# Says which ids are acknowledged, as soon as they are; indexes a second edition if asked to.
INGEST = """
    import sys
    from polyvec.testing import HashEncoder
    from qdrant_polyvec import Collection, Item, points, upload
    from qdrant_polyvec.edge import shard
    shard.FLUSH_EVERY_BYTES = 20_000  # often, so that flushes are hit, too
    edition, n = sys.argv[2], int(sys.argv[3])
    write = upload.write
    def telling(*args, **how):
        for written in write(*args, **how):
            for point in written.ok:
                print(points.identity(point), flush=True)
            yield written
    upload.write = telling
    with Collection.open(sys.argv[1], "docs", embedder=HashEncoder(dim=16, multivector_dim=8)) as docs:
        items = (Item(f"{edition} text {i} " * 9, id=f"{edition}-{i}", source=f"book-{i % 7}") for i in range(n))
        report = docs.add(items, batch_size=10, replace_sources=True)
        print("done", len(report.ok), len(report.skipped), len(report.failed), len(report.removed))
"""


def ingest(folder, edition, n, *, kill_after=None):
    """The ids that were acknowledged, and the last line if the process was left to end."""
    command = [sys.executable, "-c", textwrap.dedent(INGEST), str(folder), edition, str(n)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        acknowledged = []
        for line in process.stdout:
            acknowledged.append(line.strip())
            if kill_after is not None and len(acknowledged) == kill_after:
                time.sleep(0.001 * (kill_after % 17))  # at different points of the next batch
                process.kill()
        process.wait(PATIENCE)
    if kill_after is None:
        assert process.returncode == 0
        return acknowledged[:-1], acknowledged[-1]
    return acknowledged, None


def test_a_killed_ingest_goes_on_where_it_stopped(tmp_path):
    acknowledged = set()
    for n_before_kill in (1, 120, 35):
        told, _ = ingest(tmp_path, "first", N, kill_after=n_before_kill)
        assert not acknowledged & set(told)  # what was acknowledged is not written again: nothing was lost
        acknowledged |= set(told)
    told, end = ingest(tmp_path, "first", N)
    _, n_ok, n_skipped, n_failed, n_removed = end.split()
    assert not acknowledged & set(told)
    assert int(n_ok) + int(n_skipped) == N
    assert int(n_skipped) >= len(acknowledged)
    assert (n_failed, n_removed) == ("0", "0")
    with Collection.open(tmp_path, "docs", embedder=HashEncoder(dim=16, multivector_dim=8)) as docs:
        assert docs.count() == N
        assert docs.verify().ok
        for i in (0, 57, N - 1):
            assert docs.search(f"first text {i}", limit=1)[0].id == f"first-{i}"


def test_a_killed_replacement_never_leaves_a_source_empty(tmp_path):
    ingest(tmp_path, "first", 70)
    for n_before_kill in (5, 64):
        ingest(tmp_path, "second", 70, kill_after=n_before_kill)
        with Collection.open(tmp_path, "docs", embedder=HashEncoder(dim=16, multivector_dim=8)) as docs:
            assert set(docs.sources()) == {f"book-{i}" for i in range(7)}
            assert docs.count() >= 70
    ingest(tmp_path, "second", 70)
    with Collection.open(tmp_path, "docs", embedder=HashEncoder(dim=16, multivector_dim=8)) as docs:
        assert docs.count() == 70
        assert {hit.id.split("-")[0] for hit in docs.search("text", limit=70)} == {"second"}

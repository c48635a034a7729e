import pickle
import sqlite3
import warnings

import numpy as np
import pytest

from polyvec import Embedder
from polyvec.encoders import vector_cache
from polyvec.encoders.cached import CachedEncoder, VectorCache
from polyvec.outcomes import Encoding
from polyvec.testing import HashEncoder


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vectors.db"


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves, and a file that is waited for only shortly."""
    now = [1000.0]
    monkeypatch.setattr(vector_cache.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(vector_cache, "_BUSY_SECONDS", 0.01)
    return now


def entry(number, size=2500):
    return f"{number}".encode(), Encoding(np.full(size, number, np.float32), None)


def kept(cache, numbers):
    found = cache.get([f"{number}".encode() for number in numbers], multivector=False)
    assert all((encoding.dense == int(key)).all() for key, encoding in found.items())
    return sorted(map(int, found))


def other_writer(path):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def test_a_limit_drops_the_entries_that_were_not_used_for_longest(path):
    cache = VectorCache(path, max_bytes=400_000)  # entries of 10 kB in pages of 4096 bytes: 12,288 each
    for number in range(20):
        cache.put([entry(number)])
    assert kept(cache, range(5)) == [0, 1, 2, 3, 4]
    for number in range(20, 36):
        cache.put([entry(number)])
        assert cache.statistics().bytes <= 400_000
    rest = kept(cache, range(5, 36))
    assert rest == list(range(36 - len(rest), 36))  # the newest
    assert 5 not in rest
    assert kept(cache, range(5)) == [0, 1, 2, 3, 4]
    assert cache.statistics().entries == len(rest) + 5


def test_entries_that_stay_in_use_are_seldom_written(path):
    cache = VectorCache(path, max_bytes=10**9)
    for number in range(20):
        cache.put([entry(number)])
    writes = []
    cache._connection().set_trace_callback(
        lambda statement: writes.append(statement) if "INSERT" in statement else None
    )
    for _ in range(9):
        kept(cache, range(20))
    assert len(writes) == 19  # each entry that is older than the newest, once
    writes.clear()
    VectorCache(path).get([b"1"], multivector=False)
    assert writes == []


def test_an_entry_larger_than_the_limit_is_dropped_at_once(path):
    cache = VectorCache(path, max_bytes=1)
    cache.put([entry(1)])
    assert (kept(cache, [1]), cache.statistics().entries) == ([], 0)


@pytest.mark.parametrize("limit", [0, -1, 1.5, True, "1 GB"])
def test_a_limit_is_a_positive_whole_number(path, limit):
    with pytest.raises(ValueError, match=r"`max_bytes` is .*; it is a whole number of bytes, at least 1"):
        VectorCache(path, max_bytes=limit)
    assert not path.exists()


def test_statistics_count_what_was_asked_for_and_what_is_there(path):
    cache = VectorCache(path)
    empty = cache.statistics()
    cache.put([entry(1), entry(2)])
    kept(cache, [1, 2, 3])
    kept(cache, [1])
    found = cache.statistics()
    assert (found.hits, found.misses, found.entries) == (3, 1, 2)
    assert 20_000 < found.bytes - empty.bytes < 40_000
    assert VectorCache(path).statistics().hits == 0


def test_clear_drops_all_entries_and_their_space(path):
    cache, other = VectorCache(path), VectorCache(path)
    cache.put([entry(number) for number in range(50)])
    assert kept(other, [7]) == [7]
    cache.clear()
    assert (kept(cache, range(50)), kept(other, [7]), cache.statistics().entries) == ([], [], 0)
    assert path.stat().st_size < 50_000
    other.put([entry(7)])
    assert kept(cache, [7]) == [7]


def test_a_file_that_another_writer_holds_is_tried_again_later(path, clock):
    cache = VectorCache(path)
    cache.put([entry(1)])
    writer = other_writer(path)
    with pytest.warns(UserWarning, match=r"cannot be written \(database is locked\); .* tried again after 60 seconds"):
        cache.put([entry(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.put([entry(3)])
        assert kept(cache, [1, 2, 3]) == [1]  # reading goes on
    writer.close()
    clock[0] += 61
    cache.put([entry(4)])
    assert kept(cache, [1, 2, 3, 4]) == [1, 4]


def test_a_file_that_another_writer_holds_does_not_prevent_loading(path, clock):
    VectorCache(path).put([entry(1)])
    writer = other_writer(path)
    with pytest.warns(UserWarning, match=r"cannot be read \(database is locked\)"):
        cache = VectorCache(path)
    assert kept(cache, [1]) == []
    writer.close()
    clock[0] += 61
    assert kept(cache, [1]) == [1]


@pytest.mark.parametrize("left", [10, 50, 70, 5000, -4096])
def test_a_file_that_is_cut_short_is_renamed_and_a_new_one_begun(path, left):
    cache = VectorCache(path)
    cache.put([entry(number) for number in range(50)])
    cache.close()
    content = path.read_bytes()[:left]
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"vectors\.db is damaged .* to .*vectors\.db\.damaged-1, and a new cache"):
        kept(VectorCache(path), range(50))
    cache.put([entry(1)])
    assert path.with_name("vectors.db.damaged-1").read_bytes()[:72] == content[:72]
    assert 1 in kept(cache, range(50))


def test_a_file_that_is_damaged_while_it_is_open_is_renamed_too(path):
    cache = VectorCache(path)
    for name in ("damaged-1", "damaged-2"):
        writer = VectorCache(path)
        writer.put([entry(number) for number in range(50)])
        writer._connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        writer.close()
        content = bytearray(path.read_bytes())
        content[4096:] = b"\xff" * (len(content) - 4096)
        path.write_bytes(content)
        with pytest.warns(UserWarning, match=name):
            assert kept(cache, range(50)) == []


def test_close_closes_all_files_and_the_next_use_opens_them(path, tiny):
    log = path.with_name("vectors.db-wal")  # SQLite removes it with the last connection
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype="float32", vector_cache=path)
    wrapped = CachedEncoder(HashEncoder(), path)
    for encoder in (embedder, wrapped):
        encoder.encode_query(["a"], task="code")
    assert log.exists()
    embedder.close()
    wrapped.close()
    assert not log.exists()
    embedder.encode_query(["a"], task="code")
    assert log.exists()
    embedder.close()


def test_a_cache_may_be_given_to_encoders_and_pickled(path, tiny):
    cache = VectorCache(path, max_bytes=10**7)
    embedder = Embedder.from_pretrained(tiny / "checkpoint", device="cpu", dtype="float32", vector_cache=cache)
    embedder.encode_query(["a"], task="code")
    CachedEncoder(HashEncoder(), cache).encode_query(["a"], task="code")
    assert (cache.statistics().misses, cache.statistics().entries) == (2, 2)
    again = pickle.loads(pickle.dumps(embedder))
    again.encode_query(["a"], task="code")
    assert (again._cache.max_bytes, again._cache.statistics().hits) == (10**7, 1)


def test_files_of_earlier_releases_are_read_and_evicted(path):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA application_id = {vector_cache._APPLICATION}")
        connection.execute(vector_cache._SCHEMA)
        for number in range(20):
            dense = vector_cache._seal(np.full(2500, number, np.float32).tobytes(), "None 900")
            connection.execute("INSERT INTO vectors VALUES (?, ?, NULL, NULL, 900)", (f"{number}".encode(), dense))
    connection.close()
    cache = VectorCache(path, max_bytes=200_000)
    assert kept(cache, range(20)) == list(range(20))
    assert cache.get([b"1"], multivector=False)[b"1"].cut
    cache.put([entry(100)])
    assert cache.statistics().bytes <= 200_000
    assert kept(cache, [100]) == [100]


def test_entries_that_an_earlier_release_puts_meanwhile_count_for_the_limit(path):
    unbounded = VectorCache(path)
    unbounded.put([entry(number) for number in range(40)])
    cache = VectorCache(path, max_bytes=200_000)
    with cache._connection() as connection:
        connection.execute("DELETE FROM uses")
    cache.put([entry(100)])
    assert cache.statistics().bytes <= 200_000


def test_the_logs_of_a_damaged_file_are_renamed_with_it(path):
    for name in ("", "-wal", "-shm", ".damaged-1"):
        path.with_name(path.name + name).write_text(name)
    aside = vector_cache._set_aside(path)
    assert aside == path.with_name("vectors.db.damaged-2")
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "vectors.db.damaged-1", "vectors.db.damaged-2", "vectors.db.damaged-2-shm", "vectors.db.damaged-2-wal",
    ]  # fmt: skip


def test_a_deleted_file_is_begun_anew(path):
    cache = VectorCache(path)
    cache.put([entry(1)])
    for file in path.parent.iterdir():
        file.unlink()
    assert kept(cache, [1]) == []
    cache.put([entry(2)])
    cache.close()
    assert kept(VectorCache(path), [1, 2]) == [2]


def test_caches_that_share_a_damaged_file_begin_one_new_file(path):
    VectorCache(path).put([entry(number) for number in range(50)])
    first, second = VectorCache(path), VectorCache(path)
    assert kept(second, [1]) == [1]
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.warns(UserWarning, match="damaged-1"):
        assert kept(first, range(50)) == []
    first.put([entry(1)])
    second.put([entry(2)])
    assert kept(first, range(50)) == kept(second, range(50)) == [1, 2]
    assert not path.with_name("vectors.db.damaged-2").exists()


def test_a_file_that_another_cache_renames_meanwhile_is_not_renamed_again(path, monkeypatch):
    first, second = VectorCache(path), VectorCache(path)
    first.put([entry(1)])
    errors = [sqlite3.DatabaseError("damaged")]
    errors[0].sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def fail_once(file):
        if errors:
            vector_cache._set_aside(path)
            first.put([entry(2)])
            raise errors.pop()
        return file.execute("SELECT key FROM vectors").fetchall()

    assert second._use(fail_once) == [(b"2",)]
    assert not path.with_name("vectors.db.damaged-2").exists()


def test_the_middle_of_the_uses_takes_no_scan(path):
    cache = VectorCache(path)
    plan = cache._connection().execute(f"EXPLAIN QUERY PLAN {vector_cache._MIDDLE}").fetchall()
    assert not any("SCAN uses" in step[3] for step in plan)
    assert sum("SEARCH uses" in step[3] for step in plan) == 2


def test_a_cache_stays_in_its_folder_when_the_working_directory_changes(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache = VectorCache(path.name)
    cache.put([entry(1)])
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert kept(cache, [1]) == [1]
    cache.close()
    assert kept(cache, [1]) == [1]
    assert not any((tmp_path / "other").iterdir())

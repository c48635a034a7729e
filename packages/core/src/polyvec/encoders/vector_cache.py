"""A file of vectors by key, for encoders that keep what they have encoded. No torch."""

import contextlib
import itertools
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from polyvec import forking
from polyvec.alarms import pass_alarm
from polyvec.inputs import whole
from polyvec.outcomes import Encoding
from polyvec.types import Grid
from polyvec.warning import warn

__all__ = ["CacheStatistics", "VectorCache"]

_SCHEMA = """CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, dense BLOB NOT NULL, multivector BLOB, grid TEXT, cut_from INTEGER
) WITHOUT ROWID"""
# When entries were last used, as a number that grows. A table of its own, whose rows are cheap to write again.
_USES = """CREATE TABLE IF NOT EXISTS uses (key BLOB PRIMARY KEY, used INTEGER NOT NULL) WITHOUT ROWID"""
_USES_INDEX = "CREATE INDEX IF NOT EXISTS uses_by_age ON uses (used)"
# Two subqueries, as SQLite reads one end of an index only for a single min or max, and otherwise all of it.
_MIDDLE = "SELECT ((SELECT min(used) FROM uses) + (SELECT max(used) FROM uses)) / 2.0"
_APPLICATION = 0x706F6C79  # SQLite's field for the program that owns the file
_MAGIC = b"SQLite format 3\0"
_BUSY_SECONDS = 60.0
_PAUSE_SECONDS = 60.0  # after a failure, until the file is tried again
_READ_KEYS = 500  # per statement: SQLite bounds the number of parameters

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache did and holds.

    Attributes:
        hits: contents that this object was asked for and had.
        misses: contents that it was asked for and did not have.
        entries: entries of the file.
        bytes: size of the entries in the file, with SQLite's own bookkeeping.
    """

    hits: int
    misses: int
    entries: int
    bytes: int


class VectorCache:
    """An SQLite file. Processes and threads may share it; a process that is killed loses only encodings not yet put.

    Dense vectors are kept at full length, so that every `truncate_dim` finds them. Each entry has a checksum, and
    damaged entries are encoded again. A file of this class that is damaged as a whole, or cut short, is renamed, with a
    warning, and a new one is begun, as it is after the file was deleted. A file that cannot be read or written now, as
    it is locked for more than a minute or the disk is full, is tried again after a minute.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | None = None) -> None:
        """Open the file; it is made if missing.

        `max_bytes` bounds the entries that the file holds: roughly the least recently used are dropped when this object
        puts more. Without it, entries are never dropped, and reading an entry does not count as a use.

        Raises:
            ValueError: the file cannot be written, or is no cache; or the limit is no positive whole number.
        """
        self._lock = forking.lock()  # reentrant, as a finaliser may run within a call
        self._open: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # the file that is open
        if max_bytes is not None and ((number := whole(max_bytes)) is None or number < 1):
            raise ValueError(f"`max_bytes` is {max_bytes!r}; it is a whole number of bytes, at least 1.")
        self.path, self.max_bytes = Path(path).absolute(), max_bytes
        self._hits = self._misses = 0
        self._read_after = self._write_after = 0.0  # on the monotonic clock
        self._inherited: sqlite3.Connection | None = None
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._use(lambda _: None)
        except (sqlite3.Error, OSError, ValueError) as error:
            pass_alarm(error)
            if not _is_busy(error):
                raise ValueError(f"`vector_cache` is {str(path)!r}, which cannot be used as one: {error}.") from error
            self._pause(error)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(VectorCache, max_bytes=self.max_bytes), (self.path,)

    @classmethod
    def of(cls, cache: "str | Path | VectorCache") -> "VectorCache":
        """Return the cache itself, or the cache in this file."""
        return cache if isinstance(cache, VectorCache) else cls(cache)

    def get(self, keys: Sequence[bytes], *, multivector: bool) -> dict[bytes, Encoding]:
        """Return cached encodings by key. Entries without multi-vectors do not count if multi-vectors are requested."""
        cached: dict[bytes, Encoding] = {}
        for start in range(0, len(keys), _READ_KEYS):
            page = keys[start : start + _READ_KEYS]
            if time.monotonic() < self._read_after:
                break
            marks = ",".join("?" * len(page))
            columns = "key, dense, multivector, grid, cut_from" if multivector else "key, dense, NULL, grid, cut_from"
            query = f"SELECT {columns} FROM vectors WHERE key IN ({marks})"  # noqa: S608 — only question marks
            try:
                rows = self._use(lambda file: file.execute(query, page).fetchall())  # noqa: B023 — called at once
            except (sqlite3.Error, OSError, ValueError) as error:
                self._pause(error)
                break
            for key, *values in rows:
                if values[1] is None and multivector:
                    continue
                try:
                    cached[key] = _read(*values)
                except (ValueError, TypeError, IndexError) as error:
                    self._drop(key)
                    warn(f"{self.path} has a damaged entry ({error}); it is encoded again.")
        with self._lock:
            self._hits += len(cached)
            self._misses += len(keys) - len(cached)
        if self.max_bytes is not None:
            self._touch(list(cached))
        return cached

    def put(self, entries: Iterable[tuple[bytes, Encoding]]) -> None:
        """Keep encodings. If that fails, as on a full disk, it warns; later calls try again after a minute."""
        rows = [_row(key, encoding) for key, encoding in entries]
        if not rows or time.monotonic() < self._write_after:
            return
        # An entry with multi-vectors replaces one without, never the other way round.
        insert = (
            "INSERT INTO vectors VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET dense = excluded.dense, "
            "multivector = excluded.multivector, cut_from = excluded.cut_from "
            "WHERE vectors.multivector IS NULL AND excluded.multivector IS NOT NULL"
        )

        def write(file: sqlite3.Connection) -> None:
            with file:
                file.executemany(insert, rows)
                _note_uses(file, [row[0] for row in rows], later=1)
                if self.max_bytes is not None:
                    _evict(file, self.max_bytes)

        try:
            self._use(write)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._pause(error, reading=False)

    def statistics(self) -> CacheStatistics:
        """Count hits and misses of this object, and entries and bytes of the file.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        n_entries, n_bytes = self._use(
            lambda file: (file.execute("SELECT count(*) FROM uses").fetchone()[0], _used_bytes(file))
        )
        return CacheStatistics(self._hits, self._misses, n_entries, n_bytes)

    def clear(self) -> None:
        """Drop all entries, and give their space back to the disk. Other processes may go on using the file.

        Raises:
            sqlite3.Error: the file cannot be written.
        """

        def empty(file: sqlite3.Connection) -> None:
            with file:
                file.execute("DELETE FROM vectors")
                file.execute("DELETE FROM uses")
            with contextlib.suppress(sqlite3.OperationalError):  # a reader is in the way; the space is used again
                file.execute("VACUUM")
                file.execute("PRAGMA wal_checkpoint(TRUNCATE)")

        self._use(empty)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._lock:
            if self._open is not None and self._process == os.getpid():
                self._open.close()
                self._open = None

    __del__ = close

    def _drop(self, key: bytes) -> None:
        with contextlib.suppress(sqlite3.Error), self._lock, self._connection() as transaction:
            transaction.execute("DELETE FROM vectors WHERE key = ?", (key,))
            transaction.execute("DELETE FROM uses WHERE key = ?", (key,))

    def _touch(self, keys: Sequence[bytes]) -> None:
        """Note the use of those entries that are in the older half; for entries that stay in use this is rare."""
        if time.monotonic() < self._write_after:
            return

        def touch(file: sqlite3.Connection) -> None:
            (middle,) = file.execute(_MIDDLE).fetchone()
            older = [
                key
                for key in keys
                if file.execute("SELECT 1 FROM uses WHERE key = ? AND used < ?", (key, middle)).fetchone()
            ]
            if older:
                with file:
                    _note_uses(file, older, later=0)  # only puts count, so that entries that are read settle

        try:
            self._use(touch)
        except (sqlite3.Error, OSError, ValueError) as error:
            self._pause(error, reading=False)

    def _use(self, action: Callable[[sqlite3.Connection], _Result]) -> _Result:
        """Call with the open file. A damaged file is renamed, and a new one begun."""
        with self._lock:
            file = _identity(self.path)
            try:
                return action(self._connection())
            except sqlite3.DatabaseError as error:
                if _code(error) not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    raise
                self.close()
                if _identity(self.path) == file:  # otherwise another user of the cache has renamed it meanwhile
                    if not _is_ours(self.path):
                        raise
                    aside = _set_aside(self.path)
                    warn(f"{self.path} is damaged ({error}). It was renamed to {aside}, and a new cache is begun.")
                return action(self._connection())

    def _pause(self, error: Exception, *, reading: bool = True) -> None:
        """Warn, and leave the file alone for a while. An error of the caller's signal handler is raised again."""
        pass_alarm(error)
        self._write_after = time.monotonic() + _PAUSE_SECONDS
        if reading:
            self._read_after = self._write_after
        verb, effect = ("read", "everything is encoded again") if reading else ("written", "vectors are not kept")
        warn(f"{self.path} cannot be {verb} ({error}); {effect}. It is tried again after {_PAUSE_SECONDS:.0f} seconds.")

    def _connection(self) -> sqlite3.Connection:
        if self._file != _identity(self.path):  # renamed, as it was damaged, or deleted: nobody would find its entries
            self.close()
        if self._open is None or self._process != os.getpid():
            self._inherited = self._open  # a forked child must neither use nor close it
            self._open, self._process = _connect(self.path), os.getpid()
            self._file = _identity(self.path)
        return self._open


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        _prepare(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != _APPLICATION and (owner or n_tables):
            raise ValueError("it is a database of another program; name another file")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        for statement in (_SCHEMA, _USES, _USES_INDEX):
            connection.execute(statement)
        if connection.execute("SELECT NOT EXISTS (SELECT 1 FROM uses)").fetchone()[0]:
            _note_uses_of_all(connection)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:  # another process is setting the same mode
        if "locked" not in str(error):
            raise
    connection.execute("PRAGMA synchronous = NORMAL")


def _note_uses(file: sqlite3.Connection, keys: Sequence[bytes], *, later: int) -> None:
    """Make these entries as recently used as the newest ones, or later."""
    (newest,) = file.execute("SELECT ifnull(max(used), 0) FROM uses").fetchone()
    statement = "INSERT INTO uses VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET used = excluded.used"
    file.executemany(statement, [(key, newest + later) for key in keys])


def _note_uses_of_all(file: sqlite3.Connection) -> int:
    """Note entries of earlier releases, which noted no uses, as the oldest; return their number."""
    return file.execute("INSERT OR IGNORE INTO uses SELECT key, 0 FROM vectors").rowcount


def _evict(file: sqlite3.Connection, max_bytes: int) -> None:
    """Drop the least recently used entries until the file holds at most `max_bytes`."""
    while _used_bytes(file) > max_bytes:
        oldest = file.execute("SELECT key FROM uses ORDER BY used LIMIT 1").fetchone()
        if oldest is None:
            if _note_uses_of_all(file) == 0:
                return
            continue
        file.execute("DELETE FROM vectors WHERE key = ?", oldest)
        file.execute("DELETE FROM uses WHERE key = ?", oldest)


def _used_bytes(file: sqlite3.Connection) -> int:
    size, n_pages, n_free = (
        file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return int(size * (n_pages - n_free))


def _code(error: BaseException) -> int:
    """Return SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: BaseException) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return numbers that tell which file a path leads to; None if it leads to none."""
    try:
        status = path.stat()
    except OSError as error:
        pass_alarm(error)
        return None
    return status.st_dev, status.st_ino


def _is_ours(path: Path) -> bool:
    """True if a damaged file begins as a cache does, as far as it goes."""
    with path.open("rb") as file:
        head = file.read(72)
    return head[:16] == _MAGIC[: len(head)] and _APPLICATION.to_bytes(4).startswith(head[68:])


def _set_aside(path: Path) -> Path:
    """Rename a file and its logs, and return the new name."""
    names = (path.with_name(f"{path.name}.damaged-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    for log in ("-wal", "-shm"):  # SQLite would apply them to the new file
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + log).rename(aside.with_name(aside.name + log))
    return aside


def _row(key: bytes, encoding: Encoding) -> tuple[bytes, bytes, bytes | None, str | None, int | None]:
    tokens = encoding.multivector
    grid = None if encoding.grid is None else f"{encoding.grid.rows},{encoding.grid.columns},{encoding.grid.start}"
    cut_from = 1 if encoding.cut else None
    dense = _seal(encoding.dense.tobytes(), f"{grid} {cut_from}")
    # The row length comes first, as an empty matrix has no bytes to infer it from.
    multivector = None if tokens is None else _seal(np.uint32(tokens.shape[1]).tobytes() + tokens.tobytes())
    return key, dense, multivector, grid, cut_from


def _read(dense: bytes, multivector: bytes | None, grid: str | None, cut_from: int | None) -> Encoding:
    """Parse the columns that `_row` made. Damaged columns raise ValueError, TypeError or IndexError."""
    numbers = np.frombuffer(_unseal(dense, f"{grid} {cut_from}"), np.float32).copy()
    tokens = None
    if multivector is not None:
        content = _unseal(multivector)
        width = int(np.frombuffer(content[:4], np.uint32)[0])
        tokens = np.frombuffer(content, np.float32, offset=4).reshape(-1, width).copy()
    return Encoding(numbers, tokens, None if grid is None else Grid(*map(int, grid.split(","))), cut_from is not None)


def _seal(content: bytes, label: str = "") -> bytes:
    """Put a checksum of the content and of the other columns, `label`, in front of the content."""
    return zlib.crc32(content, zlib.crc32(label.encode())).to_bytes(4, "little") + content


def _unseal(sealed: bytes, label: str = "") -> bytes:
    if sealed != _seal(sealed[4:], label):
        raise ValueError("its checksum is wrong")
    return sealed[4:]

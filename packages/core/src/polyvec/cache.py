"""Vectors kept on disk between calls and processes, by content and by everything that determines them."""

import contextlib
import hashlib
import os
import sqlite3
import threading
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from polyvec.chunking import Span
from polyvec.encoding import Encoding, Options, Outcome, Request, Runner
from polyvec.images import check_regular, open_image
from polyvec.types import Grid, ImageInput

_SCHEMA = """CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, dense BLOB NOT NULL, multivector BLOB, grid TEXT, cut_from INTEGER
) WITHOUT ROWID"""
_APPLICATION = 0x706F6C79  # SQLite's place for saying whose file it is
_BUSY_SECONDS = 60.0
_PUT_TOGETHER = 64  # encodings per transaction: what a kill can lose
_READ_KEYS = 500  # per statement: SQLite bounds the number of parameters


class VectorCache:
    """An SQLite file. Processes and threads may share it; a process that is killed loses what it had not yet put.

    Dense vectors are kept at full length, so that every `truncate_dim` finds them. What has been put is never dropped;
    to empty the cache, delete the file while no process has it open. An entry that the disk has damaged is noticed by
    its checksum and encoded anew.

    Raises:
        ValueError: the file cannot be written, or is no cache.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.RLock()  # a finaliser may run anywhere, also within a call
        self._full = False
        self._open: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection()
        except (sqlite3.Error, OSError, ValueError) as error:
            raise ValueError(f"`vector_cache` is {str(path)!r}, which cannot be used as one: {error}.") from error

    def get(self, keys: Sequence[bytes], *, multivector: bool) -> dict[bytes, Encoding]:
        """What is there of `keys`; entries without multi-vectors do not count where those are asked for."""
        found: dict[bytes, Encoding] = {}
        for start in range(0, len(keys), _READ_KEYS):
            some = keys[start : start + _READ_KEYS]
            marks = ",".join("?" * len(some))
            columns = "key, dense, multivector, grid, cut_from" if multivector else "key, dense, NULL, grid, cut_from"
            query = f"SELECT {columns} FROM vectors WHERE key IN ({marks})"  # noqa: S608 — nothing but marks
            try:
                with self._lock:
                    rows = self._connection().execute(query, some).fetchall()
            except sqlite3.Error as error:
                warnings.warn(f"{self.path} cannot be read ({error}); everything is encoded anew.", stacklevel=5)
                return found
            for key, *values in rows:
                if values[1] is None and multivector:
                    continue
                try:
                    found[key] = _read(*values)
                except (ValueError, TypeError, IndexError) as error:
                    self._drop(key)
                    warnings.warn(f"{self.path} has a damaged entry ({error}); it is encoded anew.", stacklevel=5)
        return found

    def put(self, entries: Iterable[tuple[bytes, Encoding]]) -> None:
        """Keep encodings. When that fails, as on a full disk, it warns and keeps nothing more; nothing else is lost."""
        if self._full:
            return
        rows = [_row(key, encoding) for key, encoding in entries]
        # An entry with multi-vectors replaces one without, never the other way round.
        insert = (
            "INSERT INTO vectors VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET dense = excluded.dense, "
            "multivector = excluded.multivector, cut_from = excluded.cut_from "
            "WHERE vectors.multivector IS NULL AND excluded.multivector IS NOT NULL"
        )
        try:
            with self._lock, self._connection() as transaction:
                transaction.executemany(insert, rows)
        except sqlite3.Error as error:
            self._full = True
            warnings.warn(
                f"{self.path} cannot be written ({error}); this embedder goes on without keeping vectors.", stacklevel=5
            )

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

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._process != os.getpid():
            self._inherited = self._open  # by a fork: a child must neither use nor close it
            self._open, self._process = _connected(self.path), os.getpid()
        return self._open


class CachedRunner:
    """A runner that runs only what the cache does not have, and keeps what it ran.

    Args:
        runner: what runs the rest.
        cache: where vectors are kept.
        model: everything that determines vectors beside a request and its options: weights, dtype, image rules.
    """

    def __init__(self, runner: Runner, cache: VectorCache, model: str) -> None:
        self._runner, self._cache, self._model = runner, cache, model

    def run(self, requests: Sequence[Request], options: Options) -> Iterator[tuple[int, Outcome]]:
        """See `polyvec.encoding.Runner`."""
        stamps = [_stamp(request) for request in requests]
        keys = [content_key(request, options, self._model) for request in requests]
        found = self._cache.get([key for key in set(keys) if key], multivector=options.multivector)
        yield from ((index, found[key]) for index, key in enumerate(keys) if key in found)
        missing = [index for index, key in enumerate(keys) if key not in found]
        del found
        fresh: list[tuple[bytes, Encoding]] = []
        try:
            for place, outcome in self._runner.run([requests[index] for index in missing], options):
                index = missing[place]
                unchanged = stamps[index] == _stamp(requests[index])  # or another content has the key
                if (key := keys[index]) and isinstance(outcome, Encoding) and unchanged:
                    fresh.append((key, outcome))
                    if len(fresh) == _PUT_TOGETHER:
                        self._cache.put(fresh)
                        fresh = []
                yield index, outcome
        finally:
            self._cache.put(fresh)

    def chunks(self, request: Request, spans: Sequence[Span], options: Options, overlap: int | None) -> list[Encoding]:
        """See `polyvec.encoding.Runner`; when one span of a text is missing, all of them are encoded."""
        text = content_key(request, options, self._model)
        assert text is not None, "the text has been checked"
        keys = [hashlib.sha256(text + f"{start} {end} {overlap}".encode()).digest() for start, end in spans]
        found = self._cache.get(list(set(keys)), multivector=options.multivector)
        if all(key in found for key in keys):
            return [found[key] for key in keys]
        encodings = self._runner.chunks(request, spans, options, overlap)
        self._cache.put(zip(keys, encodings, strict=True))
        return encodings


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (n_tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if owner != _APPLICATION and (owner or n_tables):
            raise ValueError("it is a database of another program; name another file")
        connection.execute(f"PRAGMA application_id = {_APPLICATION}")
        connection.execute(_SCHEMA)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:  # another process is at it; the mode then is as it should be
        if "locked" not in str(error):
            raise
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def content_key(request: Request, options: Options, model: str) -> bytes | None:
    """32 bytes that differ when the vectors may differ; None where the item cannot be read.

    Args:
        request: the item and what it is encoded for.
        options: limits of the call; only those that touch the item count.
        model: everything about weights, dtype and image rules.
    """
    digest = hashlib.sha256(f"{model}\0{request.adapter}\0".encode())
    item = request.item
    try:
        if isinstance(item, str):
            digest.update(f"text\0{options.max_length}\0{request.prefix}\0".encode() + item.encode())
        else:
            digest.update(f"image\0{options.max_pixels}\0".encode() + _content(item))
    except (ValueError, OSError):
        return None
    return digest.digest()


def _content(image: ImageInput) -> bytes:
    """A file by its bytes, an array by its own; anything else by the upright RGB pixels that it is."""
    if isinstance(image, Path):
        check_regular(image)
        with image.open("rb") as file:
            return b"file" + hashlib.file_digest(file, "sha256").digest()
    if isinstance(image, bytes):
        return b"file" + hashlib.sha256(image).digest()
    if isinstance(image, np.ndarray):
        return f"{image.shape} {image.dtype.str}".encode() + hashlib.sha256(image.tobytes()).digest()
    picture = open_image(image)
    return f"{picture.width}×{picture.height}".encode() + hashlib.sha256(picture.tobytes()).digest()


def _stamp(request: Request) -> object:
    """What differs once a file has been written again; None for what is no file."""
    if not isinstance(request.item, Path):
        return None
    try:
        status = request.item.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _row(key: bytes, encoding: Encoding) -> tuple[bytes, bytes, bytes | None, str | None, int | None]:
    tokens = encoding.multivector
    grid = None if encoding.grid is None else f"{encoding.grid.rows},{encoding.grid.columns},{encoding.grid.start}"
    dense = encoding.dense.tobytes()
    return (
        key,
        _checksum(dense, grid, encoding.cut_from) + dense,
        # The length of a row stands in front, as an empty matrix would not tell it.
        None if tokens is None else _sealed(np.uint32(tokens.shape[1]).tobytes() + tokens.tobytes()),
        grid,
        encoding.cut_from,
    )


def _read(dense: bytes, multivector: bytes | None, grid: str | None, cut_from: int | None) -> Encoding:
    """What `_row` wrote.

    Raises:
        ValueError, TypeError, IndexError: it is something else.
    """
    if dense[:4] != _checksum(dense[4:], grid, cut_from):
        raise ValueError("its checksum is wrong")
    tokens = None
    if multivector is not None:
        content = _opened(multivector)
        width = int(np.frombuffer(content[:4], np.uint32)[0])
        tokens = np.frombuffer(content, np.float32, offset=4).reshape(-1, width).copy()
    return Encoding(
        np.frombuffer(dense, np.float32, offset=4).copy(),
        tokens,
        None if grid is None else Grid(*map(int, grid.split(","))),
        cut_from,
    )


def _checksum(dense: bytes, grid: str | None, cut_from: int | None) -> bytes:
    return zlib.crc32(dense, zlib.crc32(f"{grid} {cut_from}".encode())).to_bytes(4, "little")


def _sealed(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little") + content


def _opened(sealed: bytes) -> bytes:
    if sealed[:4] != zlib.crc32(sealed[4:]).to_bytes(4, "little"):
        raise ValueError("its checksum is wrong")
    return sealed[4:]

"""An encoder that keeps its vectors on disk, by content and by everything else that determines them. No torch."""

import contextlib
import hashlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from tqdm import tqdm

from polyvec import forking
from polyvec.alarms import pass_alarm
from polyvec.content import content_key
from polyvec.encoder import EncodeOptions, Encoder, attempt
from polyvec.images import file_stamp
from polyvec.inputs import check_options, check_side, check_tasks, checked_items, checked_size
from polyvec.outcomes import Encoding, Outcome, collect, once_each
from polyvec.types import Embeddings, Grid, Input, Side
from polyvec.warning import warn

__all__ = ["CachedEncoder", "VectorCache"]

_SCHEMA = """CREATE TABLE IF NOT EXISTS vectors (
    key BLOB PRIMARY KEY, dense BLOB NOT NULL, multivector BLOB, grid TEXT, cut_from INTEGER
) WITHOUT ROWID"""
_APPLICATION = 0x706F6C79  # SQLite's field for the program that owns the file
_BUSY_SECONDS = 60.0
_PUT_TOGETHER = 64  # encodings per transaction, which are lost if the process is killed
_READ_KEYS = 500  # per statement: SQLite bounds the number of parameters
_ENCODED_TOGETHER = 512  # items per call of a wrapped encoder


class VectorCache:
    """An SQLite file. Processes and threads may share it; a process that is killed loses only encodings not yet put.

    Dense vectors are kept at full length, so that every `truncate_dim` finds them. Entries are never dropped; to empty
    the cache, delete the file while no process has it open. Each entry has a checksum, and damaged entries are encoded
    again.

    Raises:
        ValueError: the file cannot be written, or is no cache.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = forking.lock()  # reentrant, as a finaliser may run within a call
        self._full = False
        self._open: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        self._process = os.getpid()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection()
        except (sqlite3.Error, OSError, ValueError) as error:
            pass_alarm(error)
            raise ValueError(f"`vector_cache` is {str(path)!r}, which cannot be used as one: {error}.") from error

    def get(self, keys: Sequence[bytes], *, multivector: bool) -> dict[bytes, Encoding]:
        """Return cached encodings by key. Entries without multi-vectors do not count if multi-vectors are requested."""
        cached: dict[bytes, Encoding] = {}
        for start in range(0, len(keys), _READ_KEYS):
            page = keys[start : start + _READ_KEYS]
            marks = ",".join("?" * len(page))
            columns = "key, dense, multivector, grid, cut_from" if multivector else "key, dense, NULL, grid, cut_from"
            query = f"SELECT {columns} FROM vectors WHERE key IN ({marks})"  # noqa: S608 — only question marks
            try:
                with self._lock:
                    rows = self._connection().execute(query, page).fetchall()
            except sqlite3.Error as error:
                warn(f"{self.path} cannot be read ({error}); everything is encoded again.")
                return cached
            for key, *values in rows:
                if values[1] is None and multivector:
                    continue
                try:
                    cached[key] = _read(*values)
                except (ValueError, TypeError, IndexError) as error:
                    self._drop(key)
                    warn(f"{self.path} has a damaged entry ({error}); it is encoded again.")
        return cached

    def put(self, entries: Iterable[tuple[bytes, Encoding]]) -> None:
        """Keep encodings. If that fails, as on a full disk, it warns, and this and later calls keep nothing."""
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
            warn(f"{self.path} cannot be written ({error}); this embedder goes on without keeping vectors.")

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
            self._inherited = self._open  # a forked child must neither use nor close it
            self._open, self._process = _connect(self.path), os.getpid()
        return self._open


class CachedEncoder(Encoder):
    """An encoder that encodes only inputs that are not in the cache, and keeps their vectors there.

    `Embedder.from_pretrained(..., vector_cache=path)` is the short form for an `Embedder`; both read and write the same
    entries. Dense vectors are kept at full length, so that every `truncate_dim` finds them.
    """

    def __init__(self, encoder: Encoder, path: str | Path) -> None:
        """Wrap an encoder. `path` is an SQLite file, made if missing. Several encoders may share it.

        Raises:
            ValueError: the file cannot be written, or belongs to another program.
        """
        self.encoder, self._cache = encoder, VectorCache(path)
        self.dim, self.multivector_dim = encoder.dim, encoder.multivector_dim
        self.sizes, self.license = encoder.sizes, encoder.license

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.encoder, self._cache.path)

    @property
    def fingerprint(self) -> str:  # type: ignore[override]  # it changes with loaded adapters
        """The fingerprint of the wrapped encoder."""
        return self.encoder.fingerprint

    @property
    def tasks(self) -> tuple[str, ...]:  # type: ignore[override]  # as `fingerprint`
        """The tasks of the wrapped encoder."""
        return self.encoder.tasks

    def close(self) -> None:
        """Close the cache's file and the wrapped encoder; the next call opens them again."""
        self._cache.close()
        self.encoder.close()

    def cache_scope(self, kind: Literal["text", "image"], *, side: Side, task: str, options: EncodeOptions) -> str:
        """Return the cache scope of the wrapped encoder; see `Encoder.cache_scope`."""
        return self.encoder.cache_scope(kind, side=side, task=task, options=options)

    def encode(
        self, inputs: Iterable[Input], *, side: Side, task: str | Iterable[str], **options: Unpack[EncodeOptions]
    ) -> Embeddings:
        """Take vectors from the cache, and encode the missing inputs; see `Encoder.encode`."""
        check_side(side)
        check_options(options, EncodeOptions.__annotations__)
        size = checked_size(options.pop("truncate_dim", None), self.dim, self.sizes)
        show_progress = options.pop("show_progress", False)
        multivector = options.get("multivector", False) and self.multivector_dim > 0
        items = checked_items(inputs)
        tasks = check_tasks(task, len(items), self.tasks)
        scope = cache(partial(self.cache_scope, side=side, options=options))
        pairs = zip(items, tasks, strict=True)
        scopes = [scope("text" if isinstance(item, str) else "image", task=name) for item, name in pairs]

        def run(missing: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
            for start in range(0, len(missing), _ENCODED_TOGETHER):
                part = missing[start : start + _ENCODED_TOGETHER]
                encode = partial(self.encoder.encode, side=side, task=[tasks[index] for index in part], **options)
                part_result = attempt(encode, [items[index] for index in part])
                for row, position in enumerate(part_result.kept):
                    yield start + position, _encoding(part_result.embeddings, row)
                yield from ((start + failure.index, failure.reason) for failure in part_result.failures)

        outcomes = cached_outcomes(self._cache, items, scopes, run, multivector=multivector)
        with tqdm(total=len(items), desc="Encoding", unit="item", disable=not show_progress) as bar:
            collected, _ = collect(
                outcomes,
                len(items),
                dim=size,
                multivector=multivector,
                fingerprint=self.fingerprint,
                done=bar.update,
            )
        return collected.result()


def cached_outcomes(
    cache: VectorCache,
    items: Sequence[Input],
    scopes: Sequence[str],
    run: Callable[[Sequence[int]], Iterator[tuple[int, Outcome]]],
    *,
    multivector: bool,
) -> Iterator[tuple[int, Outcome]]:
    """Yield each item's index and outcome: first cached items, then the missing items, which are put in the cache.

    `run` encodes items, given their indices, each content once; it yields positions in the list of indices, and
    outcomes. Each item has a scope; see `Encoder.cache_scope`.
    """
    stamps = [file_stamp(item) if isinstance(item, Path) else None for item in items]
    keys = [content_key(item, scope) for item, scope in zip(items, scopes, strict=True)]

    def look_up(indices: Sequence[int]) -> Iterator[tuple[int, Outcome]]:
        cached = cache.get([key for index in indices if (key := keys[index])], multivector=multivector)
        missing = [position for position, index in enumerate(indices) if keys[index] not in cached]
        yield from ((position, cached[key]) for position, index in enumerate(indices) if (key := keys[index]) in cached)
        del cached
        fresh: list[tuple[bytes, Encoding]] = []
        try:
            for number, outcome in run([indices[position] for position in missing]):
                index = indices[missing[number]]
                item, key = items[index], keys[index]
                # If a file has changed since, its key is of other content.
                changed = isinstance(item, Path) and stamps[index] != file_stamp(item)
                if key and isinstance(outcome, Encoding) and not changed:
                    fresh.append((key, outcome))
                    if len(fresh) == _PUT_TOGETHER:
                        cache.put(fresh)
                        fresh = []
                yield missing[number], outcome
        finally:
            cache.put(fresh)

    return once_each(keys, look_up)


def span_key(text_key: bytes, span: tuple[int, int], overlap: int | None) -> bytes:
    """Return the key of a span of a text, for late chunking."""
    return hashlib.sha256(text_key + f"{span[0]} {span[1]} {overlap}".encode()).digest()


def _encoding(embeddings: Embeddings, row: int) -> Encoding:
    tokens = None if embeddings.multivector is None else np.asarray(embeddings.multivector[row], np.float32)
    return Encoding(np.asarray(embeddings.dense[row], np.float32), tokens, embeddings.grids[row])


def _connect(path: Path) -> sqlite3.Connection:
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
    except sqlite3.OperationalError as error:  # another process is setting the same mode
        if "locked" not in str(error):
            raise
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


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

"""A file of answers by key: whoever is killed loses no answer that was paid for. SQLite and JSON, no pickle."""

import hashlib
import json
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

__all__ = ["AnswerCache", "key_of"]

_APPLICATION = 0x706F6C71  # SQLite's field for the program that owns the file
_VERSION = 1  # SQLite's field for the user: of the table and the values
_BUSY_SECONDS = 60.0


class AnswerCache:
    """Values by key in an SQLite file, which threads and processes may share. Each value is on disk when `put` returns.

    Values are what JSON can say. A process may be killed at any time; a failure of power may cost the last values.
    """

    def __init__(self, path: str | Path | None) -> None:
        """Open the file; it is made if missing. Without a path, a file is used that ends with the process.

        Raises:
            ValueError: the file cannot be used.
        """
        self._lock, self._path = threading.Lock(), path
        try:
            if path is not None:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path or "", timeout=_BUSY_SECONDS, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._file.close()
                raise
        except (sqlite3.Error, OSError, ValueError) as error:
            raise ValueError(self._fault(error)) from error

    def get(self, key: bytes) -> dict[str, Any] | None:
        """Return a value; None if there is none.

        Raises:
            OSError: the file is damaged.
        """
        try:
            with self._lock:
                row = self._file.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            value: dict[str, Any] | None = None if row is None else json.loads(row[0])
        except (sqlite3.Error, ValueError) as error:
            raise OSError(self._fault(error)) from error
        return value

    def put(self, key: bytes, value: dict[str, Any]) -> None:
        """Keep a value.

        Raises:
            OSError: the file cannot be written.
        """
        text = json.dumps(value)  # all ASCII: SQLite takes no lone surrogates
        try:
            with self._lock, self._file:
                self._file.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, text))
        except sqlite3.Error as error:
            raise OSError(self._fault(error)) from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()

    def __del__(self) -> None:
        if hasattr(self, "_file"):  # it could be opened
            self.close()

    def _fault(self, error: Exception) -> str:
        return f"`cache` is {str(self._path)!r}, which cannot be used for answers: {error}. Name another file."

    def _prepare(self) -> None:
        with closing(self._file.cursor()) as cursor, self._file:
            cursor.execute("BEGIN IMMEDIATE")
            (owner,) = cursor.execute("PRAGMA application_id").fetchone()
            (n_tables,) = cursor.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if owner != _APPLICATION and (owner or n_tables):
                raise ValueError("it is a database of another program")
            (version,) = cursor.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise ValueError("a newer version of polyvec wrote it")
            cursor.execute(f"PRAGMA user_version = {_VERSION}")
            cursor.execute(f"PRAGMA application_id = {_APPLICATION}")
            cursor.execute("CREATE TABLE IF NOT EXISTS answers (key BLOB PRIMARY KEY, value TEXT NOT NULL)")
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = NORMAL")


def key_of(*parts: str) -> bytes:
    """Return a key that differs if any part differs."""
    return hashlib.sha256(json.dumps(parts).encode()).digest()

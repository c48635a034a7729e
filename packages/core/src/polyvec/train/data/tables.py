"""Rows of training data at random access: lines of text, Arrow files of `datasets`, or mappings in memory."""

import codecs
import hashlib
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Int64
from tqdm import tqdm

from polyvec.alarms import pass_alarm
from polyvec.data.rows import tab_cells
from polyvec.images import file_stamp
from polyvec.train.data.bad_rows import Report, RowError

__all__ = ["RawRow", "Table", "digest_of", "first_columns", "open_table", "read_all", "table_of"]

RawRow = Mapping[str, Any]  # Any: values of JSON or Arrow, not checked yet

_BLOCK = 1 << 24  # bytes
_ROWS_AT_A_TIME = 64  # of Arrow files; some have images of a megabyte
_LINE_FEED = 10
_DELAY = 1  # second without a progress bar


class Table(Protocol):
    """Rows by their index. Reading one reads no others.

    Attributes:
        name: what messages call it: the name of its file.
        folder: where relative paths in its rows start.
        digest: SHA-256 of the files, in hexadecimal digits; empty for rows in memory.
    """

    name: str
    folder: Path
    digest: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> RawRow: ...

    def rows(self) -> Iterator[RawRow | RowError | None]:
        """Yield all rows in order: also what is wrong with a row that is none, and None for a blank line."""
        ...

    def place(self, index: int) -> str:
        """Say where a row stands: the name and the number of its line, from 1."""
        ...


class Lines:
    """The lines of a text file. In memory is only where each of them begins, 8 bytes a line."""

    def __init__(self, path: Path, parse: Callable[[str], RawRow], *, n_header: int = 0, show_progress: bool) -> None:
        self.path, self.name, self.folder = path, str(path), path.parent
        self._parse, self._n_header = parse, n_header
        self._stamp = file_stamp(path)
        self._ends, self.digest = _index(path, show_progress=show_progress)

    def __len__(self) -> int:
        return max(0, len(self._ends) - self._n_header)

    def __getitem__(self, index: int) -> RawRow:
        line = range(len(self))[index] + self._n_header
        start = int(self._ends[line - 1]) if line else 0
        with self.path.open("rb") as file:
            if file_stamp(self.path) != self._stamp:
                raise RowError("the file was changed while it was in use", str(self.path))
            file.seek(start)
            row = self._row(file.read(int(self._ends[line]) - start))
        if isinstance(row, RowError):
            raise row
        return row or {}

    def rows(self) -> Iterator[RawRow | RowError | None]:
        with self.path.open("rb") as file:
            for _ in range(self._n_header):
                file.readline()
            yield from map(self._row, file)

    def place(self, index: int) -> str:
        return f"{self.name}:{index + 1 + self._n_header}"

    def _row(self, line: bytes) -> RawRow | RowError | None:
        if not line.strip():
            return None
        try:
            return self._parse(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            return RowError("the line is no UTF-8", f"byte {error.start} of the line")
        except RowError as error:
            return error


class Mappings:
    """Rows in memory."""

    digest = ""

    def __init__(self, rows: Sequence[Any], *, name: str, folder: Path) -> None:
        self._rows, self.name, self.folder = rows, name, folder

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> RawRow:
        row: RawRow = self._rows[index]
        return row

    def rows(self) -> Iterator[RawRow | RowError | None]:
        for row in self._rows:
            yield row if isinstance(row, Mapping) else RowError("the row is no mapping", reprlib.repr(row))

    def place(self, index: int) -> str:
        return f"{self.name}:{index + 1}"


class ArrowRows:
    """A `datasets.Dataset`: files mapped into memory. Images stay the bytes that they are."""

    def __init__(self, dataset: Any, *, name: str, folder: Path, digest: str = "") -> None:  # Any: an optional extra
        self.dataset = dataset.with_format("arrow")
        self.name, self.folder, self.digest = name, folder, digest

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> RawRow:
        rows: list[RawRow] = self.dataset[[range(len(self))[index]]].to_pylist()
        return rows[0]

    def rows(self) -> Iterator[RawRow | RowError | None]:
        for start in range(0, len(self), _ROWS_AT_A_TIME):
            yield from self.dataset[start : start + _ROWS_AT_A_TIME].to_pylist()

    def place(self, index: int) -> str:
        return f"{self.name}:{index + 1}"


def table_of(rows: Any, *, name: str, folder: Path) -> Table:  # Any: mappings, or a `datasets.Dataset`
    """Take rows in memory as a table."""
    if hasattr(rows, "with_format"):
        return ArrowRows(rows, name=name, folder=folder)
    return Mappings(rows, name=name, folder=folder)


def first_columns(table: Table) -> list[str]:
    """Return the columns of the first row, also those that are null there.

    Raises:
        ValueError: there is no row; the message says what is there instead.
    """
    problem = ""
    for index, row in enumerate(table.rows()):
        if isinstance(row, RowError):
            problem = problem or f" ({table.place(index)}: {row})"
        elif row is not None:
            return list(row)
    raise ValueError(f"{table.name} has no row to read{problem}.")


def read_all(table: Table, report: Report, *, show_progress: bool) -> Iterator[tuple[int, RawRow]]:
    """Yield all rows with their index. Those that are none are counted as bad rows."""
    rows = tqdm(table.rows(), table.name, len(table), unit="row", delay=_DELAY, disable=not show_progress)
    for index, row in enumerate(rows):
        if row is None:
            continue
        report.n_rows += 1
        if isinstance(row, RowError):
            report.add_bad(row, table.place(index))
        else:
            yield index, row


def open_table(path: Path, *, show_progress: bool = False) -> Table:
    """Open JSON Lines, a file of values between tabs, a Parquet file, a folder of them, or a folder of `save_to_disk`.

    Raises:
        ValueError: the file is missing, or of another kind.
        ImportError: `datasets` is needed and not installed.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.is_file():
        raise ValueError(f"the file {str(path)!r} does not exist, or is no regular file.")
    if path.suffix in (".jsonl", ".json", ".ndjson"):
        _check_lines(path)
        return Lines(path, _json_object, show_progress=show_progress)
    if path.suffix in (".tsv", ".txt", ".csv"):
        return _open_tabs(path, show_progress=show_progress)
    if path.suffix == ".parquet":
        return _open_parquet(path, [path])
    if path.suffix in (".gz", ".zst", ".xz", ".bz2", ".zip"):
        raise ValueError(f"{str(path)!r} is compressed, so no row can be read without all before it; unpack it first.")
    raise ValueError(f"{str(path)!r} is of no known kind; training data are .jsonl, .tsv, .parquet or a folder.")


def _index(path: Path, *, show_progress: bool) -> tuple[Int64[np.ndarray, "lines"], str]:
    """Return where each line of a file ends, and the SHA-256 of the file."""
    digest = hashlib.sha256()
    ends: list[Int64[np.ndarray, _]] = []
    size = 0
    with (
        path.open("rb") as file,
        tqdm(
            desc=str(path),
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            delay=_DELAY,
            disable=not show_progress,
        ) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            ends.append(np.flatnonzero(np.frombuffer(block, np.uint8) == _LINE_FEED) + (size + 1))
            size += len(block)
            bar.update(len(block))
    last = ends[-1][-1] if ends and len(ends[-1]) else -1
    tail = [np.array([size])] if size and size != last else []
    return np.concatenate([*ends, *tail, np.zeros(0, np.int64)]), digest.hexdigest()


def _check_lines(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise ValueError(f"{str(path)!r} is one JSON list; write each of its items on a line of its own.")


def _json_object(line: str) -> RawRow:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise RowError("the line is no JSON", f"{error.msg.removesuffix(' at')} at column {error.colno}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        raise RowError("the line is no JSON", str(error)) from error
    if not isinstance(value, dict):
        raise RowError("the line is no JSON object", reprlib.repr(value))
    return value


def _open_tabs(path: Path, *, show_progress: bool) -> Lines:
    """Open lines of values between tabs. Without a header they are a score and two sentences."""
    with path.open("rb") as file:
        line = file.readline()
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"{str(path)!r} is UTF-16; save it as UTF-8.")
    first = tab_cells(line.decode("utf-8-sig", "replace"))
    if len(first) == 1 and first[0]:
        raise ValueError(
            f"{str(path)!r} has no tab in its first line, which is {reprlib.repr(first[0])}; save it with tabs between "
            "the values and a line feed after each row."
        )
    if any("\r" in cell for cell in first):
        raise ValueError(f"{str(path)!r} has carriage returns alone between its rows; save it with line feeds.")
    has_header = not _is_number(first[0])
    names = first if has_header else ["score", "sentence1", "sentence2"]
    return Lines(path, partial(_cells, names), n_header=int(has_header), show_progress=show_progress)


def _cells(names: Sequence[str], line: str) -> RawRow:
    cells = tab_cells(line)
    if len(cells) != len(names):
        raise RowError(f"the line has not {len(names)} values between tabs", reprlib.repr(line))
    return dict(zip(names, cells, strict=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _open_folder(path: Path) -> ArrowRows:
    files = sorted(path.glob("*.parquet"))
    if files:
        return _open_parquet(path, files)
    if (path / "dataset_dict.json").exists():
        splits = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
        raise ValueError(f"{str(path)!r} has several splits; give the folder of one: {', '.join(splits)}.")
    if not (path / "state.json").exists():
        raise ValueError(f"{str(path)!r} has neither Parquet files nor what `save_to_disk` of `datasets` writes.")
    datasets = _datasets()
    with _arrow_errors(path, datasets):
        dataset = datasets.load_from_disk(str(path))
    return ArrowRows(dataset, name=str(path), folder=path.parent, digest=digest_of(sorted(path.glob("*.arrow"))))


def _open_parquet(path: Path, files: Sequence[Path]) -> ArrowRows:
    # `datasets` writes the rows once into Arrow files in its cache, and maps these into memory.
    datasets = _datasets()
    with _arrow_errors(path, datasets):
        dataset = datasets.Dataset.from_parquet([str(file) for file in files])
    return ArrowRows(dataset, name=str(path), folder=path if path.is_dir() else path.parent, digest=digest_of(files))


def digest_of(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several files, that of their digests. It has hexadecimal digits."""
    digests = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    return (digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(d.digest() for d in digests))).hexdigest()


@contextmanager
def _arrow_errors(path: Path, datasets: Any) -> Iterator[None]:  # Any: an optional extra
    """Name the file or folder in errors of `datasets`, which hides their reasons."""
    try:
        yield
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        pass_alarm(error)
        raise ValueError(f"{str(path)!r} cannot be read: {error.__cause__ or error}") from error


def _datasets() -> Any:  # Any: an optional extra
    try:
        import datasets  # an optional extra
    except ImportError as error:
        raise ImportError(
            "Parquet files and folders of `datasets` need the extra: `pip install 'polyvec[data]'`."
        ) from error
    return datasets

"""Files of rows that come of other files of rows: some of their lines, or rows with other negatives."""

import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

from polyvec.train.data.corpora import identities
from polyvec.train.data.examples import Document, Example, PdfPage, file_group
from polyvec.train.data.sources import Source
from polyvec.train.data.tables import ArrowRows, open_table
from polyvec.train.selection.mining import Mined
from polyvec.whole_files import replaced

__all__ = ["Chain", "check_movable", "check_writable", "json_row", "lines", "write_kept", "write_rejected"]

_TABS = (".tsv", ".txt", ".csv")
_JSON = (".jsonl", ".json", ".ndjson")


class Chain(Sequence[Example]):
    """The examples of several sources, one after the other."""

    def __init__(self, sources: Sequence[Sequence[Example]]) -> None:
        self._sources, self._starts = sources, [0, *accumulate(map(len, sources))]

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        position = range(len(self))[index]
        source, start = self.source_of(position)
        return self._sources[source][position - start]

    def source_of(self, position: int) -> tuple[int, int]:
        """Return the number of the source that has the example, and the position of its first example."""
        number = bisect_right(self._starts, position) - 1
        return number, self._starts[number]


def check_movable(examples: Sequence[Example], paths: Sequence[Path], output: Path) -> None:
    """Refuse to write rows into another folder if they name images or PDFs by paths relative to their own.

    Raises:
        ValueError: the message names the folder to write to.
    """
    folders = [path.parent.resolve() for path in paths if path.parent.resolve() != output.parent.resolve()]
    if not folders:
        return
    for example in examples:
        documents = [*example.positives, *example.negatives]
        named = zip(documents, [*identities(example.positives), *identities(example.negatives)], strict=True)
        for document in (example.query, *(document for document, identity in named if identity is None)):
            path = document.path if isinstance(document, PdfPage) else document
            if isinstance(path, Path) and any(map(path.resolve().is_relative_to, folders)):
                raise ValueError(
                    f"{example.place} names {path.name!r} by a path that is relative to the folder of its rows; write "
                    f"the output to {folders[0]}, too."
                )


def check_writable(sources: Mapping[Path, Source], output: Path) -> None:
    """Refuse to write the rows of several kinds of files into one, or into a file whose name says another kind.

    Raises:
        ValueError: the message says what to do.
    """
    formats, kinds = {source.format for source in sources.values()}, {_kind(path) for path in sources}
    for different in (formats, kinds):
        if len(different) > 1:
            raise ValueError(f"the files are of several kinds, {', '.join(sorted(different))}; filter them one by one.")
    if _kind(output) not in kinds:
        raise ValueError(f"{str(output)!r} is of another kind than its rows; its name must end in {kinds.pop()}.")


def write_kept(sources: Iterable[Path], removed: Set[str], output: Path) -> None:
    """Write all rows but those at some places, byte for byte and in their order: also headers, and blank lines.

    Lines of text become lines of text; Parquet files and folders of `datasets` become a Parquet file.

    Raises:
        ValueError: files of values between tabs differ in their header.
    """
    kind = _kind(output)
    if kind == ".parquet":
        _write_parquet(list(sources), removed, output)
        return
    with replaced(output) as file:
        header, last = b"", b"\n"
        for path in sources:
            for place, line in lines(path):
                is_header = kind == ".tsv" and place.endswith(":1") and not _has_score(line)
                if is_header and header:
                    if line.strip() != header.strip():
                        raise ValueError(f"{str(path)!r} has other columns than the files before; filter it alone.")
                    continue
                header = header or (line if is_header else b"")
                if place not in removed:
                    file.write(line if last.endswith(b"\n") else b"\n" + line)
                    last = line


def write_rejected(sources: Iterable[Path], reasons: Mapping[str, tuple[str, str]], output: Path) -> None:
    """Write, as JSON Lines, the removed rows by their place: reason, detail, place, and the row if it is a line."""
    with replaced(output) as file:
        for path in sources:
            if _kind(path) == ".parquet":
                for place in reasons:
                    if place.rpartition(":")[0] == str(path):
                        file.write(_rejected_line(*reasons[place], place, None))
            else:
                for place, line in lines(path):
                    if place in reasons:
                        file.write(_rejected_line(*reasons[place], place, line))


def json_row(example: Example, number: int, mined: Mined, *, ids: bool, folder: Path) -> dict[str, Any]:
    """Return a row of format `polyvec`: the query, one of its positives, and what was mined.

    Args:
        example: the query and its positives.
        number: of the positive.
        mined: the negatives and the scores.
        ids: name the negatives by their ids; otherwise by their content.
        folder: the row's paths are relative to it, or absolute if they lead out of it.

    Raises:
        ValueError: an image is no file, so that JSON cannot have it.
    """
    row: dict[str, Any] = {}
    query = _value(example.query, folder)
    document, identity = example.positives[number], identities(example.positives)[number]
    if example.score is not None:
        return {"first": query, "second": _value(document, folder), "score": example.score} | _group(example, document)
    row["query" if isinstance(example.query, str) else "query_image"] = query
    if identity is not None:
        row["document_id"] = identity
    elif isinstance(document, PdfPage):
        row |= {"pdf": _name(document.path, folder), "page": document.number}
    elif isinstance(document, str):
        row["document"] = document
    else:
        row["image"] = _value(document, folder)["image"]
    row |= _group(example, document)
    if mined.positive_score is not None:
        row["positive_score"] = mined.positive_score
    if ids:
        row["negative_ids"] = [negative.id for negative in mined.negatives]
    else:
        row["negatives"] = [_value(negative.document, folder) for negative in mined.negatives]
    row["negative_scores"] = [negative.score for negative in mined.negatives]
    return row


def _group(example: Example, document: Document) -> dict[str, str]:
    known = (None, file_group(document))  # which a page has anyway
    return {} if example.group in known else {"group": str(example.group)}


def _value(document: Document, folder: Path) -> Any:  # Any: a text, or an object of JSON
    if isinstance(document, str):
        return document
    if isinstance(document, PdfPage):
        return {"pdf": _name(document.path, folder), "page": document.number}
    if isinstance(document, Path):
        return {"image": _name(document, folder)}
    raise ValueError("an image is no file, and JSON has no images; name it by its id in a corpus, or by its path.")


def _name(path: Path, folder: Path) -> str:
    path, folder = path.absolute(), folder.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    return ".jsonl" if suffix in _JSON else ".tsv" if suffix in _TABS else ".parquet"


def lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the lines of a file with their places."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield f"{path}:{number}", line


def _has_score(line: bytes) -> bool:
    """Return whether a line between tabs begins with a number, so that it is no header."""
    try:
        float(line.split(b"\t")[0])
    except ValueError:
        return False
    return True


def _rejected_line(reason: str, detail: str, place: str, line: bytes | None) -> bytes:
    facts = json.dumps({"reason": reason, "detail": detail, "place": place}, ensure_ascii=False)
    row = b"null"
    if line is not None:
        text = line.decode("utf-8-sig", "replace").strip()
        row = (text if _is_json(text) else json.dumps(text, ensure_ascii=False)).encode()
    return facts[:-1].encode("utf-8", "replace") + b', "row": ' + row + b"}\n"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _write_parquet(paths: Sequence[Path], removed: Set[str], output: Path) -> None:
    tables = [open_table(path) for path in paths]
    kept = [
        table.dataset.select([index for index in range(len(table)) if table.place(index) not in removed])
        for table in tables
        if isinstance(table, ArrowRows)
    ]
    import datasets  # an optional extra, which has read the rows

    with replaced(output) as file:
        datasets.concatenate_datasets(kept).to_parquet(file)

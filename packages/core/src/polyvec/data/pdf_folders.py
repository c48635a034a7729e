"""A folder of PDF files and a table of questions, with the pages that answer them (extra: `pdf`)."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

from polyvec import pdf
from polyvec.data.datasets import ById, Dataset, assembled, document_facts, query_facts
from polyvec.data.documents import PdfPage, page_text
from polyvec.data.rows import tab_cells
from polyvec.types import Failure

__all__ = ["has_pdfs", "read_pdfs"]

_QUESTION, _FILE, _PAGE = (
    ("question", "query"),
    ("file", "pdf", "document", "filename"),
    ("page", "pages", "page_number"),
)
_RANGE = re.compile(r"(\d+)(?:\s*[-–]\s*(\d+))?")
_DELIMITERS = ",;\t"


def has_pdfs(folder: Path) -> bool:
    """Tell whether there is a PDF file in a folder or in folders of it, and a CSV file."""
    return folder.is_dir() and bool(_tables(folder)) and next(_pdfs(folder), None) is not None


def read_pdfs(folder: Path, *, limit: int | None = None) -> Dataset:
    """Read all pages of all PDF files, and the one CSV file of the folder: a question, a file and a page in each row.

    Columns: `question`; `file`, a path relative to the folder; `page`, a number from 1, or several as in `3;5-7`;
    optional: `id`, `score` (default 1), `language` and `kind` of the question, `page_language`. Rows with one id, or
    with one question where there are no ids, are one query with several pages. The id of a page is `file#page`.

    Files that cannot be read are in `Dataset.left_out`, except for pages that answer a question: these stay, and count
    as not found. `limit` is that of `assembled`.

    Raises:
        ValueError: there is not one CSV file, or a row is malformed or names a page that is not there; the message
            names the line.
        ImportError: pypdfium2 is not installed.
    """
    tables = _tables(folder)
    if len(tables) != 1:
        names = ", ".join(path.name for path in tables) or "none"
        advice = " Evaluate a folder without the other tables." if tables else ""
        raise ValueError(f"{str(folder)!r} must have one CSV file, the questions; it has {names}.{advice}")
    n_pages: dict[str, int | None] = {}
    left_out: list[Failure] = []
    for index, path in enumerate(_pdfs(folder)):
        name = path.relative_to(folder).as_posix()
        try:
            n_pages[name] = pdf.n_pages(path)
        except ValueError as error:
            n_pages[name] = None
            is_locked = isinstance(error, pdf.PasswordError)
            reason = "it is encrypted, and passwords are not taken here: decrypt it" if is_locked else str(error)
            left_out.append(Failure(index, f"file {name!r}", reason))
    pages = {f"{name}#{number}": PdfPage(folder / name, number) for name, n in n_pages.items() for number in _upto(n)}
    queries: dict[str, str] = {}
    grades: dict[str, dict[str, float]] = {}
    facts_of_queries: dict[str, dict[str, str]] = {}
    facts_of_documents: dict[str, dict[str, str]] = {}
    for line, row in _rows(tables[0]):
        place = f"{tables[0]}:{line}"
        question, file, numbers = (_cell(row, names, place) for names in (_QUESTION, _FILE, _PAGE))
        file = PurePath(file).as_posix()
        identity = row.get("id") or question
        if queries.setdefault(identity, question) != question:
            raise ValueError(f"{place}: the id {identity!r} has another question in an earlier line.")
        if file not in n_pages:
            examples = ", ".join(map(repr, list(n_pages)[:3]))
            raise ValueError(f"{place}: there is no PDF file {file!r}; there are {len(n_pages)}, such as {examples}.")
        grade = _grade(row, place)
        if facts_of_queries.setdefault(identity, query_facts(row)) != query_facts(row):
            raise ValueError(f"{place}: the question {question!r} has another language or kind in an earlier line.")
        for number in _numbers(numbers, place):
            n = n_pages[file]
            if n is not None and not 1 <= number <= n:
                raise ValueError(f"{place}: page {number} of {file!r} is not there; it has the pages 1 to {n}.")
            key = f"{file}#{number}"
            pages.setdefault(key, PdfPage(folder / file, number))
            facts_of_documents.setdefault(key, {}).update(document_facts(row, own=False))
            if grades.setdefault(identity, {}).setdefault(key, grade) != grade:
                raise ValueError(f"{place}: {key!r} has another score for this question in an earlier line.")
    return assembled(
        repr(folder.resolve().name),
        queries=queries,
        documents=pages,
        grades=grades,
        limit=limit,
        query_facts=facts_of_queries,
        document_facts=facts_of_documents,
        texts=ById(pages, lambda key: page_text(pages[key])),
        left_out=left_out,
    )


def _tables(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv"))


def _pdfs(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".pdf" and path.is_file())


def _upto(n: int | None) -> range:
    return range(1, (n or 0) + 1)


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield the number of the line and the cells of each row, by the names of the columns in lower case."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8: {error.reason} at byte {error.start}; save it as UTF-8.") from error
    first = text.partition("\n")[0]
    lines = _cells(path, text, max(_DELIMITERS, key=first.count))
    _, names = next(lines, (1, []))
    header = [cell.strip().lower() for cell in names]
    for number, cells in lines:
        if any(cell.strip() for cell in cells):
            if len(cells) > len(header):
                raise ValueError(f"{path}:{number}: {len(cells)} cells, but the header has {len(header)}.")
            yield number, {name: cell.strip() for name, cell in zip(header, cells, strict=False)}


def _cells(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the cells of each line. Cells between tabs are those that training reads."""
    if delimiter == "\t":
        yield from enumerate(map(tab_cells, io.StringIO(text, newline=None)), start=1)
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num}: {error}; a quotation mark may lack its second.") from error


def _cell(row: Mapping[str, str], names: Sequence[str], place: str) -> str:
    value = next((row[name] for name in names if row.get(name)), None)
    if value is None:
        raise ValueError(f"{place}: there is no `{names[0]}`; the columns are {', '.join(row)}.")
    return value


def _numbers(cell: str, place: str) -> Iterator[int]:
    for part in re.split(r"[;,]", cell):
        match = _RANGE.fullmatch(part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{place}: `page` is {cell!r}; give numbers from 1, such as 3 or 3;5-7.")
        yield from range(int(match[1]), int(match[2] or match[1]) + 1)


def _grade(row: Mapping[str, str], place: str) -> float:
    score = row.get("score") or "1"
    if not re.fullmatch(r"[+-]?\d+(\.\d+)?", score):
        raise ValueError(f"{place}: `score` is {score!r}; it must be a number.")
    return float(score)

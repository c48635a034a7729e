"""Rows with an image and a text: questions about pages, and descriptions of maps, charts and photographs."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyvec.data.building.material import CorpusItem, Material, Rejection
from polyvec.data.building.web.articles import parsed
from polyvec.data.building.web.needs_page import needs_page
from polyvec.data.building.web.pictures import Picture, Unusable, picture_of
from polyvec.data.building.web.queries import Queries
from polyvec.data.building.web.row_files import Row, read_table, table_files
from polyvec.data.building.web.texts import cleaned, told_language, why_no_query
from polyvec.data.documents import image_in

__all__ = ["described_images", "visual_questions"]

_IMAGES = ("image", "image_filename", "image_path", "imgname", "file_name", "file", "page_image", "images", "page")
_QUESTIONS = ("query", "question", "question_string", "questions")
_ANSWERS = ("answer", "answers", "label", "gt")
_DESCRIPTIONS = ("description", "caption", "captions", "text", "query")
_PAGE_TEXTS = ("text_description", "markdown", "ocr")
_GROUPS = ("doc_id", "docId", "document_id", "ucsf_document_id")
_LANGUAGES = ("language", "lang")
_UNANSWERED = ("unanswerable", "not answerable", "no answer")

_OPTIONS = re.compile(r"[\s,;]*\(?\bA\s*[.):]\s.+?[\s(]B\s*[.):]\s.*", re.DOTALL)
_PROMPT = re.compile(
    r"\s*\n\s*(?:answer (?:the question|with)|hint:|choices:|options:|context:).*", re.DOTALL | re.IGNORECASE
)
_NUMBERING = re.compile(
    r"^(?:Q(?:uestion)?\s*)?\d{1,3}\s*[.):]\s+(?=(?:what|which|who|how|when|where|why|is|are|do|does)\b)", re.I
)
_PLACEHOLDER = re.compile(r"<image(?:_\d+)?>", re.IGNORECASE)

_Judge = Callable[[str], tuple[str, str]]  # a text → why it is no query, and the detail


@dataclass(frozen=True, slots=True)
class _Sort:
    """What rows hold beside their images."""

    columns: Sequence[str]
    judge: _Judge
    kind: str
    origin: str
    many: str


def visual_questions(
    paths: Sequence[Path],
    *,
    images: Path | None = None,
    language: str = "",
    kind: str = "page",
    max_relevant: int = 5,
    last_row_wins: bool = False,
) -> Iterator[Material]:
    """Yield the pages and questions of VQA rows, as Jina-VDR was made of ChartQA, DocVQA and others.

    A row has an image (`image`, `image_filename`, …), a question (`query`, `question`, …), which may be null if nobody
    asks for the page, and perhaps answers and the page's text. Equal pixels are one page, equal questions one query. A
    question that makes no sense without its page is rejected. Choices and prompts at the end of a question, and its
    number, are cut off.

    Args:
        paths: CSV, TSV, JSON, JSON Lines and Parquet files, and folders of them.
        images: the folder of image files; by default that of the rows.
        language: ISO 639 code for rows that do not name one. Without it, the language is told by the text.
        kind: of the documents.
        max_relevant: a question that is asked of more pages is rejected.
        last_row_wins: the page of a question is that of its last row, as in the QA format of Jina-VDR.

    Raises:
        ValueError: a file cannot be read, or has no such columns.
        ImportError: a library of the extra `build` is missing.
    """

    def judge(question: str) -> tuple[str, str]:
        return ("needs its page", detail) if (detail := needs_page(question)) else ("", "")

    sort = _Sort(_QUESTIONS, judge, "question", "question", "stands for many pages")
    queries = Queries(max_relevant=max_relevant, last_row_wins=last_row_wins)
    return _material(table_files(paths), images, language, kind, sort, queries)


def described_images(
    paths: Sequence[Path],
    *,
    images: Path | None = None,
    language: str = "",
    kind: str = "image",
    max_relevant: int = 1,
) -> Iterator[Material]:
    """Yield images, such as maps and charts, and their descriptions.

    A row has an image and a `description` (or `caption`, `text`); markup in it is removed. The arguments and errors are
    those of `visual_questions`.
    """

    def judge(description: str) -> tuple[str, str]:
        return why_no_query(description, "description"), ""

    sort = _Sort(_DESCRIPTIONS, judge, "description", "description", "stands for many images")
    return _material(table_files(paths), images, language, kind, sort, Queries(max_relevant=max_relevant))


def _material(
    files: Sequence[Path], images: Path | None, language: str, kind: str, sort: _Sort, queries: Queries
) -> Iterator[Material]:
    pictures: dict[bytes, str | Unusable] = {}  # ids, by what rows say
    documents: set[str] = set()
    for file in files:
        for row in read_table(file):
            if isinstance(row, Rejection):
                yield row
                continue
            texts = _texts(row, sort.columns)
            content = _image(row)
            named = content if isinstance(content, bytes) else f"{row.folder}\0{content}".encode("utf-8", "replace")
            key = hashlib.sha256(named).digest()
            picture = pictures.get(key)
            if picture is None:
                loaded = _loaded(content, images or row.folder)
                picture = pictures[key] = loaded.id if isinstance(loaded, Picture) else loaded
                if isinstance(loaded, Picture) and loaded.id not in documents:
                    documents.add(loaded.id)
                    text = _first(row.fields, _PAGE_TEXTS)
                    spoken = _first(row.fields, _LANGUAGES) or language or told_language(text or " ".join(texts))
                    yield CorpusItem(
                        loaded.id, loaded.content, text, spoken, kind, _first(row.fields, _GROUPS), source=row.place
                    )
            if isinstance(picture, Unusable):
                yield Rejection(picture.reason, row.place, detail=picture.detail)
                continue
            if sort.origin == "question" and _is_unanswered(row.fields):
                yield from (Rejection("no answer", text, picture, row.place) for text in texts)
                continue
            for text in texts:
                reason, detail = sort.judge(text)
                if reason:
                    yield Rejection(reason, text, picture, f"{row.place}: {detail}" if detail else row.place)
                else:
                    spoken = _first(row.fields, _LANGUAGES) or language or told_language(text)
                    queries.add(text, picture, language=spoken, kind=sort.kind, origin=sort.origin)
    yield from queries.finish(sort.many)


def _image(row: Row) -> bytes | str | None:
    """Return the bytes or the name of a row's image."""
    cells = [row.fields[column] for column in _IMAGES if row.fields.get(column) not in (None, "", [])]
    for cell in cells:
        value = cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes | str):
            return value
    return None


def _loaded(content: bytes | str | None, folder: Path) -> Picture | Unusable:
    if content is None:
        return Unusable("no image", f"there is none in the columns {', '.join(_IMAGES)}")
    try:
        return picture_of(content if isinstance(content, bytes) else image_in(folder, content))
    except (OSError, ValueError) as error:
        return Unusable("unreadable image", str(error))


def _texts(row: Row, columns: Sequence[str]) -> list[str]:
    """Return the texts of a row without markup, choices and numbers.

    Raises:
        ValueError: the row has none of the columns.
    """
    column = next((column for column in columns if column in row.fields), None)
    if column is None:
        raise ValueError(f"{row.place} has the columns {', '.join(row.fields)}; one must be {', '.join(columns)}.")
    value = row.fields[column]
    texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
    return list(filter(None, map(_plain, texts)))


def _plain(text: str) -> str:
    text = _PLACEHOLDER.sub(" ", text).strip()
    if re.search(r"</?[a-z][^<>]*>", text, re.IGNORECASE):
        body = parsed(text).select_one("body")
        text = " ".join(body.strings) if body else text
    for ending in (_PROMPT, _OPTIONS):
        text = text[: match.start()] if (match := ending.search(text)) and match.start() else text
    return cleaned(_NUMBERING.sub("", text.strip()))


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(value) for name in names if isinstance(value := fields.get(name), str | int) and value), "")


def _is_unanswered(fields: Mapping[str, Any]) -> bool:
    answers = [fields[name] for name in _ANSWERS if fields.get(name) is not None]
    flat = [answer for cell in answers for answer in (cell if isinstance(cell, list) else [cell])]
    return bool(flat) and all(isinstance(answer, str) and answer.strip().casefold() in _UNANSWERED for answer in flat)

"""A page to look through a dataset: one HTML file with queries, documents, and what was left out."""

import io
import random
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

from PIL import Image

from polyvec.alarms import pass_alarm
from polyvec.data.building.output.folder import REJECTED, check_no_part
from polyvec.data.building.output.reading import Row, Written, text_of
from polyvec.data.rows import each_row
from polyvec.html.page import escaped, jpeg_uri, page
from polyvec.images import open_image
from polyvec.whole_files import replaced

__all__ = ["write_look"]

_SIDE = 640  # pixels of a picture at most
_QUALITY = 60  # of a JPEG
_DOCUMENTS = 3  # of an item
_TEXT, _LINE = 1500, 500  # characters that are shown


def write_look(folder: Path, output: Path, *, limit: int = 200, seed: int = 0) -> str:
    """Write the page, and say what it shows.

    It has at most `limit` queries, as many rejections, and as many documents that no query asks for: all of them, or a
    sample that `seed` draws. An item has at most three documents, and a picture at most 640 pixels a side.

    Raises:
        ValueError: `folder` is no dataset, or `output` is one of its files.
    """
    check_no_part(output, folder)
    written = Written(folder)
    rejected = folder / REJECTED
    asked = {document for relevant in written.grades.values() for document in relevant}
    queries, n_queries = _sample(written.queries(), limit, seed)
    rejections, n_rejections = _sample(
        (row for _, row in each_row(rejected)) if rejected.is_file() else (), limit, seed
    )
    others, n_others = _sample((row for row in written.documents() if row["_id"] not in asked), limit, seed)
    pictures = _Pictures(written)
    items = [
        *(_query(row, written, pictures) for row in queries),
        *(_rejection(row, written, pictures) for row in rejections),
        *(_unasked(row, pictures) for row in others),
    ]
    counts = [
        f"{len(shown):,} of {n:,} {name}"
        for shown, n, name in (
            (queries, n_queries, "queries"),
            (rejections, n_rejections, "that were left out"),
            (others, n_others, "documents that no query asks for"),
        )
    ]
    summary = ", ".join(counts)
    files = resources.files("polyvec.data.building.output")
    style, script = (files.joinpath(f"look.{kind}").read_text("utf-8") for kind in ("css", "js"))
    title = folder.resolve().name
    body = (
        f"<style>\n{style}</style>\n<h1>{escaped(title)}</h1>\n"
        f'<p class="note">{summary}; samples have the seed {seed}.</p>\n'
        '<div id="filters" class="filters"></div>\n<div id="items"></div>\n<div id="pages" class="pages"></div>'
    )
    data = {"items": items, "documents": pictures.documents}
    with replaced(output) as file:
        file.write(page(title, body, script=script, data=data).encode())
    return summary


class _Pictures:
    """Documents that the page shows, each once."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._number_by_id: dict[str, int] = {}
        self.documents: list[dict[str, Any]] = []  # Any: JSON

    def number(self, row: Row) -> int:
        """Return the number of a document, which is added unless it is there."""
        if row["_id"] not in self._number_by_id:
            self._number_by_id[row["_id"]] = len(self.documents)
            image = _thumbnail(self._written.folder / row["image"]) if "image" in row else ""
            facts = _facts(row, ("language", "kind", "group", "source"))
            shown = {"id": _cut(row["_id"], _LINE), "image": image, "text": _cut(text_of(row), _TEXT), "facts": facts}
            self.documents.append(shown)
        return self._number_by_id[row["_id"]]


def _query(row: Row, written: Written, pictures: _Pictures) -> dict[str, Any]:  # Any: JSON, also below
    grades = written.grades[row["_id"]]
    first = list(grades)[:_DOCUMENTS]
    note = f"It has {len(grades):,} relevant documents." if len(grades) > _DOCUMENTS else ""
    return {
        "status": "kept",
        "title": _cut(row["text"], _LINE),
        "note": note,
        "facts": _facts(row, ("kind", "language", "origin")),
        "documents": [pictures.number(written.document(document)) for document in first],
    }


def _rejection(row: Row, written: Written, pictures: _Pictures) -> dict[str, Any]:
    document = row.get("document", "")
    shown = [pictures.number(written.document(document))] if written.has(document) else []
    facts = {} if shown or not document else {"document": _cut(document, _LINE)}
    return {
        "status": "left out",
        "reason": row.get("reason", ""),
        "title": _cut(row.get("what", ""), _LINE),
        "note": _cut(row.get("detail", ""), _TEXT),
        "facts": facts,
        "documents": shown,
    }


def _unasked(row: Row, pictures: _Pictures) -> dict[str, Any]:
    number = pictures.number(row)
    facts = _facts(row, ("kind", "language"))
    title = "(no query asks for this document)"
    return {"status": "not asked for", "title": title, "note": "", "facts": facts, "documents": [number]}


def _sample(rows: Iterable[Row], limit: int, seed: int) -> tuple[list[Row], int]:
    """Return all rows, or a sample of them in their order, and their number. Each row is seen once (Algorithm R)."""
    rng = random.Random(seed)  # noqa: S311 — not for secrets
    sample: list[tuple[int, Row]] = []
    n = 0
    for n, row in enumerate(rows, start=1):
        if n <= limit:
            sample.append((n, row))
        elif (place := rng.randrange(n)) < limit:
            sample[place] = n, row
    return [row for _, row in sorted(sample, key=lambda numbered: numbered[0])], n


def _thumbnail(path: Path) -> str:
    try:
        picture = open_image(path)
    except (ValueError, OSError) as error:
        pass_alarm(error)
        return ""
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return jpeg_uri(file.getvalue())


def _facts(row: Row, names: Iterable[str]) -> dict[str, str]:
    return {name: _cut(str(row[name]), _LINE) for name in names if row.get(name)}


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"

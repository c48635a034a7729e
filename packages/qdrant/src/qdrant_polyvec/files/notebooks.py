"""The cells of Jupyter notebooks, of the formats 3 and 4: their text, what their code gave, and its pictures."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from qdrant_polyvec.files import html_text

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours
_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MIME_TYPES = {"png": "image/png", "jpeg": "image/jpeg", "html": "text/html", "text": "text/plain"}  # of format 3


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a notebook.

    Attributes:
        name: such as `cell 3`, `cell 3 output` or `cell 3 image 1`; cells are counted from 1.
        kind: `output` is the text that code gave.
        content: the text, or the bytes of the picture.
        language: of code, in lower case.
    """

    name: str
    kind: Literal["markdown", "code", "text", "output", "image"]
    content: str | bytes
    language: str = ""


def parts(notebook: bytes) -> Iterator[Part]:
    """Read a notebook cell by cell: its text, the text it gave, its pictures. What is empty is left out.

    Raises:
        ValueError: it is no notebook.
    """
    content = _content(notebook)
    metadata = _mapping(content.get("metadata"))
    named = _mapping(metadata.get("language_info")).get("name") or _mapping(metadata.get("kernelspec")).get("language")
    for number, cell in enumerate(_cells(content), start=1):
        name = f"cell {number}"
        kind, text = cell.get("cell_type"), _lines(_text(cell.get("source", cell.get("input"))))
        if kind == "heading":
            level = cell.get("level")
            kind, text = "markdown", f"{'#' * level if isinstance(level, int) and 1 <= level <= 6 else '#'} {text}"
        if text.strip():
            language = str(named or cell.get("language") or "python").lower() if kind == "code" else ""
            yield Part(name, kind if kind in ("code", "markdown") else "text", text, language)
        outputs = [output for output in _list(cell.get("outputs")) if isinstance(output, dict)]
        given = "\n".join(filter(None, (_output_text(output).strip() for output in outputs)))
        if given:
            yield Part(f"{name} output", "output", given)
        bundles = [*_mapping(cell.get("attachments")).values(), *map(_bundle, outputs)]
        pictures = (picture for bundle in bundles for picture in _pictures(bundle))
        for index, picture in enumerate(pictures, start=1):
            yield Part(f"{name} image {index}", "image", picture)


def _content(notebook: bytes) -> dict[str, Any]:  # Any: JSON
    try:
        content = json.loads(notebook)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is no notebook: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("is no notebook: its JSON is not an object")  # noqa: TRY004 — a fault of the file
    return content


def _cells(content: dict[str, Any]) -> list[dict[str, Any]]:  # Any: JSON
    sheets = [_mapping(sheet) for sheet in _list(content.get("worksheets"))] or [content]  # of format 3, format 4
    cells = [cell for sheet in sheets for cell in _list(sheet.get("cells"))]
    if not all(isinstance(cell, dict) for cell in cells) or not any("cells" in sheet for sheet in sheets):
        raise ValueError("is no notebook of format 3 or 4: it has no list of cells")
    return cells


def _output_text(output: dict[str, Any]) -> str:  # Any: JSON
    """The text that code gave; none from its standard error, which has warnings and progress bars."""
    if output.get("output_type") in ("error", "pyerr"):
        return f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}"
    if output.get("output_type") == "stream":
        shown = "" if output.get("name", output.get("stream")) == "stderr" else _text(output.get("text"))
        return "\n".join(line.rpartition("\r")[2] for line in _ANSI.sub("", shown).replace("\r\n", "\n").split("\n"))
    bundle = _bundle(output)
    if any(kind in bundle for kind in _PICTURES):
        return ""  # the text beside a picture is `<Figure size …>`
    if page := _text(bundle.get("text/html")):
        return "\n".join(section.text for section in html_text.sections(page))
    return _text(bundle.get("text/markdown")) or _ANSI.sub("", _text(bundle.get("text/plain")))


def _bundle(output: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    """What an output shows, by MIME type."""
    if "data" in output:
        return _mapping(output["data"])
    return {mime: output[name] for name, mime in _MIME_TYPES.items() if name in output}


def _pictures(bundle: Any) -> list[bytes]:  # Any: JSON
    """The picture of an output: of several forms, the first. It is empty if its base64 is damaged."""
    forms = [_text(_mapping(bundle)[mime]) for mime in _PICTURES if mime in _mapping(bundle)]
    try:
        return [base64.b64decode(form) for form in forms[:1]]
    except ValueError:
        return [b""]


def _text(value: Any) -> str:  # Any: JSON
    """A text of a notebook: a string, or a list of its lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _lines(text: str) -> str:
    r"""End lines with `\n`, as Markdown and code count them."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _mapping(value: Any) -> dict[str, Any]:  # Any: JSON
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:  # Any: JSON
    return value if isinstance(value, list) else []

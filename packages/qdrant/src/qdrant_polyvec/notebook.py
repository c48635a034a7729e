"""What notebooks show of results and reports, as HTML."""

import html
from collections.abc import Iterable, Sequence

from polyvec.pictures import Picture, thumbnail
from polyvec.terminal import escaped

__all__ = ["picture", "table", "text"]

_MAX_CHARACTERS = 400  # of a cell
_HEIGHT = 160  # pixels of a picture


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return an HTML table. Cells are HTML already: see `text` and `picture`."""
    head = "".join(f"<th style='text-align:left'>{text(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:left;vertical-align:top'>{cell}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def text(value: object) -> str:
    """Return a value as HTML: shortened, and without characters that change what is around them."""
    shown = str(value)
    if len(shown) > _MAX_CHARACTERS:
        shown = shown[: _MAX_CHARACTERS - 1] + "…"
    lines = [html.escape(escaped(line)) for line in shown.splitlines()]
    return "<br>".join(lines)


def picture(shown: Picture | None) -> str:
    """Return a small image as HTML; empty if there is none, or if it is gone."""
    if shown is None:
        return ""
    try:
        uri = shown.thumbnail or shown.read(thumbnail)
    except (ValueError, ImportError):  # lost, at a URL, or without the extra that draws pages
        return ""
    return f"<img src='{html.escape(uri)}' style='max-height:{_HEIGHT}px'>"

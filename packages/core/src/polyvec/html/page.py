"""One HTML file with everything in it."""

import base64
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

__all__ = ["escaped", "javascript", "jpeg_uri", "page", "table"]

# Nothing is loaded: images are data, and the style and the script stand in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def page(title: str, body: str, *, script: str = "", data: Any = None) -> str:
    """Return a whole HTML document.

    Args:
        title: plain text.
        body: HTML; texts in it are `escaped`.
        script: JavaScript that runs after the body is there. It reads `DATA`.
        data: what JSON can hold, for the script. Texts of it become text nodes, never HTML.
    """
    return (
        "<!doctype html>\n"
        f'<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escaped(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<link rel="icon" href="data:,">\n'  # or else browsers ask for one
        f"<style>\n{_read('polyvec.html', 'style.css')}</style>\n</head>\n<body>\n{body}\n"
        f"<script>\nconst DATA = {_literal(data)};\n{script}</script>\n</body>\n</html>\n"
    )


def javascript(package: str, *names: str) -> str:
    """Return the script of a page: the files of this package that all pages share, then the files of another one."""
    shared = [_read("polyvec.html", name) for name in ("dom.js", "charts.js")]
    return "\n".join([*shared, *(_read(package, name) for name in names)])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table. Cells are plain text; those that start with a digit or a sign are aligned to the right."""
    head = "".join(f"<th>{escaped(cell)}</th>" for cell in header)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def jpeg_uri(jpeg: bytes) -> str:
    """Return a JPEG as the value of `src`."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def escaped(text: str) -> str:
    """Return plain text as HTML, also for values of attributes. A lone surrogate becomes a replacement character."""
    return html.escape(_SURROGATE.sub("\ufffd", text), quote=True)


def _literal(data: Any) -> str:
    """Write data as JavaScript, with escapes for `</script>`, which would end it, and for what is no UTF-8."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _read(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text("utf-8")


def _cell(text: str) -> str:
    number = text[:1].isdigit() or (text[:1] in ("+", "-", "−") and text[1:2].isdigit())
    return f'<td class="number">{escaped(text)}</td>' if number else f"<td>{escaped(text)}</td>"

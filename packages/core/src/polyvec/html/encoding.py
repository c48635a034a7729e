"""The encoding of web pages."""

import re
from typing import Any

__all__ = ["decode"]

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)")
_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_DECLARATION_BYTES = 4096  # the encoding is declared within so many bytes


def decode(page: bytes) -> str:
    """Decode a page as browsers do (WHATWG Encoding and HTML standards).

    The byte order mark decides, else a `<meta>` or XML declaration; else the page is UTF-8 or, if that fails,
    windows-1252. Bytes that are no character of the encoding become U+FFFD.

    Raises:
        ImportError: webencodings is not installed.
    """
    webencodings = _webencodings()
    declaration = _CHARSET.search(_COMMENT.sub(b"", page[:_DECLARATION_BYTES])) or _XML_ENCODING.match(page)
    declared = webencodings.lookup(declaration[1].decode()) if declaration else None
    if declared is None:
        declared = webencodings.lookup("utf-8" if _is_utf8(page) else "windows-1252")
    elif declared.name.startswith("utf-16"):  # the declaration itself was ASCII
        declared = webencodings.UTF8
    elif declared.name == "gbk":  # the standard decodes both alike; Python's own gbk lacks some characters
        declared = webencodings.lookup("gb18030")
    text: str = webencodings.decode(page, declared)[0]
    return text


def _webencodings() -> Any:  # Any: an optional extra without annotations
    try:
        import webencodings
    except ImportError as error:
        raise ImportError(
            "web pages are decoded by webencodings; install it with `pip install 'polyvec[build]'`."
        ) from error
    return webencodings


def _is_utf8(page: bytes) -> bool:
    try:
        page.decode()
    except UnicodeDecodeError:
        return False
    return True

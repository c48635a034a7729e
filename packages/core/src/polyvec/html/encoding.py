"""The encoding of web pages."""

import re

__all__ = ["check_roots", "decode", "encoding_of"]

_ROOT_TAG = re.compile(rb"<(?:html|body)[\s/][^>]*", re.IGNORECASE)
_MOST_MERGES = 10_000_000  # of attributes into <html> and <body>
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)")


def decode(page: bytes) -> str:
    """Decode a page as the WHATWG's HTML and Encoding standards say.

    The byte order mark decides, else a `<meta>` or an XML declaration; else the page is UTF-8 or, if that fails,
    windows-1252. Bytes that are no character of the encoding become U+FFFD.

    Raises:
        ImportError: turbohtml is not installed.
        ValueError: `check_roots` refuses the page.
    """
    return page.decode(f"whatwg-{encoding_of(page) or 'windows-1252'}").removeprefix("\ufeff")


def encoding_of(page: bytes) -> str | None:
    """Return the encoding that a page declares, or UTF-8 if that fits; None if a page that is not ASCII has neither.

    Errors are those of `decode`.
    """
    check_roots(page)
    try:
        import turbohtml.detect
    except ImportError as error:
        raise ImportError("web pages are read by turbohtml; install it with `pip install 'polyvec[build]'`.") from error
    document = turbohtml.parse(page)
    declaration = _XML_ENCODING.match(page)
    if declaration and document.encoding_confidence != "certain":
        document = turbohtml.parse(b'<meta charset="%s">' % declaration[1] + page)
    is_known = document.encoding_confidence == "certain" or document.encoding == "UTF-8" or page.isascii()
    return document.encoding if is_known else None


def check_roots(page: bytes) -> None:
    """Refuse a page that the parser needs too much time and memory for.

    Each `<html>` or `<body>` tag with a new attribute makes it copy those of all tags before.

    Raises:
        ValueError: there are very many.
    """
    roots = _ROOT_TAG.findall(page.replace(b"\0", b""))
    if len(roots) > 1 and len(roots) * len({word for tag in roots for word in tag.split()}) > _MOST_MERGES:
        raise ValueError(f"has {len(roots)} <html> or <body> tags with attributes; a page has one of each")

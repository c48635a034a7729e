"""The encoding of web pages."""

import re

__all__ = ["decode"]

_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)")


def decode(page: bytes) -> str:
    """Decode a page as the WHATWG's HTML and Encoding standards say.

    The byte order mark decides, else a `<meta>` or an XML declaration; else the page is UTF-8 or, if that fails,
    windows-1252. Bytes that are no character of the encoding become U+FFFD.

    Raises:
        ImportError: turbohtml is not installed.
    """
    try:
        import turbohtml.detect
    except ImportError as error:
        raise ImportError("web pages are read by turbohtml; install it with `pip install 'polyvec[build]'`.") from error
    document = turbohtml.parse(page)
    declaration = _XML_ENCODING.match(page)
    if declaration and document.encoding_confidence != "certain":
        document = turbohtml.parse(b'<meta charset="%s">' % declaration[1] + page)
    return page.decode(f"whatwg-{document.encoding}").removeprefix("\ufeff")

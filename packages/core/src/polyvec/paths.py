"""Names of files: paths and `file:` URIs, with one spelling for one file."""

import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from urllib.request import url2pathname

__all__ = ["absolute", "check_name", "normal", "path_of", "printable"]

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)  # a scheme of one letter is a drive


def path_of(name: str | Path) -> Path:
    """Return the path that a string names: it is a path itself, or a `file:` URI (RFC 8089).

    Raises:
        ValueError: it is the URL of something else, which is never fetched, or the URI of no local file.
    """
    if isinstance(name, Path):
        return name
    if not name.lower().startswith("file:"):
        if _URL.match(name):
            raise ValueError(
                f"{printable(name[:200])!r} is not fetched: nothing here opens connections by itself. Pass "
                "`polyvec.images.fetch(url)`, the image's bytes."
            )
        return Path(name)
    parts = urlsplit(name)
    if parts.query or parts.fragment:
        raise ValueError(f"{printable(name)!r} names no file: in a `file:` URI, ? is written %3F and # is written %23.")
    if os.name == "nt":
        host = "" if parts.netloc.lower() == "localhost" else parts.netloc
        return Path(url2pathname(f"//{host}{parts.path}" if host else parts.path))
    if parts.netloc.lower() not in ("", "localhost"):
        raise ValueError(
            f"{printable(name)!r} is on the host {parts.netloc!r}: three slashes begin the path of a local file, as in "
            "'file:///folder/page.png'."
        )
    return Path(os.fsdecode(unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape"))))


def absolute(name: str | Path) -> Path:
    """Return the one spelling of a path or `file:` URI, independent of the working directory: without `.` and `..`.

    Symbolic links keep their own names, unless a `..` follows, which leads out of the folder that the link names.

    Raises:
        ValueError: as `path_of`.
    """
    whole = normal(path_of(name).absolute())
    parts = whole.parts
    if ".." not in parts:
        return whole
    end = len(parts) - parts[::-1].index("..")
    return Path(os.path.realpath(Path(*parts[:end])), *parts[end:])


def normal(path: str | Path) -> Path:
    """Leave out `.`, `//`, and `..` together with the folder before it, unless that is a symbolic link."""
    path = Path(path)
    whole = Path("/" if path.anchor == "//" else path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        if part != ".." or whole.name == ".." or not (whole.name or whole.anchor) or whole.is_symlink():
            whole /= part
        else:
            whole = whole.parent
    return whole


def check_name(name: str) -> None:
    """Refuse a file whose name is no Unicode text, as older systems wrote them: no index could keep it.

    Raises:
        ValueError: the name has bytes that are no UTF-8.
    """
    if printable(name) != name:
        raise ValueError("its name is not Unicode, so no index can keep it; rename it")


def printable(name: str) -> str:
    r"""Return a name that any terminal and index can take: bytes that are no UTF-8 are written as `\udc…`."""
    return name.encode("utf-8", "backslashreplace").decode()

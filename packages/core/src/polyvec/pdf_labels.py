"""The labels of a PDF's pages, such as `viii` and `A-3`. Another process reads them, as a hostile PDF can stop it.

PDFium follows the tree of the labels wherever that leads: in circles until the stack is full, or nearly for ever. This
file is also the program of that process, so it imports nothing of this package.
"""

import ctypes
import json
import logging
import mmap
import os
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_MAX_LENGTH = 40  # of a label
_MAX_SECONDS = 20.0
_KEY, _OBJECTS = b"/PageLabels", b"/ObjStm"
_MAX_PACKED, _MAX_UNPACKED = 1 << 16, 1 << 20  # bytes of a stream of objects that are searched for the key


def page_labels(source: Path | bytes, password: str | None) -> dict[int, str]:
    """Return the labels of pages by the number of the page, without those that are the number itself.

    They are empty if the PDF has none, or none that can be read.
    """
    if not _may_have_labels(source) or not sys.executable or getattr(sys, "frozen", False):
        return {}
    path, content = (str(source), b"") if isinstance(source, Path) else (None, source)
    header = json.dumps({"path": path, "password": password}).encode()  # a command line would show the password
    modules = os.pathsep.join(filter(None, sys.path))
    try:
        program = subprocess.run(  # noqa: S603 — this file
            [sys.executable, "-P", __file__],
            input=header + b"\n" + content,
            capture_output=True,
            check=True,
            timeout=_MAX_SECONDS,
            env={**os.environ, "PYTHONPATH": modules},
        )
        labels: list[str] = json.loads(program.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        _log.debug("the labels of pages cannot be read: %s", type(error).__name__)
        return {}
    return {number: label for number, label in enumerate(labels, start=1) if label not in ("", str(number))}


def _may_have_labels(source: Path | bytes) -> bool:
    """True if the key of labels is in a PDF, or may be in an encrypted part. To start a process takes a while."""
    if isinstance(source, bytes):
        return _has_key(source)
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _has_key(content)


def _has_key(content: bytes | mmap.mmap) -> bool:
    if content.find(_KEY) >= 0:
        return True
    is_encrypted = content.find(b"/Encrypt") >= 0
    place = content.find(_OBJECTS)
    while place >= 0:
        start = content.find(b"stream", place) + len(b"stream")
        try:
            packed = content[start : start + _MAX_PACKED].lstrip(b"\r\n")
            if is_encrypted or _KEY in zlib.decompressobj().decompress(packed, _MAX_UNPACKED):
                return True
        except zlib.error:  # it is packed otherwise
            return True
        place = content.find(_OBJECTS, start)
    return False


def open_document(source: Path | bytes, password: str | None) -> Any:  # Any: pypdfium2 ships no annotations
    """Open a PDF, without the password if it needs none: one that only its owner may change opens with no other."""
    import pypdfium2  # as below

    try:
        return pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if password is None or error.err_code != pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise
    return pypdfium2.PdfDocument(source, password)


def _print_labels() -> None:
    """Read what `page_labels` sends, and print the labels of all pages."""
    import pypdfium2  # an optional extra

    raw, stream = pypdfium2.raw, sys.stdin.buffer
    header = json.loads(stream.readline())
    source = stream.read() if header["path"] is None else Path(header["path"])
    document = open_document(source, header["password"])
    labels = []
    for index in range(len(document)):
        n_bytes = raw.FPDF_GetPageLabel(document.raw, index, None, 0)
        buffer = ctypes.create_string_buffer(n_bytes)
        raw.FPDF_GetPageLabel(document.raw, index, buffer, n_bytes)
        labels.append(_cleaned(buffer.raw.decode("utf-16-le", "ignore")))
    sys.stdout.write(json.dumps(labels))


def _cleaned(label: str) -> str:
    """Return a label on one line, without control characters and of limited length."""
    shown = "".join(" " if character.isspace() else character for character in label)
    shown = "".join(character for character in shown if not unicodedata.category(character).startswith("C"))
    return " ".join(shown.split())[:_MAX_LENGTH].rstrip()


if __name__ == "__main__":
    _print_labels()

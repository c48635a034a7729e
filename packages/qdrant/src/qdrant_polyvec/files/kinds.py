"""The kind of a file: pictures, pages, notebooks and office files by the suffix, text by what the file holds."""

import codecs
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Literal

from turbohtml.detect import detect

from polyvec.alarms import pass_alarm
from polyvec.html.encoding import encoding_of
from polyvec.images import suffixes
from qdrant_polyvec.files import office
from qdrant_polyvec.files.cutting import MAX_UNIT_CHARS

LeftOut = Literal["ignored", "hidden", "linked folders", "of other kinds", "too large", "generated", "without text"]

PDF_SUFFIX = ".pdf"
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
NOTEBOOK_SUFFIX = ".ipynb"
MAX_TEXT_BYTES = 10_000_000  # of a text file in a folder; a file that is named may have any size
_CODE_SUFFIXES = {
    ".asm", ".awk", ".bash", ".bat", ".bazel", ".bzl", ".c", ".cc", ".cjs", ".cl", ".clj", ".cljs", ".cmake",
    ".coffee", ".cpp", ".cs", ".css", ".cts", ".cu", ".cxx", ".d", ".dart", ".el", ".erl", ".ex", ".exs", ".f",
    ".f90", ".fish", ".fs", ".glsl", ".go", ".gradle", ".graphql", ".groovy", ".h", ".hcl", ".hh", ".hpp",
    ".hs", ".hxx", ".java", ".jl", ".js", ".jsx", ".kt", ".kts", ".less", ".lisp", ".lua", ".m", ".mjs", ".mk",
    ".ml", ".mli", ".mm", ".mts", ".nim", ".nix", ".pas", ".php", ".pl", ".pm", ".proto", ".ps1", ".py", ".pyi",
    ".pyx", ".r", ".rb", ".rkt", ".rs", ".s", ".sass", ".scala", ".scm", ".scss", ".sh", ".sol", ".sql", ".sv",
    ".svelte", ".swift", ".tcl", ".tf", ".thrift", ".ts", ".tsx", ".v", ".vb", ".vhd", ".vim", ".vue", ".zig",
    ".zsh",
}  # fmt: skip
_CODE_NAMES = {
    "cmakelists", "containerfile", "dockerfile", "gemfile", "gnumakefile", "jenkinsfile", "justfile",
    "makefile", "rakefile", "vagrantfile",
}  # fmt: skip
_LOCK = "~$"  # begins the names of the hidden files that an office program makes beside a file that is open
_HEAD_BYTES = 65_536
_ASCII = bytes(range(128))
_REPLACEMENT = "\ufffd"  # stands for bytes that are no character
_LEAST_CONFIDENCE = 0.4  # that an encoding is right: junk has 0, most texts of a few sentences 0.6 and more
# Control characters that texts do not have: all but those from BEL to CR, and ESC, which logs have.
_CONTROL = re.compile(rb"[\0-\x06\x0e-\x1a\x1c-\x1f\x7f]")
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Prose has words of 5 to 9 characters in most languages, minified code more than 25, tables of digits 15.
_LONGEST_MEAN_WORD = 14


def is_of_pages(file: Path) -> bool:
    """True for a PDF or an image, by the suffix."""
    return file.suffix.lower() in (*suffixes(), PDF_SUFFIX)


def is_text(file: Path) -> bool:
    """True for what is read as text: all but PDFs, images, pages of HTML, notebooks, office files and e-books."""
    return not is_of_pages(file) and file.suffix.lower() not in (*HTML_SUFFIXES, NOTEBOOK_SUFFIX, *office.SUFFIXES)


def is_code(file: Path, text: str) -> bool:
    """True for the suffix of a programming language, a name such as `Dockerfile`, and a text that begins with `#!`."""
    name, suffix = file.name.lower().partition(".")[0], file.suffix.lower()
    return suffix in _CODE_SUFFIXES or name in _CODE_NAMES or text.startswith("#!")


def decode(content: bytes, encoding: str | None = None) -> tuple[str, str | None]:
    r"""Decode a text file: UTF-8, UTF-16 with its mark, or else the `encoding` or, if it is None, the most likely one.

    A line ends with `\n`.

    Returns:
        The text, and the name of the encoding if that was guessed.

    Raises:
        ValueError: it is something else.
    """
    guess = None
    try:
        text = content.decode(_MARKS.get(content[:2], "utf-8-sig"))
    except UnicodeDecodeError as error:
        if encoding is not None and content[:2] not in _MARKS:
            text = _decoded(content, encoding)
        else:
            guess, codec = _guess(content, error)
            text = content.decode(codec)
    if _is_binary(text):
        raise ValueError("is binary: it holds null bytes or many control characters")
    return text.replace("\r\n", "\n").replace("\r", "\n"), guess


def decode_page(content: bytes, encoding: str | None = None) -> tuple[str, str | None]:
    """Decode a page of HTML, as `decode` does, but by what the page declares. The guess is that of browsers."""
    declared = encoding_of(content)
    if declared is None and encoding is not None:
        return _decoded(content, encoding), None
    guess = "windows-1252" if declared is None else None
    return content.decode(f"whatwg-{declared or guess}").removeprefix("\ufeff"), guess


def codec_of(encoding: str) -> str:
    """Return the codec of an encoding: that of browsers, which knows more characters, or else Python's.

    Raises:
        ValueError: there is no such encoding.
    """
    for codec in (f"whatwg-{encoding}", encoding):
        with suppress(LookupError, ValueError):
            if bytes(4).decode(codec) != _REPLACEMENT:  # browsers refuse some encodings in this way
                return codec
    raise ValueError(
        f"{encoding!r} is no encoding; name it as in windows-1252, ISO-8859-2, KOI8-R, Shift_JIS, GB18030 or cp850"
    )


def _decoded(content: bytes, encoding: str) -> str:
    reason = f"is not {encoding} text: it has bytes that are no characters there"
    try:
        text = content.decode(codec_of(encoding))
    except UnicodeError as error:
        raise ValueError(reason) from error
    if _REPLACEMENT in text:
        raise ValueError(reason)
    return text


def _guess(content: bytes, error: UnicodeDecodeError) -> tuple[str, str]:
    """Return the most likely encoding and its codec; raise the `error`, or name the encoding if it is uncertain.

    Text of which more than half of all non-ASCII characters are UTF-8 is damaged UTF-8.
    """
    n_wrong = (as_utf_8 := content.decode("utf-8", "replace")).count(_REPLACEMENT)
    n_ascii = len(content) - len(content.translate(None, _ASCII))
    if content[:2] in _MARKS or len(as_utf_8) - n_wrong - n_ascii > n_wrong:
        raise error
    guess = detect(content)
    if guess.codec is None or guess.encoding is None or not guess.confidence:
        raise error
    if guess.confidence < _LEAST_CONFIDENCE:
        raise ValueError(
            f"is not UTF-8 text, and perhaps {guess.encoding}, which is uncertain: name its encoding by --encoding, or "
            "save it as UTF-8"
        )
    return guess.encoding, guess.codec


def unfit(file: Path) -> LeftOut | None:
    """Say why a file in a folder is not worth reading, from its size and its first bytes; None if it is.

    A file that cannot be read is none of these: reading it will tell why. Text in another encoding is not, either.
    """
    suffix = file.suffix.lower()
    if suffix in office.SUFFIXES:
        if file.name.startswith(_LOCK):
            return "hidden"
        return None if office.is_readable(suffix) else "of other kinds"
    try:
        if not is_text(file) or not file.is_file():  # to open a pipe may take forever
            return None
        with file.open("rb") as stream:
            head, size = stream.read(_HEAD_BYTES), os.fstat(stream.fileno()).st_size
    except OSError as error:
        pass_alarm(error)
        return None
    encoding = _MARKS.get(head[:2], "utf-8")
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head)
    if _is_binary(text):
        return "of other kinds"
    if size > MAX_TEXT_BYTES:
        return "too large"
    return "generated" if _is_generated(text) else None


def _is_binary(text: str) -> bool:
    """True if a text has a null character, or more than one other control character in a hundred."""
    return "\0" in text or 100 * len(_CONTROL.findall(text.encode())) > len(text)


def _is_generated(text: str) -> bool:
    """True for minified code and for data in long lines, which no person reads: their "words" are long, too.

    Texts of scripts without spaces have hardly any ASCII.
    """
    in_long_lines = len(text) > MAX_UNIT_CHARS * (text.count("\n") + 1)
    return in_long_lines and len(text) > _LONGEST_MEAN_WORD * len(text.split()) and len(text.encode()) < 1.1 * len(text)

"""How ids, texts and names of files are written, so that every reader of the folder takes them."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping

__all__ = ["file_name", "json_line", "written_id", "written_text"]

_LONGEST = 40  # characters of an id that stand in the name of its file


def written_id(identity: str) -> str:
    r"""Return an id as it stands in the files. Different ids stay different, and usual ids stay as they are.

    A backslash, a double quote, and whatever is not printable, such as a tab or a lone surrogate, is written as an
    escape of Python: `\t`. A table between tabs cannot hold tabs, and readers of CSV take quotes for their own.
    """
    return "".join(_character(character) for character in identity)


def written_text(text: str) -> str:
    """Return a text as it stands in the files: a lone surrogate becomes U+FFFD, the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def file_name(identity: str, suffix: str) -> str:
    """Return a name for a document's file that every file system takes, and that no other id has."""
    ascii_only = unicodedata.normalize("NFKD", identity).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", ascii_only)[:_LONGEST].strip("-")
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{words or 'document'}-{digest}{suffix}"


def json_line(row: Mapping[str, object]) -> str:
    """Return a row as a line of JSON Lines, without its empty texts."""
    return json.dumps({name: value for name, value in row.items() if value != ""}, ensure_ascii=False) + "\n"


def _character(character: str) -> str:
    if character in '\\"' or not character.isprintable():
        return "\\x22" if character == '"' else character.encode("unicode_escape").decode()
    return character

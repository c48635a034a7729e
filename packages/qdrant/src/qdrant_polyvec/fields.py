"""How Qdrant's conditions name the fields of a user's metadata."""

import re
from collections.abc import Iterable

__all__ = ["field_keys"]

_PLAIN = r"[A-Za-z0-9_-]+"  # Qdrant reads every other name only between quotation marks
_INDEXES = r"(\[\d*\])*"
_PART = re.compile(_PLAIN + _INDEXES)
_STEP = rf"""({_PLAIN}|"[^"\\]*"){_INDEXES}"""
_PATH = re.compile(rf"{_STEP}(\.{_STEP})*")


def field_keys(name: str, *, under: str = "metadata") -> list[str]:
    r"""List the keys by which Qdrant's conditions reach a field of the metadata, to be combined by `should`.

    A simple name has one key. A name such as `dc.title` or `tags[]` has two: metadata may have a field of that very
    name, or `title` inside of `dc`. A condition that a field is empty must hold for all keys, others for any.

    Args:
        name: a field's name, or a path: dots lead into nested mappings, `[0]` and `[]` into lists. A name between
            quotation marks is taken literally, as in `a."b.c"`.
        under: the key that the fields are nested in; empty if they stand at the top of the payload.

    Raises:
        TypeError: `name` is not a string.
        ValueError: the name has a quotation mark or a backslash, and is no path: Qdrant has no key for it.
    """
    if not isinstance(name, str):
        raise TypeError(f"{name!r} names no metadata; names are strings.")
    if '"' in name and _PATH.fullmatch(name):
        keys = [name]
    elif not _is_reachable(name):
        raise ValueError(f"{name!r} cannot be filtered by: Qdrant reaches no name with a quotation mark or backslash.")
    else:
        path = ".".join(part if _PART.fullmatch(part) else f'"{part}"' for part in name.split("."))
        keys = list(dict.fromkeys([_literal(name), path]))
    return [f"{under}.{key}" if under else key for key in keys]


def canonical(key: str) -> str:
    """Return a key in a form that is the same for all spellings; engines take quotation marks off simple names."""
    return re.sub(r'"([^"\\.\[\]]*)"', r"\1", key)


def field_name(key: str, *, under: str = "metadata") -> str | None:
    """Return the field whose `field_keys` include this key; None if there is none."""
    if not key.startswith(f"{under}."):
        return None
    path = key.removeprefix(f"{under}.")
    literal = re.fullmatch(r'"([^"\\]*)"', path)
    name = literal[1] if literal else canonical(path)
    return name if _is_reachable(name) else path if _PATH.fullmatch(path) else None


def check_names(names: Iterable[str]) -> None:
    """Raise a ValueError if Qdrant's conditions could never reach a field of this name."""
    for name in names:
        if not _is_reachable(name):
            raise ValueError(
                f"metadata has the name {name!r}; a quotation mark or backslash would keep filters from it. Rename it."
            )


def _literal(name: str) -> str:
    return name if re.fullmatch(_PLAIN, name) else f'"{name}"'


def _is_reachable(name: str) -> bool:
    return not set(name) & set('"\\')

"""Settings as TOML. The standard library reads TOML and does not write it."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["dumps"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(content: Mapping[str, Any]) -> str:  # Any: any TOML value except dates
    """Write TOML: values, then tables and arrays of tables, in the order of the mapping."""
    return "\n".join(_lines(content, ())).lstrip("\n") + "\n"


def _lines(content: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:  # Any: any TOML value
    tables = {key: value for key, value in content.items() if isinstance(value, Mapping) or _is_array_of_tables(value)}
    yield from (f"{_key(key)} = {_value(value)}" for key, value in content.items() if key not in tables)
    for key, value in tables.items():
        place = (*path, key)
        name = ".".join(map(_key, place))
        for table in [value] if isinstance(value, Mapping) else value:
            yield f"\n[{name}]" if isinstance(value, Mapping) else f"\n[[{name}]]"
            yield from _lines(table, place)


def _is_array_of_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(part, Mapping) for part in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _value(key)


def _value(value: Any) -> str:  # Any: any TOML value
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)} = {_value(part)}' for key, part in value.items())}}}"
    # JSON's texts, numbers and booleans are TOML's, but for one control character and for characters beyond 16 bits,
    # whose escapes differ.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

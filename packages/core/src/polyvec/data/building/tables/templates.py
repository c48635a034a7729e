"""Wordings of queries and of labels on pages, by language; users may bring their own."""

import string
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

__all__ = ["KINDS", "PLACEHOLDERS", "Labels", "Wordings", "wordings"]

_FILE = Path(__file__).with_name("templates.toml")

PLACEHOLDERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        name: frozenset(slots.split())
        for name, slots in {
            "lookup": "measure subject point",
            "highest": "measure subject point_name",
            "lowest": "measure subject point_name",
            "comparison": "measure subject first second",
            "total": "measure subject",
            "record_lookup": "measure subject",
            "record_comparison": "measure first second",
            "phrase": "measure subject",
            "statement": "measure subject point value",
            "record_statement": "measure subject value",
            "statement_highest": "measure subject point",
            "description": "measure subject first last point",
            "instruction": "name_a value_a name_b value_b",
            "request": "measure subject",
        }.items()
    }
)

KINDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(PLACEHOLDERS, "question"),
        "phrase": "key phrase",
        **dict.fromkeys(("statement", "record_statement", "statement_highest"), "statement"),
        "description": "description",
        **dict.fromkeys(("instruction", "request"), "instruction"),
    }
)

_SLOTS_OF_LABELS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "total": frozenset(),
        "record": frozenset({"number"}),
        "per": frozenset({"measure", "point_name"}),
        "decimal": frozenset(),
        "thousands": frozenset(),
    }
)


@dataclass(frozen=True, slots=True)
class Labels:
    """What pages say in their language beside the cells: templates and the marks of numbers on axes."""

    total: str
    record: str
    per: str
    decimal: str
    thousands: str


@dataclass(frozen=True, slots=True)
class Wordings:
    """The words of one language.

    Attributes:
        labels: None if a user's language has none; such a language is for queries alone.
        templates: one or several wordings by the names in `PLACEHOLDERS`.
    """

    labels: Labels | None
    templates: Mapping[str, tuple[str, ...]]


def wordings(file: Path | None = None) -> dict[str, Wordings]:
    """Return the words by language; those of a user's TOML file come before the own ones.

    The file has the form of `templates.toml`: tables `[LANGUAGE.templates]` and, for languages of pages,
    `[LANGUAGE.labels]`. A language that is known already may have some of the templates only.

    Raises:
        ValueError: a template or a placeholder is unknown or missing; the message names it.
    """
    rows = _read(_FILE)
    if file is not None:
        for language, own in _read(file).items():
            known = rows.setdefault(language, {})
            for part in ("labels", "templates"):
                if part in own:
                    known[part] = {**known.get(part, {}), **own[part]}
    return {language: _checked(language, row, file or _FILE) for language, row in rows.items()}


def _read(file: Path) -> dict[str, Any]:  # Any: TOML
    try:
        rows = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is no TOML in UTF-8: {error}") from error
    for language, row in rows.items():
        if not isinstance(row, dict) or not row or set(row) - {"labels", "templates"}:
            raise ValueError(f"{file}: [{language}] must have the tables `templates` and, for pages, `labels`.")
        if not all(isinstance(part, dict) for part in row.values()):
            raise ValueError(f"{file}: `templates` and `labels` of [{language}] must be tables.")
    return rows


def _checked(language: str, row: Mapping[str, Any], file: Path) -> Wordings:
    templates = {
        name: tuple(_texts(language, name, value, PLACEHOLDERS, file))
        for name, value in row.get("templates", {}).items()
    }
    if missing := set(PLACEHOLDERS) - set(templates):
        raise ValueError(f"{file}: [{language}.templates] lacks {', '.join(sorted(missing))}.")
    labels = None
    if "labels" in row:
        values = {
            name: next(iter(_texts(language, name, value, _SLOTS_OF_LABELS, file)))
            for name, value in row["labels"].items()
        }
        if missing := set(_SLOTS_OF_LABELS) - set(values):
            raise ValueError(f"{file}: [{language}.labels] lacks {', '.join(sorted(missing))}.")
        labels = Labels(**values)
    return Wordings(labels, templates)


def _texts(language: str, name: str, value: object, slots: Mapping[str, frozenset[str]], file: Path) -> Iterator[str]:
    if name not in slots:
        raise ValueError(f"{file}: [{language}] has {name!r}; known names: {', '.join(sorted(slots))}.")
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise ValueError(f"{file}: {name!r} of [{language}] is {value!r}; it must be a text or a list of texts.")
    for text in texts:
        try:
            fields = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
        except ValueError as error:
            raise ValueError(f"{file}: {name!r} of [{language}] is {text!r}: {error}.") from error
        if fields != slots[name]:
            needed = ", ".join(f"{{{slot}}}" for slot in sorted(slots[name])) or "no placeholder"
            raise ValueError(f"{file}: {name!r} of [{language}] is {text!r}; it must have exactly {needed}.")
        yield text

"""Closed lists of options. The module imports no library, so that help and completion of the command line are fast."""

from typing import Literal, get_args

Mode = Literal["dense", "late", "two-stage", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)

Precision = Literal["float32", "float16", "turbo8", "turbo4"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

IndexKind = Literal["keyword", "integer", "float", "bool", "datetime", "text", "uuid", "geo"]
INDEX_KINDS: tuple[IndexKind, ...] = get_args(IndexKind)

"""Items to add, what became of them, and how they are identified."""

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from PIL import Image

import polyvec
from polyvec import Embeddings, Input, SomeFailed, decoding
from polyvec.alarms import pass_alarm
from polyvec.chunking import Span
from polyvec.images import alone_with
from polyvec.paths import printable
from polyvec.pictures import Picture
from polyvec.warning import warn
from qdrant_polyvec import notebook

__all__ = [
    "Failure",
    "Identity",
    "Item",
    "Report",
    "UnstoredItems",
    "content_hash",
    "derived_id",
    "possible_ids",
]

Identity = str | int  # the id that a user gives to an item
OnFailure = Literal["warn", "raise", "report"]
Kind = Literal["text", "image"]

_MAX_SHOWN = 20  # failures in notebooks
_NAMESPACE = uuid.UUID("6f0d6a3c-6a0b-5c5e-9d0a-2d4f2b6c8e11")  # never change it: ids of stored points follow from it


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """An item to add: its content and what else is known about it.

    Attributes:
        content: a string is text, always; an image is a `Path`, `bytes`, a PIL image or a numpy array.
        id: any string, or an unsigned 64-bit integer; derived from source, unit and task if None.
        source: where it comes from; if None, the metadata's `source`, the absolute path of a file, or a hash of the
            content. A `source` in the metadata may be of any kind: it stays as it is, and the source is `str` of it.
        unit: which part of its source it is, such as a page; if None, the items of a named source are numbered.
        task: the embedder's task; if None, that of the call.
        metadata: what to keep with it; dates, UUIDs, numpy numbers and others become JSON, see `metadata.json_value`.
        text: what an image says, such as the text layer of a page: it is stored as the item's content, and mode
            `hybrid` finds it by its words.
        embedding: its vectors, if they are made elsewhere, as an `Embeddings` of one item with its multi-vector.
        payload: JSON values to keep beside the metadata, at the top level of Qdrant's payload, for other readers of the
            collection; `page_content`, `metadata` and `_polyvec` are reserved.
        picture: where the picture of an image is, so that any reader of the collection can show it again: its `uri`,
            `page` and `thumbnail`. If None, it is the path of a file, or the page of its source that the unit names, as
            `page 3` of `report.pdf`.
        content_hash: the SHA-256 that the function `content_hash` gives for the content, if it is known already. A file
            is then read only to be encoded.
        context: where a text comes from, such as the headings above it. It is encoded as a line in front of the text,
            `hybrid` finds the item by its words, too, and hits tell it apart from the text. The character U+FFFC in it
            stands for the text, if something follows the text. Empty: it has none, also
            where `Collection.add` would keep that of a stored item.
        span: the part of the text `content` that the item is, `(start, end)` in characters; the rest is not stored. The
            part is encoded within the whole text (late chunking, see `Embedder.encode_chunks`), and the context is
            then not encoded. Items of one text that follow each other share one forward pass. The unit is `start-end`
            if None.
        root: the path that `polyvec index` was given, and where it found the file of this item. It marks the items that
            the command made, which it removes with their files; nobody else sets it.
    """

    content: Input
    id: Identity | None = None
    source: str | None = None
    unit: str | None = None
    task: str | None = None
    metadata: Mapping[str, Any] | None = None
    text: str | None = None
    embedding: Embeddings | None = None
    payload: Mapping[str, Any] | None = None
    picture: Picture | None = None
    content_hash: str | None = None
    context: str | None = None
    span: Span | None = None
    root: str | None = None


@dataclass(frozen=True, slots=True)
class Failure(polyvec.Failure):
    """An item that was not stored, and the reason.

    Attributes:
        id: of the item; None if it has none, as a file that cannot be read.
    """

    id: Identity | None = None

    def __str__(self) -> str:
        has_name = self.source and not self.source.startswith("sha256:")
        name = self.source if has_name or self.id is None else str(self.id)
        return printable(f"{name or f'item {self.index}'}: {self.reason.rstrip('.')}")


class UnstoredItems(SomeFailed):
    """Some items of a call were not stored. Every other item was.

    Attributes:
        failures: the items that were not stored.
        ids: ids of the other items, in their order.
    """

    failures: tuple[Failure, ...]

    def __init__(self, failures: Sequence[Failure], ids: Sequence[Identity]) -> None:
        self.ids = list(ids)
        others = "The others were: see `.ids` of this error." if self.ids else ""
        total = len(failures) + len(self.ids)
        super().__init__(failures, total, happened="items were not stored", others=others)


@dataclass(slots=True)
class Report:
    """What became of each item that was added.

    Attributes:
        ok: ids of the items that were stored, or whose metadata was.
        skipped: ids of the items that were stored already, unchanged.
        failed: the items that were not stored.
        removed: ids of deleted items: parts that replaced sources no longer have.
    """

    ok: list[Identity] = field(default_factory=list)
    skipped: list[Identity] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    removed: list[Identity] = field(default_factory=list)

    def _repr_html_(self) -> str:
        counts = [(name, notebook.text(len(getattr(self, name)))) for name in self.__slots__]
        failures = [
            (notebook.text(failure.source or failure.id), notebook.text(failure.reason)) for failure in self.failed
        ]
        shown = notebook.table([name for name, _ in counts], [[count for _, count in counts]])
        return shown + (notebook.table(("failed", "reason"), failures[:_MAX_SHOWN]) if failures else "")

    def raise_for_failures(self) -> None:
        """Raise if some items failed.

        Raises:
            UnstoredItems: with the ids of the items that are stored.
        """
        self.check([*self.ok, *self.skipped])

    def check(self, ids: Iterable[Identity]) -> None:
        """Raise if some items failed.

        Args:
            ids: of all items, in their order.

        Raises:
            UnstoredItems: with the ids of the items that are stored.
        """
        if self.failed:
            stored = {*self.ok, *self.skipped}
            raise UnstoredItems(self.failed, [identity for identity in dict.fromkeys(ids) if identity in stored])


def check_on_failure(on_failure: OnFailure) -> None:
    """Raise a ValueError if `on_failure` is none of its values."""
    if on_failure not in get_args(OnFailure):
        allowed = ", ".join(map(repr, get_args(OnFailure)))
        raise ValueError(f"`on_failure` is {on_failure!r}; it must be one of {allowed}.")


def told(report: Report, on_failure: OnFailure) -> Report:
    """Return the report, after its failures were told as `Collection.add` describes."""
    if on_failure == "raise":
        report.raise_for_failures()
    elif on_failure == "warn" and report.failed:
        named = str(UnstoredItems(report.failed, [*report.ok, *report.skipped]))
        warn(named.partition(" The others were")[0] + " `report.failed` has them all.")
    return report


def derived_id(source: str, unit: str, task: str, tenant: str | None = None) -> str:
    """Derive an id from a part of a source, so that indexing again replaces instead of duplicating."""
    of_tenant = "" if tenant is None else f"{tenant}\0"
    return str(uuid.uuid5(_NAMESPACE, f"{of_tenant}{source}\0{unit}\0{task}"))


def point_id(identity: Identity, tenant: str | None = None) -> int | str:
    """Convert an id to Qdrant's: UUIDs and unsigned integers stay, any other string becomes a UUID made of it.

    A UUID in any other spelling than Qdrant's (lower case, with hyphens) is another string, and so another item. With a
    tenant, every id becomes a UUID made of both, so that tenants may use the same ids.
    """
    if isinstance(identity, str):
        if printable(identity) != identity:
            raise ValueError(f"{identity!r} is not an id: it has a lone surrogate, which is no character.")
        if tenant is not None:
            return str(uuid.uuid5(_NAMESPACE, f"{tenant}\0{identity}"))
        return identity if _canonical(identity) == identity else str(uuid.uuid5(_NAMESPACE, identity))
    if not isinstance(identity, int) or isinstance(identity, bool) or not 0 <= identity < 2**64:
        raise ValueError(f"{identity!r} is not an id: use a string or an unsigned 64-bit integer.")
    return identity if tenant is None else str(uuid.uuid5(_NAMESPACE, f"{tenant}\0\0{identity}"))


def earlier_point_id(identity: Identity, tenant: str | None = None) -> str | None:
    """Return the point id that earlier versions gave to a UUID in another spelling; None for any other id.

    An item may still be stored there. Its payload names its id, which may also be another spelling of that UUID.
    """
    canonical = _canonical(identity) if isinstance(identity, str) and tenant is None else None
    return None if canonical == identity else canonical


def _canonical(identity: str) -> str | None:
    """Return the spelling in which Qdrant keeps a UUID; None if the id is no UUID."""
    try:
        return str(uuid.UUID(identity))
    except ValueError:
        return None


def possible_ids(ids: Sequence[str]) -> list[Identity]:
    """Return ids of a framework, and the number behind each: frameworks write `"7"` for an item with the id 7."""
    if isinstance(ids, str | bytes) or not isinstance(ids, Sequence):
        raise TypeError("give `ids` as a list.")
    numbers = [int(key) for key in ids if key.isascii() and key.isdecimal()]
    return [*ids, *(number for number in numbers if number < 2**64 and str(number) in ids)]


def content_hash(content: Input) -> str:
    """Compute the SHA-256 of a text, an image file's bytes, or an image's pixels with their mode or dtype and size.

    Raises:
        OSError: a file cannot be read, or a PIL image that was opened but not decoded yet.
    """
    match content:
        case str():
            data = content.encode("utf-8", "surrogatepass")
        case Path():
            if content.exists() and not content.is_file():  # to read a pipe may take forever
                raise OSError(f"{str(content)!r} is no regular file")
            data = content.read_bytes()
        case bytes():
            data = content
        case Image.Image():
            try:
                with alone_with(content):
                    pixels = content.tobytes() + bytes(content.getpalette() or ())
            except decoding.ERRORS as error:
                pass_alarm(error)
                raise OSError(f"it cannot be decoded: {error}") from error
            data = f"{content.mode} {content.size} ".encode() + pixels
            if (transparent := content.info.get("transparency")) is not None:
                data += repr(transparent).encode()
        case np.ndarray():
            data = f"{content.dtype} {content.shape} ".encode() + content.tobytes()
    return hashlib.sha256(data).hexdigest()

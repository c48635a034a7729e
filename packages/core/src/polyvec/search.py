"""Anything that searches, such as a collection in a store, and how the packages with stores are found."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial
from importlib import metadata
from typing import Any, Protocol

from polyvec.data.documents import Document, loaded
from polyvec.retrieval import Mode
from polyvec.types import Input, UnreadableInputs

__all__ = ["Hit", "Identity", "Search", "open_search", "search_readable"]

_GROUP = "polyvec.searches"  # entry points: functions that open a store by its location

Identity = str | int


class Hit(Protocol):
    """A document that a search finds."""

    @property
    def id(self) -> Identity: ...
    @property
    def score(self) -> float: ...


class Search(Protocol):
    """What searches. A `qdrant_polyvec.Collection` is one."""

    def search_batch(
        self,
        queries: Sequence[Input],
        *,
        limit: int = ...,
        mode: Mode = ...,
        task: str = ...,
    ) -> Sequence[Sequence[Hit]]:
        """Return the best documents of each query, best first.

        Raises:
            UnreadableInputs: queries that cannot be read.
        """


def search_readable(
    search: Search,
    queries: Sequence[Document],
    *,
    limit: int,
    mode: Mode,
    task: str,
    dpi: float = 150,
) -> list[Sequence[Hit] | str]:
    """Search for each query that can be read; for any other, return what is wrong with it."""
    results: dict[int, Sequence[Hit] | str] = {}
    inputs: dict[int, Input] = {}
    for position, query in enumerate(queries):
        try:
            inputs[position] = loaded(query, dpi=dpi)
        except ValueError as error:
            results[position] = str(error)
    run = partial(search.search_batch, limit=limit, mode=mode, task=task)
    try:
        hits = run(list(inputs.values())) if inputs else []
    except UnreadableInputs as error:
        positions = list(inputs)
        for index, reason in error.reasons.items():
            results[positions[index]] = reason
            del inputs[positions[index]]
        hits = run(list(inputs.values())) if inputs else []
    results |= dict(zip(inputs, hits, strict=True))
    return [results[position] for position in range(len(queries))]


def open_search(location: str, name: str, *, model: str | None, **loading: Any) -> AbstractContextManager[Search]:
    """Open the collection `name` of a store to search it with a model, by default the one that it was made with.

    A package with a store brings a function with these arguments as an entry point of the group `polyvec.searches`.
    `loading` has the arguments of `polyvec.loading.load_embedder`.

    Raises:
        ImportError: no such package is installed.
    """
    entry = next(iter(_entry_points()), None)
    if entry is None:
        raise ImportError("collections are searched by qdrant-polyvec; install it with `pip install qdrant-polyvec`.")
    opened: AbstractContextManager[Search] = entry.load()(location, name, model=model, **loading)
    return opened


def _entry_points() -> metadata.EntryPoints:
    return metadata.entry_points(group=_GROUP)

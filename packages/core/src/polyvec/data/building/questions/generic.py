"""Queries that fit many pages, as an encoder sees it: they say too little to have an answer of their own."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32
from PIL import Image

from polyvec.data.building.questions.drafts import Kept
from polyvec.data.building.questions.page_files import PageFile
from polyvec.encoder import Encoder, attempt
from polyvec.streams import split_by_cost

__all__ = ["PageVectors", "fits", "page_vectors"]

_TASK = "retrieval"
_MARGIN = 0.01  # of cosines: a page that is worse by less fits as well
_PICTURES = 8  # that are in memory at a time
_QUERIES = 64  # that are compared at a time
_PAGES = 1024  # that they are compared with at a time


@dataclass(frozen=True, slots=True, eq=False)
class PageVectors:
    """Dense vectors of pages, in a file; rows by the ids of pages."""

    rows: Mapping[str, int]
    vectors: Float32[np.ndarray, "pages dim"]


@contextmanager
def page_vectors(
    encoder: Encoder, pages: Iterable[PageFile], picture: Callable[[PageFile], Image.Image], n_pages: int
) -> Iterator[PageVectors]:
    """Encode pages, a few at a time, into a temporary file. Pages that cannot be drawn or encoded have no row."""
    encode = partial(encoder.encode_document, task=_TASK)
    rows: dict[str, int] = {}
    with tempfile.TemporaryFile() as file:
        vectors = np.memmap(file, np.float32, "w+", shape=(max(1, n_pages), encoder.dim))
        for window in split_by_cost(pages, lambda _: 1, _PICTURES):
            result = attempt(encode, window, picture)
            for position, vector in zip(result.kept, result.embeddings.dense, strict=True):
                vectors[len(rows)] = vector
                rows[window[position].id] = len(rows)
        yield PageVectors(rows, vectors[: len(rows)])


def fits(encoder: Encoder, queries: Iterable[Kept], pages: PageVectors) -> Iterator[tuple[Kept, int]]:
    """Yield each query with the number of other pages that fit it as well as its own page, or better.

    A page fits if its cosine with the query is that of the query's own page less 0.01, or higher. The number is 0 if
    the query's page has no vector.
    """
    for window in split_by_cost(queries, lambda _: 1, _QUERIES):
        vectors = encoder.encode_query([query.text for query in window], task=_TASK).dense
        own = [[pages.rows[page] for page in query.pages if page in pages.rows] for query in window]
        least = np.array(
            [
                (pages.vectors[rows] @ vector).max() - _MARGIN if rows else np.inf
                for rows, vector in zip(own, vectors, strict=True)
            ],
            np.float32,
        )
        counts = np.zeros(len(window), int)
        for start in range(0, len(pages.vectors), _PAGES):
            scores = vectors @ pages.vectors[start : start + _PAGES].T  # (queries, pages)
            counts += (scores >= least[:, None]).sum(axis=1)
        for query, rows, count, vector, threshold in zip(window, own, counts.tolist(), vectors, least, strict=True):
            yield query, count - int((pages.vectors[rows] @ vector >= threshold).sum()) if rows else 0

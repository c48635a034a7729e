"""Search a dataset in every way: each mode and way of storing vectors, and baselines that read the text of pages."""

import itertools
import os
import reprlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal, cast, get_args

from polyvec.data.datasets import Dataset
from polyvec.data.documents import Document, PdfPage, loaded
from polyvec.encoder import Attempt, Encoder
from polyvec.evaluate.bm25 import BM25
from polyvec.evaluate.on_disk import OnDisk
from polyvec.evaluate.runs import Run, Searched, ranked
from polyvec.evaluate.storage import Choice, choices, late_choices, merged, reranked
from polyvec.fusion import HYBRID_K
from polyvec.paths import path_of
from polyvec.retrieval import EncodedDataset, Mode, Scores, encode_items
from polyvec.search import Hit, Search, search_readable
from polyvec.types import Failure, ImageText, Input, Side

__all__ = ["MODES", "EvaluateMode", "evaluate", "evaluate_search", "page_texts"]

EvaluateMode = Literal["dense", "late", "two-stage", "hybrid"]
MODES: tuple[EvaluateMode, ...] = get_args(EvaluateMode)

_SCORES = 1 << 24  # scores at a time
_BASELINE = "text"


def evaluate(
    encoder: Encoder,
    dataset: Dataset,
    *,
    task: str,
    modes: Sequence[EvaluateMode] | None = None,
    storage: bool = True,
    pool_factors: Sequence[float] = (),
    baselines: bool = True,
    read_page: Callable[[Input], str] | None = None,
    candidates: int = 100,
    depth: int = 20,
    dpi: float = 150,
    settings: Mapping[str, object] | None = None,
    show_progress: bool = False,
) -> Run:
    """Encode a dataset once and search it in each mode.

    Documents that cannot be read are not found, and queries that cannot be read find nothing; both count against every
    search. Dense vectors are in memory. Multi-vectors of documents, in each way of storing them, are in temporary files
    (`TMPDIR`) and read in parts, so they may be larger than memory. Scores are made for some queries at a time.

    Args:
        encoder: makes the vectors.
        dataset: what is searched, and what is right.
        task: of the encoder.
        modes: what is tried: `dense` by cosine, `late` by MaxSim, `two-stage` by MaxSim among the best by cosine,
            `hybrid` by MaxSim among the best by cosine and the best by BM25 over the text of pages, fused by rank with
            BM25. Default: all that the encoder can.
        storage: try each Matryoshka size and way of storing vectors, too. Default: yes.
        pool_factors: of token pooling, which `storage` tries.
        baselines: add BM25 over the text of pages and, if documents are pages, dense search over it.
        read_page: reads an image. Default: a PDF's text layer, or the text that the dataset has.
        candidates: of the first stage of two-stage and hybrid searches.
        depth: how many documents are kept of each ranking.
        dpi: resolution of pages of PDF files.
        settings: what else to note in the run.
        show_progress: show a progress bar.

    Raises:
        ValueError: an unknown mode, a mode that needs multi-vectors where the encoder makes none, `hybrid` where no
            document has a text, an impossible number, or nothing could be read.
        TypeError: `read_page` returns no text.
        ImportError: there are `pool_factors`, but scipy is not installed.
    """
    needs_text = modes is not None and "hybrid" in modes
    if modes is None:
        modes = MODES if encoder.multivector_dim else MODES[:1]
    _check(encoder, modes, candidates, depth)
    # Texts come first: a reader that breaks costs no vectors.
    texts, unread = page_texts(dataset, read_page, dpi=dpi) if baselines or "hybrid" in modes else ({}, [])
    if needs_text and not any(text.strip() for text in texts.values()):
        raise ValueError("`modes` has 'hybrid', but no document has a text; pass a reader of pages.")
    left_out: list[Failure] = []
    notes: list[str] = []
    document_ids, query_ids = list(dataset.documents), list(dataset.queries)
    encode = partial(encode_items, encoder, task=task, show_progress=show_progress)
    multivector = bool(set(modes) - {"dense"})

    def encoded(side: Side, ids: Sequence[str], convert: Callable[[str], Input]) -> tuple[Attempt, float]:
        start = time.perf_counter()
        with OnDisk() as file:
            result = encode(ids, convert, side=side, multivector=multivector, take=file.extend)
            tokens = file.arrays() if multivector else None
        result = replace(result, embeddings=replace(result.embeddings, multivector=tokens))
        left_out.extend(replace(failure, source=f"{side} {ids[failure.index]!r}") for failure in result.failures)
        return result, 1000 * (time.perf_counter() - start) / max(1, len(ids))

    documents, ms_document = encoded("document", document_ids, lambda key: loaded(dataset.documents[key], dpi=dpi))
    queries, ms_query = encoded("query", query_ids, dataset.queries.__getitem__)
    if not documents.kept or not queries.kept:
        raise ValueError(f"nothing is left to search: {'; '.join(map(str, left_out[:3]))}")
    noted = {
        "task": task,
        "encoder": encoder.fingerprint,
        "candidates": candidates,
        "dpi": dpi,
        "ms per document to encode": round(ms_document, 3),
        "ms per query to encode": round(ms_query, 3),
        **(settings or {}),
    }
    row = {index: row for row, index in enumerate(documents.kept)}
    relevant = [
        {row[index]: grade for index, grade in dataset.relevant[query].items() if index in row}
        for query in queries.kept
    ]
    vectors = EncodedDataset(queries.embeddings, documents.embeddings, relevant)
    kept_ids = [document_ids[index] for index in documents.kept]
    kept_queries = [query_ids[index] for index in queries.kept]
    search = partial(_searched, kept_queries, depth=depth)
    if storage:
        stored = choices(vectors, sizes=encoder.sizes, pool_factors=pool_factors, candidates=candidates)
    else:
        stored = _plain(vectors, candidates)
    searches = [search(choice, kept_ids, relevant) for choice in stored if choice.kind in modes]
    if baselines or "hybrid" in modes:
        left_out.extend(unread)
        n_empty = sum(not texts.get(key, "").strip() for key in document_ids)
        if n_empty == len(document_ids):
            notes.append("No document has a text: there are no baselines and no hybrid search. Pass a reader of pages.")
            return Run.of(dataset, searches, settings=noted, depth=depth, left_out=left_out, notes=notes)
        if n_empty:
            notes.append(f"{n_empty} of {len(document_ids)} documents have no text, so baselines cannot find them.")
        bm25 = BM25([texts.get(key, "") for key in document_ids])
        asked = [dataset.queries[key] for key in kept_queries]
        if "hybrid" in modes:
            searches.append(search(_hybrid(vectors, bm25, asked, documents.kept, candidates), kept_ids, relevant))
        if baselines:
            everywhere = [dataset.relevant[index] for index in queries.kept]
            lexical = Choice(_BASELINE, "BM25", bm25.bytes_per_item, lambda block: bm25.scores(asked[block]))
            searches.append(search(lexical, document_ids, everywhere))
            if any(not isinstance(dataset.documents[key], str) for key in document_ids):
                searched, failures = _dense_text(search, encode, texts, vectors, everywhere, document_ids)
                searches.append(searched)
                left_out.extend(failures)
    return Run.of(dataset, searches, settings=noted, depth=depth, left_out=left_out, notes=notes)


def evaluate_search(
    search: Search,
    dataset: Dataset,
    *,
    mode: str,
    task: str,
    choice: str = "search_batch",
    depth: int = 20,
    batch_size: int = 256,
    settings: Mapping[str, object] | None = None,
) -> Run:
    """Evaluate anything that searches, such as a `Collection` of qdrant-polyvec in a folder or on a server.

    A hit is the document of the dataset that has its id, or that comes from the same file and page; of several hits of
    one document the first counts. All other hits are documents that answer nothing, and take their rank. The order is
    that of the hits, so ties are as the search broke them.

    Args:
        search: what searches; it encodes the queries itself, so that its time includes this.
        dataset: the queries, and what is right.
        mode: of the search.
        task: of the search.
        choice: what tables call it.
        depth: how many documents are asked for.
        batch_size: queries that are searched at a time.
        settings: what else to note in the run.

    Raises:
        ValueError: no hit is a document of the dataset, or what the search refuses.
    """
    _check_counts(depth=depth, batch_size=batch_size)
    ids = dict.fromkeys(dataset.documents)
    places = {place: key for key in ids if (place := _place(key, dataset))}
    rankings: dict[str, dict[str, float]] = {}
    left_out: list[Failure] = []
    queries, unknown, seconds, n_tied = list(dataset.queries), set[str](), 0.0, 0
    for start in range(0, len(queries), batch_size):
        block = queries[start : start + batch_size]
        begin = time.perf_counter()
        asked = [dataset.queries[query] for query in block]
        found = search_readable(search, asked, limit=depth, mode=cast("Mode", mode), task=task)
        seconds += time.perf_counter() - begin
        for index, (query, hits) in enumerate(zip(block, found, strict=True), start):
            if isinstance(hits, str):
                left_out.append(Failure(index, f"query {query!r}", hits))
                continue
            ranking: dict[str, float] = {}
            for hit in hits:
                key = _document_of(hit, ids, places)
                unknown |= {key} - ids.keys()
                ranking.setdefault(key, hit.score)
            n_tied += len(set(ranking.values())) < len(ranking)
            rankings[query] = _descending(ranking)
    if unknown and not any(ids.keys() & ranking.keys() for ranking in rankings.values()):
        raise ValueError(
            f"no hit is a document of the dataset; hits have ids such as {min(unknown)!r}, documents such as "
            f"{next(iter(ids))!r}. Add documents with the ids of the dataset, or index its folder and "
            "evaluate in the same working directory."
        )
    notes = [f"{choice}: {len(unknown)} hits are not among the documents of the dataset."] if unknown else []
    if n_empty := sum(not ranking for ranking in rankings.values()):
        notes.append(f"{choice}: {n_empty} of {len(queries)} queries have no hits with task {task!r}.")
    if n_tied:
        notes.append(
            f"{choice}: {n_tied} of {len(queries)} queries have ties, which stand as the search returned them."
        )
    searched = Searched(mode, choice, None, 1000 * seconds / max(1, len(queries)), rankings)
    noted = {"task": task, **(settings or {})}
    return Run.of(dataset, [searched], settings=noted, depth=depth, left_out=left_out, notes=notes)


def page_texts(
    dataset: Dataset, read_page: Callable[[Input], str] | None = None, *, dpi: float = 150
) -> tuple[dict[str, str], list[Failure]]:
    """Return what documents say, by id, and which could not be read.

    A text says itself. An image says what `read_page` returns for it, or else what the dataset has. A `ValueError` of
    `read_page` counts as one page that cannot be read.
    """
    texts: dict[str, str] = {}
    failures: list[Failure] = []
    for index, key in enumerate(dataset.documents):
        try:
            texts[key] = _text(dataset, key, read_page, dpi)
        except ValueError as error:
            failures.append(Failure(index, f"text of document {key!r}", str(error)))
    return texts, failures


def _text(dataset: Dataset, key: str, read_page: Callable[[Input], str] | None, dpi: float) -> str:
    if read_page is None and key in dataset.texts:
        return dataset.texts[key]
    document: Document = dataset.documents[key]
    if isinstance(document, str):
        return document
    if isinstance(document, ImageText) and read_page is None:
        return document.text
    text = "" if read_page is None else read_page(loaded(document, dpi=dpi))
    if not isinstance(text, str):
        raise TypeError(f"`read_page` returned {reprlib.repr(text)} for document {key!r}; it must return a text.")
    return text


def _check(encoder: Encoder, modes: Sequence[str], candidates: int, depth: int) -> None:
    for mode in modes:
        if mode not in MODES:
            raise ValueError(f"`modes` has {mode!r}; known are {', '.join(map(repr, MODES))}.")
        if mode != "dense" and not encoder.multivector_dim:
            raise ValueError(f"`modes` has {mode!r}; it needs multi-vectors, which this encoder does not make.")
    _check_counts(candidates=candidates, depth=depth)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"`{name}` is {value}; it may be 1 or more.")


def _place(key: str, dataset: Dataset) -> tuple[str, str] | None:
    """Return the file and the part of it that stores name; None for a text or an image in a table."""
    document = dataset.documents[key]
    if isinstance(document, PdfPage):
        return _file(document.path), f"page {document.number}"
    return (_file(document), "image") if isinstance(document, Path) else None


def _file(source: str | Path) -> str:
    """Return the one name of a file, which a store may name relative to the working directory; others stay."""
    try:
        return os.path.realpath(path_of(source))
    except ValueError:
        return str(source)


def _document_of(hit: Hit, ids: Mapping[str, None], places: Mapping[tuple[str, str], str]) -> str:
    """Return the id of the document that a hit stands for; that of the hit if it is none of the dataset."""
    if str(hit.id) in ids:
        return str(hit.id)
    source, unit = (getattr(hit, name, "") or "" for name in ("source", "unit"))  # stores have them
    return places.get((_file(source), unit), str(hit.id))


def _descending(ranking: Mapping[str, float]) -> dict[str, float]:
    """Keep scores that descend; otherwise number the ranks, for the order of the search is what counts."""
    scores = list(ranking.values())
    if all(first > second for first, second in pairwise(scores)):
        return dict(ranking)
    return {key: float(-rank) for rank, key in enumerate(ranking)}


def _plain(vectors: EncodedDataset, candidates: int) -> Iterator[Choice]:
    """Yield a search of each mode with the vectors as the encoder made them."""
    yield (dense := next(choices(vectors, pool_factors=())))
    for late in itertools.islice(late_choices(vectors.queries, vectors.documents), 1):
        yield late
        scores = reranked([dense.scores], late, vectors.relevant, candidates=candidates)
        n_bytes = dense.bytes_per_item + late.bytes_per_item
        yield Choice("two-stage", f"{dense.name} -> {late.name}", n_bytes, scores)


def _searched(
    queries: Sequence[str],
    choice: Choice,
    ids: Sequence[str],
    relevant: Sequence[Mapping[int, float]],
    *,
    depth: int,
) -> Searched:
    """Rank the documents `ids` for each query, some queries at a time."""
    rankings: dict[str, dict[str, float]] = {}
    size = max(1, _SCORES // max(1, len(ids)))
    seconds = 0.0
    for start in range(0, len(queries), size):
        block = slice(start, min(start + size, len(queries)))
        begin = time.perf_counter()
        scores = choice.scores(block)
        for query, row, grades in zip(queries[block], scores, relevant[block], strict=True):
            rankings[query] = ranked(row, ids, grades, n=depth)
        seconds += time.perf_counter() - begin
    return Searched(choice.kind, choice.name, choice.bytes_per_item, 1000 * seconds / len(queries), rankings)


def _hybrid(
    vectors: EncodedDataset, bm25: BM25, queries: Sequence[str], kept: Sequence[int], candidates: int
) -> Choice:
    """Order the best by cosine and the best by BM25 by MaxSim, and fuse that with BM25, as a `Collection` does."""
    dense = next(choices(vectors, pool_factors=()))
    late = next(late_choices(vectors.queries, vectors.documents))

    def lexical(block: slice) -> Scores:
        return bm25.scores(queries[block])[:, kept]

    by_maxsim = reranked([dense.scores, lexical], late, vectors.relevant, candidates=candidates)
    scores = merged([by_maxsim, lexical], vectors.relevant, k=HYBRID_K, candidates=candidates)
    n_bytes = dense.bytes_per_item + late.bytes_per_item + bm25.bytes_per_item
    return Choice("hybrid", f"({dense.name} + BM25 -> {late.name}) + BM25", n_bytes, scores)


def _dense_text(
    search: Callable[[Choice, Sequence[str], Sequence[Mapping[int, float]]], Searched],
    encode: Callable[..., Attempt],
    texts: Mapping[str, str],
    vectors: EncodedDataset,
    relevant: Sequence[Mapping[int, float]],
    ids: Sequence[str],
) -> tuple[Searched, list[Failure]]:
    """Search the text of pages by the dense vectors of the same encoder. Also returns the texts that it cannot read."""
    with_text = [index for index, key in enumerate(ids) if texts.get(key, "").strip()]
    encoded = encode(with_text, lambda index: texts[ids[index]], side="document", multivector=False)
    row = {with_text[place]: row for row, place in enumerate(encoded.kept)}
    judged = [{row[index]: grade for index, grade in grades.items() if index in row} for grades in relevant]
    first = next(choices(EncodedDataset(vectors.queries, encoded.embeddings, judged), pool_factors=()))
    choice = replace(first, kind=_BASELINE, name=f"dense, {first.name}")
    failures = [
        replace(failure, source=f"text of document {ids[with_text[failure.index]]!r}") for failure in encoded.failures
    ]
    return search(choice, [ids[index] for index in row], judged), failures

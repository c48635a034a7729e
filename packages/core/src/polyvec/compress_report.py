"""What smaller vectors cost: bytes per item and nDCG of each choice, measured on your own documents."""

import argparse
import importlib.util
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from polyvec.beir import Dataset, has_relevant, moved, read_folder
from polyvec.compression import binary, int8, pool_columns, pool_rows, pool_tokens, truncate
from polyvec.encoder import Encoder
from polyvec.scoring import Relevant, asymmetric_cosine, cosine, hamming_similarity, maxsim, ndcg, ranking, signs, unit
from polyvec.types import TASKS, Embeddings, Grid, Input, Task, UnreadableInputs

Kind = Literal["dense", "late", "two-stage"]

_PREFETCH = 10  # candidates of the first stage, in multiples of k
_POOL_FACTORS = (2, 3, 4)
_DEMO_LIMIT = 200
_EPILOG = """
FOLDER has the layout of BEIR: corpus.jsonl with a line {"_id": …, "title": …, "text": …} or {"_id": …, "image": path}
per document (the path relative to FOLDER; the image counts where there is a text, too), queries.jsonl with a line
{"_id": …, "text": …} per query, and qrels/test.tsv, or any qrels/*.tsv, with the header query-id corpus-id score.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One choice of what to store.

    Attributes:
        kind: which vectors the search uses.
        choice: how they are stored; `a -> b` fetches candidates by a and re-ranks them by b.
        bytes_per_item: mean over documents of what the vectors take, without ids or an index.
        ratio: how many times smaller that is than the first row of the kind, which is not compressed.
        ndcg: mean over queries.
        change: `ndcg` minus that of the first row of the kind.
    """

    kind: Kind
    choice: str
    bytes_per_item: float
    ratio: float
    ndcg: float
    change: float


@dataclass(frozen=True, slots=True, eq=False)
class _Choice:
    kind: Kind
    name: str
    bytes_per_item: float
    scores: np.ndarray  # (queries, documents)


def report(
    queries: Embeddings,
    documents: Embeddings,
    relevant: Sequence[Relevant],
    *,
    sizes: Sequence[int] = (),
    pool_factors: Sequence[float] = _POOL_FACTORS,
    k: int = 5,
) -> list[Row]:
    """Bytes per item and nDCG@k of each choice of vectors; ties count against it, as in `polyvec.scoring.ndcg`.

    Late interaction and two-stage search are among the rows if both sides have multi-vectors, means of rows and
    columns of patches if a document has a grid (texts then stay as they are). Queries keep full precision there;
    dense vectors are compared in the precision of the row unless it says otherwise. Two-stage search re-ranks the
    best 10 · k by dense vector. Bits are taken of sizes that are multiples of 8 only.

    Args:
        queries: as encoded, dense vectors in full size.
        documents: as `queries`.
        relevant: per query its relevant documents, by position: with their grades, or all alike.
        sizes: Matryoshka sizes to try beside the full size.
        pool_factors: of token pooling, to try in late interaction; any needs the extra `pooling`.
        k: how many results count.

    Raises:
        ValueError: an impossible size or k, judgements that do not fit, or vectors that are not finite.
        ImportError: there are `pool_factors` and multi-vectors, but scipy is not installed.
    """
    dim = documents.dense.shape[1]
    wrong = [size for size in sizes if not 1 <= size <= dim]
    if wrong:
        raise ValueError(f"`sizes` has {wrong[0]}; these vectors can be cut to 1 to {dim} numbers.")
    if k < 1:
        raise ValueError(f"`k` is {k}; it may be 1 or more.")
    rows: list[Row] = []
    full_by_kind: dict[Kind, Row] = {}
    for choice in _choices(queries, documents, relevant, sorted({dim, *sizes}, reverse=True), pool_factors, k):
        found = ndcg(choice.scores, relevant, k=k)
        row = Row(choice.kind, choice.name, choice.bytes_per_item, 1.0, found, 0.0)
        full = full_by_kind.setdefault(choice.kind, row)
        rows.append(replace(row, ratio=full.bytes_per_item / row.bytes_per_item, change=found - full.ndcg))
    return rows


def table(rows: Sequence[Row], *, k: int) -> str:
    """The rows as aligned text, at most 100 columns wide."""
    head = f"{'':<9}  {'choice':<46}  {'bytes/item':>10}  {'ratio':>6}  {f'nDCG@{k}':>8}  {'change':>7}"
    lines = [head, "-" * len(head)]
    lines += [
        f"{row.kind:<9}  {row.choice:<46}  {row.bytes_per_item:>10,.0f}  {row.ratio:>5.1f}×  {row.ndcg:>8.3f}  "
        f"{row.change:>+7.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def measure(
    encoder: Encoder,
    dataset: Dataset,
    *,
    task: Task,
    sizes: Sequence[int] = (),
    pool_factors: Sequence[float] = _POOL_FACTORS,
    k: int = 5,
) -> tuple[list[Row], dict[str, str]]:
    """Encode a dataset; the report on it, and what could not be read: its name → why.

    Raises:
        ValueError: nothing is left, or as `report`.
        ImportError: as `report`.
    """
    documents, document_places, unread = _encoded(encoder.encode_document, "document", dataset.documents, task)
    queries, query_places, unread_queries = _encoded(encoder.encode_query, "query", dataset.queries, task)
    left_out = unread | unread_queries
    new_places = {place: row for row, place in enumerate(document_places)}
    judged = {row: moved(dataset.relevant[place], new_places) for row, place in enumerate(query_places)}
    kept = [row for row, grades in judged.items() if has_relevant(grades)]
    keys = list(dataset.queries)
    for row, grades in judged.items():
        if not has_relevant(grades):
            left_out[f"query {keys[query_places[row]]!r}"] = "no relevant document of it could be read"
    if not kept:
        raise ValueError(f"nothing is left to search: {'; '.join(map(': '.join, list(left_out.items())[:3]))}")
    asked = _rows(queries, kept)
    rows = report(asked, documents, [judged[row] for row in kept], sizes=sizes, pool_factors=pool_factors, k=k)
    return rows, left_out


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when there is a report, 2 for wrong usage (raised by argparse) or bad input."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    dataset = None if options.folder is None else read_folder(options.folder, limit=options.limit)
    from polyvec.embedder import Embedder  # loading torch takes seconds; neither `report` nor wrong input waits for it

    embedder = Embedder.from_pretrained(options.model)
    if dataset is None:
        dataset = _demo_world(options.task, options.limit or _DEMO_LIMIT)
    pool_factors = _POOL_FACTORS if importlib.util.find_spec("scipy") else ()
    if not pool_factors:
        sys.stderr.write("note: pooled tokens are not tried; that needs pip install 'polyvec[pooling]'\n")
    sizes = embedder.config.matryoshka_dims
    rows, left_out = measure(embedder, dataset, task=options.task, sizes=sizes, pool_factors=pool_factors, k=options.k)
    for name, reason in left_out.items():
        sys.stderr.write(f"left out: {name}: {reason}\n")
    title = f"{dataset.title}; task {options.task}, model {options.model}"
    if options.json:
        found = {"title": title, "k": options.k, "left_out": left_out, "rows": [asdict(row) for row in rows]}
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        sys.stdout.write(f"{title}\n\n{table(rows, k=options.k)}\n")


def _choices(
    queries: Embeddings,
    documents: Embeddings,
    relevant: Sequence[Relevant],
    sizes: Sequence[int],
    pool_factors: Sequence[float],
    k: int,
) -> Iterator[_Choice]:
    """Every choice, one at a time; two-stage search last, of what came before."""
    full, bits = f"{sizes[0]} float32", f"{sizes[0]} binary, float query"
    pairs = [(full, "float32"), (bits, "float16"), (bits, "int8")]
    pairs += [(bits, f"int8, pooled by {factor:g}") for factor in pool_factors]
    stages = {name for pair in pairs for name in pair}
    kept: dict[str, _Choice] = {}  # only what is used again: scores of large datasets are large
    for choice in itertools.chain(_dense(queries, documents, sizes), _late(queries, documents, pool_factors)):
        if choice.name in stages:
            kept[choice.name] = choice
        yield choice
    for first, second in pairs:
        if first in kept and second in kept:
            yield _two_stage(kept[first], kept[second], relevant, _PREFETCH * k)


def _dense(queries: Embeddings, documents: Embeddings, sizes: Sequence[int]) -> Iterator[_Choice]:
    cuts = {size: (truncate(queries.dense, size), truncate(documents.dense, size)) for size in sizes}
    packable = [size for size in sizes if size % 8 == 0]
    for size in sizes:
        yield _Choice("dense", f"{size} float32", 4 * size, cosine(*cuts[size]))
    halves = [side.astype(np.float16) for side in cuts[sizes[0]]]
    yield _Choice("dense", f"{sizes[0]} float16", 2 * sizes[0], cosine(*halves))
    for size in sizes:
        asked, stored = cuts[size]
        yield _Choice("dense", f"{size} int8", size, cosine(int8(asked), int8(stored)))
    for size in packable:
        asked, stored = cuts[size]
        yield _Choice("dense", f"{size} binary", size / 8, hamming_similarity(binary(asked), binary(stored)))
    for size in packable:
        asked, stored = cuts[size]
        scores = asymmetric_cosine(asked, binary(stored))
        yield _Choice("dense", f"{size} binary, float query", size / 8, scores)


def _late(queries: Embeddings, documents: Embeddings, pool_factors: Sequence[float]) -> Iterator[_Choice]:
    if queries.multivector is None or documents.multivector is None:
        return
    asked = queries.multivector
    for name, n_bytes, stored in _stored(documents.multivector, documents.grids, pool_factors):
        n_numbers = sum(tokens.size for tokens in stored) / len(stored)
        yield _Choice("late", name, n_bytes * n_numbers, maxsim(asked, stored))


def _stored(
    tokens: Sequence[np.ndarray], grids: Sequence[Grid | None], pool_factors: Sequence[float]
) -> Iterator[tuple[str, float, Sequence[np.ndarray]]]:
    """How multi-vectors are stored, bytes per number, and what the search then sees."""
    yield "float32", 4, tokens
    yield "float16", 2, [one.astype(np.float16) for one in tokens]
    yield "int8", 1, [unit(int8(one)) for one in tokens]
    if all(one.shape[1] % 8 == 0 for one in tokens):
        yield "binary", 1 / 8, [unit(signs(binary(one))) for one in tokens]
    for factor in pool_factors:
        pooled = [pool_tokens(one, factor) for one in tokens]
        yield f"float32, pooled by {factor:g}", 4, pooled
        yield f"int8, pooled by {factor:g}", 1, [unit(int8(one)) for one in pooled]
    if any(grids):
        yield (
            "float32, means of rows and columns",
            4,
            [
                one if grid is None else np.concatenate([pool_rows(one, grid), pool_columns(one, grid)])
                for one, grid in zip(tokens, grids, strict=True)
            ],
        )


def _two_stage(first: _Choice, second: _Choice, relevant: Sequence[Relevant], n: int) -> _Choice:
    scores = np.full_like(second.scores, -np.inf)
    for row, judged in enumerate(relevant):
        candidates = ranking(first.scores[row], judged, n=n)
        scores[row, candidates] = second.scores[row, candidates]
    n_bytes = first.bytes_per_item + second.bytes_per_item
    return _Choice("two-stage", f"{first.name} -> {second.name}", n_bytes, scores)


def _encoded(
    encode: Callable[..., Embeddings], name: str, items: Mapping[str, Input], task: Task
) -> tuple[Embeddings, list[int], dict[str, str]]:
    """The embeddings, the position of each among the items, and what could not be read."""
    try:
        embeddings = encode(list(items.values()), task=task, multivector=True, show_progress=True)
    except UnreadableInputs as error:
        keys = list(items)
        unread = {f"{name} {keys[place]!r}": reason for place, reason in error.reasons.items()}
        return error.embeddings, error.kept, unread
    return embeddings, list(range(len(items))), {}


def _rows(embeddings: Embeddings, rows: Sequence[int]) -> Embeddings:
    multivector = embeddings.multivector
    return Embeddings(
        dense=embeddings.dense[list(rows)],
        multivector=None if multivector is None else tuple(multivector[row] for row in rows),
        grids=tuple(embeddings.grids[row] for row in rows),
    )


def _demo_world(task: Task, n: int) -> Dataset:
    from polyvec.demo.evaluate import unseen  # imports torch

    name, pairs = unseen(task, n)
    return Dataset(
        title=f"demo world: {n} {name} and a query for each",
        queries={str(place): query for place, (query, _) in enumerate(pairs)},
        documents={str(place): document for place, (_, document) in enumerate(pairs)},
        relevant=[{place: 1.0} for place in range(n)],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m polyvec.compress_report",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="dataset (default: the demo world)")
    parser.add_argument("--model", default="demo", help="'demo', a directory or a hub id (default: %(default)s)")
    parser.add_argument("--task", choices=TASKS, default="retrieval", help="(default: %(default)s)")
    parser.add_argument(
        "--limit",
        type=_positive,
        metavar="N",
        help="at most N queries, and N documents: those that the queries should find, then others "
        f"(default: all; {_DEMO_LIMIT} of the demo world)",
    )
    parser.add_argument("--k", type=_positive, default=5, help="how many results count (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


if __name__ == "__main__":
    sys.exit(main())

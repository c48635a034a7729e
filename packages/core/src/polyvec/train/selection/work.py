"""Do what the commands `polyvec train filter` and `polyvec train mine` say."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from polyvec.cli import print_json
from polyvec.loading import load_embedder
from polyvec.retrieval import Mode
from polyvec.search import Identity, Search, open_search
from polyvec.terminal import echo
from polyvec.train.data.corpora import Corpus
from polyvec.train.data.documents import Contents, CorpusDocuments, ExampleDocuments
from polyvec.train.data.folders import corpus_file, is_folder
from polyvec.train.data.sources import Source, SourceSettings, open_source
from polyvec.train.data.tables import open_table
from polyvec.train.selection.filtering import filter_examples
from polyvec.train.selection.mining import mine_negatives
from polyvec.train.selection.negatives import Selection
from polyvec.train.selection.row_files import (
    Chain,
    check_movable,
    check_writable,
    json_row,
    lines,
    write_kept,
    write_rejected,
)
from polyvec.train.selection.searching import EncoderSearch
from polyvec.whole_files import replaced

__all__ = ["choose_again", "filter_rows", "mine_rows"]

_SHOWN = 5  # failures that are named


def filter_rows(
    *,
    rows: Sequence[Path],
    output: Path,
    rejected: Path | None,
    near_duplicates: float,
    model: str | None,
    row_format: str | None,
    corpus: Path | None,
    max_bad_rows: int,
    adapters: Mapping[str, Path],
    device: Any,
    dtype: Any,
    revision: str | None,
    token_budget: int | None,
    max_pixels: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Write the rows that stay, and print how many do not for which reason."""
    _check_outputs(rows, output, rejected)
    for path in filter(is_folder, rows):
        raise ValueError(
            f"{str(path)!r} is a dataset; filter the pairs that `polyvec data export {path} --rows FILE` writes."
        )
    sources = _sources(rows, row_format, corpus, max_bad_rows)
    examples = Chain(list(sources.values()))
    check_writable(sources, output)
    check_movable(examples, rows, output)
    encoder = (
        None
        if model is None
        else load_embedder(
            model,
            adapters=adapters,
            only=options["task"],
            device=device,
            dtype=dtype,
            revision=revision,
            token_budget=token_budget,
            max_pixels=max_pixels,
        )
    )
    result = filter_examples(
        examples, near_duplicates=near_duplicates or None, encoder=encoder, show_progress=True, **options
    )
    reasons: dict[str, tuple[str, str]] = {}
    for source in sources.values():
        reasons.update((place, ("bad row", detail)) for place, detail in source.report.bad_places.items())
    counts: dict[str, int] = {"bad row": len(reasons), **result.counts}
    for position, rejection in result.rejected.items():
        reasons[examples[position].place] = rejection.reason, rejection.detail
    write_kept(sources, reasons.keys(), output)
    if rejected is not None:
        write_rejected(sources, reasons, rejected)
    n_rows = len(result.kept) + len(reasons)
    if as_json:
        facts = {"rows": n_rows, "kept": len(result.kept), "language_unknown": result.n_unknown}
        print_json({**facts, "removed": counts})
        return 0
    table = [("rows", n_rows), *((f"  {reason}", n) for reason, n in counts.items()), ("kept", len(result.kept))]
    if result.n_unknown:
        table.append(("  too short to tell the language", result.n_unknown))
    _print_table(table)
    return 0


def mine_rows(
    *,
    rows: Sequence[Path],
    output: Path,
    model: str | None,
    collection: str | None,
    location: str,
    row_format: str | None,
    corpus: Path | None,
    max_bad_rows: int,
    mode: Mode,
    task: str,
    truncate_dim: int | None,
    dpi: float,
    ranks: tuple[int, int],
    exclude_same: str,
    adapters: Mapping[str, Path],
    device: Any,
    dtype: Any,
    revision: str | None,
    token_budget: int | None,
    max_pixels: int | None,
    as_json: bool,
    **limits: Any,
) -> int:
    """Search for the queries of the rows, and write the rows with negatives."""
    selection = Selection(**limits)
    loading: dict[str, Any] = {
        "adapters": adapters,
        "device": device,
        "dtype": dtype,
        "revision": revision,
        "token_budget": token_budget,
        "max_pixels": max_pixels,
    }
    _check_outputs(rows, output)
    folders = [path for path in rows if is_folder(path)]
    if folders and len(rows) > 1:
        raise ValueError(f"{str(folders[0])!r} is a dataset with its own corpus; mine it alone.")
    examples = Chain(list(_sources(rows, row_format, corpus, max_bad_rows).values()))
    if folders:
        corpus = corpus_file(folders[0])
    documents = None if corpus is None else CorpusDocuments(Corpus(open_table(corpus)))
    failures: Mapping[Identity, str] = {}
    counts: Counter[str] = Counter()
    with ExitStack() as opened, replaced(output) as file:
        search: Search
        if collection is not None:
            search = opened.enter_context(open_search(location, collection, model=model, **loading))
        else:
            search = EncoderSearch(
                load_embedder(model or "", only=task, **loading),
                ExampleDocuments(examples, range(len(examples)), Contents()) if documents is None else documents,
                task=task,
                multivector=mode != "dense",
                truncate_dim=truncate_dim,
                dpi=dpi,
                show_progress=True,
            )
            failures = search.failures
        mined = mine_negatives(
            examples,
            search,
            documents=documents,
            groups=None if documents is None else documents.groups,
            mode=mode,
            task=task,
            ranks=ranks,
            selection=selection,
            exclude_same_group=exclude_same == "group",
            dpi=dpi,
            show_progress=True,
        )
        for example, one in zip(examples, mined, strict=True):
            _count(counts, len(one.negatives), selection.per_query, one.problem)
            for number in range(len(example.positives)):
                try:
                    row = json_row(example, number, one, ids=documents is not None, folder=output.parent)
                except ValueError as error:
                    counts[f"not written: {error}"] += 1
                else:
                    _write(file, row)
    for identity, reason in list(failures.items())[:_SHOWN]:
        echo(f"failed: document {identity}: {reason}", err=True)
    counts["unreadable documents"] += len(failures)
    _print_counts(counts, as_json=as_json)
    return 1 if failures else 0


def choose_again(*, rows: Sequence[Path], output: Path, as_json: bool, **options: Any) -> int:
    """Choose among the negatives of mined rows by their scores, and write the rows. Options of the search are idle."""
    selection = Selection(**{field.name: options[field.name] for field in fields(Selection)})
    _check_outputs(rows, output)
    for path in rows:
        if path.parent.resolve() != output.parent.resolve():
            raise ValueError(f"paths in rows are relative to {str(path.parent)!r}; write the output there, too.")
    counts: Counter[str] = Counter()
    with replaced(output) as file:
        for number, (place, row) in enumerate(_objects(rows)):
            if "negative_scores" not in row:
                _count(counts, 0, selection.per_query, "it was not mined")
                _write(file, row)
                continue
            try:
                n_chosen, chosen = _chosen(row, selection, number)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{place}: {error}") from error
            _count(counts, n_chosen, selection.per_query, "")
            _write(file, chosen)
    _print_counts(counts, as_json=as_json)
    return 0


def _chosen(row: dict[str, Any], selection: Selection, number: int) -> tuple[int, dict[str, Any]]:
    """Return how many negatives of a mined row stay, and the row with these."""
    scores, positive = row["negative_scores"], row.get("positive_score")
    negatives = [(key, value) for key in ("negatives", "negative_ids") for value in row.get(key) or ()]
    if len(negatives) != len(scores):
        raise ValueError(f"{len(scores)} `negative_scores` of {len(negatives)} negatives; mine the rows again.")
    is_lost = positive is None and selection.needs_positive
    chosen = [] if is_lost else selection.choose(scores, positive, number)
    kept: dict[str, list[Any]] = {key: [] for key in ("negatives", "negative_ids") if key in row}
    for place in chosen:
        key, value = negatives[place]
        kept[key].append(value)
    return len(chosen), row | kept | {"negative_scores": [scores[place] for place in chosen]}


def _objects(paths: Sequence[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
        for place, line in lines(path):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except ValueError as error:
                raise ValueError(f"{place}: the line is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{place}: the line is no JSON object")  # noqa: TRY004 — the file has a wrong value
            yield place, row


def _sources(
    rows: Sequence[Path], row_format: str | None, corpus: Path | None, max_bad_rows: int
) -> dict[Path, Source]:
    """Open files of rows. Each is there once."""
    settings = {path: SourceSettings(path, format=row_format, corpus=corpus) for path in rows}
    return {path: open_source(one, max_bad_rows=max_bad_rows, show_progress=True) for path, one in settings.items()}


def _check_outputs(rows: Sequence[Path], *outputs: Path | None) -> None:
    """Refuse outputs that would replace what is read, or that cannot be written, before anything is read."""
    seen = {path.resolve() for path in rows}
    for output in outputs:
        if output is None:
            continue
        if output.resolve() in seen:
            raise ValueError(f"{str(output)!r} is read or written already; choose another output.")
        if not output.parent.is_dir():
            raise ValueError(f"there is no folder {str(output.parent)!r}; make it, or choose another output.")
        seen.add(output.resolve())


def _write(file: Any, row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")


def _count(counts: Counter[str], n_negatives: int, per_query: int, problem: str) -> None:
    counts["queries"] += 1
    counts["negatives"] += n_negatives
    if n_negatives < per_query:
        counts["queries with fewer than asked for"] += 1
        counts["queries with none"] += not n_negatives
    if problem:
        counts[f"  {problem.partition(':')[0]}"] += 1


def _print_counts(counts: Counter[str], *, as_json: bool) -> None:
    if as_json:
        print_json({name.strip(): n for name, n in counts.items()})
    else:
        _print_table(list(counts.items()))


def _print_table(rows: Sequence[tuple[str, int]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, n in rows:
        echo(f"{name:<{width}}  {n:>10,}")

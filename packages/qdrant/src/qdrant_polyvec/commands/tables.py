"""Tables of at most 100 columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from polyvec.terminal import escaped
from qdrant_polyvec.characters import shortened
from qdrant_polyvec.commands.census import Counts, Guess
from qdrant_polyvec.commands.passages import passage
from qdrant_polyvec.files import office
from qdrant_polyvec.hits import Hit, Stored
from qdrant_polyvec.items import Report
from qdrant_polyvec.maintenance import Verification
from qdrant_polyvec.pictures import shown_unit

WIDTH = 100
_INDENT = 6  # of the second line of a hit
_HEADINGS_WIDTH = 40
_MAX_EXAMPLES = 5  # ids per kind of flaw, suffixes of files


def hits(hits: Sequence[Hit], query: str = "") -> list[str]:
    """Show the rank, score, task and place of each hit and, in a second line, the passage that answers the query."""
    rows = [f"{'rank':>4}  {'score':>8}  {'task':<13}  source"]
    for rank, hit in enumerate(hits, start=1):
        begin = f"{rank:>4}  {hit.score:>8.3f}  {hit.task:<13}  "
        rows.append(begin + shortened(escaped(address(hit)), WIDTH - len(begin), from_left=True))
        if about := _about(hit, query):
            rows.append(_cut(" " * _INDENT + about))
    return rows


def summary(reports: Mapping[str, Report]) -> list[str]:
    """Count the items of each kind that were indexed, unchanged, removed and failed."""
    rows = [["", "indexed", "unchanged", "removed", "failed"]]
    total = [0, 0, 0, 0]
    for kind, report in reports.items():
        counts = [len(report.ok), len(report.skipped), len(report.removed), len(report.failed)]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        rows.append([kind, *map(str, counts)])
    rows.append(["total", *map(str, total)])
    return [f"{row[0]:<12}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows]


def files(counts: Counts) -> list[str]:
    """Count the files by what became of them, if not all were read or are named as failures, and name guesses."""
    guesses = [_guess(encoding, guess) for encoding, guess in counts.guessed.items()]
    if not counts.left_out and not counts.removed:
        return guesses
    numbers = [f"{counts.read} read, {counts.failed} failed", *(f"{n} {why}" for why, n in counts.left_out.items())]
    numbers += [f"{counts.removed} removed"] if counts.removed else []
    rows = [f"files: {', '.join(numbers)}"]
    kinds = [f"{suffix} {n}" for suffix, n in counts.other_kinds.items()]
    rows += [f"other kinds: {_first(kinds)}"] if kinds else []
    readable = [suffix for suffix in counts.other_kinds if suffix in office.SUFFIXES]
    return rows + ([f"to read {', '.join(readable)}: {office.INSTALL}"] if readable else []) + guesses


def facts(value_by_name: Mapping[str, str]) -> list[str]:
    """Show facts, one a line."""
    width = max(map(len, value_by_name), default=0)
    return [f"{name:<{width}}  {value}".rstrip() for name, value in value_by_name.items()]


def columns(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Show rows; the first column is as wide as its values and comes last, so that nothing is cut."""
    cells = [[_cell(row[name]) for name in names] for row in rows]
    first, *others = names
    widths = [max(len(cell) for cell in column) for column in zip(names, *cells, strict=True)]
    lines = [[first, *others], *cells]
    return ["  ".join([*map(str.ljust, line[1:], widths[1:]), line[0]]) for line in lines]


def item(item: Stored) -> list[str]:
    """Show an item whole: where it is from, its facts and metadata, and its text or where its picture is."""
    own = {"id": str(item.id), "tenant": item.tenant, "task": item.task, "kind": item.kind, "context": item.context}
    if item.kind == "image":
        uri = item.picture and item.picture.uri
        lost = "in its file" if Path(item.source).is_file() else "not kept"
        own["picture"] = lost if not uri else "in the index" if uri.startswith("data:") else uri
    others = {name: str(value) for name, value in item.metadata.items() if name != "source"}
    text = "" if item.content == item.source else item.content
    lines = ["", *(line.expandtabs() for line in text.split("\n"))] if text else []
    named = {name: value for name, value in own.items() if value}
    return [address(item), *facts({**named, **{f"metadata {name}": value for name, value in others.items()}}), *lines]


def verification(result: Verification, gone_files: Sequence[str]) -> list[str]:
    """Count the items, and name the flawed ones by what is wrong with them; orphans by their files, which are gone."""
    rows = [f"{result.n_points} items"]
    for name, flawed in asdict(result).items():
        if flawed is True:
            rows.append(f"{name}: `polyvec reindex` brings the BM25 vectors up to the rules of this version")
        if isinstance(flawed, str):
            rows.append(f"{name}: `polyvec reindex` with the present model brings the rest of {flawed} over")
        if isinstance(flawed, list):
            examples = list(map(place, gone_files)) if name == "orphans" else flawed
            rows.append(_cut(f"{name:<16}{len(flawed):>8}  {_first(examples)}".rstrip()))
    return rows


def place(source: str) -> str:
    """Return a source as the tables show it: a path below the working directory is relative."""
    path, here = Path(source), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_absolute() and path.is_relative_to(here) else source


def address(item: Stored) -> str:
    """Return the source and unit of an item, as `polyvec show` takes them."""
    return place(item.source) + (f":{shown_unit(item.unit, item.picture)}" if item.unit else "")


def _guess(encoding: str, guess: Guess) -> str:
    files = "1 file," if guess.files == 1 else f"{guess.files} files, such as"
    return f"read as {encoding}: {files} {place(guess.example)} (another: --encoding NAME)"


def _first(examples: Sequence[object]) -> str:
    return ", ".join(map(str, examples[:_MAX_EXAMPLES])) + (", …" if len(examples) > _MAX_EXAMPLES else "")


def _cut(row: str) -> str:
    return shortened(escaped(row), WIDTH)  # escaped before it is measured


def _cell(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "unknown" if value is None else str(value)


def _about(hit: Hit, query: str) -> str:
    """The headings above a hit, without the name of its file, and its passage."""
    headings = (hit.context or "").removeprefix(PurePosixPath(hit.source).name).removeprefix(" › ")
    kind = "(image) " if hit.kind == "image" else ""
    begin = shortened(headings, _HEADINGS_WIDTH, from_left=True) + ": " if headings else ""
    content = hit.content if hit.content != hit.source else ""
    space = WIDTH - _INDENT - len(kind) - len(begin)
    shown = passage(content, query, width=space, names=hit.context or "")
    return f"{kind}{begin}{shown}".rstrip().removesuffix(":")

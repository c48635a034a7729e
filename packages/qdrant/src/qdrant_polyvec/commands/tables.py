"""Tables of at most 100 columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath

from polyvec.terminal import escaped
from qdrant_polyvec.characters import shortened
from qdrant_polyvec.commands.census import Counts
from qdrant_polyvec.files import office
from qdrant_polyvec.hits import Hit
from qdrant_polyvec.items import Report
from qdrant_polyvec.maintenance import Verification

WIDTH = 100
_SOURCE_WIDTH = 40
_MAX_EXAMPLES = 5  # ids per kind of flaw, suffixes of files


def hits(hits: Sequence[Hit]) -> list[str]:
    """Show the rank, score, task, source and the beginning of the content of each hit."""
    sources = [_place(hit) for hit in hits]
    width = min(max(map(len, sources)), _SOURCE_WIDTH)
    rows = [f"{'rank':>4}  {'score':>8}  {'task':<13}  {'source':<{width}}  content"]
    for rank, (hit, source) in enumerate(zip(hits, sources, strict=True), start=1):
        shown = shortened(source, width, from_left=True)
        content = hit.content if hit.content != hit.source else ""
        snippet = " ".join(([] if hit.kind == "text" else ["(image)"]) + content.split())
        rows.append(f"{rank:>4}  {hit.score:>8.3f}  {hit.task:<13}  {shown:<{width}}  {snippet}".rstrip())
    return [_cut(row) for row in rows]


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
    """Count the files by what became of them; no line if all were read or are named as failures."""
    if not counts.left_out and not counts.removed:
        return []
    numbers = [f"{counts.read} read, {counts.failed} failed", *(f"{n} {why}" for why, n in counts.left_out.items())]
    numbers += [f"{counts.removed} removed"] if counts.removed else []
    rows = [f"files: {', '.join(numbers)}"]
    kinds = [f"{suffix} {n}" for suffix, n in counts.other_kinds.items()]
    rows += [f"other kinds: {_first(kinds)}"] if kinds else []
    readable = [suffix for suffix in counts.other_kinds if suffix in office.SUFFIXES]
    return rows + ([f"to read {', '.join(readable)}: {office.INSTALL}"] if readable else [])


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


def _first(examples: Sequence[object]) -> str:
    return ", ".join(map(str, examples[:_MAX_EXAMPLES])) + (", …" if len(examples) > _MAX_EXAMPLES else "")


def _cut(row: str) -> str:
    return shortened(escaped(row), WIDTH)  # escaped before it is measured


def _place(hit: Hit) -> str:
    """Its source with its context, which may begin with the name of the file, and its unit.

    The context has what space the others leave: the file and the unit are what opens the place.
    """
    unit = f":{hit.unit}" if hit.unit else ""
    name, path = PurePosixPath(hit.source).name, place(hit.source)
    context = escaped(hit.context or "").removeprefix(escaped(name)).removeprefix(" › ")
    source, unit = escaped(path), escaped(unit)
    space = _SOURCE_WIDTH - len(source) - len(unit) - len(" › ")
    return source + (f" › {shortened(context, space, from_left=True)}" if context and space > 1 else "") + unit

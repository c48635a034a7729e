"""What the command line prints: tables of at most 100 columns, and JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from qdrant_polyvec.hits import Hit
from qdrant_polyvec.items import Report
from qdrant_polyvec.maintenance import Verification

WIDTH = 100
_PLACE_WIDTH = 40  # of the column for sources
_SHOWN = 5  # ids of a kind of flaw


def hits(found: Sequence[Hit]) -> list[str]:
    """Rank, score, task, source and the beginning of the content of each."""
    places = [f"{hit.source}:{hit.unit}" if hit.unit else hit.source for hit in found]
    width = min(max(map(len, places)), _PLACE_WIDTH)
    rows = [f"{'rank':>4}  {'score':>8}  {'task':<13}  {'source':<{width}}  content"]
    for rank, (hit, place) in enumerate(zip(found, places, strict=True), start=1):
        shown = place if len(place) <= width else "…" + place[1 - width :]
        says = hit.content if hit.content != hit.source else ""
        snippet = " ".join(([] if hit.kind == "text" else ["(image)"]) + says.split())
        rows.append(f"{rank:>4}  {hit.score:>8.3f}  {hit.task:<13}  {shown:<{width}}  {snippet}".rstrip())
    return [_cut(row) for row in rows]


def summary(reports: Mapping[str, Report]) -> list[str]:
    """How many items of each kind were indexed, unchanged, removed and failed."""
    rows = [["", "indexed", "unchanged", "removed", "failed"]]
    total = [0, 0, 0, 0]
    for kind, report in reports.items():
        counts = [len(report.ok), len(report.skipped), len(report.removed), len(report.failed)]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        rows.append([kind, *map(str, counts)])
    rows.append(["total", *map(str, total)])
    return [f"{row[0]:<12}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows]


def verification(found: Verification) -> list[str]:
    """How many points there are, and what is wrong with which."""
    rows = [f"{found.n_points} items"]
    for name, flawed in flaws(found).items():
        examples = ", ".join(map(str, flawed[:_SHOWN])) + (", …" if len(flawed) > _SHOWN else "")
        rows.append(_cut(f"{name:<16}{len(flawed):>8}  {examples}".rstrip()))
    return rows


def flaws(found: Verification) -> dict[str, list[Any]]:
    """The lists of what is wrong, by name."""
    return {name: value for name, value in asdict(found).items() if isinstance(value, list)}


def as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=1)


def hits_json(found: Iterable[Hit]) -> list[dict[str, Any]]:
    return [{"rank": rank, **asdict(hit)} for rank, hit in enumerate(found, start=1)]


def report_json(report: Report) -> dict[str, Any]:
    return asdict(report)


def _cut(row: str) -> str:
    return row if len(row) <= WIDTH else row[: WIDTH - 1] + "…"

"""The card of a dataset: the columns of the paper's Table A1, what was counted, and how to use the folder."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from polyvec.data.building.material import About
from polyvec.data.hub_licenses import license_lines, quoted

__all__ = ["Counts", "card", "front_matter", "without_front_matter"]

_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_UNKNOWN = "unknown"

_USE = """\
## Use

The folder is in the layout of BEIR: `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv`. `rejected.jsonl` says what was
left out and why. Run the commands in the folder above it:

```bash
polyvec evaluate {folder} --model demo
polyvec data look {folder} --html {html}
polyvec data export {folder} --parquet {parquet}
polyvec train run run.toml
```

```toml
# run.toml
model = "demo"
output = "trained"
steps = 1000

[[sources]]
path = {toml}
```

Evaluate and train on different folders.
"""


@dataclass(slots=True)
class Counts:
    """What a dataset has, counted while it is written.

    Attributes:
        documents: number by language and kind, both empty if unknown.
        queries: as above.
        origins: number of queries by where they come from.
        n_images: documents that are images.
        width, height: sums over the images, in pixels.
        most_relevant: largest number of relevant documents of a query.
        rejections: number by reason.
    """

    documents: Counter[tuple[str, str]] = field(default_factory=Counter)
    queries: Counter[tuple[str, str]] = field(default_factory=Counter)
    origins: Counter[str] = field(default_factory=Counter)
    n_images: int = 0
    width: int = 0
    height: int = 0
    most_relevant: int = 0
    rejections: Counter[str] = field(default_factory=Counter)


def card(about: About, counts: Counts, folder: str) -> str:
    """Return the card as Markdown with front matter. `folder` is the name of the dataset's folder."""
    parts = [
        f"# {_line(about.name)}",
        _table(["", ""], _facts(about, counts)),
        "## Languages and kinds",
        _table(["language", "kind", "documents", "queries"], _parts(counts)),
    ]
    if counts.rejections:
        rows = [[reason, f"{n:,}"] for reason, n in counts.rejections.most_common()]
        parts += ["## Left out", _table(["reason", "number"], rows)]
    if about.notes:
        parts += ["## Notes", *about.notes]
    paths = {name: shlex.quote(f"{folder}{end}") for name, end in (("folder", ""), ("html", ".html"))}
    parquet, toml = shlex.quote(f"{folder}-parquet"), quoted(folder)
    parts.append(_USE.format(**paths, parquet=parquet, toml=toml))
    return front_matter(about, counts) + "\n" + "\n\n".join(parts)


def front_matter(about: About, counts: Counts) -> str:
    """Return what the hub reads."""
    languages = _languages(counts)
    n_documents = counts.documents.total()
    size = next((name for limit, name in _SIZES if n_documents < limit), "n>1M")
    lines = ["---", f"pretty_name: {quoted(_line(about.name))}"]
    if about.licence:
        lines += license_lines(_line(about.licence))
    if languages:
        lines += ["language:", *(f"- {quoted(language)}" for language in languages)]
    images = counts.n_images > 0
    lines += ["task_categories:", "- visual-document-retrieval" if images else "- text-retrieval"]
    lines += ["size_categories:", f"- {size}", "tags:", "- polyvec", "---", ""]
    return "\n".join(lines)


def without_front_matter(text: str) -> tuple[list[str], str]:
    """Return the lines of a card's front matter, without those that surround it, and the card below."""
    lines = text.split("\n")
    if lines[0] != "---" or "---" not in lines[1:]:
        return [], text
    end = lines.index("---", 1)
    return lines[1:end], "\n".join(lines[end + 1 :])


def _facts(about: About, counts: Counts) -> Iterator[Sequence[str]]:
    """Yield the columns of Table A1."""
    n_images = counts.n_images
    yield "Languages", ", ".join(_languages(counts)) or _UNKNOWN
    yield "Domain", about.domain or _UNKNOWN
    yield "Documents", ", ".join(_kinds(counts.documents)) or _UNKNOWN
    yield "Queries", ", ".join(_kinds(counts.queries)) or _UNKNOWN
    yield "Number of queries", f"{counts.queries.total():,}"
    yield "Number of documents", f"{counts.documents.total():,}"
    yield "Images among them", f"{n_images:,}"
    if n_images:
        yield "Mean size of an image", f"{counts.width / n_images:.0f} × {counts.height / n_images:.0f} pixels"
    yield "Most relevant documents of a query", f"{counts.most_relevant:,}"
    yield "Queries come from", ", ".join(f"{name or _UNKNOWN} ({n:,})" for name, n in counts.origins.most_common())
    yield "Source", about.source or _UNKNOWN
    yield "Licence", about.licence or _UNKNOWN


def _parts(counts: Counts) -> Iterator[Sequence[str]]:
    for language, kind in sorted({*counts.documents, *counts.queries}):
        n_documents, n_queries = (number[language, kind] for number in (counts.documents, counts.queries))
        yield language or _UNKNOWN, kind or _UNKNOWN, f"{n_documents:,}", f"{n_queries:,}"


def _languages(counts: Counts) -> list[str]:
    return sorted({language for language, _ in (*counts.documents, *counts.queries)} - {""})


def _kinds(number: Mapping[tuple[str, str], int]) -> list[str]:
    return sorted({kind for _, kind in number} - {""})


def _table(header: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, cells))} |" for cells in lines)


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")


def _line(text: str) -> str:
    return " ".join(text.split())

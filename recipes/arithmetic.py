"""What the recipes for large models share: how many items a step has, and how figures are written."""

from collections.abc import Iterator, Sequence

from polyvec.train.runs.estimate import Items
from polyvec.train.runs.run_file import Run

UTILISATION = 0.35  # of an accelerator's peak; an assumption
_QUERY_TOKENS, _TEXT_TOKENS = 24, 192  # assumptions, too


def items(run: Run, page: int) -> Items:
    """Count the queries, documents and hard negatives of a step; negatives of a pair are of its document's kind."""
    n_each = 1 + run.batch.hard_negatives
    n_queries = run.batch.texts + run.batch.images
    return Items(
        texts=[_QUERY_TOKENS] * n_queries + [_TEXT_TOKENS] * (n_each * run.batch.texts),
        images=[page] * (n_each * run.batch.images),
    )


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table. All columns but the first are numbers."""
    yield f"| {' | '.join(head)} |"
    yield f"|---|{'---:|' * (len(head) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def gigabytes(n_bytes: float) -> str:
    """Write a number of bytes in GB (10^9)."""
    return f"{n_bytes / 1e9:.1f}"

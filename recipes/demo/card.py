"""The scores on the card of the demo checkpoint: unseen documents, texts and functions of the demo world."""

from collections.abc import Mapping

from polyvec.encoder import Encoder
from polyvec.evaluate.metrics import ndcg
from polyvec.retrieval import encode_dataset, scores
from polyvec.synthetic.datasets import TASK_BY_KIND, dataset

_K = 5


def card_scores(encoder: Encoder, *, n: int = 500, show_progress: bool = False) -> dict[str, dict[str, float]]:
    """Return nDCG@5 of `n` queries over their `n` documents, by kind of document and by output."""
    table = {}
    for kind, task in TASK_BY_KIND.items():
        encoded = encode_dataset(encoder, dataset(kind, n), task=task, show_progress=show_progress)
        by_output = {"late interaction": scores(encoded, mode="late")}
        for size in sorted(encoder.sizes, reverse=True):
            by_output[f"dense {size}"] = scores(encoded, mode="dense", truncate_dim=size)
        table[kind] = {name: ndcg(output, encoded.relevant, k=_K) for name, output in by_output.items()}
    return table


def markdown(table: Mapping[str, Mapping[str, float]]) -> str:
    """Write the scores as a Markdown table."""
    columns = list(next(iter(table.values())))
    lines = [f"| nDCG@{_K} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {name} | {' | '.join(f'{row[column]:.3f}' for column in columns)} |" for name, row in table.items()]
    return "\n".join(lines)

"""What the processes of a run know of each other's batches. This version knows one process."""

from torch import Tensor

from polyvec.train.batches import Labels, Vectors

__all__ = ["gather_documents", "gather_rows", "mean_count"]


def gather_documents(documents: Vectors, labels: Labels) -> tuple[Vectors, Labels]:
    """Return the documents of all processes, and the labels with the documents' fields of all of them."""
    return documents, labels


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes, with gradient."""
    return rows


def mean_count(n: int) -> float:
    """Return the mean of a number over the processes."""
    return float(n)

"""Smaller vectors."""

import numpy as np
from jaxtyping import Float32


def truncate(dense: Float32[np.ndarray, "items dim"], dim: int) -> Float32[np.ndarray, "items size"]:
    """The first `dim` numbers of each row at unit length."""
    cut = dense[:, :dim]
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    rows: np.ndarray = np.divide(cut, norms, out=np.zeros_like(cut), where=norms > 0)
    return rows

"""Make vectors smaller: fewer numbers, fewer bits per number, fewer tokens. Imports no torch."""

import numpy as np
from jaxtyping import Float32, Int8, UInt8

from polyvec.types import Grid
from polyvec.vectors import kind_of, truncate, unit, unit_means

__all__ = ["binary", "int8", "patches", "pool_columns", "pool_rows", "pool_tokens", "truncate"]


def int8(dense: Float32[np.ndarray, "items dim"]) -> Int8[np.ndarray, "items dim"]:
    """Round each row to integers on its own scale: its largest magnitude m becomes 127. A quarter of the bytes.

    Compare codes with `polyvec.scoring.cosine`, and those of multi-vectors with `maxsim`; both ignore the scale. No
    number is off by more than m / 254, half a step, so the direction of a row x turns by at most
    arcsin(√dim · m / (254 · ‖x‖)). A zero row stays zero.

    Raises:
        TypeError, ValueError: `dense` is no array (items, dim) of floats, or a row has a number that is not finite.
    """
    _check("dense", dense)
    rows = dense.astype(np.promote_types(dense.dtype, np.float32), copy=False)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    shares = np.divide(rows, largest, out=np.zeros_like(rows), where=largest > 0)
    codes: np.ndarray = np.rint(shares * 127).astype(np.int8)
    return codes


def binary(dense: Float32[np.ndarray, "items dim"]) -> UInt8[np.ndarray, "items dim//8"]:
    """Keep one bit per number, 1 if it is positive, eight to a byte, the first in the highest place. 1/32 of the bytes.

    The bits are those of sentence-transformers' `ubinary`. Compare them with `polyvec.scoring.hamming_similarity`, or
    with a query in full precision by `polyvec.scoring.asymmetric_cosine`; those of multi-vectors with `maxsim`.

    Raises:
        TypeError, ValueError: `dense` is no array (items, dim) of floats, its size is no multiple of 8, or a row has a
            number that is not finite.
    """
    _check("dense", dense)
    if dense.shape[1] % 8:
        raise ValueError(f"vectors have {dense.shape[1]} numbers; bits are packed by eight, so give a multiple of 8.")
    return np.packbits(dense > 0, axis=1)


def pool_tokens(
    multivector: Float32[np.ndarray, "tokens dim"], factor: int | float, *, protected: int = 1
) -> Float32[np.ndarray, "_ dim"]:
    """Replace each cluster of similar tokens by its mean: about 1 / `factor` of the tokens are left.

    Clusters come from Ward linkage on cosine distance. Rows equal those of sentence-transformers'
    `HierarchicalTokenPooling` (6.2).

    Args:
        multivector: unit vectors, one per token.
        factor: n tokens become max(n // factor, 1) clusters, fewer only where distances tie; 1 keeps every token.
        protected: this many tokens at the start are kept as they are and stand first.

    Returns:
        The protected tokens, then the mean of each cluster, at unit length. The order does not tell where the
        tokens stood. Tokens that cancel each other out leave a zero row, which is similar to nothing.

    Raises:
        TypeError, ValueError: `multivector` is no array (tokens, dim) of floats, a token has a number that is not
            finite, or an impossible `factor` or `protected`.
        ImportError: scipy is not installed.
    """
    try:  # an optional extra
        from scipy.cluster.hierarchy import fcluster, linkage
        from scipy.spatial.distance import squareform
    except ImportError as error:
        raise ImportError("pooling tokens needs scipy: pip install 'polyvec[pooling]'") from error
    if not factor >= 1:
        raise ValueError(f"`factor` is {factor}; it may be 1 or more, 3 for a third of the tokens.")
    if protected < 0:
        raise ValueError(f"`protected` is {protected}; it may be 0 or more tokens.")
    _check("multivector", multivector)
    first, tokens = multivector[:protected], multivector[protected:]
    n_clusters = max(int(len(tokens) // factor), 1)
    if n_clusters >= len(tokens):
        return unit(multivector)
    precise = tokens.astype(np.promote_types(tokens.dtype, np.float32), copy=False)
    distances = np.clip(1 - precise @ precise.T, 0, 2)
    tree = linkage(squareform(distances, checks=False), method="ward")  # rounding leaves the diagonal not quite zero
    _, cluster_by_token = np.unique(fcluster(tree, n_clusters, criterion="maxclust"), return_inverse=True)
    return np.concatenate([unit(first), unit_means(tokens, cluster_by_token)])


def pool_rows(multivector: Float32[np.ndarray, "tokens dim"], grid: Grid) -> Float32[np.ndarray, "rows dim"]:
    """Average each row of an image's patches, top to bottom, at unit length. Tokens around the patches are left out.

    Patches that cancel each other out leave a zero row.

    Raises:
        TypeError, ValueError: `multivector` is no array (tokens, dim) of finite floats, or the grid does not fit it.
    """
    return _pooled(multivector, grid, np.repeat(np.arange(grid.rows), grid.columns))


def pool_columns(multivector: Float32[np.ndarray, "tokens dim"], grid: Grid) -> Float32[np.ndarray, "columns dim"]:
    """Average each column of an image's patches, left to right, at unit length; otherwise as `pool_rows`."""
    return _pooled(multivector, grid, np.tile(np.arange(grid.columns), grid.rows))


def patches(multivector: Float32[np.ndarray, "tokens dim"], grid: Grid) -> Float32[np.ndarray, "rows columns dim"]:
    """Select an image's patches from its multi-vector; nothing is copied.

    Raises:
        ValueError: the grid does not fit the multi-vector.
    """
    end = grid.start + grid.rows * grid.columns
    if grid.start < 0 or grid.rows < 1 or grid.columns < 1 or end > len(multivector):
        raise ValueError(
            f"the grid has {grid.rows}×{grid.columns} patches from token {grid.start}; "
            f"the multi-vector has {len(multivector)} tokens, which it does not fit."
        )
    return multivector[grid.start : end].reshape(grid.rows, grid.columns, -1)


def _pooled(multivector: np.ndarray, grid: Grid, groups: np.ndarray) -> np.ndarray:
    _check("multivector", multivector)
    return unit_means(patches(multivector, grid).reshape(len(groups), -1), groups)


def _check(name: str, rows: np.ndarray) -> None:
    """Refuse codes, bits, and rows that are not finite."""
    if (kind := kind_of(name, rows)) != "vectors":
        raise ValueError(f"`{name}` holds {kind} ({rows.dtype}); give the vectors that they were made of.")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ValueError(f"row {int(finite.argmin())} has a number that is not finite; make the vectors anew.")

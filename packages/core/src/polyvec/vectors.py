"""Arrays of vectors: what kind they are, their means and their lengths, in numpy. Nothing here knows a model."""

from typing import Literal

import numpy as np
from jaxtyping import Float32, Int, Real, UInt8

__all__ = ["Kind", "decoded", "kind_of", "signs", "truncate", "unit", "unit_means"]

Kind = Literal["vectors", "int8 codes", "bits"]
_CODES: dict[str, Kind] = {"b": "int8 codes", "B": "bits"}  # by numpy's characters of dtypes
_SHORT, _LONG = 1e-15, 1e18  # float32 squares the numbers of rows between these lengths without loss


def kind_of(name: str, rows: object) -> Kind:
    """Tell what an array holds: int8 are the codes of `compression.int8`, uint8 the packed bits of `binary`.

    Raises:
        TypeError: it is no array.
        ValueError: it has not two axes, or holds no real numbers.
    """
    if not isinstance(rows, np.ndarray):
        raise TypeError(
            f"`{name}` is a {type(rows).__name__}; it must be an array (rows, dim), such as `embeddings.dense` or an "
            "entry of `embeddings.multivector`."
        )
    if rows.ndim != 2:
        advice = "write `vector[None]` for a single vector" if rows.ndim == 1 else "compare one matrix at a time"
        raise ValueError(f"`{name}` has shape {rows.shape}; it must have two axes (rows, dim): {advice}.")
    if rows.dtype.kind not in "fiu":
        raise ValueError(f"`{name}` has dtype {rows.dtype}; vectors are floats, int8 codes or packed bits (uint8).")
    return _CODES.get(rows.dtype.char, "vectors")


def decoded(name: str, rows: Real[np.ndarray, "rows _"]) -> Float32[np.ndarray, "rows dim"]:
    """Return the vectors that rows stand for. Codes and bits have lost their length; they have unit length.

    Raises:
        TypeError, ValueError: as `kind_of`.
    """
    kind = kind_of(name, rows)
    if kind == "vectors":
        with np.errstate(over="ignore"):  # they become infinite
            return rows.astype(np.float32, copy=False)
    return unit(rows if kind == "int8 codes" else signs(rows))


def signs(packed: UInt8[np.ndarray, "items bytes"]) -> Float32[np.ndarray, "items bytes*8"]:
    """Unpack sign bits into vectors of +1 and −1.

    Raises:
        TypeError, ValueError: as `kind_of`; also if the rows are not packed bits.
    """
    if (kind := kind_of("packed", packed)) != "bits":
        raise ValueError(
            f"`packed` holds {kind} ({packed.dtype}); packed bits are uint8, as `compression.binary` makes."
        )
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def truncate(dense: Real[np.ndarray, "items dim"], dim: int) -> Float32[np.ndarray, "items size"]:
    """Cut each row to its first `dim` numbers and scale it to unit length.

    Raises:
        ValueError: `dim` is not between 1 and the length of a row, or the rows are packed bits.
    """
    if kind_of("dense", dense) == "bits":
        raise ValueError("`dense` has dtype uint8, packed bits; cut the vectors first, then pack them.")
    if not 1 <= dim <= dense.shape[1]:
        raise ValueError(f"`dim` is {dim}; these vectors can be cut to 1 to {dense.shape[1]} numbers.")
    return unit(dense[:, :dim])


def unit(rows: Real[np.ndarray, "rows dim"]) -> Float32[np.ndarray, "rows dim"]:
    """Scale each row to unit length, however long or short it is.

    A zero row stays zero. A row with a number that is not finite becomes NaN.

    Raises:
        TypeError, ValueError: as `kind_of`; also if the rows are packed bits.
    """
    if kind_of("rows", rows) == "bits":
        raise ValueError("`rows` has dtype uint8, packed bits, which have no length; `signs` makes vectors of them.")
    with np.errstate(over="ignore", invalid="ignore"):  # in rows that are done again
        singles = rows.astype(np.float32, copy=False)
        norms = np.linalg.norm(singles, axis=1, keepdims=True)
        units: np.ndarray = np.divide(singles, norms, out=np.zeros_like(singles), where=norms != 0)
    extreme = ~((norms > _SHORT) & (norms < _LONG))[:, 0]
    if extreme.any():
        units[extreme] = _unit_of_extremes(rows[extreme].astype(np.float64))
    return units


def _unit_of_extremes(rows: np.ndarray) -> np.ndarray:
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scaled = np.divide(rows, largest, out=np.zeros_like(rows), where=(largest > 0) & np.isfinite(largest))
    norms = np.linalg.norm(scaled, axis=1, keepdims=True)
    units: np.ndarray = np.divide(scaled, norms, out=np.where(np.isfinite(largest), scaled, np.nan), where=norms != 0)
    return units


def unit_means(
    rows: Real[np.ndarray, "rows dim"], groups: Int[np.ndarray, " rows"]
) -> Float32[np.ndarray, "groups dim"]:
    """Average the rows of each group, at unit length. Groups are numbered from 0, and none is empty.

    Rows that cancel each other out leave a zero row: a sum is zero if it is no longer than the rounding of its terms.
    """
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    terms = rows[order].astype(np.float64)
    sums = np.add.reduceat(terms, starts, axis=0)  # a sum has the direction of the mean
    rounding = np.finfo(np.promote_types(rows.dtype, np.float16)).eps * np.add.reduceat(
        np.linalg.norm(terms, axis=1), starts
    )
    sums[np.linalg.norm(sums, axis=1) <= rounding] = 0
    return unit(sums)

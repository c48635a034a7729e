"""Similarities that a model had before, or elsewhere: those of an earlier report, or of another implementation."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from polyvec.check.pairs import Similarities
from polyvec.check.results import Result

__all__ = ["DEMO", "Expected", "check_expected", "read_expected"]

DEMO = Path(__file__).parent / "demo.json"  # what the bundled checkpoint gives in float32
_FURTHEST = 0.02  # how much a similarity may differ: rounding in half precision, and other image processors

# By the name of the pairs and, for dense vectors, their length; "late" for late interaction.
Expected = Mapping[tuple[str, str], Float32[np.ndarray, "queries documents"]]


def read_expected(file: Path) -> Expected:
    """Read the similarities of a report in JSON; other fields may be missing.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no similarities.
    """
    try:
        kinds = json.loads(file.read_text("utf-8"))["similarities"]
        return {
            (kind["name"], head): np.array(scores, np.float32)
            for kind in kinds
            for head, scores in [*kind["dense"].items(), *([("late", kind["late"])] if "late" in kind else [])]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} has no similarities as `polyvec check --json` prints them ({error!r}).") from error


def check_expected(compared: Sequence[Similarities], expected: Expected) -> Iterator[Result]:
    """Compare the similarities of each kind of pairs with what is expected of them."""
    for one in compared:
        differences: list[str] = []
        furthest = 0.0
        heads = {str(size): scores for size, scores in one.dense_by_size.items()} | {"late": one.late}
        for head, scores in heads.items():
            other = expected.get((one.pairs.name, head))
            if other is None:
                continue
            difference = float(np.abs(scores - other).max()) if scores.shape == other.shape else np.inf
            furthest = max(furthest, difference)
            differences.append(f"{head if head == 'late' else f'dense {head}'} {difference:.4f}")
        found = f"largest differences: {', '.join(differences)}; at most {_FURTHEST}"
        yield Result(
            f"{one.pairs.name}, as expected",
            holds=bool(differences) and furthest <= _FURTHEST,
            detail=found if differences else "the file has no similarities of these pairs and sizes",
        )

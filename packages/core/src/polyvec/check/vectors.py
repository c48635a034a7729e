"""What must hold for the vectors of an encoder, whichever model it runs."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32

from polyvec.check.results import Result
from polyvec.check.samples import PAGES, PAIRS, TEXTS
from polyvec.encoder import Encoder
from polyvec.scoring import pairwise_cosine
from polyvec.types import TASKS, Embeddings, Input, Task
from polyvec.vectors import unit

__all__ = ["check_vectors"]

_UNIT = 1e-3  # how far from 1 a length may be
_DIFFERENT = 1e-3  # two vectors are not the same if 1 − cosine is more
_CUT = 1e-5  # how far the numbers of a shortened vector may be from the cut full vector


def check_vectors(encoder: Encoder, *, tolerance: float) -> Iterator[Result]:
    """Check the vectors of the samples.

    Args:
        encoder: all its tasks are used; it makes multi-vectors.
        tolerance: two vectors are the same if 1 − cosine is at most this; it depends on the dtype.
    """
    items: list[Input] = [*TEXTS[::4], *PAGES[:2]]  # a question's answer, a sentence, a function, and pages
    tasks = [encoder.tasks[number % len(encoder.tasks)] for number in range(len(items))]
    together = encoder.encode_document(items, task=tasks, multivector=True)
    yield _check_lengths(together)
    alone = Embeddings.concatenate(
        [encoder.encode_document([item], task=task, multivector=True) for item, task in zip(items, tasks, strict=True)]
    )
    yield _check_batches(together, alone, tolerance)
    yield _check_sizes(encoder)
    yield _check_tasks(encoder)
    yield _check_sides(encoder, tolerance)


def _check_lengths(embeddings: Embeddings) -> Result:
    vectors = [embeddings.dense, *_tokens(embeddings)]
    name = "finite vectors of length 1"
    if n_flawed := sum(not np.isfinite(rows).all() for rows in vectors):
        return Result(name, holds=False, detail=f"{n_flawed} of {len(vectors)} arrays have numbers that are not finite")
    furthest = max(float(np.abs(np.linalg.norm(rows, axis=1) - 1).max()) for rows in vectors)
    n_rows = sum(map(len, vectors))
    return Result(name, furthest <= _UNIT, f"the length of {n_rows} vectors differs from 1 by at most {furthest:.1e}")


def _check_batches(together: Embeddings, alone: Embeddings, tolerance: float) -> Result:
    name = "the same vectors alone and in a batch"
    lengths = [[len(rows) for rows in _tokens(embeddings)] for embeddings in (together, alone)]
    if lengths[0] != lengths[1]:
        return Result(name, holds=False, detail=f"the multi-vectors have {lengths[0]} and {lengths[1]} rows")
    dense = float(pairwise_cosine(together.dense, alone.dense).min())
    late = min(
        float(pairwise_cosine(one, other).mean()) for one, other in zip(_tokens(together), _tokens(alone), strict=True)
    )
    holds = min(dense, late) >= 1 - tolerance
    return Result(name, holds, f"smallest cosine {dense:.6f} dense, {late:.6f} late; at least {1 - tolerance:g}")


def _check_sizes(encoder: Encoder) -> Result:
    items: list[Input] = [TEXTS[0], PAGES[0]]
    task = encoder.tasks[0]
    full = encoder.encode_document(items, task=task).dense
    furthest = 0.0
    for size in encoder.sizes:
        short = encoder.encode_document(items, task=task, truncate_dim=size).dense
        furthest = max(furthest, float(np.abs(short - unit(full[:, :size])).max()))
    detail = f"sizes {', '.join(map(str, encoder.sizes))}; numbers differ by at most {furthest:.1e}"
    return Result("shorter vectors are the beginning of full ones", furthest <= _CUT, detail)


def _check_tasks(encoder: Encoder) -> Result:
    """Queries have the same prefix in every task of the model, and pages the same prompt: only adapters differ."""
    items: list[Input] = [PAIRS[0].queries[0], PAGES[0]]
    dense = {task: encoder.encode_query(items, task=task).dense for task in encoder.tasks}
    pairs = [(one, other) for one in dense for other in dense if one < other]
    largest = {pair: float(pairwise_cosine(dense[pair[0]], dense[pair[1]]).max()) for pair in pairs}
    equal = [f"{one} and {other} ({cosine:.6f})" for (one, other), cosine in largest.items() if cosine > 1 - _DIFFERENT]
    cosines = ", ".join(f"{one} and {other} {cosine:.3f}" for (one, other), cosine in largest.items())
    detail = f"equal vectors in {', '.join(equal)}" if equal else f"largest cosines: {cosines or 'there is one task'}"
    return Result("the tasks differ", not equal, detail)


def _check_sides(encoder: Encoder, tolerance: float) -> Result:
    """Texts have other prefixes on each side, but for text-matching; pages have none."""
    wrong, cosines = [], []
    for task in (task for task in TASKS if task in encoder.tasks):
        samples: dict[str, Input] = {"text": TEXTS[0], "page": PAGES[0]}
        for kind, item in samples.items():
            cosine = _between_sides(encoder, item, task)
            cosines.append(f"{task} {kind} {cosine:.3f}")
            if kind == "text" and task != "text-matching":
                if cosine > 1 - _DIFFERENT:
                    wrong.append(f"{task} {kind} {cosine:.6f}, which should be less than 1")
            elif cosine < 1 - tolerance:
                wrong.append(f"{task} {kind} {cosine:.6f}, which should be 1")
    detail = f"wrong cosines: {'; '.join(wrong)}" if wrong else f"cosines: {', '.join(cosines)}"
    return Result("queries and documents have their prefixes", not wrong, detail)


def _between_sides(encoder: Encoder, item: Input, task: Task) -> float:
    query = encoder.encode_query([item], task=task).dense
    document = encoder.encode_document([item], task=task).dense
    return float(pairwise_cosine(query, document)[0])


def _tokens(embeddings: Embeddings) -> Sequence[Float32[np.ndarray, "tokens dim"]]:
    assert embeddings.multivector is not None, "they were requested"
    return embeddings.multivector

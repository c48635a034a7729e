"""Every way to store multi-vectors, against exact scores: on disk and opened again, before and after optimizing."""

import numpy as np
import pytest
from qdrant_client import models

from polyvec import TASKS, Encoder
from polyvec.scoring import maxsim, unit
from polyvec.types import Embeddings
from qdrant_polyvec import Collection, Item, Schema
from qdrant_polyvec.choices import PRECISIONS

N, TOKENS, DIM, LATE, TOP = 200, 12, 16, 128, 5
rng = np.random.default_rng(5)
DENSES = unit(rng.standard_normal((N, DIM)).astype(np.float32))
LATES = [unit(rng.standard_normal((TOKENS, LATE)).astype(np.float32)) for _ in range(N)]
QUERIES = {
    f"about {i}": unit(LATES[i][:6] + 0.06 * rng.standard_normal((6, LATE)).astype(np.float32)) for i in range(0, N, 20)
}
# The largest error of a score, which is a sum over six tokens.
ERROR = {"float32": 1e-4, "float16": 5e-3, "turbo8": 0.03, "turbo4": 0.4}

INT8 = models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True))
BINARY = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
TURBO = models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS2))


class Prepared(Encoder):
    fingerprint, dim, multivector_dim, tasks, sizes, license = "prepared", DIM, LATE, TASKS, (DIM,), ""

    def encode(self, inputs, *, side, task, **options):
        late = tuple(QUERIES[query] for query in inputs)
        return Embeddings(DENSES[: len(inputs)], late, (None,) * len(inputs))


def opened(folder, schema):
    return Collection.open(folder, "docs", embedder=Prepared(), schema=schema)


def fill(folder, schema):
    with opened(folder, schema) as docs:
        items = (Item(f"{i}", id=i, embedding=Embeddings(DENSES[i : i + 1], (LATES[i],), (None,))) for i in range(N))
        assert docs.add(items).failed == []


def exact(query):
    scores = maxsim([QUERIES[query]], LATES)[0]
    return scores, np.argsort(-scores, kind="stable")[:TOP].tolist()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_scores_are_as_exact_as_the_precision(tmp_path, precision):
    fill(tmp_path, Schema(late=precision))
    for state in ("as added", "optimized"):
        with opened(tmp_path, None) as docs:
            if state == "optimized":
                docs.optimize()
            for query in QUERIES:
                scores, best = exact(query)
                hits = docs.search(query, mode="late", limit=TOP)
                assert hits[0].id == best[0]
                assert [hit.score for hit in hits] == pytest.approx(
                    [scores[hit.id] for hit in hits], abs=ERROR[precision]
                )


@pytest.mark.parametrize("quantization", [INT8, BINARY, TURBO], ids=["int8", "binary", "turbo 2 bits"])
def test_a_quantized_copy_changes_nothing_unless_it_is_asked_for(tmp_path, quantization):
    schema = Schema(late="float32", quantization=quantization)
    fill(tmp_path, schema)
    with opened(tmp_path, schema) as docs:
        docs.optimize()
        for query in QUERIES:
            scores, best = exact(query)
            for how in ({"mode": "late"}, {"mode": "two-stage", "candidates": N}):
                hits = docs.search(query, limit=TOP, **how)
                assert [hit.id for hit in hits] == best
                assert [hit.score for hit in hits] == pytest.approx(scores[best].tolist(), abs=1e-4)
                rescored = docs.search(query, limit=TOP, oversampling=8, **how)
                assert rescored[0].id == best[0]
                assert [hit.score for hit in rescored] == pytest.approx([scores[hit.id] for hit in rescored], abs=1e-4)

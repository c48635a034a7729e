from dataclasses import dataclass

import numpy as np
import pytest

from polyvec.rerank import scores, stored_multivectors
from polyvec.testing import HashEncoder
from polyvec.types import Embeddings

HASH = HashEncoder(dim=64, multivector_dim=32)


def score(query, documents, stored=(), encoder=HASH):
    return scores(query, documents, lambda item: item, encoder=encoder, task="retrieval", stored=dict(stored))


def test_scores_are_means_of_the_best_cosines():
    fox, red = (
        HASH.encode_document([word], task="retrieval", multivector=True).multivector[0] for word in ("fox", "red")
    )
    values = score("red fox", ["the red fox", "fox", ""])
    assert values[:2] == pytest.approx([1, (1 + float(red[0] @ fox[0])) / 2], abs=1e-6)
    assert values.dtype == np.float32


def test_stored_multivectors_are_scored_and_not_encoded():
    class Fails(HashEncoder):
        def encode(self, inputs, *, side, **options):
            assert side == "query" or list(inputs) == ["b"]
            return super().encode(inputs, side=side, **options)

    rows = HASH.encode_document(["red"], task="retrieval", multivector=True).multivector[0]
    values = score("red", ["never read", "b", "never read"], {0: rows, 2: -rows}, Fails(dim=64, multivector_dim=32))
    assert values[[0, 2]] == pytest.approx([1, -1], abs=1e-6)


def test_a_document_that_cannot_be_read_scores_nothing_and_is_named():
    with pytest.warns(UserWarning, match="2 documents could not be read and come last; the first: .*surrogate"):
        values = score("a", ["\ud800", "a", "\ud800"])
    assert values.tolist() == pytest.approx([-np.inf, 1, -np.inf])
    assert score("a", []).shape == (0,)


def test_an_encoder_without_multivectors_cannot_re_rank():
    class DenseOnly(HashEncoder):
        def encode(self, inputs, **options):
            return super().encode(inputs, **options | {"multivector": False})

    with pytest.raises(ValueError, match="so it cannot re-rank"):
        score("a", ["a"], encoder=DenseOnly())


@dataclass
class Item:
    id: str | int
    task: str = "retrieval"
    fingerprint: str = HASH.fingerprint


def test_only_what_is_stored_unchanged_by_this_encoder_is_read():
    items = [
        Item("same"),
        Item(7),
        Item("changed"),
        Item("code", task="code"),
        Item("old", fingerprint="x"),
        Item("bare"),
    ]
    read = []

    def embeddings(ids):
        read.extend(ids)
        rows = (np.full((1, 32), 0.5, np.float32),)
        return {key: Embeddings(np.zeros((1, 2), np.float32), None if key == "bare" else rows, (None,)) for key in ids}

    ids = ["same", None, "7", "changed", "code", "old", "gone", "bare", "same"]
    found = stored_multivectors(
        ids,
        lambda index, item: item.id != "changed",
        get=lambda keys: [item for item in items if str(item.id) in keys],
        embeddings=embeddings,
        encoder=HASH,
        task="retrieval",
    )
    assert (sorted(found), read) == ([0, 2, 8], ["same", 7, "bare", "same"])
    assert found[0].shape == (1, 32)

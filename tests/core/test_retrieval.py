import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polyvec import Embeddings
from polyvec.data.folders import read_folder
from polyvec.evaluate.metrics import ndcg
from polyvec.retrieval import (
    EncodedDataset,
    best_documents,
    encode_dataset,
    encode_items,
    late_ranking,
    ranking,
    scores,
)
from polyvec.scoring import maxsim
from polyvec.testing import HashEncoder


def write(path, *lines):
    path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")


def qrels(folder, *lines, name="test.tsv"):
    (folder / "qrels" / name).write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def rows(*values):
    return np.array(values, np.float32).reshape(len(values), -1)


def test_words_of_a_query_find_their_document(folder):
    encoded = encode_dataset(HashEncoder(), read_folder(folder), task="retrieval")
    assert encoded.relevant == [{1: 2, 0: 0}, {0: 1, 2: 1}]
    assert not encoded.left_out
    for mode in ("dense", "late", "two-stage"):
        assert ndcg(scores(encoded, mode=mode), encoded.relevant, k=1) == 1


def test_what_cannot_be_read_is_left_out_and_named(folder):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    write(
        folder / "corpus.jsonl",
        {"_id": "page", "image": "pages/red.png"},
        {"_id": "d1", "text": "pears are green"},
        {"_id": "d2", "text": "apples are red"},
    )
    write(
        folder / "queries.jsonl",
        {"_id": "broken", "text": "\ud800"},
        {"_id": "red", "text": "a red picture"},
        {"_id": "fruit", "text": "apples"},
    )
    qrels(folder, "broken\td1\t1", "red\tpage\t1", "red\td1\t0", "fruit\tpage\t1", "fruit\td2\t1")
    encoded = encode_dataset(HashEncoder(), read_folder(folder), task="retrieval")
    reasons = {failure.source: failure.reason for failure in encoded.left_out}
    assert list(reasons) == ["document 'page'", "query 'broken'", "query 'red'"]
    assert "cannot be read as an image" in reasons["document 'page'"]
    assert "no relevant document of it" in reasons["query 'red'"]
    assert encoded.relevant == [{1: 1}], "the row of document d2, which is the third of the folder"
    assert ndcg(scores(encoded, mode="dense"), encoded.relevant, k=1) == 1


def test_an_encoder_without_multivectors_is_not_asked_for_them(folder):
    class DenseEncoder(HashEncoder):
        def encode(self, inputs, *, side, task, multivector, **options):
            assert not multivector
            return super().encode(inputs, side=side, task=task, **options)

    encoder = DenseEncoder()
    encoder.multivector_dim = 0
    encoded = encode_dataset(encoder, read_folder(folder), task="retrieval")
    assert ndcg(scores(encoded, mode="dense"), encoded.relevant, k=1) == 1
    with pytest.raises(ValueError, match="`mode` is 'late'; it needs multi-vectors"):
        scores(encoded, mode="late")


def test_where_nothing_is_left_the_error_says_why(folder):
    (folder / "pages" / "red.png").write_bytes(b"no picture")
    qrels(folder, "q0\td2\t1")
    with pytest.raises(ValueError, match="nothing is left to search: document 'd2': image file"):
        encode_dataset(HashEncoder(), read_folder(folder), task="retrieval")


def test_items_are_encoded_some_at_a_time(monkeypatch):
    sizes = []

    class Windows(HashEncoder):
        def encode(self, inputs, **options):
            inputs = list(inputs)
            sizes.append(len(inputs))
            return super().encode(inputs, **options)

    def convert(word):
        if word == "bad":
            raise ValueError("it is bad")
        return word

    monkeypatch.setattr("polyvec.retrieval._WINDOW", 3)
    words = ["a", "bad", "b", "\ud800", "c", "d", "e"]
    found = encode_items(Windows(), words, convert, side="query", task="retrieval", multivector=True)
    assert sizes == [0, 2, 3, 1]
    assert found.kept == [0, 2, 4, 5, 6]
    assert [failure.index for failure in found.failures] == [1, 3]
    whole = HashEncoder().encode_query(["a", "b", "c", "d", "e"], task="retrieval", multivector=True)
    np.testing.assert_array_equal(found.embeddings.dense, whole.dense)


def three_documents():
    """By dense vector the order is 0, 1, 2; by its first number alone all tie; by tokens the order is 2, 1, 0."""
    queries = Embeddings(rows([1, 1]), (rows([1]),), (None,))
    documents = Embeddings(rows([1, 1], [1, 0], [1, -1]), (rows([1]), rows([2]), rows([3])), (None,) * 3)
    return EncodedDataset(queries, documents, [{1}])


def test_dense_scores_are_cosines_of_as_many_numbers_as_asked_for():
    np.testing.assert_allclose(scores(three_documents(), mode="dense"), [[1, np.sqrt(0.5), 0]], atol=1e-6)
    np.testing.assert_allclose(scores(three_documents(), mode="dense", truncate_dim=1), [[1, 1, 1]])


def test_late_scores_are_maxsim():
    np.testing.assert_array_equal(scores(three_documents(), mode="late"), [[1, 2, 3]])


def test_a_two_stage_search_scores_only_what_the_first_stage_fetches():
    np.testing.assert_array_equal(scores(three_documents(), mode="two-stage", candidates=2), [[1, 2, -np.inf]])


def test_a_tie_for_the_last_candidate_counts_against_the_search():
    fetched = scores(three_documents(), mode="two-stage", truncate_dim=1, candidates=2)
    np.testing.assert_array_equal(fetched, [[1, -np.inf, 3]])


def test_of_equal_scores_the_lower_grade_is_ranked_first():
    assert ranking(rows([5, 7, 5, 5])[0], {0: 2, 2: 1}, n=3).tolist() == [1, 3, 2]


def test_a_ranking_of_fewer_than_n_documents_has_them_all():
    assert ranking(rows([1, 3, -np.inf])[0], {0}, n=9).tolist() == [1, 0, 2]
    assert ranking(np.zeros(0, np.float32), set(), n=2).tolist() == []


@given(values=st.lists(st.integers(-2, 2), min_size=1, max_size=9), n=st.integers(1, 9), seed=st.integers(0, 99))
def test_a_ranking_is_the_start_of_the_full_order(values, n, seed):
    grades = dict(enumerate(np.random.default_rng(seed).permutation(len(values)) + 1.0))
    order = sorted(range(len(values)), key=lambda index: (-values[index], grades[index]))
    assert ranking(np.array(values, np.float32), grades, n=n).tolist() == order[:n]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"truncate_dim": -1}, "`truncate_dim` is -1; it may be 1 to 2 numbers"),
        ({"truncate_dim": 3}, "`truncate_dim` is 3; it may be 1 to 2 numbers"),
        ({"candidates": 0}, "`candidates` is 0; it may be 1 or more"),
    ],
)
def test_impossible_options_of_scores_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scores(three_documents(), mode="two-stage", **options)


def test_a_ranking_of_none_is_refused():
    with pytest.raises(ValueError, match="`n` is 0; it may be 1 or more"):
        ranking(np.ones(3), set(), n=0)


@pytest.mark.parametrize("size", [1, 5, 40])
@pytest.mark.parametrize("n", [1, 6, 50])
def test_the_best_of_blocks_are_the_best_of_all_documents_however_they_are_divided(monkeypatch, size, n):
    monkeypatch.setattr("polyvec.retrieval._QUERIES", 3)
    values = np.random.default_rng(0).integers(0, 5, (4, 37)).astype(np.float32)  # with many ties
    blocks = [values[:, start : start + size] for start in range(0, 37, size)]
    positions, best = best_documents(blocks, n_queries=4, n=n)
    order = np.argsort(-values, axis=1, kind="stable")[:, :n]
    np.testing.assert_array_equal(positions, order)
    np.testing.assert_array_equal(best, np.take_along_axis(values, order, axis=1))


def test_the_best_of_no_documents_are_none():
    positions, best = best_documents([], n_queries=2, n=3)
    assert positions.shape == best.shape == (2, 0)


def test_blocks_without_a_number_or_a_place_are_refused():
    with pytest.raises(ValueError, match="`n` is 0"):
        best_documents([], n_queries=2, n=0)
    with pytest.raises(ValueError, match="the score of document 1 is not a number"):
        best_documents([rows([1, np.nan])], n_queries=1, n=1)


def test_a_late_ranking_is_the_order_of_maxsim_whatever_shares_the_part(monkeypatch):
    monkeypatch.setattr("polyvec.retrieval._QUERIES", 2)
    rng = np.random.default_rng(0)
    queries = [-rng.random((size, 4), dtype=np.float32) for size in (1, 3, 2, 4, 1)]  # all products are negative:
    documents = [rng.random((size, 4), dtype=np.float32) for size in (1, 9, 2, 5, 1, 7)]  # padding of zeros would win
    expected = maxsim(queries, documents)
    for parts in ([documents], [documents[:1], documents[1:4], documents[4:]], [[document] for document in documents]):
        positions, best = late_ranking(queries, parts, n=4)
        np.testing.assert_array_equal(positions, np.argsort(-expected, axis=1)[:, :4])
        np.testing.assert_allclose(best, -np.sort(-expected, axis=1)[:, :4], rtol=1e-6)

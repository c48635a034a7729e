import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyvec import scoring
from polyvec.scoring import cosine, maxsim


def rows(*values):
    return np.array(values, np.float32).reshape(len(values), -1)


def none(dim=2):
    return np.zeros((0, dim), np.float32)


def naive(queries, documents):
    """The formula, one term at a time."""
    return [
        [sum(max((float(q @ p) for p in document), default=0.0) for q in query) for document in documents]
        for query in queries
    ]


def test_cosine_by_hand():
    found = cosine(rows([3, 4, 0], [0, 0, 2]), rows([1, 0, 0], [-3, -4, 0], [0, 1, 1]))
    np.testing.assert_allclose(found, [[0.6, -1.0, 0.8 / np.sqrt(2)], [0.0, 0.0, 1 / np.sqrt(2)]], atol=1e-7)
    assert found.dtype == np.float32


def test_a_zero_vector_has_cosine_zero():
    np.testing.assert_array_equal(cosine(rows([0, 0], [1, 0]), rows([0, 0], [5, 0])), [[0, 0], [0, 1]])


def test_cosine_of_half_precision_is_computed_in_single():
    halves = np.array([[1, 1]], np.float16)
    assert cosine(halves, halves).dtype == np.float32
    np.testing.assert_allclose(cosine(halves, halves), [[1]], atol=1e-6)


def test_cosine_changes_no_argument():
    queries = rows([3, 4])
    cosine(queries, queries)
    np.testing.assert_array_equal(queries, [[3, 4]])


def test_maxsim_by_hand():
    query = rows([1, 0, 0], [0, 2, 0])
    document = rows([0.5, 1, 9], [3, -1, 9])
    np.testing.assert_allclose(maxsim([query], [document]), [[3 + 2]])  # neither normalised nor divided


def test_negative_similarities_are_not_raised_to_zero():
    found = maxsim([rows([1, 0])], [rows([-1, 0], [-0.5, 0]), rows([-2, 0])])
    np.testing.assert_allclose(found, [[-0.5, -2]])


def test_what_has_no_tokens_scores_zero():
    full = rows([-1, 0])
    np.testing.assert_array_equal(maxsim([full, none()], [none(), full, none()]), [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(maxsim([none()], [full]), [[0]])
    np.testing.assert_array_equal(maxsim([full], [none()]), [[0]])


@pytest.mark.parametrize(("n_queries", "n_documents"), [(0, 0), (0, 3), (2, 0)])
def test_no_queries_or_documents_give_an_empty_table(n_queries, n_documents):
    found = maxsim([rows([1, 0])] * n_queries, [rows([1, 0])] * n_documents)
    assert found.shape == (n_queries, n_documents)
    assert found.dtype == np.float32


values = st.integers(-4, 4).map(float)  # sums of products of these are exact
multivectors = st.lists(st.integers(0, 4).flatmap(lambda n: arrays(np.float32, (n, 3), elements=values)), max_size=5)


@given(queries=multivectors, documents=multivectors, chunk_rows=st.integers(1, 6))
def test_maxsim_is_the_formula_however_it_is_chunked(queries, documents, chunk_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_CHUNK_ROWS", chunk_rows)
        found = maxsim(queries, documents)
    np.testing.assert_array_equal(found, np.reshape(naive(queries, documents), (len(queries), len(documents))))


def test_a_score_does_not_depend_on_the_rest_of_the_call():
    rng = np.random.default_rng(0)
    documents = [rng.standard_normal((n, 16), np.float32) for n in (3, 50, 1, 7)]
    queries = [rng.standard_normal((n, 16), np.float32) for n in (5, 2)]
    together = maxsim(queries, documents)
    alone = [[maxsim([query], [document])[0, 0] for document in documents] for query in queries]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_maxsim_of_half_precision_is_computed_in_single():
    large = np.full((1, 2), 300, np.float16)
    np.testing.assert_array_equal(maxsim([large], [large]), [[180_000]])  # beyond float16

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyvec import scoring
from polyvec.compression import binary
from polyvec.scoring import asymmetric_cosine, cosine, hamming_similarity, maxsim, signs, unit


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


def test_cosine_of_integers_is_computed_in_single():
    codes = np.array([[127, 127], [-127, 0]], np.int8)  # whose products overflow int8
    np.testing.assert_allclose(cosine(codes, codes), [[1, -np.sqrt(0.5)], [-np.sqrt(0.5), 1]], atol=1e-6)
    assert cosine(codes, codes).dtype == np.float32


def test_a_row_at_unit_length_by_hand():
    np.testing.assert_allclose(unit(rows([3, 4], [0, 0])), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_hamming_similarity_by_hand():
    packed = np.array([[0b11110000], [0b11110001], [0b00001111]], np.uint8)
    found = hamming_similarity(packed[:1], packed)
    np.testing.assert_array_equal(found, [[1, 1 - 2 / 8, -1]])
    assert found.dtype == np.float32


@pytest.mark.parametrize("n_bits", [scoring._n_bits, scoring._N_BITS.__getitem__], ids=["numpy 2", "numpy 1"])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_similarities_of_bits_are_cosines_of_plus_and_minus_one_however_they_are_chunked(monkeypatch, n_bits, chunk):
    monkeypatch.setattr(scoring, "_n_bits", n_bits)
    monkeypatch.setattr(scoring, "_CHUNK_NUMBERS", chunk)
    rng = np.random.default_rng(0)
    queries, documents = rng.standard_normal((3, 40), np.float32), rng.standard_normal((7, 40), np.float32)
    as_signs = np.where(documents > 0, np.float32(1), np.float32(-1))
    packed = binary(documents)
    np.testing.assert_array_equal(signs(packed), as_signs)
    np.testing.assert_allclose(
        hamming_similarity(binary(queries), packed), cosine(np.sign(queries), as_signs), atol=1e-6
    )
    np.testing.assert_allclose(asymmetric_cosine(queries, packed), cosine(queries, as_signs), atol=1e-6)


def test_no_packed_rows_give_an_empty_table():
    none, one = np.zeros((0, 1), np.uint8), np.zeros((1, 1), np.uint8)
    assert hamming_similarity(none, one).shape == (0, 1)
    assert hamming_similarity(one, none).shape == (1, 0)
    assert asymmetric_cosine(np.zeros((1, 8), np.float32), none).shape == (1, 0)

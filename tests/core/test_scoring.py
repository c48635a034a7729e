import inspect
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyvec import scoring
from polyvec.compression import binary, int8
from polyvec.scoring import asymmetric_cosine, cosine, hamming_similarity, maxsim, pairwise_cosine, signs, unit


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


# What is tested without the shape checks of the test suite, which would refuse the arguments first.
plain_cosine, plain_pairwise, plain_hamming, plain_asymmetric, plain_maxsim = map(
    inspect.unwrap, (cosine, pairwise_cosine, hamming_similarity, asymmetric_cosine, maxsim)
)
FLOATS = np.array([[3, -4, 1, 1, 1, 1, 1, 2]], np.float32)
CODES, BITS = int8(FLOATS), binary(FLOATS)


@pytest.mark.parametrize(
    ("function", "queries", "documents", "right"),
    [
        (plain_cosine, BITS, BITS, "use hamming_similarity"),
        (plain_cosine, FLOATS, BITS, "use asymmetric_cosine"),
        (plain_cosine, BITS, CODES, "use asymmetric_cosine, with the two sides exchanged"),
        (plain_pairwise, BITS, BITS, "use hamming_similarity"),
        (plain_hamming, CODES, CODES, "use cosine"),
        (plain_hamming, FLOATS, FLOATS, "use cosine"),
        (plain_hamming, FLOATS, BITS, "use asymmetric_cosine"),
        (plain_asymmetric, FLOATS, CODES, "use cosine"),
        (plain_asymmetric, BITS, BITS, "use hamming_similarity"),
    ],
)
def test_rows_that_a_score_does_not_compare_are_refused_with_the_name_of_the_right_one(
    function, queries, documents, right
):
    with pytest.raises(ValueError, match=f"does not compare .*; {right}"):
        function(queries, documents)


@pytest.mark.parametrize(
    ("queries", "documents", "error", "message"),
    [
        (FLOATS[0], FLOATS, ValueError, r"`queries` has shape \(8,\); .*`vector\[None\]`"),
        (FLOATS, FLOATS[None], ValueError, r"`documents` has shape \(1, 1, 8\); .*one matrix at a time"),
        (FLOATS, FLOATS[:, :1], ValueError, "queries have 8 numbers each and the documents 1;"),
        (FLOATS[:, :0], FLOATS[:, :0], ValueError, "at least 1"),
        (FLOATS, FLOATS.tolist(), TypeError, "`documents` is a list; .* `embeddings.dense`"),
        (FLOATS > 0, FLOATS, ValueError, "`queries` has dtype bool"),
        (FLOATS, FLOATS.astype(complex), ValueError, "`documents` has dtype complex128"),
    ],
)
def test_what_is_no_pair_of_matrices_is_refused(queries, documents, error, message):
    for function in (plain_cosine, plain_pairwise):
        with pytest.raises(error, match=message):
            function(queries, documents)


def test_sizes_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match="queries have 8 numbers each and the documents 16"):
        plain_hamming(BITS, np.repeat(BITS, 2, axis=1))
    with pytest.raises(ValueError, match="1 queries and 2 documents"):
        plain_pairwise(FLOATS, np.repeat(FLOATS, 2, axis=0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_named(bad, monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK_NUMBERS", 2)
    flawed = rows([1, 0], [2, bad], [0, 1])
    for function in (cosine, pairwise_cosine):
        with pytest.raises(ValueError, match="row 1 of `documents` has a number that is not finite"):
            function(rows([1, 0], [1, 0], [1, 0]), flawed)
    with pytest.raises(ValueError, match="row 1 of `queries`"):
        asymmetric_cosine(np.repeat(flawed, 4, axis=1), BITS)
    with pytest.raises(ValueError, match=r"`documents\[1\]` has a number that is not finite"):
        maxsim([rows([1, 0])], [rows([1, 0]), flawed])
    with pytest.raises(ValueError, match=r"`queries\[0\]` has a number that is not finite"):
        maxsim([flawed], [rows([1, 0])])


@pytest.mark.parametrize("scale", [5e37, 1e20, 1e-23, 1e-37])
def test_cosine_does_not_depend_on_the_length_of_a_vector(scale):
    long = rows([3, 4], [1, 0]) * np.float32(scale)
    np.testing.assert_allclose(cosine(long, rows([1, 0])), [[0.6], [1]], rtol=1e-6)
    np.testing.assert_allclose(unit(long), [[0.6, 0.8], [1, 0]], rtol=1e-6)


def test_numbers_beyond_single_precision_have_a_direction():
    np.testing.assert_allclose(unit(np.array([[3e200, 4e200], [3e-300, 4e-300]])), [[0.6, 0.8]] * 2, rtol=1e-6)


def test_pairwise_cosine_by_hand(monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK_NUMBERS", 2)  # of three pairs, two numbers each
    found = pairwise_cosine(rows([3, 4], [0, 0], [0, 2]), rows([1, 0], [1, 0], [-1, -1]))
    np.testing.assert_allclose(found, [0.6, 0, -np.sqrt(0.5)], rtol=1e-6)
    assert pairwise_cosine(none(), none()).shape == (0,)


@pytest.mark.parametrize("chunk", [1, 100])
def test_cosine_is_the_same_however_it_is_chunked(monkeypatch, chunk):
    rng = np.random.default_rng(0)
    queries, documents = rng.standard_normal((9, 16), np.float32), rng.standard_normal((20, 16), np.float32)
    expected = unit(queries) @ unit(documents).T
    monkeypatch.setattr(scoring, "_CHUNK_NUMBERS", chunk)
    np.testing.assert_allclose(cosine(queries, documents), expected, atol=1e-6)


def test_maxsim_of_codes_and_bits_is_that_of_the_unit_vectors_they_stand_for():
    rng = np.random.default_rng(0)
    query, document = rng.standard_normal((3, 16), np.float32), rng.standard_normal((5, 16), np.float32)
    query_units, document_units = unit(int8(query)), unit(signs(binary(document)))
    np.testing.assert_allclose(maxsim([int8(query)], [document]), maxsim([query_units], [document]), rtol=1e-6)
    mixed = maxsim([query, int8(query), binary(query)], [binary(document), document])
    vectors = maxsim([query, query_units, unit(signs(binary(query)))], [document_units, document])
    np.testing.assert_allclose(mixed, vectors, rtol=1e-6)
    by_hand = maxsim([rows([1, 1, 1, 1, 1, 1, 1, 1])], [np.array([[0b11110000], [0b11111110]], np.uint8)])
    np.testing.assert_allclose(by_hand, [[6 / np.sqrt(8)]], rtol=1e-6)  # seven of +1 and one of −1


@pytest.mark.parametrize(
    ("queries", "documents", "error", "message"),
    [
        (
            [FLOATS],
            [FLOATS, BITS[:, [0, 0]]],
            ValueError,
            r"`queries\[0\]` have 8 .* `documents\[1\]` have 16",
        ),
        ([FLOATS], [FLOATS[:, :3]], ValueError, r"`queries\[0\]` have 8 numbers, .* `documents\[0\]` have 3"),
        (FLOATS, [FLOATS], ValueError, r"`queries\[0\]` has shape \(8,\)"),
        ([FLOATS], None, TypeError, "`documents` is a NoneType; .*multivector=True"),
        ([FLOATS], [FLOATS.tolist()], TypeError, r"`documents\[0\]` is a list"),
    ],
)
def test_what_is_no_list_of_multivectors_of_one_size_is_refused(queries, documents, error, message):
    with pytest.raises(error, match=message):
        plain_maxsim(queries, documents)


@pytest.fixture
def peak():
    """What a call takes of memory at its peak, in MB."""

    def measure(call):
        tracemalloc.start()
        try:
            call()
            return tracemalloc.get_traced_memory()[1] / 1e6
        finally:
            tracemalloc.stop()

    return measure


def test_memory_does_not_grow_with_the_other_side(peak):
    rng = np.random.default_rng(0)
    many = [rng.standard_normal((20, 4), np.float32) for _ in range(500)]
    long = [rng.standard_normal((1000, 4), np.float32) for _ in range(5)]
    assert peak(lambda: maxsim(many, long)) < 40  # all products take 200 MB
    assert peak(lambda: maxsim(long, many)) < 40
    codes = rng.integers(-127, 128, (40_000, 256), np.int8)
    assert peak(lambda: cosine(codes[:1], codes)) < 20  # the codes as floats take 40 MB
    assert peak(lambda: cosine(codes, codes[:1])) < 20
    assert peak(lambda: pairwise_cosine(codes, codes)) < 20
    assert peak(lambda: asymmetric_cosine(codes, np.zeros((1, 32), np.uint8))) < 20


def test_a_query_longer_than_a_chunk_is_scored_whole(monkeypatch):
    monkeypatch.setattr(scoring, "_CHUNK_SIMILARITIES", 12)  # of fourteen tokens of documents: a token at a time
    rng = np.random.default_rng(0)
    queries, documents = rng.standard_normal((5, 7, 2), np.float32), rng.standard_normal((7, 2, 2), np.float32)
    np.testing.assert_allclose(maxsim(list(queries), list(documents)), naive(queries, documents), rtol=1e-5)


def test_packed_bits_have_no_length():
    with pytest.raises(ValueError, match="packed bits, which have no length"):
        unit(BITS)


@pytest.mark.parametrize(("query", "document"), [(1e30, 1e30), (np.float64(1e50), 1.0)])
def test_a_score_beyond_float32_is_refused(query, document):
    with pytest.raises(ValueError, match="too large for float32; scale"):
        maxsim([np.array([[query, 0]])], [np.array([[document, 0]])])

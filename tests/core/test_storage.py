from dataclasses import replace

import numpy as np
import pytest

from polyvec import Embeddings, Grid
from polyvec.evaluate.storage import Row, compare, table
from polyvec.retrieval import EncodedDataset
from polyvec.scoring import unit

PAGE = Grid(rows=2, columns=3, start=1)


def embeddings(n, *, dim=16, n_tokens=8, late_dim=8, seed=0, grid=None):
    rng = np.random.default_rng(seed)
    tokens = tuple(unit(rng.standard_normal((n_tokens, late_dim), np.float32)) for _ in range(n))
    return Embeddings(unit(rng.standard_normal((n, dim), np.float32)), tokens, (grid,) * n)


def dense_only(*rows):
    dense = unit(np.array(rows, np.float32))
    return Embeddings(dense, None, (None,) * len(dense))


def own(n):
    return [{index} for index in range(n)]


def by_choice(rows, kind):
    return {row.choice: row for row in rows if row.kind == kind}


def test_bytes_per_item_of_every_choice():
    documents = embeddings(4, grid=PAGE)
    rows = compare(EncodedDataset(documents, documents, own(4)), sizes=[8], pool_factors=[2])
    full, bits = 8 * 8 * 4, 2
    assert {(row.kind, row.choice): row.bytes_per_item for row in rows} == {
        ("dense", "16 float32"): 64,
        ("dense", "8 float32"): 32,
        ("dense", "16 float16"): 32,
        ("dense", "16 int8"): 16,
        ("dense", "8 int8"): 8,
        ("dense", "16 binary"): 2,
        ("dense", "8 binary"): 1,
        ("dense", "16 binary, float query"): 2,
        ("dense", "8 binary, float query"): 1,
        ("late", "float32"): full,
        ("late", "float16"): full / 2,
        ("late", "int8"): full / 4,
        ("late", "binary"): full / 32,
        ("late", "float32, pooled by 2"): 4 * 8 * 4,  # 1 protected token and 7 // 2 clusters
        ("late", "int8, pooled by 2"): 4 * 8,
        ("late", "float32, means of rows and columns"): (2 + 3) * 8 * 4,
        ("two-stage", "16 float32 -> float32"): 64 + full,
        ("two-stage", "16 binary, float query -> float16"): bits + full / 2,
        ("two-stage", "16 binary, float query -> int8"): bits + full / 4,
        ("two-stage", "16 binary, float query -> int8, pooled by 2"): bits + 4 * 8,
    }


def test_documents_that_are_their_own_queries_are_found_where_nothing_is_lost():
    documents = embeddings(6, grid=PAGE)
    rows = compare(EncodedDataset(documents, documents, own(6)), pool_factors=[])
    ndcg = {(row.kind, row.choice): row.ndcg for row in rows}
    for exact in (("dense", "16 float32"), ("dense", "16 int8"), ("late", "float32"), ("late", "int8")):
        assert ndcg[exact] == 1


def test_each_kind_is_compared_with_its_first_row():
    """At 16 numbers each query is next to its own document; cut to 8, the two documents look alike and tie."""
    queries = dense_only([1] * 16, [1] * 8 + [-1] * 8)
    rows = by_choice(compare(EncodedDataset(queries, queries, own(2)), sizes=[8]), "dense")
    full, cut = rows["16 float32"], rows["8 float32"]
    assert (full.ndcg, full.ratio, full.change) == (1, 1, 0)
    assert cut.ndcg == pytest.approx(1 / np.log2(3)), "a tie counts against the search"
    assert cut.ratio == 2
    assert cut.change == pytest.approx(1 / np.log2(3) - 1)
    many = embeddings(2)
    rows = by_choice(compare(EncodedDataset(many, many, own(2)), pool_factors=[]), "late")
    assert [rows[choice].ratio for choice in ("float32", "float16", "int8", "binary")] == [1, 2, 4, 32]


def test_a_float_query_tells_apart_what_equal_bits_do_not():
    """Documents 0 and 1 differ in one sign; to the query's own bits they are equally near."""
    documents = dense_only([1, 1, 1, 1, 1, 1, 1, -1], [1, 1, 1, 1, 1, 1, -1, 1])
    queries = dense_only([1, 1, 1, 1, 1, 1, 0.9, 0.1])
    rows = by_choice(compare(EncodedDataset(queries, documents, [{0}])), "dense")
    assert rows["8 binary"].ndcg == pytest.approx(1 / np.log2(3))
    assert rows["8 binary, float query"].ndcg == 1


def test_grades_count():
    documents = dense_only([1, 0, 0], [0.9, 0.1, 0], [0, 0, 1])
    rows = compare(EncodedDataset(dense_only([1, 0, 0]), documents, [{0: 1, 1: 3}]), k=2)
    assert rows[0].ndcg == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))


def test_two_stage_search_finds_only_what_the_first_stage_fetched():
    """By tokens document 11 is the best; by dense vector it is the last of 12, and 10 are fetched."""
    angles = np.linspace(0, 1.5, 12, dtype=np.float32)
    dense = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    near, far = np.array([[1, 0]], np.float32), np.array([[0, 1]], np.float32)
    documents = Embeddings(dense, (*[far] * 11, near), (None,) * 12)
    queries = Embeddings(np.array([[1, 0]], np.float32), (near,), (None,))
    rows = compare(EncodedDataset(queries, documents, [{11}]), pool_factors=[], k=1)
    assert by_choice(rows, "late")["float32"].ndcg == 1
    assert by_choice(rows, "two-stage")["2 float32 -> float32"].ndcg == 0
    fetched = compare(EncodedDataset(queries, documents, [{11}]), pool_factors=[], k=2)
    assert by_choice(fetched, "two-stage")["2 float32 -> float32"].ndcg == 1


def test_a_tie_for_the_last_candidate_counts_against_the_search():
    dense = np.ones((11, 1), np.float32)
    tokens = (np.array([[1]], np.float32), *[np.array([[-1]], np.float32)] * 10)
    documents = Embeddings(dense, tokens, (None,) * 11)
    queries = Embeddings(dense[:1], tokens[:1], (None,))
    rows = compare(EncodedDataset(queries, documents, [{0}]), pool_factors=[], k=1)
    assert by_choice(rows, "late")["float32"].ndcg == 1
    assert by_choice(rows, "two-stage")["1 float32 -> float32"].ndcg == 0


def test_texts_among_pages_keep_their_tokens():
    documents = replace(embeddings(2), grids=(PAGE, None))
    rows = by_choice(compare(EncodedDataset(documents, documents, own(2)), pool_factors=[]), "late")
    assert rows["float32, means of rows and columns"].bytes_per_item == (5 + 8) / 2 * 8 * 4


def test_without_grids_or_multivectors_their_rows_are_missing():
    documents = embeddings(2)
    assert not [row for row in compare(EncodedDataset(documents, documents, own(2))) if "columns" in row.choice]
    dense = replace(documents, multivector=None)
    assert {row.kind for row in compare(EncodedDataset(dense, documents, own(2)))} == {"dense"}


def test_a_size_that_fills_no_bytes_is_not_packed():
    documents = embeddings(2, dim=16)
    choices = by_choice(compare(EncodedDataset(documents, documents, own(2)), sizes=[12]), "dense")
    assert "12 int8" in choices
    assert "12 binary" not in choices


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sizes": [17]}, "`sizes` has 17; .* 1 to 16"), ({"sizes": [0]}, "`sizes` has 0"), ({"k": 0}, "`k` is 0")],
)
def test_impossible_options_are_refused(options, message):
    documents = embeddings(2)
    with pytest.raises(ValueError, match=message):
        compare(EncodedDataset(documents, documents, own(2)), **options)


def test_the_table_is_aligned_and_at_most_100_columns_wide():
    rows = [
        Row("dense", "2048 float32", 8192, 1, 0.9, 0),
        Row("two-stage", "2048 binary, float query -> int8, pooled by 4", 12_345_678.4, 256, 0.5, -0.4),
    ]
    lines = table(rows, k=10).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(set(map(len, lines))) == 1
    assert lines[0].split() == ["choice", "bytes/item", "ratio", "nDCG@10", "change"]
    assert lines[3].split()[-4:] == ["12,345,678", "256.0×", "0.500", "-0.400"]

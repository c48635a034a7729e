import builtins
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from polyvec import Grid
from polyvec.compression import binary, int8, pool_columns, pool_rows, pool_tokens, truncate
from polyvec.scoring import cosine
from polyvec.vectors import unit, unit_means


def rows(*values):
    return np.array(values, np.float32).reshape(len(values), -1)


def random_tokens(n, dim=16, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((n, dim), np.float32))


def test_a_cut_vector_has_unit_length_again():
    np.testing.assert_allclose(truncate(rows([3, 4, 12], [0, 0, 1]), 2), [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_int8_scales_each_row_to_127():
    codes = int8(rows([0.5, -1, 0.25], [-3, 0, 2]))
    assert codes.dtype == np.int8
    assert codes.tolist() == [[64, -127, 32], [-127, 0, 85]]  # 63.5 and 31.75; 84.67


def test_int8_keeps_a_zero_row_and_no_rows():
    assert int8(rows([0, 0], [0, 2])).tolist() == [[0, 0], [0, 127]]
    assert int8(np.zeros((0, 4), np.float32)).shape == (0, 4)


finite = st.floats(-1e4, 1e4, width=32)


@given(dense=arrays(np.float32, (1, 12), elements=finite))
def test_int8_is_off_by_half_a_step_at_most(dense):
    largest = np.abs(dense).max().astype(np.float64)
    restored = int8(dense) * (largest / 127)
    assert np.abs(restored - dense).max() <= largest / 254 * (1 + 1e-5)


@given(dense=arrays(np.float32, (1, 12), elements=st.integers(-99, 99).map(float)))
def test_int8_turns_a_vector_no_further_than_its_docstring_says(dense):
    length = np.linalg.norm(dense)
    if length == 0:
        return
    angle = np.arccos(np.clip(cosine(int8(dense), dense)[0, 0], -1, 1))
    assert angle <= np.arcsin(min(1, np.sqrt(12) * np.abs(dense).max() / (254 * length))) + 1e-3  # float32 arccos


def test_int8_of_the_smallest_and_largest_numbers_does_not_overflow():
    assert int8(rows([1e-45, 0], [3e38, -3e38])).tolist() == [[127, 0], [127, -127]]


@pytest.mark.parametrize("compress", [int8, binary, lambda dense: pool_tokens(dense, 2)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(compress, bad):
    dense = np.ones((3, 8), np.float32)
    dense[1, 5] = bad
    with pytest.raises(ValueError, match="row 1 has a number that is not finite"):
        compress(dense)


def test_bits_are_signs_with_the_first_in_the_highest_place():
    packed = binary(rows([1, -1, 0, 2, -0.5, 0, 0, 3], [0, 0, 0, 0, 0, 0, 0, 1]))
    assert packed.tolist() == [[0b10010001], [0b00000001]]


def test_bits_are_those_of_sentence_transformers():
    from sentence_transformers.util.quantization import quantize_embeddings

    dense = np.random.default_rng(0).standard_normal((5, 32), np.float32)
    dense[0, :3] = 0
    np.testing.assert_array_equal(binary(dense), quantize_embeddings(dense, "ubinary"))


def test_a_size_that_fills_no_bytes_is_refused():
    with pytest.raises(ValueError, match=r"12 numbers; .* multiple of 8"):
        binary(np.ones((1, 12), np.float32))


@pytest.mark.parametrize("protected", [0, 1, 3])
@pytest.mark.parametrize("factor", [1, 1.5, 2, 3.7, 10, 100])
def test_tokens_are_pooled_as_in_sentence_transformers(factor, protected):
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling

    theirs = HierarchicalTokenPooling(factor, num_protected_tokens=protected)
    for seed, n in enumerate((1, 2, 3, 7, 40, 150)):
        tokens = random_tokens(n, seed=seed)
        expected = theirs.pool_one(torch.from_numpy(tokens)).numpy()
        np.testing.assert_allclose(pool_tokens(tokens, factor, protected=protected), expected, atol=1e-6)


def test_similar_tokens_become_their_mean_behind_the_protected_one():
    tokens = unit(rows([0, 0, 1], [1, 0.1, 0], [0, 1, 0], [1, -0.1, 0], [0, 1, 0]))
    pooled = pool_tokens(tokens, 2)
    np.testing.assert_allclose(pooled[0], [0, 0, 1])
    np.testing.assert_allclose(sorted(pooled[1:].tolist()), [[0, 1, 0], [1, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_where_there_is_nothing_to_cluster_tokens_stay(n):
    tokens = random_tokens(n)
    np.testing.assert_allclose(pool_tokens(tokens, 3), tokens, atol=1e-6)


def test_factor_one_keeps_every_token_in_its_place():
    tokens = random_tokens(9)
    np.testing.assert_allclose(pool_tokens(tokens, 1), tokens, atol=1e-6)


def test_a_factor_beyond_the_number_of_tokens_leaves_one_cluster():
    tokens = random_tokens(5)
    expected = np.stack([tokens[0], tokens[1:].mean(axis=0) / np.linalg.norm(tokens[1:].mean(axis=0))])
    for factor in (99, float("inf")):
        np.testing.assert_allclose(pool_tokens(tokens, factor), expected, atol=1e-6)


def test_protected_tokens_are_never_merged():
    tokens = np.repeat(random_tokens(1), 4, axis=0)
    assert [len(pool_tokens(tokens, 9, protected=n)) for n in (0, 1, 3, 4, 7)] == [1, 2, 4, 4, 4]


def test_equal_tokens_become_one():
    """Their distances tie at zero, so there may be fewer clusters than asked for."""
    tokens = np.repeat(rows([1, 0], [0, 1]), 3, axis=0)
    pooled = pool_tokens(tokens, 1.5, protected=0)  # 4 clusters asked for
    assert sorted(set(map(tuple, pooled.tolist()))) == [(0, 1), (1, 0)]


def test_opposite_tokens_leave_a_zero_row():
    np.testing.assert_array_equal(pool_tokens(rows([1, 0], [-1, 0]), 2, protected=0), [[0, 0]])


def test_pooling_changes_no_argument():
    tokens = random_tokens(6)
    before = tokens.copy()
    pool_tokens(tokens, 2)
    np.testing.assert_array_equal(tokens, before)


@pytest.mark.parametrize("factor", [0.99, 0, -2, float("nan")])
def test_a_factor_below_one_is_refused(factor):
    with pytest.raises(ValueError, match=r"`factor` is .*; it may be 1 or more"):
        pool_tokens(random_tokens(4), factor)


def test_fewer_than_no_protected_tokens_are_refused():
    with pytest.raises(ValueError, match="`protected` is -1"):
        pool_tokens(random_tokens(4), 2, protected=-1)


def test_without_scipy_the_error_names_the_extra(monkeypatch):
    imported = builtins.__import__

    def without_scipy(name, *rest):
        if name.startswith("scipy"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(ImportError, match=r"pip install 'polyvec\[pooling\]'"):
        pool_tokens(random_tokens(4), 2)


PAGE = rows([9, 9], [1, 0], [0, 1], [1, 0], [0, 1], [3, 4], [0, 1], [9, 9])  # 2×3 patches from token 1
GRID = Grid(rows=2, columns=3, start=1)


def test_rows_of_patches_become_their_means():
    np.testing.assert_allclose(pool_rows(PAGE, GRID), unit(rows([2, 1], [3, 6])), rtol=1e-6)


def test_columns_of_patches_become_their_means():
    np.testing.assert_allclose(pool_columns(PAGE, GRID), unit(rows([1, 1], [3, 5], [1, 1])), rtol=1e-6)


@pytest.mark.parametrize("pool", [pool_rows, pool_columns])
@pytest.mark.parametrize("grid", [Grid(3, 3, 0), Grid(2, 3, 3), Grid(2, 3, -1), Grid(0, 3, 1), Grid(-2, -3, 1)])
def test_a_grid_that_does_not_fit_is_refused(pool, grid):
    with pytest.raises(ValueError, match=f"{grid.rows}×{grid.columns} patches from token {grid.start}; .* 8 tokens"):
        pool(PAGE, grid)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 40, 1500])
def test_tokens_that_cancel_out_but_for_rounding_leave_a_zero_row(n, dtype):
    tokens = np.random.default_rng(n).standard_normal((n, 16)).astype(dtype)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    rest = -tokens.astype(np.float64).sum(axis=0)
    cancelling = np.concatenate([tokens, [rest]]).astype(dtype)  # their sum is what rounding leaves of it
    np.testing.assert_array_equal(unit_means(cancelling, np.zeros(n + 1, int)), np.zeros((1, 16)))


def test_a_mean_that_is_short_but_no_rounding_keeps_its_direction():
    tokens = rows([1, 0], [-1, 1e-5], [1, 0], [-1, 1e-5])
    np.testing.assert_allclose(unit_means(tokens, np.zeros(4, int)), [[0, 1]], atol=1e-6)
    np.testing.assert_allclose(unit_means(tokens * np.float32(1e30), np.zeros(4, int)), [[0, 1]], atol=1e-6)


def test_patches_that_cancel_out_leave_a_zero_row():
    angles = 0.3 + np.arange(3) * 2 * np.pi / 3
    thirds = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert np.abs(thirds.astype(np.float64).sum(axis=0)).max() > 0  # but for rounding it is zero
    page = np.concatenate([thirds, rows([1, 0], [1, 0], [1, 0])])
    np.testing.assert_array_equal(pool_rows(page, Grid(2, 3, 0)), [[0, 0], [1, 0]])
    in_columns = page.reshape(2, 3, 2).swapaxes(0, 1).reshape(6, 2)
    np.testing.assert_array_equal(pool_columns(in_columns, Grid(3, 2, 0)), [[0, 0], [1, 0]])


CODES, BITS = int8(random_tokens(3)), binary(random_tokens(3))


@pytest.mark.parametrize(("compress", "arguments"), [(int8, ()), (binary, ()), (pool_tokens, (2,))])
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (CODES, r"holds int8 codes \(int8\); give the vectors"),
        (BITS, r"holds bits \(uint8\); give the vectors"),
        (random_tokens(1)[0], r"has shape \(16,\); .*`vector\[None\]`"),
    ],
)
def test_what_holds_no_vectors_is_refused(compress, arguments, rows, message):
    plain = inspect.unwrap(compress)  # without the shape checks of the test suite
    with pytest.raises(ValueError, match=message):
        plain(rows, *arguments)


def test_bits_are_not_cut():
    with pytest.raises(ValueError, match="packed bits; cut the vectors first"):
        truncate(BITS, 1)
    np.testing.assert_allclose(truncate(int8(rows([3, 4, 12])), 2), [[0.6, 0.8]], atol=0.01)

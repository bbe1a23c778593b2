"""Products in pieces are those of the whole, whatever the sizes and however the factors lie in memory."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from im2colnet_numpy.products import Products, has_small

sizes = st.tuples(st.integers(1, 24), st.integers(1, 40), st.integers(1, 48))


#: pieces of a few numbers, on any processor
products = Products(
    max_multiplications=600,
    max_results=40,
    min_length=4,
    min_length_ratio=1,
    max_elements_b=1500,
    max_elements_flat_a=500,
    min_piece_rows=2,
    min_piece_columns=4,
    max_piece_columns=16,
    keep_columns=3,
    column_multiple=4,
    near_column_multiple=2,
    max_elements_near_a=300,
    small_kernels=True,
)


def matrix(rng, shape, transposed):
    *batch, rows, columns = shape
    stored = rng.integers(-9, 9, (*batch, columns, rows) if transposed else shape).astype("float64")
    return stored.swapaxes(-1, -2) if transposed else stored


@settings(max_examples=200)
@given(sizes, st.integers(1, 3), st.booleans(), st.booleans(), st.integers(0, 9))
def test_pieces_are_the_whole(size, batch, transposed, gaps, seed):
    (M, K, N), rng = size, np.random.default_rng(seed)
    a, b = matrix(rng, (1, M, K), transposed), matrix(rng, (batch, K, N), False)
    memory = np.full((batch, M, N + 3 * gaps), np.nan)
    out = memory[..., :N]
    products.product(a, b, out)()
    np.testing.assert_array_equal(out, np.einsum("imk,bkn->bmn", a, b))
    assert np.isnan(memory[..., N:]).all()
    out[...] = np.nan
    products.transposed_product(a, np.ascontiguousarray(b.swapaxes(1, 2)), out)()
    np.testing.assert_array_equal(out, np.einsum("imk,bkn->bmn", a, b))


@settings(max_examples=300)
@given(sizes, st.booleans())
def test_pieces_are_small(size, flat):
    M, K, N = size
    m, n = products.pieces(M, K, N, flat)
    assert M % m == N % n == 0
    if m * n > 1:
        assert M // m * K * (N // n) <= products.max_multiplications < M * K * N
    m, n = products.transposed_pieces(M, K, N)
    assert M % m == N % n == 0
    if m * n > 1:
        assert M // m * (N // n) <= products.max_results
        assert M // m * (N // n) * K <= products.max_multiplications


def test_these_sizes_are_cut():
    """The tests above would pass if nothing ever was."""
    assert products.pieces(24, 40, 32, False) != (1, 1)
    assert products.pieces(24, 20, 32, True) != (1, 1)
    assert products.pieces(24, 20, 3, True) != (1, 1)
    assert products.pieces(24, 10, 18, False) != (1, 1)
    assert products.transposed_pieces(24, 24, 24) != (1, 1)


@pytest.mark.parametrize(("architecture", "small"), [("SkylakeX", True), ("Haswell", False), (None, False)])
def test_only_where_blas_has_kernels_for_them(architecture, small, monkeypatch):
    pools = [{"user_api": "openmp"}, {"user_api": "blas"} | ({"architecture": architecture} if architecture else {})]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools)
    assert has_small.__wrapped__() == small


def test_without_threadpoolctl_nothing_is_cut(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert not has_small.__wrapped__()

"""What ``@kernel`` makes of a generator of calls, and how plug-ins override kernels."""

import inspect
from functools import partial

import numpy as np
import pytest
from helpers import normal
from im2colnet_numpy import NumpyBackend, Tuning

import im2colnet as ic
from im2colnet.backend import Backend, kernel, like, one_like
from im2colnet.testing import oracles
from im2colnet.types import Spec, run
from im2colnet.window import make_window


class Doubling(Backend):
    """A backend with a kernel of its own."""

    name, xp = "doubling", np

    @kernel(result=like("x"), scratch=one_like("x"))
    def twice(self, x, add=0.0, out=None, scratch=None):
        """Write 2·x + add."""
        (t,) = scratch
        yield partial(np.multiply, x, 2, out=t)
        yield partial(np.add, t, add, out=out)


class Adding(Doubling):
    """Overrides it by a kernel that goes on with that of the base class."""

    @kernel()
    def twice(self, x, add=0.0, out=None, scratch=None):
        yield from super().twice.prepare(x, add, out, scratch)
        yield partial(np.add, out, 100, out=out)


class Plain(Doubling):
    """Overrides it by a method, as a plug-in may."""

    def twice(self, x, add=0.0, out=None, scratch=None):
        self.seen = scratch
        return np.add(super().twice(x, add), 1000, out=out)


class Scratchless(Doubling):
    """Overrides it by a method that takes no scratch."""

    def twice(self, x, add=0.0, out=None):
        return np.add(2 * x, add, out=out)


ADDED = {Doubling: 0, Adding: 100, Plain: 1000, Scratchless: 0}


@pytest.mark.parametrize("kind", ADDED)
def test_a_kernel_is_called_prepared_and_planned(kind):
    backend, x = kind(), normal(3, 4)
    expected = 2 * x + 5 + ADDED[kind]
    assert np.array_equal(backend.twice(x, 5), expected)
    assert np.array_equal(backend.twice(x, add=5), expected)
    assert np.array_equal(kind.twice(backend, x, 5), expected)
    out = np.full_like(x, np.nan)
    assert backend.twice(x, 5, out) is out
    assert np.array_equal(out, expected)
    scratch = backend.twice.scratch(Spec((3, 4), "float64"))
    assert scratch == backend.twice.scratch(x) == ([] if kind is Scratchless else [Spec((3, 4), "float64")])
    assert backend.twice.result(x) == Spec((3, 4), "float64")
    calls = backend.twice.prepare(x, 5, out=out, scratch=[np.full_like(x, np.nan)])
    for _ in range(2):
        x += 1
        run(calls)
        assert np.array_equal(out, 2 * x + 5 + ADDED[kind])


def test_a_plain_method_gets_the_base_s_scratch():
    backend, x, scratch = Plain(), normal(3, 4), [np.empty((3, 4))]
    run(backend.twice.prepare(x, out=np.empty((3, 4)), scratch=scratch))
    assert backend.seen is scratch


def test_a_misspelt_kernel_is_an_error():
    backend = Doubling()
    with pytest.raises(AttributeError, match="twcie"):
        backend.twcie(np.ones(3))
    for call in (lambda: backend.prepare("relu_gard"), lambda: backend.workspace("relu_gard", (1,), (1,), "float32")):
        with pytest.raises(ic.BackendError, match=r"no kernel 'relu_gard'; there are: .*conv2d, .*twice"):
            call()
    with pytest.raises(ic.BackendError, match="no kernel 'asarray'"):
        backend.prepare("asarray", np.ones(3))


def test_wrong_arguments_are_errors_that_name_them():
    backend = Doubling()
    with pytest.raises(TypeError, match="'x'"):
        backend.twice()
    with pytest.raises(TypeError, match="'wrok'"):
        backend.twice(np.ones(3), wrok=[])
    with pytest.raises(TypeError, match=r"twice.prepare\(\) needs out="):
        backend.twice.prepare(np.ones(3))


def test_a_kernel_shows_its_documentation_and_its_signature():
    backend = Doubling()
    assert backend.twice.__doc__ == Doubling.twice.__doc__ == "Write 2·x + add."
    assert list(inspect.signature(backend.twice).parameters) == ["x", "add", "out", "scratch"]
    assert repr(backend.twice) == "<kernel 'twice' of <Doubling 'doubling'>>"


def test_kernels_by_name_are_those_by_attribute():
    backend, window = NumpyBackend(), make_window(3, 1, 1)
    x, w = normal(6, 4, 5, 3), normal(5, 4, 3, 3, seed=1)
    images, y, weight = Spec(x.shape, "float64"), Spec((6, 5, 5, 3), "float64"), Spec(w.shape, "float64")
    for name, found in {
        "conv2d": backend.conv2d.scratch(images, weight, None, window),
        "conv2d_input_grad": backend.conv2d_input_grad.scratch(y, weight, (6, 5), window),
        "conv2d_weight_grad": backend.conv2d_weight_grad.scratch(images, y, window),
        "conv2d_grads": backend.conv2d_grads.scratch(images, y, weight, window),
        "max_pool2d": backend.max_pool2d.scratch(images, window),
        "batch_norm_sums": backend.batch_norm_sums.scratch(images),
    }.items():
        assert backend.workspace(name, x.shape, y.shape, "float64", window) == found != []
    assert backend.workspace("matmul", (3, 4), (4, 5), "float64") == []
    out = np.empty(y.shape)
    run(backend.prepare("conv2d", x, w, None, window, out=out))
    assert np.array_equal(out, backend.conv2d(x, w, None, window))


class OldConvolution(Backend):
    """A plug-in of before there were other activations than ReLU, which it does not know as such."""

    name, xp = "old", np

    def conv2d(self, x, w, b, window, groups=1, relu=False, out=None, scratch=None):
        assert not relu
        return super().conv2d(x, w, b, window, groups, out=out, scratch=scratch)


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_a_convolution_that_knows_of_no_activation_is_followed_by_it(kind):
    backend, window = OldConvolution(), make_window(3, 1, 1)
    x, w = normal(2, 4, 6, 5), normal(5, 4, 3, 3, seed=1)
    expected = {"relu": oracles.relu, "tanh": oracles.tanh}[kind](oracles.conv2d(x, w, padding=1))
    rows = np.ascontiguousarray(x.transpose(2, 1, 3, 0))
    y = backend.conv2d(rows, w, None, window, activation=kind)
    np.testing.assert_allclose(y.transpose(3, 1, 0, 2), expected, atol=1e-12)
    out = np.empty_like(y)
    run(backend.conv2d.prepare(rows, w, None, window, activation=kind, out=out))
    assert np.array_equal(out, y)


def test_scratch_that_would_not_be_planned_is_refused():
    with pytest.raises(ic.BackendError, match=r"Mine defines workspace, .* @kernel\(scratch=...\)"):

        class Mine(Backend):
            def workspace(self, kernel, x, y, dtype, window=None, groups=1):
                return []


def test_a_backend_keeps_its_tuning_in_another_process():
    import pickle

    tuning = Tuning(tile_bytes=1000)
    assert pickle.loads(pickle.dumps(NumpyBackend(tuning=tuning))).tuning == tuning
    assert pickle.loads(pickle.dumps(NumpyBackend())).tuning == Tuning()


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 5), (3, 2, 4, 5), (3, 2, 4, 5, 6)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_samples_of_any_rank_are_laid_out_with_the_batch_last(shape, dtype):
    """Images as rows, all others with their axes in order."""
    import strict_cupy

    x = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    order = (2, 1, 3, 0) if len(shape) == 4 else (*range(1, len(shape)), 0)
    expected = np.transpose(x * (np.float32(1 / 255) if dtype == "uint8" else np.float32(1)), order)
    for backend in NumpyBackend(), strict_cupy.cupy_backend():
        out = backend.to_rows(backend.asarray(x), out=backend.empty(expected.shape, "float32"))
        np.testing.assert_allclose(backend.to_numpy(out), expected, rtol=1e-6)


class Raw(Backend):
    """Its kernel writes to memory from an array's first number on, as compiled ones do, and to another array too."""

    name, xp = "raw", np

    @kernel(result=like("x"), writes=("sign",))
    def halves(self, x, sign=None, out=None):
        def write():
            for array, numbers in ((out, x / 2), (sign, np.sign(x))):
                assert array.flags.c_contiguous
                array.reshape(-1)[:] = numbers.ravel()

        yield write


class PlainRaw(Raw):
    """Overrides it by a method, as a plug-in may."""

    def halves(self, x, sign=None, out=None):
        return Raw.halves(self, x, sign=sign, out=out)


class Overriding(Raw):
    """Overrides it by a kernel, which writes to the same arrays."""

    @kernel()
    def halves(self, x, sign=None, out=None):
        yield from super().halves.prepare(x, sign, out)


@pytest.mark.parametrize("kind", [Raw, PlainRaw, Overriding])
def test_results_of_any_strides_are_written(kind):
    x, wide = normal(3, 4), np.zeros((2, 3, 8))
    sign, out = wide[0, ::-1, ::2], wide[1].reshape(8, 3).T[:, ::2]
    assert kind().halves(x, sign, out=out) is out
    np.testing.assert_array_equal(out, x / 2)
    np.testing.assert_array_equal(sign, np.sign(x))
    assert not wide[0, :, 1::2].any()  # between its numbers nothing is written
    assert not wide[1].reshape(8, 3)[1::2].any()
    wide[...] = 0
    assert kind().halves(x, sign, out) is out  # by position
    np.testing.assert_array_equal(out, x / 2)
